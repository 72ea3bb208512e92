//! Lengths and times out of bounds.

use std::time::Duration;

use countersign::{Error, FrameError, Instant, Protocol, Role, TimedOut};

use super::{
    DIGEST, FAILURE_FRAME, WELCOME_FRAME, ask, asked, client, heard_by, honest, message, response,
    server,
};
use crate::ends::{End, SECRET};

const SECOND: Duration = Duration::from_secs(1);
const HANDSHAKE: Duration = Duration::from_secs(5);
const STALL: Duration = Duration::from_secs(30);

/// Fresh ends, each with what it has heard until it waits for the first, second or third frame; and
/// whether it owes a word on what comes.
fn waiting() -> Vec<(End, bool)> {
    let own = server(0xb1).sent();
    let question = ask(&message(DIGEST, b'x'));
    let answer = response(DIGEST, SECRET, asked(&own));
    let heard: [(Role, &[&[u8]], bool); 6] = [
        (Role::Client, &[], false),
        (Role::Client, &[&question], false),
        (Role::Client, &[&question, WELCOME_FRAME], true),
        (Role::Server, &[], true),
        (Role::Server, &[&answer], false),
        (Role::Server, &[&answer, &question], false),
    ];
    let end = |(role, heard, owes): (Role, &[&[u8]], bool)| {
        let mut end = if role == Role::Client { client(0xa1) } else { server(0xb1) };
        end.feed(&heard.concat());
        end.sent();
        assert!(end.error.is_none() && end.session.wants_read());
        (end, owes)
    };
    heard.map(end).into()
}

fn long(n: u64) -> Vec<u8> {
    [&[0xff; 4][..], &n.to_be_bytes()].concat()
}

#[test]
fn a_frame_of_a_handshake_that_is_too_long_or_negative_is_refused_at_its_length() {
    let short = |n: i32| n.to_be_bytes().to_vec();
    let headers = [
        short(257),
        short(1 << 20),
        short(i32::MAX),
        short(-2),
        short(-257),
        short(i32::MIN),
        long(257),
        long(1 << 32),
        long(1 << 63),
        long(u64::MAX),
    ];
    for header in headers {
        for (mut end, owes) in waiting() {
            // Not a byte of it is asked for, let alone kept.
            let stream = [&header[..], &[0; 600]].concat();
            assert_eq!(end.feed(&stream), header.len(), "{header:?}");
            assert_eq!(end.error, Some(Error::Malformed), "{header:?}");
            assert!(!end.session.wants_read());
            assert_eq!(end.sent(), if owes { FAILURE_FRAME } else { b"" });
            assert!(end.session.is_done() && !end.is_established());
        }
    }
}

#[test]
fn a_frame_that_is_too_long_or_negative_is_refused_at_its_length() {
    let too_long = |len| Error::FrameTooLong { len };
    let cases = [
        (1001_i32.to_be_bytes().to_vec(), too_long(1001)),
        (i32::MAX.to_be_bytes().to_vec(), too_long(i32::MAX as u64)),
        (long(1001), too_long(1001)),
        (long(u64::MAX), too_long(u64::MAX)),
        ((-2_i32).to_be_bytes().to_vec(), Error::Frame(FrameError::Length)),
        (i32::MIN.to_be_bytes().to_vec(), Error::Frame(FrameError::Length)),
    ];
    for (header, error) in cases {
        let (client, server, _) = honest();
        for mut end in [client, server] {
            assert_eq!(end.feed(&header), header.len());
            assert_eq!(end.error, Some(error));
            assert!(!end.session.wants_read());
        }
    }
}

/// A byte, and a second later the next.
fn trickle(end: &mut End, bytes: &[u8]) -> Duration {
    let start = end.now;
    for byte in bytes {
        end.feed(&[*byte]);
        end.pass(SECOND);
        if end.error.is_some() {
            break;
        }
    }
    end.now.saturating_duration_since(start)
}

/// Nobody is told: a stranger who says nothing is to learn nothing.
#[test]
fn a_byte_a_second_is_too_slow_for_a_handshake() {
    let (_, _, said) = honest();
    for (end, _) in &mut waiting() {
        let role = end.session.role();
        assert_eq!(trickle(end, &heard_by(role, &said)), HANDSHAKE);
        assert_eq!(end.error, Some(Error::TimedOut(TimedOut::Handshake)));
        assert_eq!(end.sent(), b"");
        assert!(end.session.is_done());
    }
}

#[test]
fn the_whole_handshake_has_one_deadline_however_lively_it_is() {
    let (_, _, said) = honest();
    for role in [Role::Client, Role::Server] {
        let mut end = if role == Role::Client { client(0xa1) } else { server(0xb1) };
        let frames: Vec<_> = said.iter().skip(role as usize).step_by(2).collect();
        for frame in &frames[..2] {
            end.pass(2 * SECOND);
            end.feed(frame);
            assert_eq!(end.session.poll_timeout(), Some(Instant::EPOCH.saturating_add(HANDSHAKE)));
        }
        end.pass(SECOND);
        assert_eq!(end.error, Some(Error::TimedOut(TimedOut::Handshake)));
        assert_eq!(end.feed(frames[2]), 0);
    }
}

#[test]
fn a_byte_a_second_is_too_slow_for_a_frame() {
    let (mut client, mut server, _) = honest();
    let frame = client.say(&[7; 200]);
    assert_eq!(trickle(&mut server, &frame), STALL);
    assert_eq!(server.error, Some(Error::TimedOut(TimedOut::Receive)));
    // Nor for the header of one.
    let (mut client, _, _) = honest();
    assert_eq!(trickle(&mut client, &long(100)[..11]), 11 * SECOND);
    client.pass(STALL);
    assert_eq!(client.error, Some(Error::TimedOut(TimedOut::Receive)));
    assert!(client.heard.is_empty());
}
