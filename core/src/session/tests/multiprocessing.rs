//! The scheme `multiprocessing` against messages that the tests build as CPython does.

mod challenges;
#[cfg(feature = "digests")]
mod digests;
mod failures;
mod lengths;

use super::*;
use crate::config::Multiprocessing;
use crate::crypto::mac::Tag;
use std::string::ToString;

const WELCOME: &[u8] = b"#WELCOME#";
const FAILURE: &[u8] = b"#FAILURE#";
const FAILURE_FRAME: &[u8] = b"\0\0\0\x09#FAILURE#";

fn strict(digest: Digest) -> Config {
    Config::new(Scheme::Multiprocessing(Multiprocessing::new(digest)))
}

fn compatible(digest: Digest) -> Config {
    Config::new(Scheme::Multiprocessing(Multiprocessing::new(digest).compatible()))
}

/// The digests that CPython supports.
fn digests() -> impl Iterator<Item = Digest> {
    Multiprocessing::new(Digest::Sha256).compatible().digests()
}

/// The label of `digest` in CPython's messages.
fn label(digest: Digest) -> Vec<u8> {
    std::format!("{{{}}}", digest.to_string().replace('-', "_")).into_bytes()
}

/// The message of a challenge by the peer, with a digest label (CPython 3.12 and later).
fn message(digest: Digest) -> Vec<u8> {
    [label(digest), vec![0x42; 40]].concat()
}

fn challenge_frame(message: &[u8]) -> Vec<u8> {
    frame(&[b"#CHALLENGE#", message].concat())
}

fn tag(digest: Digest, secret: &[u8], message: &[u8]) -> Tag {
    Mac::new(digest, secret).tag(message)
}

/// The response of a peer with `secret` to `message`, with or without a digest label.
fn response(digest: Digest, secret: &[u8], message: &[u8], unlabelled: bool) -> Vec<u8> {
    let label = if unlabelled { Vec::new() } else { label(digest) };
    frame(&[&label, tag(digest, secret, message).bytes()].concat())
}

/// The message of our own challenge, made of [`nonce`].
fn own_message(digest: Digest) -> Vec<u8> {
    #[cfg(feature = "digests")]
    if digest == Digest::Md5 {
        return vec![0x6e; 20];
    }
    [label(digest), vec![0x6e; 40]].concat()
}

/// Whether a peer responds to [`own_message`] of `digest` without a label.
fn responds_unlabelled(digest: Digest) -> bool {
    own_message(digest).len() == 20
}

impl Endpoint {
    /// Reads `bytes` as far as the handshake wants them and answers key requests; returns the result
    /// of the handshake once it is complete.
    fn receive(&mut self, mut bytes: &[u8]) -> Option<Result<(), Error>> {
        loop {
            match self.poll() {
                Ok(Some(Event::KeyNeeded)) => {
                    let request = self.session.key_request().unwrap();
                    let key = Key::new(request.purpose, SECRET).unwrap();
                    self.provide_key(&key);
                }
                Ok(Some(Event::Established)) => return Some(Ok(())),
                Ok(Some(event)) => panic!("{event:?}"),
                Err(error) => return Some(Err(error)),
                Ok(None) => match self.offer(bytes) {
                    0 => return None,
                    n => bytes = &bytes[n..],
                },
            }
        }
    }
}

/// A server that has verified its peer and sent the welcome; the peer challenges next.
fn server_after_welcome(digest: Digest, config: &Config) -> Endpoint {
    let mut server = Endpoint::server(config);
    assert_eq!(server.transmit_all(), challenge_frame(&own_message(digest)));
    let answer = response(digest, SECRET, &own_message(digest), responds_unlabelled(digest));
    assert_eq!(server.receive(&answer), None);
    assert_eq!(server.transmit_all(), frame(WELCOME));
    server
}

/// A client that has answered a challenge with `digest`.
fn client_after_response(digest: Digest, config: &Config) -> Endpoint {
    let mut client = Endpoint::client(config);
    assert_eq!(client.transmit_all(), b"");
    assert_eq!(client.receive(&challenge_frame(&message(digest))), None);
    assert_eq!(client.transmit_all(), response(digest, SECRET, &message(digest), false));
    client
}

/// A client that has received the welcome and sent its own challenge.
fn client_after_challenge(digest: Digest, config: &Config) -> Endpoint {
    let mut client = client_after_response(digest, config);
    assert_eq!(client.receive(&frame(WELCOME)), None);
    assert_eq!(client.transmit_all(), challenge_frame(&own_message(digest)));
    client
}

#[test]
fn server_challenges_and_then_responds() {
    for digest in digests() {
        let mut server = server_after_welcome(digest, &strict(digest));
        assert_eq!(server.receive(&challenge_frame(&message(digest))), None);
        assert_eq!(server.transmit_all(), response(digest, SECRET, &message(digest), false));
        assert!(server.session.peer().is_none());
        assert_eq!(server.receive(&frame(WELCOME)), Some(Ok(())));
        assert!(server.session.peer().unwrap().authenticated);
        assert_eq!(server.pools.held(), (0, 0, 0));
    }
}

#[test]
fn client_responds_and_then_challenges() {
    for digest in digests() {
        let mut client = client_after_challenge(digest, &strict(digest));
        let answer = response(digest, SECRET, &own_message(digest), responds_unlabelled(digest));
        assert_eq!(client.receive(&answer), None, "its welcome is not transmitted yet");
        assert_eq!(client.transmit_all(), frame(WELCOME));
        assert_eq!(client.receive(b""), Some(Ok(())));
        assert!(client.session.peer().unwrap().authenticated);
    }
}

#[test]
fn both_roles_authenticate_with_every_digest() {
    for digest in digests() {
        for config in [strict(digest), compatible(digest)] {
            let (mut server, mut client) = (Endpoint::server(&config), Endpoint::client(&config));
            let (buffers, nonce) = (client.pools.buffers(64, 64), Nonce::from_bytes([9; 40]));
            client.session = Session::client(&config, nonce, buffers, client.now).unwrap();
            let (mut server_result, mut client_result) = (None, None);
            for _ in 0..9 {
                client_result = client_result.or(client.receive(&server.transmit_all()));
                server_result = server_result.or(server.receive(&client.transmit_all()));
            }
            assert_eq!((server_result, client_result), (Some(Ok(())), Some(Ok(()))), "{digest}");
            client.send(b"hello").unwrap();
            assert_eq!(client.transmit_all(), frame(b"hello"));
            server.feed(&frame(b"hello"));
            assert_eq!(server.events(), [whole_message()]);
        }
    }
}

#[test]
fn bytes_after_the_handshake_are_messages() {
    let digest = Digest::Sha256;
    let mut server = server_after_welcome(digest, &strict(digest));
    server.receive(&challenge_frame(&message(digest)));
    server.transmit_all();
    let bytes = [frame(WELCOME), frame(b"at once")].concat();
    // The session reads the header, then the verdict, and no byte after it.
    assert_eq!(server.offer(&bytes), 4);
    assert_eq!(server.events(), []);
    assert_eq!(server.offer(&bytes[4..]), 9);
    assert_eq!(server.events(), [Event::Established]);
    server.feed(&bytes[13..]);
    assert_eq!(server.events(), [whole_message()]);
    assert_eq!(server.chunk(), b"at once");
}
