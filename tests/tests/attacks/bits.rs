//! Every bit of what is said, changed on the way.

use countersign::{Error, FrameError, KeyRejection, Truncated};

use crate::ends::{Who, alert, flips, honest};

/// Where its nonce is in an M1 with one suite.
const M1_NONCE: usize = 13;
/// Length of a proof; it comes last.
const MAC_LEN: usize = 32;
/// N and type of a PONG.
const PONG_HEADER: [u8; 5] = [0, 0, 0, 1 + 8 + 16, 2];

#[test]
fn a_bit_of_m1_changed_leaves_both_ends_alone() {
    let m1 = Who::server().start().sent();
    let mut proved = 0;
    for (at, flipped) in flips(&m1) {
        let (mut client, mut server) = (Who::client().start(), Who::server().start());
        let m2 = client.answer(&flipped);
        if m2.is_empty() {
            assert!(at < M1_NONCE, "the client did not answer, for byte {at} of a nonce");
            client.eof();
            // Where the length grew it waits for the rest.
            let right =
                [Error::Malformed, Error::Incompatible, Error::Truncated(Truncated::Handshake)];
            assert!(right.contains(&client.error.unwrap()), "byte {at}: {:?}", client.error);
            assert_eq!(client.sent(), b"");
        } else {
            // It answers another M1 than the server's, and only the server can notice.
            proved += 1;
            server.sent();
            assert_eq!(server.answer(&m2), alert(1));
            assert_eq!(server.error, Some(Error::WrongKey), "byte {at}");
            client.feed(&alert(1));
        }
        assert!(!client.is_established() && !server.is_established(), "byte {at}");
    }
    // All bits of the nonce; of the versions those that leave version 1 between them.
    assert_eq!(proved, 32 * 8 + 1 + 7);
}

#[test]
fn a_bit_of_m2_changed_gets_no_m3() {
    let (m1, m2) = (Who::server().start().sent(), honest().2.m2);
    for (at, flipped) in flips(&m2) {
        let (mut client, mut server) = (Who::client().start(), Who::server().start());
        assert_eq!(server.sent(), m1);
        assert_eq!(client.answer(&m1), m2);
        server.feed(&flipped);
        if server.error.is_none() {
            server.eof();
        }
        let error = server.error.unwrap();
        let said = server.sent();
        let right = match error {
            Error::Malformed => said == alert(4),
            Error::Truncated(Truncated::Handshake) => said == alert(4) && at < 4,
            Error::Incompatible => said == alert(2) && (at == 5 || at == 6),
            Error::WrongKey => said == alert(1),
            Error::Refused(KeyRejection::Unknown) => said == alert(1) && (8..10).contains(&at),
            _ => false,
        };
        assert!(right, "byte {at}: {error:?}, and it said {said:?}");
        if at >= m2.len() - MAC_LEN {
            assert_eq!(error, Error::WrongKey);
        }
        client.feed(&said);
        assert!(matches!(client.error, Some(Error::Alert(_))));
        assert!(!client.is_established() && !server.is_established(), "byte {at}");
    }
}

#[test]
fn a_bit_of_m3_changed_leaves_the_client_alone_and_silent() {
    let m3 = honest().2.m3;
    for (at, flipped) in flips(&m3) {
        let (mut client, mut server) = (Who::client().start(), Who::server().start());
        let m2 = client.answer(&server.sent());
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
        assert_eq!(client.sent(), b"");
        // The server is, and will hear nothing but the end of the stream.
        assert!(server.is_established());
        server.eof();
        assert_eq!(server.error, Some(Error::Truncated(Truncated::Stream)));
        assert_eq!(server.heard.len(), 0);
    }
}

#[test]
fn a_bit_of_a_frame_changed_is_never_heard() {
    let (mut client, _, _) = honest();
    let frame = client.say(b"pay 100");
    let after = client.say(&[b'.'; 900]);
    for (at, flipped) in flips(&frame) {
        let (_, mut server, _) = honest();
        // Where the length grew, what follows completes it.
        server.feed(&[&flipped[..], &after].concat());
        let right = match server.error {
            Some(Error::FrameTooLong { .. }) => at < 3,
            Some(Error::Frame(FrameError::Payload)) => at == 3,
            Some(Error::Frame(FrameError::Tag)) => true,
            _ => false,
        };
        assert!(right, "byte {at}: {:?}", server.error);
        assert_eq!(server.heard.len(), 0, "byte {at}");
        // The first is final.
        assert_eq!(server.feed(&frame), 0);
    }
}

/// The same of frames that say nothing to the application.
#[test]
fn a_bit_of_a_signal_changed_is_never_obeyed() {
    let (mut client, ..) = honest();
    client.pass(std::time::Duration::from_secs(15));
    let ping = client.sent();
    assert_eq!(ping.len(), 4 + 1 + 8 + 16);
    let fin = client.finish();
    assert_eq!(fin.len(), 4 + 1 + 16);
    assert!(honest().1.answer(&ping).starts_with(&PONG_HEADER));
    for (at, flipped) in flips(&[&ping[..], &fin].concat()) {
        let (_, mut server, _) = honest();
        let before = server.events.clone();
        server.feed(&flipped);
        if server.error.is_none() {
            server.eof();
        }
        assert!(server.error.is_some(), "byte {at}");
        assert_eq!(server.events, before, "byte {at}");
        if at < ping.len() {
            let sent = server.sent();
            assert!(!sent.starts_with(&PONG_HEADER), "byte {at}: it answered the PING");
        }
    }
}
