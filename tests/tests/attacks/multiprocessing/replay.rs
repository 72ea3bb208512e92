//! What was said once, said again, or said by somebody who has nothing to say.

use countersign::{Alert, Error, Role};
use countersign_tests::frame;

use super::{
    CHALLENGE, DIGEST, FAILURE_FRAME, WELCOME, WELCOME_FRAME, ask, client, guess, heard_by, honest,
    message, server,
};
use crate::ends::End;

const RESPONSE: usize = 1;
const SERVERS_RESPONSE: usize = 4;

/// A client whose server it has answered and been welcomed by, and that waits for a response.
fn asking(nonce: u8) -> End {
    let mut client = client(nonce);
    assert_ne!(client.answer(&ask(&message(DIGEST, b'x'))), b"");
    assert!(client.answer(WELCOME_FRAME)[4..].starts_with(CHALLENGE));
    client
}

/// It is told that it is wrong, and nothing else.
fn refuses(mut end: End, response: &[u8], why: Error) {
    end.sent();
    assert_eq!(end.answer(response), FAILURE_FRAME);
    assert_eq!(end.error, Some(why));
    assert!(!end.is_established());
}

#[test]
fn a_response_is_good_for_the_challenge_that_it_answers_and_no_other() {
    let (_, _, recorded) = honest();
    refuses(server(0xb2), &recorded[RESPONSE], Error::WrongKey);
    refuses(asking(0xa2), &recorded[SERVERS_RESPONSE], Error::WrongKey);
    // Nor for the other end of its own session.
    refuses(server(0xb1), &recorded[SERVERS_RESPONSE], Error::WrongKey);
    refuses(asking(0xa1), &recorded[RESPONSE], Error::WrongKey);
}

#[test]
fn all_that_a_client_ever_said_says_nothing_on_another_connection() {
    let (mut client, _, recorded) = honest();
    let stream = [heard_by(Role::Server, &recorded), client.say(b"pay 100")].concat();
    let mut other = server(0xb2);
    other.sent();
    assert!(other.feed(&stream) < stream.len());
    assert_eq!(other.sent(), FAILURE_FRAME);
    assert!(!other.is_established() && other.heard.is_empty());
}

/// The client answers, and is welcomed: that proves nothing to it.
#[test]
fn all_that_a_server_ever_said_says_nothing_to_another_client() {
    let (_, mut server, recorded) = honest();
    let stream = [heard_by(Role::Client, &recorded), server.say(b"paid")].concat();
    let mut other = client(0xa2);
    assert!(other.feed(&stream) < stream.len());
    assert_eq!(other.error, Some(Error::WrongKey));
    assert!(other.sent().ends_with(FAILURE_FRAME));
    assert!(!other.is_established() && other.heard.is_empty());
}

/// What somebody without the key can say in place of a response.
fn empty_words(own: &[u8]) -> Vec<Vec<u8>> {
    let challenge = [CHALLENGE, &message(DIGEST, b'x')].concat();
    let bodies: [&[u8]; 6] = [WELCOME, b"#FAILURE#", b"", &challenge, &own[4..], &[0x7f; 32]];
    bodies.into_iter().map(frame).collect()
}

#[test]
fn a_client_that_says_welcome_in_place_of_a_response_is_not_let_in() {
    for said in empty_words(&server(0xb1).sent()) {
        refuses(server(0xb1), &said, Error::Malformed);
        // With all that would come behind it.
        let stream = [&said[..], &ask(&message(DIGEST, b'x')), WELCOME_FRAME].concat();
        refuses(server(0xb1), &stream, Error::Malformed);
    }
    let stream = [&guess(DIGEST)[..], &ask(&message(DIGEST, b'x')), WELCOME_FRAME].concat();
    refuses(server(0xb1), &stream, Error::WrongKey);
}

#[test]
fn a_server_that_says_welcome_and_cannot_answer_is_not_believed() {
    let mut welcomed = client(0xa1);
    welcomed.feed(&ask(&message(DIGEST, b'x')));
    welcomed.sent();
    for said in empty_words(&welcomed.answer(WELCOME_FRAME)) {
        refuses(asking(0xa1), &said, Error::Malformed);
    }
    refuses(asking(0xa1), &guess(DIGEST), Error::WrongKey);
    for times in 1..6 {
        let mut client = asking(0xa1);
        client.feed(&WELCOME_FRAME.repeat(times));
        assert!(!client.is_established());
    }
}

#[test]
fn a_server_that_says_welcome_before_it_asks_is_told_nothing() {
    for said in [WELCOME_FRAME, FAILURE_FRAME] {
        let mut client = client(0xa1);
        let stream = [said, &ask(&message(DIGEST, b'x'))].concat();
        assert_eq!(client.answer(&stream), b"");
        assert_eq!(client.error, Some(Error::Malformed));
        assert!(!client.events.contains(&countersign::Event::KeyNeeded));
    }
}

/// Whoever is on the way can say it. It ends this session, counts against nobody, and the next one
/// begins as this one did.
#[test]
fn a_forged_failure_is_an_error_and_nothing_else() {
    let (_, _, recorded) = honest();
    let mut server = server(0xb1);
    server.sent();
    server.feed(&recorded[RESPONSE]);
    server.feed(&recorded[3]);
    let mut client = client(0xa1);
    client.feed(&recorded[0]);
    for mut end in [client, server] {
        end.sent();
        assert_eq!(end.answer(FAILURE_FRAME), b"");
        assert_eq!(end.error, Some(Error::Alert(Alert::Refused)));
        assert!(!Error::Alert(Alert::Refused).is_authentication_failure() && !end.is_established());
        assert_eq!(end.feed(WELCOME_FRAME), 0);
    }
    assert_eq!(honest().2, recorded);
}
