//! Lengths, numbers and times out of bounds.

use std::time::Duration;

use countersign::{ConfigError, Error, Instant, Nonce, Protocol, Role, TimedOut};

use crate::endpoint::{Endpoint, alert, established, new_session, pair};
use crate::party::Party;

const SECOND: Duration = Duration::from_secs(1);
const HANDSHAKE: Duration = Duration::from_secs(5);
const STALL: Duration = Duration::from_secs(30);

fn header(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

/// Returns endpoints that wait for M1, M2 and M3.
fn waiting() -> [Endpoint; 3] {
    let (m1, awaiting_m1, mut awaiting_m3) =
        (Party::server().start().output(), Party::client().start(), Party::client().start());
    let mut server = Party::server().start();
    server.output();
    assert!(!awaiting_m3.answer(&m1).is_empty());
    [awaiting_m1, server, awaiting_m3]
}

#[test]
fn handshake_message_that_is_too_long_is_refused_at_n() {
    for n in [u32::MAX, i32::MAX as u32, 1 << 31, 1 << 16, 65_532, 513, 512, 0] {
        for (which, mut end) in waiting().into_iter().enumerate() {
            // The endpoint reads none of the body.
            assert_eq!(end.feed(&[&header(n)[..], &[0; 600]].concat()), 4, "{n}");
            assert_eq!(end.error, Some(Error::Malformed), "{n}");
            assert!(!end.session.wants_read());
            assert_eq!(end.output(), if which == 1 { alert(4).to_vec() } else { vec![] });
            assert!(end.session.is_done());
        }
    }
}

#[test]
fn handshake_message_of_another_length_is_refused() {
    let (_, _, whole) = established();
    for (which, message) in [&whole.m1, &whole.m2, &whole.m3].into_iter().enumerate() {
        for n in 1..=512 {
            if n as usize + 4 == message.len() {
                continue;
            }
            let mut end = waiting().into_iter().nth(which).unwrap();
            let mut other = message.clone();
            other.resize(n as usize + 4, 0x2e);
            other[..4].copy_from_slice(&header(n));
            end.feed(&other);
            let error = end.error.unwrap();
            assert!(matches!(error, Error::Malformed), "{which}, {n}: {error:?}");
        }
    }
}

#[test]
fn frame_that_is_too_long_is_refused_at_n() {
    for n in [u32::MAX, i32::MAX as u32, 1 << 31, 1001] {
        let (mut client, mut server, _) = established();
        for end in [&mut client, &mut server] {
            assert_eq!(end.feed(&header(n)), 4);
            assert_eq!(end.error, Some(Error::FrameTooLong { len: n.into() }));
            assert!(!end.session.wants_read());
        }
    }
    // A frame of exactly the limit is accepted.
    let (mut client, mut server, _) = established();
    assert_eq!(client.session.split().1.max_chunk(), 1000 - 17);
    let frame = client.send(&[7; 1000 - 17]);
    assert_eq!(frame[..4], header(1000));
    server.feed(&frame);
    assert_eq!(server.received, [[7; 1000 - 17]]);
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

#[test]
fn handshake_at_one_byte_per_second_times_out() {
    let (_, _, whole) = established();
    for (end, bytes) in waiting().iter_mut().zip([&whole.m1, &whole.m2, &whole.m3]) {
        let server = end.session.role() == Role::Server;
        assert_eq!(trickle(end, bytes), HANDSHAKE);
        assert_eq!(end.error, Some(Error::TimedOut(TimedOut::Handshake)));
        assert_eq!(end.output(), if server { alert(5).to_vec() } else { vec![] });
        assert!(end.session.is_done());
    }
}

#[test]
fn progress_does_not_extend_the_handshake_deadline() {
    let mut client = Party::client().start();
    let m1 = Party::server().start().output();
    client.advance(HANDSHAKE - SECOND);
    assert!(!client.answer(&m1).is_empty());
    assert_eq!(client.session.poll_timeout(), Some(Instant::EPOCH.saturating_add(HANDSHAKE)));
    client.advance(SECOND);
    assert_eq!(client.error, Some(Error::TimedOut(TimedOut::Handshake)));
}

#[test]
fn frame_at_one_byte_per_second_times_out() {
    let (mut client, mut server, _) = established();
    let frame = client.send(&[7; 200]);
    assert_eq!(trickle(&mut server, &frame), STALL);
    assert_eq!(server.error, Some(Error::TimedOut(TimedOut::Receive)));
    assert_eq!(server.received.len(), 0);
}

/// Bytes whose tag is not verified do not count as a heartbeat.
#[test]
fn unverified_bytes_do_not_count_as_a_heartbeat() {
    let party = Party { heartbeat_ms: 1000, ..Party::server() };
    let (mut client, mut server, _) = pair(&Party::client(), &party);
    let frame = client.send(&[7; 200]);
    assert_eq!(trickle(&mut server, &frame), 7 * SECOND);
    assert_eq!(server.error, Some(Error::TimedOut(TimedOut::Peer)));
}

/// Returns `message` with another value in the field `from_end` bytes before its end. A value out
/// of bounds is refused before the proof is verified; one within bounds fails by the proof, which
/// covers other bytes.
fn field(message: &[u8], from_end: usize, value: u32) -> Vec<u8> {
    let mut message = message.to_vec();
    let at = message.len() - from_end;
    message[at..at + 4].copy_from_slice(&header(value));
    message
}

const IN_BOUNDS: Option<Error> = Some(Error::WrongKey);
const OUT_OF_BOUNDS: Option<Error> = Some(Error::Malformed);

#[test]
fn max_frame_below_256_is_malformed() {
    let (_, _, whole) = established();
    let values =
        [(0, OUT_OF_BOUNDS), (255, OUT_OF_BOUNDS), (256, IN_BOUNDS), (u32::MAX, IN_BOUNDS)];
    for (value, expected) in values {
        let [_, mut server, mut client] = waiting();
        // Behind the field are a nonce and the proof in M2, and a heartbeat and the proof in M3.
        let sent = server.answer(&field(&whole.m2, 68, value));
        assert_eq!(server.error, expected, "{value}");
        assert_eq!(sent, alert(if expected == OUT_OF_BOUNDS { 4 } else { 1 }));
        assert_eq!(client.answer(&field(&whole.m3, 40, value)), b"");
        assert_eq!(client.error, expected, "{value}");
    }
}

#[test]
fn smallest_max_frame_carries_messages() {
    for max_frame in [0, 255, 256, 257] {
        let small = |party| Party { max_frame, ..party };
        let (mut client, mut server, whole) =
            pair(&small(Party::client()), &small(Party::server()));
        let least = 256.max(max_frame as u32);
        let m2 = &whole.m2[whole.m2.len() - 68..];
        assert_eq!(m2[..4], header(least));
        assert_eq!(client.session.split().1.max_chunk(), least as usize - 17);
        let frame = client.send(&vec![7; least as usize - 17]);
        server.feed(&frame);
        assert_eq!(server.received.len(), 1);
        server.feed(&header(least + 1));
        assert_eq!(server.error, Some(Error::FrameTooLong { len: (least + 1).into() }));
    }
}

#[test]
fn heartbeat_is_zero_or_within_one_second_and_one_hour() {
    let (_, _, whole) = established();
    let values = [
        (0, IN_BOUNDS),
        (1, OUT_OF_BOUNDS),
        (999, OUT_OF_BOUNDS),
        (1000, IN_BOUNDS),
        (3_600_000, IN_BOUNDS),
        (3_600_001, OUT_OF_BOUNDS),
        (u32::MAX, OUT_OF_BOUNDS),
    ];
    for (value, expected) in values {
        let [_, _, mut client] = waiting();
        assert_eq!(client.answer(&field(&whole.m3, 36, value)), b"");
        assert_eq!(client.error, expected, "{value}");
        let server = Party { heartbeat_ms: value.into(), ..Party::server() };
        if expected == IN_BOUNDS {
            // The same value, announced by the server itself.
            let (client, server, _) = pair(&Party::client(), &server);
            let ping = (value > 0)
                .then(|| Instant::EPOCH.saturating_add(Duration::from_millis(value.into())));
            for end in [client, server] {
                assert_eq!(end.session.poll_timeout(), ping);
            }
        } else {
            let made =
                new_session(&server.config(), Role::Server, Nonce::from_bytes([1; Nonce::LEN]));
            assert_eq!(made.unwrap_err(), ConfigError::Heartbeat);
        }
    }
}
