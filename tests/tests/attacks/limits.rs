//! Lengths, numbers and times out of bounds.

use std::time::Duration;

use countersign::{ConfigError, Error, Instant, Nonce, Protocol, Role, TimedOut};

use crate::ends::{End, Who, alert, begin, honest, pair};

const SECOND: Duration = Duration::from_secs(1);
const HANDSHAKE: Duration = Duration::from_secs(5);
const STALL: Duration = Duration::from_secs(30);

fn header(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

/// Fresh ends that wait for M1, M2 and M3.
fn waiting() -> [End; 3] {
    let (m1, greeted, mut proved) =
        (Who::server().start().sent(), Who::client().start(), Who::client().start());
    let mut server = Who::server().start();
    server.sent();
    assert!(!proved.answer(&m1).is_empty());
    [greeted, server, proved]
}

#[test]
fn a_handshake_s_message_that_is_too_long_is_refused_at_its_length() {
    for n in [u32::MAX, i32::MAX as u32, 1 << 31, 1 << 16, 65_532, 513, 512, 0] {
        for (which, mut end) in waiting().into_iter().enumerate() {
            // Not a byte of it is asked for, let alone kept.
            assert_eq!(end.feed(&[&header(n)[..], &[0; 600]].concat()), 4, "{n}");
            assert_eq!(end.error, Some(Error::Malformed), "{n}");
            assert!(!end.session.wants_read());
            assert_eq!(end.sent(), if which == 1 { alert(4).to_vec() } else { vec![] });
            assert!(end.session.is_done());
        }
    }
}

#[test]
fn a_handshake_s_message_of_any_length_but_its_own_is_refused() {
    let (_, _, whole) = honest();
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
fn a_frame_that_is_too_long_is_refused_at_its_length() {
    for n in [u32::MAX, i32::MAX as u32, 1 << 31, 1001] {
        let (mut client, mut server, _) = honest();
        for end in [&mut client, &mut server] {
            assert_eq!(end.feed(&header(n)), 4);
            assert_eq!(end.error, Some(Error::FrameTooLong { len: n.into() }));
            assert!(!end.session.wants_read());
        }
    }
    // One that is as long as can be is taken.
    let (mut client, mut server, _) = honest();
    assert_eq!(client.session.split().1.max_chunk(), 1000 - 17);
    let frame = client.say(&[7; 1000 - 17]);
    assert_eq!(frame[..4], header(1000));
    server.feed(&frame);
    assert_eq!(server.heard, [[7; 1000 - 17]]);
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

#[test]
fn a_byte_a_second_is_too_slow_for_a_handshake() {
    let (_, _, whole) = honest();
    for (end, bytes) in waiting().iter_mut().zip([&whole.m1, &whole.m2, &whole.m3]) {
        let server = end.session.role() == Role::Server;
        assert_eq!(trickle(end, bytes), HANDSHAKE);
        assert_eq!(end.error, Some(Error::TimedOut(TimedOut::Handshake)));
        assert_eq!(end.sent(), if server { alert(5).to_vec() } else { vec![] });
        assert!(end.session.is_done());
    }
}

#[test]
fn the_whole_handshake_has_one_deadline_however_lively_it_is() {
    let mut client = Who::client().start();
    let m1 = Who::server().start().sent();
    client.pass(HANDSHAKE - SECOND);
    assert!(!client.answer(&m1).is_empty());
    assert_eq!(client.session.poll_timeout(), Some(Instant::EPOCH.saturating_add(HANDSHAKE)));
    client.pass(SECOND);
    assert_eq!(client.error, Some(Error::TimedOut(TimedOut::Handshake)));
}

#[test]
fn a_byte_a_second_is_too_slow_for_a_frame() {
    let (mut client, mut server, _) = honest();
    let frame = client.say(&[7; 200]);
    assert_eq!(trickle(&mut server, &frame), STALL);
    assert_eq!(server.error, Some(Error::TimedOut(TimedOut::Receive)));
    assert_eq!(server.heard.len(), 0);
}

/// Bytes without a tag that verifies are no sign of life.
#[test]
fn a_byte_a_second_keeps_nobody_alive() {
    let who = Who { heartbeat_ms: 1000, ..Who::server() };
    let (mut client, mut server, _) = pair(&Who::client(), &who);
    let frame = client.say(&[7; 200]);
    assert_eq!(trickle(&mut server, &frame), 7 * SECOND);
    assert_eq!(server.error, Some(Error::TimedOut(TimedOut::Peer)));
}

/// What is out of bounds is refused before anybody's proof is looked at, and what is within fails
/// by the proof, which is that of other bytes.
fn field(message: &[u8], from_end: usize, value: u32) -> Vec<u8> {
    let mut message = message.to_vec();
    let at = message.len() - from_end;
    message[at..at + 4].copy_from_slice(&header(value));
    message
}

const IN_BOUNDS: Option<Error> = Some(Error::WrongKey);
const OUT_OF_BOUNDS: Option<Error> = Some(Error::Malformed);

#[test]
fn a_peer_takes_frames_of_256_bytes_at_least() {
    let (_, _, whole) = honest();
    let values =
        [(0, OUT_OF_BOUNDS), (255, OUT_OF_BOUNDS), (256, IN_BOUNDS), (u32::MAX, IN_BOUNDS)];
    for (value, becomes) in values {
        let [_, mut server, mut client] = waiting();
        // Behind it are 32 bytes of nonce and 32 of proof, or a heartbeat and the proof.
        let said = server.answer(&field(&whole.m2, 68, value));
        assert_eq!(server.error, becomes, "{value}");
        assert_eq!(said, alert(if becomes == OUT_OF_BOUNDS { 4 } else { 1 }));
        assert_eq!(client.answer(&field(&whole.m3, 40, value)), b"");
        assert_eq!(client.error, becomes, "{value}");
    }
}

#[test]
fn the_least_frame_is_enough_to_talk_and_nobody_asks_for_less() {
    for max_frame in [0, 255, 256, 257] {
        let small = |who| Who { max_frame, ..who };
        let (mut client, mut server, whole) = pair(&small(Who::client()), &small(Who::server()));
        let least = 256.max(max_frame as u32);
        let m2 = &whole.m2[whole.m2.len() - 68..];
        assert_eq!(m2[..4], header(least));
        assert_eq!(client.session.split().1.max_chunk(), least as usize - 17);
        let frame = client.say(&vec![7; least as usize - 17]);
        server.feed(&frame);
        assert_eq!(server.heard.len(), 1);
        server.feed(&header(least + 1));
        assert_eq!(server.error, Some(Error::FrameTooLong { len: (least + 1).into() }));
    }
}

#[test]
fn a_heartbeat_is_none_or_a_second_to_an_hour() {
    let (_, _, whole) = honest();
    let values = [
        (0, IN_BOUNDS),
        (1, OUT_OF_BOUNDS),
        (999, OUT_OF_BOUNDS),
        (1000, IN_BOUNDS),
        (3_600_000, IN_BOUNDS),
        (3_600_001, OUT_OF_BOUNDS),
        (u32::MAX, OUT_OF_BOUNDS),
    ];
    for (value, becomes) in values {
        let [_, _, mut client] = waiting();
        assert_eq!(client.answer(&field(&whole.m3, 36, value)), b"");
        assert_eq!(client.error, becomes, "{value}");
        let server = Who { heartbeat_ms: value.into(), ..Who::server() };
        if becomes == IN_BOUNDS {
            // What it is when the server says so itself.
            let (client, server, _) = pair(&Who::client(), &server);
            let ping = (value > 0)
                .then(|| Instant::EPOCH.saturating_add(Duration::from_millis(value.into())));
            for end in [client, server] {
                assert_eq!(end.session.poll_timeout(), ping);
            }
        } else {
            let made = begin(&server.config(), Role::Server, Nonce::from_bytes([1; Nonce::LEN]));
            assert_eq!(made.unwrap_err(), ConfigError::Heartbeat);
        }
    }
}
