//! Lengths and times out of bounds.

use std::time::Duration;

use countersign::{Error, FrameError, Instant, Protocol, Role, TimedOut};

use super::{
    DIGEST, FAILURE_FRAME, WELCOME_FRAME, challenge_frame, challenge_message, client, established,
    message, received_by, response, server,
};
use crate::endpoint::Endpoint;
use crate::party::SECRET;

const SECOND: Duration = Duration::from_secs(1);
const HANDSHAKE: Duration = Duration::from_secs(5);
const STALL: Duration = Duration::from_secs(30);

/// Returns endpoints that wait for their first, second and third frame, and whether each would
/// answer that frame.
fn waiting() -> Vec<(Endpoint, bool)> {
    let own = server(0xb1).output();
    let challenge = challenge_frame(&message(DIGEST, b'x'));
    let answer = response(DIGEST, SECRET, challenge_message(&own));
    let received: [(Role, &[&[u8]], bool); 6] = [
        (Role::Client, &[], false),
        (Role::Client, &[&challenge], false),
        (Role::Client, &[&challenge, WELCOME_FRAME], true),
        (Role::Server, &[], true),
        (Role::Server, &[&answer], false),
        (Role::Server, &[&answer, &challenge], false),
    ];
    let end = |(role, received, answers): (Role, &[&[u8]], bool)| {
        let mut end = if role == Role::Client { client(0xa1) } else { server(0xb1) };
        end.feed(&received.concat());
        end.output();
        assert!(end.error.is_none() && end.session.wants_read());
        (end, answers)
    };
    received.map(end).into()
}

fn long(n: u64) -> Vec<u8> {
    [&[0xff; 4][..], &n.to_be_bytes()].concat()
}

#[test]
fn handshake_frame_out_of_bounds_is_refused_at_its_length() {
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
        for (mut end, answers) in waiting() {
            // The endpoint reads none of the body.
            let stream = [&header[..], &[0; 600]].concat();
            assert_eq!(end.feed(&stream), header.len(), "{header:?}");
            assert_eq!(end.error, Some(Error::Malformed), "{header:?}");
            assert!(!end.session.wants_read());
            assert_eq!(end.output(), if answers { FAILURE_FRAME } else { b"" });
            assert!(end.session.is_done() && !end.is_established());
        }
    }
}

#[test]
fn frame_out_of_bounds_is_refused_at_its_length() {
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
        let (client, server, _) = established();
        for mut end in [client, server] {
            assert_eq!(end.feed(&header), header.len());
            assert_eq!(end.error, Some(error));
            assert!(!end.session.wants_read());
        }
    }
}

/// Delivers one byte per second. Returns how long the endpoint accepts it.
fn trickle(end: &mut Endpoint, bytes: &[u8]) -> Duration {
    let start = end.now;
    for byte in bytes {
        end.feed(&[*byte]);
        end.advance(SECOND);
        if end.error.is_some() {
            break;
        }
    }
    end.now.saturating_duration_since(start)
}

/// The endpoint sends nothing, so a peer without the key learns nothing.
#[test]
fn handshake_at_one_byte_per_second_times_out() {
    let (_, _, frames) = established();
    for (end, _) in &mut waiting() {
        let role = end.session.role();
        assert_eq!(trickle(end, &received_by(role, &frames)), HANDSHAKE);
        assert_eq!(end.error, Some(Error::TimedOut(TimedOut::Handshake)));
        assert_eq!(end.output(), b"");
        assert!(end.session.is_done());
    }
}

#[test]
fn progress_does_not_extend_the_handshake_deadline() {
    let (_, _, frames) = established();
    for role in [Role::Client, Role::Server] {
        let mut end = if role == Role::Client { client(0xa1) } else { server(0xb1) };
        let frames: Vec<_> = frames.iter().skip(role as usize).step_by(2).collect();
        for frame in &frames[..2] {
            end.advance(2 * SECOND);
            end.feed(frame);
            assert_eq!(end.session.poll_timeout(), Some(Instant::EPOCH.saturating_add(HANDSHAKE)));
        }
        end.advance(SECOND);
        assert_eq!(end.error, Some(Error::TimedOut(TimedOut::Handshake)));
        assert_eq!(end.feed(frames[2]), 0);
    }
}

#[test]
fn frame_at_one_byte_per_second_times_out() {
    let (mut client, mut server, _) = established();
    let frame = client.send(&[7; 200]);
    assert_eq!(trickle(&mut server, &frame), STALL);
    assert_eq!(server.error, Some(Error::TimedOut(TimedOut::Receive)));
    // The same for the header of a frame.
    let (mut client, _, _) = established();
    assert_eq!(trickle(&mut client, &long(100)[..11]), 11 * SECOND);
    client.advance(STALL);
    assert_eq!(client.error, Some(Error::TimedOut(TimedOut::Receive)));
    assert!(client.received.is_empty());
}
