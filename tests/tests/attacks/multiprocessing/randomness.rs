//! Randomness that repeats or is known beforehand: in this scheme all depends on it.

use countersign::{Error, KeyRejection, Role};

use super::{DIGEST, WELCOME_FRAME, ask, client, heard_by, honest, message, server};

/// Where a client connects to the attacker beforehand, and the server's nonce is foreseen.
#[test]
fn a_server_whose_challenge_was_foreseen_lets_in_whoever_had_it_answered_before() {
    let foreseen = server(0xb1).sent();
    let mut gone = client(0xa1);
    let response = gone.answer(&foreseen);
    gone.eof();
    assert!(!gone.is_established());

    let mut server = server(0xb1);
    assert_eq!(server.sent(), foreseen);
    assert_eq!(server.answer(&response), WELCOME_FRAME);
    server.feed(&ask(&message(DIGEST, b'x')));
    server.feed(WELCOME_FRAME);
    server.feed(b"\0\0\0\x05thief");
    assert!(server.is_established());
    assert_eq!(server.heard, [b"thief"]);
}

#[test]
fn an_end_that_repeats_its_challenge_takes_all_that_was_recorded_and_more() {
    let (mut client_then, mut server_then, said) = honest();
    let up = [heard_by(Role::Server, &said), client_then.say(b"pay 100")].concat();
    let down = [heard_by(Role::Client, &said), server_then.say(b"paid")].concat();
    for (mut end, stream, heard) in
        [(server(0xb1), up, &b"pay 100"[..]), (client(0xa1), down, b"paid")]
    {
        end.feed(&stream);
        end.feed(b"\0\0\0\x05thief");
        assert!(end.is_established());
        assert_eq!(end.heard, [heard, b"thief"]);
    }
}

/// Only the end whose nonces are bad is deceived.
#[test]
fn an_end_whose_peer_repeats_its_challenge_takes_nothing_that_was_recorded() {
    let (_, _, said) = honest();
    let mut other = server(0xb2);
    other.sent();
    other.feed(&heard_by(Role::Server, &said));
    assert_eq!(other.error, Some(Error::WrongKey));
    let mut other = client(0xa2);
    other.feed(&heard_by(Role::Client, &said));
    assert_eq!(other.error, Some(Error::WrongKey));
}

#[test]
fn two_ends_that_draw_the_same_do_not_come_together() {
    let (mut client, mut server) = (client(7), server(7));
    assert_eq!(client.answer(&server.sent()), b"");
    assert_eq!(client.error, Some(Error::Refused(KeyRejection::Reflected)));
    assert!(!server.is_established());
}
