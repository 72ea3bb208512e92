//! Replay, and messages in place of a proof.

use countersign::{Alert, Error, Role};
use countersign_tests::frame;

use super::{
    CHALLENGE, DIGEST, FAILURE_FRAME, WELCOME, WELCOME_FRAME, challenge_frame, client, established,
    guess, message, received_by, server,
};
use crate::endpoint::Endpoint;

const RESPONSE: usize = 1;
const SERVERS_RESPONSE: usize = 4;

/// Returns a client that has answered its server, was welcomed, and waits for a response.
fn awaiting_response(nonce: u8) -> Endpoint {
    let mut client = client(nonce);
    assert_ne!(client.answer(&challenge_frame(&message(DIGEST, b'x'))), b"");
    assert!(client.answer(WELCOME_FRAME)[4..].starts_with(CHALLENGE));
    client
}

/// Requires that the endpoint sends only a failure, for the reason `why`.
fn assert_refuses(mut end: Endpoint, response: &[u8], why: Error) {
    end.output();
    assert_eq!(end.answer(response), FAILURE_FRAME);
    assert_eq!(end.error, Some(why));
    assert!(!end.is_established());
}

#[test]
fn replayed_response_is_refused() {
    let (_, _, recorded) = established();
    assert_refuses(server(0xb2), &recorded[RESPONSE], Error::WrongKey);
    assert_refuses(awaiting_response(0xa2), &recorded[SERVERS_RESPONSE], Error::WrongKey);
    // A response is not valid for the other endpoint of its own session either.
    assert_refuses(server(0xb1), &recorded[SERVERS_RESPONSE], Error::WrongKey);
    assert_refuses(awaiting_response(0xa1), &recorded[RESPONSE], Error::WrongKey);
}

#[test]
fn replayed_client_stream_is_refused() {
    let (mut client, _, recorded) = established();
    let stream = [received_by(Role::Server, &recorded), client.send(b"pay 100")].concat();
    let mut other = server(0xb2);
    other.output();
    assert!(other.feed(&stream) < stream.len());
    assert_eq!(other.output(), FAILURE_FRAME);
    assert!(!other.is_established() && other.received.is_empty());
}

/// The client answers and is welcomed, which proves nothing to it.
#[test]
fn replayed_server_stream_is_refused() {
    let (_, mut server, recorded) = established();
    let stream = [received_by(Role::Client, &recorded), server.send(b"paid")].concat();
    let mut other = client(0xa2);
    assert!(other.feed(&stream) < stream.len());
    assert_eq!(other.error, Some(Error::WrongKey));
    assert!(other.output().ends_with(FAILURE_FRAME));
    assert!(!other.is_established() && other.received.is_empty());
}

/// Returns what a peer without the key can send in place of a response.
fn non_responses(own: &[u8]) -> Vec<Vec<u8>> {
    let challenge = [CHALLENGE, &message(DIGEST, b'x')].concat();
    let bodies: [&[u8]; 6] = [WELCOME, b"#FAILURE#", b"", &challenge, &own[4..], &[0x7f; 32]];
    bodies.into_iter().map(frame).collect()
}

#[test]
fn server_refuses_welcome_in_place_of_a_response() {
    for sent in non_responses(&server(0xb1).output()) {
        assert_refuses(server(0xb1), &sent, Error::Malformed);
        // The frames that would follow do not help.
        let stream = [&sent[..], &challenge_frame(&message(DIGEST, b'x')), WELCOME_FRAME].concat();
        assert_refuses(server(0xb1), &stream, Error::Malformed);
    }
    let stream =
        [&guess(DIGEST)[..], &challenge_frame(&message(DIGEST, b'x')), WELCOME_FRAME].concat();
    assert_refuses(server(0xb1), &stream, Error::WrongKey);
}

#[test]
fn client_refuses_a_server_that_only_sends_welcome() {
    let mut welcomed = client(0xa1);
    welcomed.feed(&challenge_frame(&message(DIGEST, b'x')));
    welcomed.output();
    for sent in non_responses(&welcomed.answer(WELCOME_FRAME)) {
        assert_refuses(awaiting_response(0xa1), &sent, Error::Malformed);
    }
    assert_refuses(awaiting_response(0xa1), &guess(DIGEST), Error::WrongKey);
    for times in 1..6 {
        let mut client = awaiting_response(0xa1);
        client.feed(&WELCOME_FRAME.repeat(times));
        assert!(!client.is_established());
    }
}

#[test]
fn client_does_not_answer_welcome_before_a_challenge() {
    for sent in [WELCOME_FRAME, FAILURE_FRAME] {
        let mut client = client(0xa1);
        let stream = [sent, &challenge_frame(&message(DIGEST, b'x'))].concat();
        assert_eq!(client.answer(&stream), b"");
        assert_eq!(client.error, Some(Error::Malformed));
        assert!(!client.events.contains(&countersign::Event::KeyNeeded));
    }
}

/// Any attacker on the path can forge it. It ends this session, does not count as an authentication
/// failure, and the next session starts as this one did.
#[test]
fn forged_failure_is_an_error_without_further_effect() {
    let (_, _, recorded) = established();
    let mut server = server(0xb1);
    server.output();
    server.feed(&recorded[RESPONSE]);
    server.feed(&recorded[3]);
    let mut client = client(0xa1);
    client.feed(&recorded[0]);
    for mut end in [client, server] {
        end.output();
        assert_eq!(end.answer(FAILURE_FRAME), b"");
        assert_eq!(end.error, Some(Error::Alert(Alert::Refused)));
        assert!(!Error::Alert(Alert::Refused).is_authentication_failure() && !end.is_established());
        assert_eq!(end.feed(WELCOME_FRAME), 0);
    }
    assert_eq!(established().2, recorded);
}
