extern crate std;

use super::*;
use crate::crypto::keys::{Candidates, Key};
use crate::crypto::mac::{MAX_TAG, Mac};
use crate::error::KeyRejection;
use std::vec::Vec;

const SECRET: &[u8] = b"the shared key";

fn key(digest: Digest, secret: &[u8]) -> Key {
    Key::challenge(digest, secret).unwrap()
}

fn nonce() -> Nonce {
    let mut bytes = [0; Nonce::LEN];
    bytes.iter_mut().zip(1..).for_each(|(byte, n)| *byte = n);
    Nonce::from_bytes(bytes)
}

/// Runs `act` with a transmit buffer; returns its result and the bytes that it wrote.
fn capture<T>(act: impl FnOnce(&mut Transmit<'_>) -> T) -> (T, Vec<u8>) {
    let (mut bytes, mut queued) = ([0; MAX_TAG], 0);
    let result = act(&mut Transmit { bytes: &mut bytes, queued: &mut queued });
    (result, bytes[..usize::from(queued)].to_vec())
}

fn step(
    state: Challenge,
    input: Input<'_>,
    received: &[u8],
) -> (Result<Handshake, Error>, Vec<u8>) {
    capture(|out| state.step(input, received, out))
}

/// Like [`step`], for a step that must neither complete the handshake nor transmit.
fn step_silently(state: Challenge, input: Input<'_>, received: &[u8]) -> Challenge {
    match step(state, input, received) {
        (Ok(Handshake::Challenge(next)), transmitted) if transmitted.is_empty() => next,
        other => panic!("{other:?}"),
    }
}

/// A server that has received `response`, and its challenge.
fn server_with_response(digest: Digest, response: &[u8]) -> (Challenge, Vec<u8>) {
    let (server, challenge) = capture(|out| Challenge::new(digest, Role::Server, nonce(), out));
    (step_silently(server, Input::Received, response), challenge)
}

fn authenticated(result: Result<Handshake, Error>) -> Result<bool, Error> {
    match result? {
        Handshake::Complete { authenticated } => Ok(authenticated),
        state => panic!("not complete: {state:?}"),
    }
}

/// Whether a server with the keys `candidates` accepts the response made with `prover`.
fn verify(digest: Digest, prover: &Key, candidates: Candidates<'_>) -> Result<bool, Error> {
    let (server, challenge) = server_with_response(digest, &[]);
    let response = prover.mac().unwrap().tag(&challenge);
    let (result, transmitted) = step(server, Input::Key(Ok(candidates)), response.bytes());
    assert_eq!(transmitted, b"", "a server does not answer a response");
    authenticated(result)
}

#[test]
fn server_sends_32_nonce_bytes_and_client_sends_none() {
    for &digest in Digest::ALL {
        let (server, transmitted) =
            capture(|out| Challenge::new(digest, Role::Server, nonce(), out));
        assert!(transmitted.iter().copied().eq(1..=32));
        assert_eq!(server.want(), digest.tag_len());
        assert!(server.key_request(&[]).is_none());
        let (client, transmitted) =
            capture(|out| Challenge::new(digest, Role::Client, nonce(), out));
        assert_eq!(transmitted, b"");
        assert_eq!(client.want(), CHALLENGE_LEN);
        assert!(client.key_request(&[]).is_none());
    }
}

#[test]
fn neither_side_reads_while_awaiting_a_key() {
    for &digest in Digest::ALL {
        let (client, _) = capture(|out| Challenge::new(digest, Role::Client, nonce(), out));
        assert_eq!(step_silently(client, Input::Received, &[1; 32]).want(), 0);
        assert_eq!(server_with_response(digest, &[]).0.want(), 0);
    }
}

#[test]
fn key_request_carries_the_transmitted_challenge() {
    for &digest in Digest::ALL {
        let (client, _) = capture(|out| Challenge::new(digest, Role::Client, nonce(), out));
        let client = step_silently(client, Input::Received, &[7; 32]);
        let request =
            KeyRequest::challenge(Role::Client, digest, key_request::Challenge::Theirs(&[7; 32]));
        assert_eq!(client.key_request(&[7; 32]), Some(request));

        let (server, challenge) = server_with_response(digest, b"some response");
        let request =
            KeyRequest::challenge(Role::Server, digest, key_request::Challenge::Ours(&challenge));
        assert_eq!(server.key_request(b"some response"), Some(request));
    }
}

#[test]
fn client_responds_with_hmac_and_authenticates_no_peer() {
    for &digest in Digest::ALL {
        let (client, _) = capture(|out| Challenge::new(digest, Role::Client, nonce(), out));
        let client = step_silently(client, Input::Received, &[7; 32]);
        let key = key(digest, SECRET);
        let (result, transmitted) = step(client, Input::Key(Ok(Candidates::one(&key))), &[7; 32]);
        assert_eq!(authenticated(result), Ok(false));
        assert_eq!(transmitted, Mac::new(digest, SECRET).tag(&[7; 32]).bytes());
    }
}

#[test]
fn client_responds_with_the_first_of_two_keys() {
    let digest = Digest::Sha256;
    let (first, second) = (key(digest, b"first"), key(digest, b"second"));
    let (client, _) = capture(|out| Challenge::new(digest, Role::Client, nonce(), out));
    let client = step_silently(client, Input::Received, &[7; 32]);
    let answer = Candidates::two(&first, &second);
    let (_, transmitted) = step(client, Input::Key(Ok(answer)), &[7; 32]);
    assert_eq!(transmitted, Mac::new(digest, b"first").tag(&[7; 32]).bytes());
}

#[test]
fn server_accepts_only_the_right_key_with_every_digest() {
    for &digest in Digest::ALL {
        let (right, wrong) = (key(digest, SECRET), key(digest, b"another key"));
        assert_eq!(verify(digest, &right, Candidates::one(&right)), Ok(true));
        assert_eq!(verify(digest, &wrong, Candidates::one(&right)), Err(Error::WrongKey));
    }
}

#[test]
fn server_accepts_either_of_two_keys_and_no_third() {
    for &digest in Digest::ALL {
        let (old, new) = (key(digest, b"old"), key(digest, b"new"));
        let both = Candidates::two(&new, &old);
        assert_eq!(verify(digest, &old, both), Ok(true));
        assert_eq!(verify(digest, &new, both), Ok(true));
        assert_eq!(verify(digest, &key(digest, b"third"), both), Err(Error::WrongKey));
        assert_eq!(verify(digest, &old, Candidates::two(&old, &old)), Ok(true));
    }
}

#[test]
fn server_rejects_every_flipped_response_bit() {
    let digest = Digest::Sha256;
    let key = key(digest, SECRET);
    for bit in 0..digest.tag_len() * 8 {
        let (server, challenge) = server_with_response(digest, &[]);
        let mut response = key.mac().unwrap().tag(&challenge).bytes().to_vec();
        response[bit / 8] ^= 1 << (bit % 8);
        let (result, _) = step(server, Input::Key(Ok(Candidates::one(&key))), &response);
        assert_eq!(result.unwrap_err(), Error::WrongKey, "bit {bit}");
    }
}

#[test]
fn key_rejection_ends_either_side_silently() {
    let refused = || Input::Key(Err(KeyRejection::Unknown));
    let (server, _) = server_with_response(Digest::Sha256, &[]);
    let (client, _) = capture(|out| Challenge::new(Digest::Sha256, Role::Client, nonce(), out));
    let client = step_silently(client, Input::Received, &[7; 32]);
    for state in [server, client] {
        let (result, transmitted) = step(state, refused(), &[7; 32]);
        assert_eq!(result.unwrap_err(), Error::Refused(KeyRejection::Unknown));
        assert_eq!(transmitted, b"");
    }
}

#[test]
fn unexpected_input_is_ignored() {
    let digest = Digest::Sha256;
    let right = key(digest, SECRET);
    let early = || Input::Key(Ok(Candidates::one(&right)));

    let (server, challenge) = capture(|out| Challenge::new(digest, Role::Server, nonce(), out));
    let server = step_silently(server, early(), &[]);
    assert_eq!(server.want(), digest.tag_len());
    let response = right.mac().unwrap().tag(&challenge);
    let server = step_silently(server, Input::Received, response.bytes());
    let server = step_silently(server, Input::Received, response.bytes());
    assert_eq!(authenticated(step(server, early(), response.bytes()).0), Ok(true));

    let (client, _) = capture(|out| Challenge::new(digest, Role::Client, nonce(), out));
    let client = step_silently(client, early(), &[]);
    assert_eq!(client.want(), CHALLENGE_LEN);
    let client = step_silently(client, Input::Received, &[7; 32]);
    let client = step_silently(client, Input::Received, &[7; 32]);
    assert!(client.key_request(&[7; 32]).is_some());
}

#[test]
fn longest_covers_challenge_and_response() {
    for &digest in Digest::ALL {
        assert!(longest(digest) >= CHALLENGE_LEN && longest(digest) >= digest.tag_len());
        assert!(longest(digest) == CHALLENGE_LEN || longest(digest) == digest.tag_len());
    }
}

#[test]
fn client_rejects_the_greeting_of_another_scheme() {
    let greeting = |prefix: &[u8]| [b"\0\0\0\x29", prefix, &[7; 28]].concat()[..32].to_vec();
    for (prefix, accepted) in [
        (&b"\x01CSGN"[..], false),
        (b"\x01CSGM", true),
        (b"#CHALLENGE#", false),
        (b"#CHALLENGE", true),
    ] {
        let (client, _) = capture(|out| Challenge::new(Digest::Sha256, Role::Client, nonce(), out));
        let (next, transmitted) = step(client, Input::Received, &greeting(prefix));
        assert_eq!(transmitted, b"");
        assert_eq!(next.map(|_| true), if accepted { Ok(true) } else { Err(Error::Malformed) });
    }
}
