//! Failed handshakes, and when the peer is sent a failure message.

use super::*;
use crate::error::Alert;

#[test]
fn wrong_response_is_answered_with_failure() {
    for digest in digests() {
        let wrong =
            |message: &[u8]| response(digest, b"another key", message, responds_unlabelled(digest));
        let mut server = Endpoint::server(&strict(digest));
        server.transmit_all();
        assert_eq!(server.receive(&wrong(&own_message(digest))), Some(Err(Error::WrongKey)));
        assert!(!server.session.is_done());
        assert_eq!(server.transmit_all(), FAILURE_FRAME);
        assert!(server.session.is_done() && server.session.wants_shutdown());

        let mut client = client_after_challenge(digest, &strict(digest));
        assert_eq!(client.receive(&wrong(&own_message(digest))), Some(Err(Error::WrongKey)));
        assert_eq!(client.transmit_all(), FAILURE_FRAME);
        assert!(client.session.is_done());
    }
}

#[test]
fn response_to_another_message_is_wrong_key() {
    let digest = Digest::Sha256;
    // The random bytes without the label, the message of the peer, and no message.
    for message in [&own_message(digest)[8..], &message(digest), b""] {
        let mut server = Endpoint::server(&strict(digest));
        server.transmit_all();
        let answer = response(digest, SECRET, message, false);
        assert_eq!(server.receive(&answer), Some(Err(Error::WrongKey)));
    }
}

#[test]
fn response_with_a_flipped_bit_is_rejected() {
    let digest = Digest::Sha256;
    let right = response(digest, SECRET, &own_message(digest), false);
    for bit in 32..right.len() * 8 {
        let mut wrong = right.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let mut server = Endpoint::server(&strict(digest));
        server.transmit_all();
        assert!(server.receive(&wrong).unwrap().is_err(), "bit {bit}");
        assert_eq!(server.transmit_all(), FAILURE_FRAME, "bit {bit}");
    }
}

#[test]
fn response_of_wrong_length_is_answered_with_failure() {
    for digest in digests() {
        let right = tag(digest, SECRET, &own_message(digest));
        let long = [label(digest), right.bytes().to_vec(), vec![0; 256]].concat();
        let whole = label(digest).len() + digest.tag_len();
        for len in (0..=256).filter(|&len| len != whole) {
            let mut server = Endpoint::server(&strict(digest));
            server.transmit_all();
            assert!(server.receive(&frame(&long[..len])).unwrap().is_err(), "{digest} {len}");
            assert_eq!(server.transmit_all(), FAILURE_FRAME, "{digest} {len}");
            let mut client = client_after_challenge(digest, &strict(digest));
            assert!(client.receive(&frame(&long[..len])).unwrap().is_err(), "{digest} {len}");
            assert_eq!(client.transmit_all(), FAILURE_FRAME, "{digest} {len}");
        }
    }
}

#[test]
fn verdict_other_than_welcome_or_failure_is_malformed() {
    let digest = Digest::Sha256;
    let verdict = |body: &[u8]| {
        let mut client = client_after_response(digest, &strict(digest));
        let client = (client.receive(&frame(body)), client.transmit_all());
        let mut server = server_after_welcome(digest, &strict(digest));
        server.receive(&challenge_frame(&message(digest)));
        server.transmit_all();
        let server = (server.receive(&frame(body)), server.transmit_all());
        assert_eq!(client, server);
        client
    };
    assert_eq!(verdict(FAILURE), (Some(Err(Error::Alert(Alert::Refused))), vec![]));
    for body in
        [&b""[..], b"#WELCOME", b"#WELCOME##", b"something bogus", b"#CHALLENGE#", &[0; 256]]
    {
        assert_eq!(verdict(body), (Some(Err(Error::Malformed)), vec![]));
    }
}

#[test]
fn key_rejection_sends_failure_only_after_a_response() {
    let digest = Digest::Sha256;
    let refuse = |endpoint: &mut Endpoint, bytes: &[u8]| {
        endpoint.feed(&bytes[..4]);
        assert_eq!(endpoint.events(), []);
        endpoint.feed(&bytes[4..]);
        assert_eq!(endpoint.events(), [Event::KeyNeeded]);
        endpoint.session.provide_key(Err(KeyRejection::Unknown), endpoint.now).unwrap();
        assert_eq!(endpoint.error(), Error::Refused(KeyRejection::Unknown));
        endpoint.transmit_all()
    };
    let mut server = Endpoint::server(&strict(digest));
    server.transmit_all();
    let right = response(digest, SECRET, &own_message(digest), false);
    assert_eq!(refuse(&mut server, &right), FAILURE_FRAME);
    let mut client = Endpoint::client(&strict(digest));
    assert_eq!(refuse(&mut client, &challenge_frame(&message(digest))), b"");
}

#[test]
fn timeout_and_abort_transmit_nothing() {
    let digest = Digest::Sha256;
    let mut late = Endpoint::server(&strict(digest));
    late.transmit_all();
    late.advance_to(5_000_000);
    assert_eq!(late.error(), Error::TimedOut(TimedOut::Handshake));
    assert_eq!(late.transmit_all(), b"");
    let mut stopped = Endpoint::server(&strict(digest));
    stopped.transmit_all();
    stopped.session.abort(CloseReason::Shutdown, stopped.now);
    assert_eq!(stopped.error(), Error::Aborted(CloseReason::Shutdown));
    assert_eq!(stopped.transmit_all(), b"");
}

#[test]
fn no_failure_follows_a_partial_challenge() {
    let digest = Digest::Sha256;
    let mut server = Endpoint::server(&strict(digest));
    assert_eq!(server.transmit(9).len(), 9);
    let answer = response(digest, b"another key", &own_message(digest), false);
    assert_eq!(server.receive(&answer), Some(Err(Error::WrongKey)));
    assert_eq!(server.transmit_all(), b"");
}
