//! Every bit of every message, flipped in transit.

use countersign::{Error, FrameError, KeyRejection, Truncated};

use crate::endpoint::{alert, established, flips};
use crate::party::Party;

/// Offset of the nonce in an M1 with one suite.
const M1_NONCE: usize = 13;
/// Length of a proof, which ends its message.
const MAC_LEN: usize = 32;
/// N and type of a PONG.
const PONG_HEADER: [u8; 5] = [0, 0, 0, 1 + 8 + 16, 2];

#[test]
fn flipped_bit_in_m1_establishes_neither_side() {
    let m1 = Party::server().start().output();
    let mut proved = 0;
    for (at, flipped) in flips(&m1) {
        let (mut client, mut server) = (Party::client().start(), Party::server().start());
        let m2 = client.answer(&flipped);
        if m2.is_empty() {
            assert!(at < M1_NONCE, "the client did not answer, for byte {at} of a nonce");
            client.eof();
            // Where N grew, the client waits for more bytes.
            let right =
                [Error::Malformed, Error::Incompatible, Error::Truncated(Truncated::Handshake)];
            assert!(right.contains(&client.error.unwrap()), "byte {at}: {:?}", client.error);
            assert_eq!(client.output(), b"");
        } else {
            // The client answers an M1 that the server did not send, which only the server can
            // detect.
            proved += 1;
            server.output();
            assert_eq!(server.answer(&m2), alert(1));
            assert_eq!(server.error, Some(Error::WrongKey), "byte {at}");
            client.feed(&alert(1));
        }
        assert!(!client.is_established() && !server.is_established(), "byte {at}");
    }
    // Every bit of the nonce, and those bits of the versions that leave version 1 in the range.
    assert_eq!(proved, 32 * 8 + 1 + 7);
}

#[test]
fn flipped_bit_in_m2_gets_no_m3() {
    let (m1, m2) = (Party::server().start().output(), established().2.m2);
    for (at, flipped) in flips(&m2) {
        let (mut client, mut server) = (Party::client().start(), Party::server().start());
        assert_eq!(server.output(), m1);
        assert_eq!(client.answer(&m1), m2);
        server.feed(&flipped);
        if server.error.is_none() {
            server.eof();
        }
        let error = server.error.unwrap();
        let sent = server.output();
        let right = match error {
            Error::Malformed => sent == alert(4),
            Error::Truncated(Truncated::Handshake) => sent == alert(4) && at < 4,
            Error::Incompatible => sent == alert(2) && (at == 5 || at == 6),
            Error::WrongKey => sent == alert(1),
            Error::Refused(KeyRejection::Unknown) => sent == alert(1) && (8..10).contains(&at),
            _ => false,
        };
        assert!(right, "byte {at}: {error:?}, and it sent {sent:?}");
        if at >= m2.len() - MAC_LEN {
            assert_eq!(error, Error::WrongKey);
        }
        client.feed(&sent);
        assert!(matches!(client.error, Some(Error::Alert(_))));
        assert!(!client.is_established() && !server.is_established(), "byte {at}");
    }
}

#[test]
fn flipped_bit_in_m3_makes_the_client_close_silently() {
    let m3 = established().2.m3;
    for (at, flipped) in flips(&m3) {
        let (mut client, mut server) = (Party::client().start(), Party::server().start());
        let m2 = client.answer(&server.output());
        assert_eq!(server.answer(&m2), m3);
        client.feed(&flipped);
        if client.error.is_none() {
            client.eof();
        }
        let right = match client.error.unwrap() {
            Error::WrongKey => at > 4,
            Error::Malformed => at < m3.len() - MAC_LEN,
            Error::Truncated(Truncated::Handshake) => at < 4,
            _ => false,
        };
        assert!(right, "byte {at}: {:?}", client.error);
        assert!(!client.is_established(), "byte {at}");
        assert_eq!(client.output(), b"");
        // The server is established, but receives nothing but the end of the stream.
        assert!(server.is_established());
        server.eof();
        assert_eq!(server.error, Some(Error::Truncated(Truncated::Stream)));
        assert_eq!(server.received.len(), 0);
    }
}

#[test]
fn flipped_bit_in_a_frame_delivers_nothing() {
    let (mut client, _, _) = established();
    let frame = client.send(b"pay 100");
    let after = client.send(&[b'.'; 900]);
    for (at, flipped) in flips(&frame) {
        let (_, mut server, _) = established();
        // Where N grew, the following frame completes this one.
        server.feed(&[&flipped[..], &after].concat());
        let right = match server.error {
            Some(Error::FrameTooLong { .. }) => at < 3,
            Some(Error::Frame(FrameError::Payload)) => at == 3,
            Some(Error::Frame(FrameError::Tag)) => true,
            _ => false,
        };
        assert!(right, "byte {at}: {:?}", server.error);
        assert_eq!(server.received.len(), 0, "byte {at}");
        // The first error is final.
        assert_eq!(server.feed(&frame), 0);
    }
}

/// The same for control frames.
#[test]
fn flipped_bit_in_a_control_frame_has_no_effect() {
    let (mut client, ..) = established();
    client.advance(std::time::Duration::from_secs(15));
    let ping = client.output();
    assert_eq!(ping.len(), 4 + 1 + 8 + 16);
    let fin = client.finish();
    assert_eq!(fin.len(), 4 + 1 + 16);
    assert!(established().1.answer(&ping).starts_with(&PONG_HEADER));
    for (at, flipped) in flips(&[&ping[..], &fin].concat()) {
        let (_, mut server, _) = established();
        let before = server.events.clone();
        server.feed(&flipped);
        if server.error.is_none() {
            server.eof();
        }
        assert!(server.error.is_some(), "byte {at}");
        assert_eq!(server.events, before, "byte {at}");
        if at < ping.len() {
            let sent = server.output();
            assert!(!sent.starts_with(&PONG_HEADER), "byte {at}: it answered the PING");
        }
    }
}
