//! Randomness that repeats or is predictable: this scheme depends on it entirely.

use countersign::{Error, KeyRejection, Role};

use super::{
    DIGEST, WELCOME_FRAME, challenge_frame, client, established, message, received_by, server,
};

/// A client connects to the attacker in advance, and the attacker predicts the server's challenge.
#[test]
fn predicted_challenge_admits_a_prepared_attacker() {
    let predicted = server(0xb1).output();
    let mut gone = client(0xa1);
    let response = gone.answer(&predicted);
    gone.eof();
    assert!(!gone.is_established());

    let mut server = server(0xb1);
    assert_eq!(server.output(), predicted);
    assert_eq!(server.answer(&response), WELCOME_FRAME);
    server.feed(&challenge_frame(&message(DIGEST, b'x')));
    server.feed(WELCOME_FRAME);
    server.feed(b"\0\0\0\x05thief");
    assert!(server.is_established());
    assert_eq!(server.received, [b"thief"]);
}

#[test]
fn repeated_challenge_admits_a_replay() {
    let (mut client_then, mut server_then, frames) = established();
    let up = [received_by(Role::Server, &frames), client_then.send(b"pay 100")].concat();
    let down = [received_by(Role::Client, &frames), server_then.send(b"paid")].concat();
    for (mut end, stream, received) in
        [(server(0xb1), up, &b"pay 100"[..]), (client(0xa1), down, b"paid")]
    {
        end.feed(&stream);
        end.feed(b"\0\0\0\x05thief");
        assert!(end.is_established());
        assert_eq!(end.received, [received, b"thief"]);
    }
}

/// Only the endpoint with the bad generator is deceived.
#[test]
fn fresh_challenge_refuses_a_replay_of_a_repeating_peer() {
    let (_, _, frames) = established();
    let mut other = server(0xb2);
    other.output();
    other.feed(&received_by(Role::Server, &frames));
    assert_eq!(other.error, Some(Error::WrongKey));
    let mut other = client(0xa2);
    other.feed(&received_by(Role::Client, &frames));
    assert_eq!(other.error, Some(Error::WrongKey));
}

#[test]
fn endpoints_with_equal_challenges_refuse_each_other() {
    let (mut client, mut server) = (client(7), server(7));
    assert_eq!(client.answer(&server.output()), b"");
    assert_eq!(client.error, Some(Error::Refused(KeyRejection::Reflected)));
    assert!(!server.is_established());
}
