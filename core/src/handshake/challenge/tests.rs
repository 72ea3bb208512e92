extern crate std;

use super::*;
use crate::crypto::keys::{Candidates, Key};
use crate::crypto::mac::{MAX_TAG, Mac};
use crate::error::KeyRejection;
use std::vec::Vec;

const SECRET: &[u8] = b"the key of both";

fn key(digest: Digest, secret: &[u8]) -> Key {
    Key::challenge(digest, secret).unwrap()
}

fn nonce() -> Nonce {
    let mut bytes = [0; Nonce::LEN];
    bytes.iter_mut().zip(1..).for_each(|(byte, n)| *byte = n);
    Nonce::from_bytes(bytes)
}

/// Runs `act` with somewhere to write; returns what it wrote, too.
fn writing<T>(act: impl FnOnce(&mut Transmit<'_>) -> T) -> (T, Vec<u8>) {
    let (mut bytes, mut queued) = ([0; MAX_TAG], 0);
    let result = act(&mut Transmit { bytes: &mut bytes, queued: &mut queued });
    (result, bytes[..usize::from(queued)].to_vec())
}

fn step(
    state: Challenge,
    input: Input<'_>,
    received: &[u8],
) -> (Result<Handshake, Error>, Vec<u8>) {
    writing(|out| state.step(input, received, out))
}

/// Like [`step`], where it neither ends nor says anything.
fn silently(state: Challenge, input: Input<'_>, received: &[u8]) -> Challenge {
    match step(state, input, received) {
        (Ok(Handshake::Challenge(next)), said) if said.is_empty() => next,
        other => panic!("{other:?}"),
    }
}

/// A server that has just got `response`, and its challenge.
fn verifying(digest: Digest, response: &[u8]) -> (Challenge, Vec<u8>) {
    let (server, challenge) = writing(|out| Challenge::new(digest, Role::Server, nonce(), out));
    (silently(server, Input::Received, response), challenge)
}

fn authenticated(result: Result<Handshake, Error>) -> Result<bool, Error> {
    match result? {
        Handshake::Complete { authenticated } => Ok(authenticated),
        state => panic!("not over: {state:?}"),
    }
}

/// The server's verdict on the answer that `prover` gives, if `candidates` are the server's keys.
fn verdict(digest: Digest, prover: &Key, candidates: Candidates<'_>) -> Result<bool, Error> {
    let (server, challenge) = verifying(digest, &[]);
    let response = prover.mac().unwrap().tag(&challenge);
    let (result, said) = step(server, Input::Key(Ok(candidates)), response.bytes());
    assert_eq!(said, b"", "a server says nothing to an answer");
    authenticated(result)
}

#[test]
fn a_server_sends_the_first_32_bytes_of_its_nonce_and_a_client_nothing() {
    for &digest in Digest::ALL {
        let (server, said) = writing(|out| Challenge::new(digest, Role::Server, nonce(), out));
        assert!(said.iter().copied().eq(1..=32));
        assert_eq!(server.want(), digest.tag_len());
        assert!(server.key_request(&[]).is_none());
        let (client, said) = writing(|out| Challenge::new(digest, Role::Client, nonce(), out));
        assert_eq!(said, b"");
        assert_eq!(client.want(), CHALLENGE_LEN);
        assert!(client.key_request(&[]).is_none());
    }
}

#[test]
fn neither_side_reads_on_while_it_waits_for_a_key() {
    for &digest in Digest::ALL {
        let (client, _) = writing(|out| Challenge::new(digest, Role::Client, nonce(), out));
        assert_eq!(silently(client, Input::Received, &[1; 32]).want(), 0);
        assert_eq!(verifying(digest, &[]).0.want(), 0);
    }
}

#[test]
fn both_sides_ask_for_the_key_of_the_challenge_that_was_sent() {
    for &digest in Digest::ALL {
        let (client, _) = writing(|out| Challenge::new(digest, Role::Client, nonce(), out));
        let client = silently(client, Input::Received, &[7; 32]);
        let request =
            KeyRequest::challenge(Role::Client, digest, key_request::Challenge::Theirs(&[7; 32]));
        assert_eq!(client.key_request(&[7; 32]), Some(request));

        let (server, challenge) = verifying(digest, b"some response");
        let request =
            KeyRequest::challenge(Role::Server, digest, key_request::Challenge::Ours(&challenge));
        assert_eq!(server.key_request(b"some response"), Some(request));
    }
}

#[test]
fn a_client_answers_with_the_hmac_and_takes_nobody_for_authenticated() {
    for &digest in Digest::ALL {
        let (client, _) = writing(|out| Challenge::new(digest, Role::Client, nonce(), out));
        let client = silently(client, Input::Received, &[7; 32]);
        let key = key(digest, SECRET);
        let (result, said) = step(client, Input::Key(Ok(Candidates::one(&key))), &[7; 32]);
        assert_eq!(authenticated(result), Ok(false));
        assert_eq!(said, Mac::new(digest, SECRET).tag(&[7; 32]).bytes());
    }
}

#[test]
fn a_client_with_two_keys_answers_with_the_first() {
    let digest = Digest::Sha256;
    let (first, second) = (key(digest, b"first"), key(digest, b"second"));
    let (client, _) = writing(|out| Challenge::new(digest, Role::Client, nonce(), out));
    let client = silently(client, Input::Received, &[7; 32]);
    let answer = Candidates::two(&first, &second);
    let (_, said) = step(client, Input::Key(Ok(answer)), &[7; 32]);
    assert_eq!(said, Mac::new(digest, b"first").tag(&[7; 32]).bytes());
}

#[test]
fn a_server_takes_the_right_key_in_every_digest_and_no_other() {
    for &digest in Digest::ALL {
        let (right, wrong) = (key(digest, SECRET), key(digest, b"the key of another"));
        assert_eq!(verdict(digest, &right, Candidates::one(&right)), Ok(true));
        assert_eq!(verdict(digest, &wrong, Candidates::one(&right)), Err(Error::WrongKey));
    }
}

#[test]
fn a_server_takes_either_of_two_keys_and_no_third() {
    for &digest in Digest::ALL {
        let (old, new) = (key(digest, b"old"), key(digest, b"new"));
        let both = Candidates::two(&new, &old);
        assert_eq!(verdict(digest, &old, both), Ok(true));
        assert_eq!(verdict(digest, &new, both), Ok(true));
        assert_eq!(verdict(digest, &key(digest, b"third"), both), Err(Error::WrongKey));
        assert_eq!(verdict(digest, &old, Candidates::two(&old, &old)), Ok(true));
    }
}

#[test]
fn a_server_refuses_every_flipped_bit_of_the_answer() {
    let digest = Digest::Sha256;
    let key = key(digest, SECRET);
    for bit in 0..digest.tag_len() * 8 {
        let (server, challenge) = verifying(digest, &[]);
        let mut response = key.mac().unwrap().tag(&challenge).bytes().to_vec();
        response[bit / 8] ^= 1 << (bit % 8);
        let (result, _) = step(server, Input::Key(Ok(Candidates::one(&key))), &response);
        assert_eq!(result.unwrap_err(), Error::WrongKey, "bit {bit}");
    }
}

#[test]
fn a_refused_key_ends_either_side_without_a_word() {
    let refused = || Input::Key(Err(KeyRejection::Unknown));
    let (server, _) = verifying(Digest::Sha256, &[]);
    let (client, _) = writing(|out| Challenge::new(Digest::Sha256, Role::Client, nonce(), out));
    let client = silently(client, Input::Received, &[7; 32]);
    for side in [server, client] {
        let (result, said) = step(side, refused(), &[7; 32]);
        assert_eq!(result.unwrap_err(), Error::Refused(KeyRejection::Unknown));
        assert_eq!(said, b"");
    }
}

#[test]
fn an_input_that_was_not_asked_for_changes_nothing() {
    let digest = Digest::Sha256;
    let right = key(digest, SECRET);
    let early = || Input::Key(Ok(Candidates::one(&right)));

    let (server, challenge) = writing(|out| Challenge::new(digest, Role::Server, nonce(), out));
    let server = silently(server, early(), &[]);
    assert_eq!(server.want(), digest.tag_len());
    let response = right.mac().unwrap().tag(&challenge);
    let server = silently(server, Input::Received, response.bytes());
    let server = silently(server, Input::Received, response.bytes());
    assert_eq!(authenticated(step(server, early(), response.bytes()).0), Ok(true));

    let (client, _) = writing(|out| Challenge::new(digest, Role::Client, nonce(), out));
    let client = silently(client, early(), &[]);
    assert_eq!(client.want(), CHALLENGE_LEN);
    let client = silently(client, Input::Received, &[7; 32]);
    let client = silently(client, Input::Received, &[7; 32]);
    assert!(client.key_request(&[7; 32]).is_some());
}

#[test]
fn both_messages_fit_the_longest() {
    for &digest in Digest::ALL {
        assert!(longest(digest) >= CHALLENGE_LEN && longest(digest) >= digest.tag_len());
        assert!(longest(digest) == CHALLENGE_LEN || longest(digest) == digest.tag_len());
    }
}

#[test]
fn a_client_does_not_answer_a_server_of_another_scheme() {
    let greeting = |begin: &[u8]| [b"\0\0\0\x29", begin, &[7; 28]].concat()[..32].to_vec();
    for (begin, answers) in [
        (&b"\x01CSGN"[..], false),
        (b"\x01CSGM", true),
        (b"#CHALLENGE#", false),
        (b"#CHALLENGE", true),
    ] {
        let (client, _) = writing(|out| Challenge::new(Digest::Sha256, Role::Client, nonce(), out));
        let (next, said) = step(client, Input::Received, &greeting(begin));
        assert_eq!(said, b"");
        assert_eq!(next.map(|_| true), if answers { Ok(true) } else { Err(Error::Malformed) });
    }
}
