//! The scheme `multiprocessing`: what it promises, and attacks that succeed as docs/SECURITY.md says.

mod bits;
mod downgrade;
mod limits;
mod randomness;
mod reflection;
mod replay;
mod truncation;

use countersign::{Config, Digest, Framing, Key, Mac, Protocol, Role};
use countersign_tests::python::PYTHONS;
use countersign_tests::{Honest, Policy, Speech, frame};

use crate::ends::{End, Keyring, OTHER, SECRET};

pub(crate) use countersign_tests::python::FAILURE_FRAME;
pub(crate) const WELCOME: &[u8] = b"#WELCOME#";
pub(crate) const WELCOME_FRAME: &[u8] = b"\0\0\0\x09#WELCOME#";
pub(crate) const CHALLENGE: &[u8] = b"#CHALLENGE#";

const DIGEST: Digest = Digest::Sha256;

/// Every policy there is, but for some that differ in what the client asks for.
fn policies() -> impl Iterator<Item = Policy> {
    let compatible = |(digest, _)| Policy::Compatible(digest, Digest::Sha256);
    let strict = |(digest, _)| Policy::Strict(digest);
    PYTHONS.into_iter().map(strict).chain(PYTHONS.into_iter().map(compatible))
}

fn config(policy: Policy, role: Role) -> Config {
    let speech = Speech::Multiprocessing(policy, Framing::Multiprocessing);
    speech.config(role, Honest::HEARTBEAT).with_max_frame(1000)
}

/// Keys of `secret`, for whatever is asked.
fn keys(secret: &[u8]) -> Vec<Key> {
    PYTHONS.iter().map(|(digest, _)| Key::challenge(*digest, secret).unwrap()).collect()
}

/// An end, which has said what it says unasked.
fn start(policy: Policy, role: Role, nonce: u8, secret: &[u8]) -> End {
    let ring = Keyring { kid: None, keys: Ok(keys(secret)), admits: true };
    let mut end = End::new(&config(policy, role), role, nonce, ring);
    end.feed(b"");
    end
}

pub(crate) fn client(nonce: u8) -> End {
    start(Policy::Strict(DIGEST), Role::Client, nonce, SECRET)
}

pub(crate) fn server(nonce: u8) -> End {
    start(Policy::Strict(DIGEST), Role::Server, nonce, SECRET)
}

/// As Python names it.
fn label(digest: Digest) -> &'static [u8] {
    PYTHONS.iter().find(|(known, _)| *known == digest).unwrap().1
}

/// A challenge as Python makes one.
fn message(digest: Digest, fill: u8) -> Vec<u8> {
    [label(digest), &[fill; 40]].concat()
}

/// `message` as it is sent.
pub(crate) fn ask(message: &[u8]) -> Vec<u8> {
    frame(&[CHALLENGE, message].concat())
}

/// The message of such a frame.
pub(crate) fn asked(sent: &[u8]) -> &[u8] {
    sent[4..].strip_prefix(CHALLENGE).unwrap()
}

/// The response to `message` that names its digest.
fn response(digest: Digest, secret: &[u8], message: &[u8]) -> Vec<u8> {
    let tag = Mac::new(digest, secret).tag(message);
    frame(&[label(digest), tag.bytes()].concat())
}

/// A response as good as any that somebody can guess.
fn guess(digest: Digest) -> Vec<u8> {
    frame(&[label(digest), &vec![7; digest.tag_len()]].concat())
}

/// The six frames of a handshake, the server's first.
fn introduce(client: &mut End, server: &mut End) -> Vec<Vec<u8>> {
    let mut said = vec![server.sent()];
    for turn in 1..6 {
        let end = if turn % 2 == 1 { &mut *client } else { &mut *server };
        let heard: &[u8] = &said[turn - 1];
        said.push(end.answer(heard));
    }
    assert_eq!(server.answer(&said[5]), b"");
    assert!(client.is_established() && server.is_established());
    said
}

/// What the end of `role` hears of such a handshake.
fn heard_by(role: Role, said: &[Vec<u8>]) -> Vec<u8> {
    let first = if role == Role::Client { 0 } else { 1 };
    said.iter().skip(first).step_by(2).flatten().copied().collect()
}

/// Two ends that are established with each other, and what they said.
fn honest() -> (End, End, Vec<Vec<u8>>) {
    let (mut client, mut server) = (client(0xa1), server(0xb1));
    let said = introduce(&mut client, &mut server);
    (client, server, said)
}

#[test]
fn ends_of_every_policy_come_together() {
    for policy in policies() {
        let [mut client, mut server] = [(Role::Client, 0xa1), (Role::Server, 0xb1)]
            .map(|(role, nonce)| start(policy, role, nonce, SECRET));
        let said = introduce(&mut client, &mut server);
        assert_eq!((&said[2][..], &said[5][..]), (WELCOME_FRAME, WELCOME_FRAME));
        for end in [&client, &server] {
            assert!(end.session.peer().unwrap().authenticated);
        }
        server.feed(&client.say(b"up"));
        client.feed(&server.say(b"down"));
        assert_eq!(
            (&server.heard, &client.heard),
            (&vec![b"up".to_vec()], &vec![b"down".to_vec()])
        );
    }
}

#[test]
fn an_end_of_another_key_is_told_failure_and_nothing_else() {
    for policy in policies() {
        let mut client = start(policy, Role::Client, 0xa1, OTHER);
        let mut server = start(policy, Role::Server, 0xb1, SECRET);
        let answer = client.answer(&server.sent());
        assert_eq!(server.answer(&answer), FAILURE_FRAME);
        assert_eq!(client.answer(FAILURE_FRAME), b"");
        for end in [&client, &server] {
            assert!(end.error.is_some() && !end.is_established());
        }
    }
}

/// Nothing that follows is protected: it is for a network that is trusted but for who connects.
#[test]
fn what_is_said_after_the_handshake_can_be_changed_and_nobody_notices() {
    let (mut client, mut server, _) = honest();
    let mut frame = client.say(b"pay 100");
    frame[4 + 4] = b'9';
    server.feed(&frame);
    // Nor if all of it is said by somebody else.
    server.feed(b"\0\0\0\x05thief");
    assert_eq!(server.heard, [&b"pay 900"[..], b"thief"]);
}
