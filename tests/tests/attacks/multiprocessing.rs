//! The scheme `multiprocessing`: what it promises, and the attacks that succeed as docs/SECURITY.md
//! states.

mod bits;
mod downgrade;
mod limits;
mod randomness;
mod reflection;
mod replay;
mod truncation;

use countersign::{Config, Digest, Framing, Key, Mac, Protocol, Role};
use countersign_tests::python::PYTHON_DIGESTS;
use countersign_tests::{HonestPeer, Policy, SessionSpec, frame};

use crate::endpoint::Endpoint;
use crate::party::{Keyring, OTHER, SECRET};

pub(crate) use countersign_tests::python::FAILURE_FRAME;
pub(crate) const WELCOME: &[u8] = b"#WELCOME#";
pub(crate) const WELCOME_FRAME: &[u8] = b"\0\0\0\x09#WELCOME#";
pub(crate) const CHALLENGE: &[u8] = b"#CHALLENGE#";

const DIGEST: Digest = Digest::Sha256;

/// Returns every policy, except some that differ only in the client's digest.
fn policies() -> impl Iterator<Item = Policy> {
    let compatible = |(digest, _)| Policy::Compatible(digest, Digest::Sha256);
    let strict = |(digest, _)| Policy::Strict(digest);
    PYTHON_DIGESTS.into_iter().map(strict).chain(PYTHON_DIGESTS.into_iter().map(compatible))
}

fn config(policy: Policy, role: Role) -> Config {
    let spec = SessionSpec::Multiprocessing(policy, Framing::Multiprocessing);
    spec.config(role, HonestPeer::HEARTBEAT).with_max_frame(1000)
}

/// Returns keys of `secret` for every digest.
fn keys(secret: &[u8]) -> Vec<Key> {
    PYTHON_DIGESTS.iter().map(|(digest, _)| Key::challenge(*digest, secret).unwrap()).collect()
}

/// Makes an endpoint, with its first output ready.
fn start(policy: Policy, role: Role, nonce: u8, secret: &[u8]) -> Endpoint {
    let keyring = Keyring { key_id: None, keys: Ok(keys(secret)), name_allowed: true };
    let mut end = Endpoint::new(&config(policy, role), role, nonce, keyring);
    end.feed(b"");
    end
}

pub(crate) fn client(nonce: u8) -> Endpoint {
    start(Policy::Strict(DIGEST), Role::Client, nonce, SECRET)
}

pub(crate) fn server(nonce: u8) -> Endpoint {
    start(Policy::Strict(DIGEST), Role::Server, nonce, SECRET)
}

/// Returns the label that CPython uses for `digest`.
fn label(digest: Digest) -> &'static [u8] {
    PYTHON_DIGESTS.iter().find(|(known, _)| *known == digest).unwrap().1
}

/// Returns a message as CPython makes it for a challenge.
fn message(digest: Digest, fill: u8) -> Vec<u8> {
    [label(digest), &[fill; 40]].concat()
}

/// Returns the frame of the challenge with `message`.
pub(crate) fn challenge_frame(message: &[u8]) -> Vec<u8> {
    frame(&[CHALLENGE, message].concat())
}

/// Returns the message in the frame of a challenge.
pub(crate) fn challenge_message(sent: &[u8]) -> &[u8] {
    sent[4..].strip_prefix(CHALLENGE).unwrap()
}

/// Returns the frame of the response to `message`, with a label.
fn response(digest: Digest, secret: &[u8], message: &[u8]) -> Vec<u8> {
    let tag = Mac::new(digest, secret).tag(message);
    frame(&[label(digest), tag.bytes()].concat())
}

/// Returns the frame of a guessed response.
fn guess(digest: Digest) -> Vec<u8> {
    frame(&[label(digest), &vec![7; digest.tag_len()]].concat())
}

/// Runs a handshake. Returns its six frames, the server's first.
fn run_handshake(client: &mut Endpoint, server: &mut Endpoint) -> Vec<Vec<u8>> {
    let mut frames = vec![server.output()];
    for round in 1..6 {
        let end = if round % 2 == 1 { &mut *client } else { &mut *server };
        let received: &[u8] = &frames[round - 1];
        frames.push(end.answer(received));
    }
    assert_eq!(server.answer(&frames[5]), b"");
    assert!(client.is_established() && server.is_established());
    frames
}

/// Returns the frames that the endpoint of `role` receives, concatenated.
fn received_by(role: Role, frames: &[Vec<u8>]) -> Vec<u8> {
    let first = if role == Role::Client { 0 } else { 1 };
    frames.iter().skip(first).step_by(2).flatten().copied().collect()
}

/// Returns two endpoints that are established with each other, and the frames of their handshake.
fn established() -> (Endpoint, Endpoint, Vec<Vec<u8>>) {
    let (mut client, mut server) = (client(0xa1), server(0xb1));
    let frames = run_handshake(&mut client, &mut server);
    (client, server, frames)
}

#[test]
fn handshake_succeeds_under_every_policy() {
    for policy in policies() {
        let [mut client, mut server] = [(Role::Client, 0xa1), (Role::Server, 0xb1)]
            .map(|(role, nonce)| start(policy, role, nonce, SECRET));
        let frames = run_handshake(&mut client, &mut server);
        assert_eq!((&frames[2][..], &frames[5][..]), (WELCOME_FRAME, WELCOME_FRAME));
        for end in [&client, &server] {
            assert!(end.session.peer().unwrap().authenticated);
        }
        server.feed(&client.send(b"up"));
        client.feed(&server.send(b"down"));
        assert_eq!(
            (&server.received, &client.received),
            (&vec![b"up".to_vec()], &vec![b"down".to_vec()])
        );
    }
}

#[test]
fn client_with_another_key_receives_only_failure() {
    for policy in policies() {
        let mut client = start(policy, Role::Client, 0xa1, OTHER);
        let mut server = start(policy, Role::Server, 0xb1, SECRET);
        let answer = client.answer(&server.output());
        assert_eq!(server.answer(&answer), FAILURE_FRAME);
        assert_eq!(client.answer(FAILURE_FRAME), b"");
        for end in [&client, &server] {
            assert!(end.error.is_some() && !end.is_established());
        }
    }
}

/// Nothing after the handshake is protected. The scheme relies on a trusted network.
#[test]
fn modified_data_after_the_handshake_is_not_detected() {
    let (mut client, mut server, _) = established();
    let mut frame = client.send(b"pay 100");
    frame[4 + 4] = b'9';
    server.feed(&frame);
    // Injected messages are not detected either.
    server.feed(b"\0\0\0\x05thief");
    assert_eq!(server.received, [&b"pay 900"[..], b"thief"]);
}
