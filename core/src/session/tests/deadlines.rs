//! Deadlines: handshake, stalled receiving, stalled sending.

use super::*;

const HANDSHAKE: u64 = 5_000_000;
const STALL: u64 = 30_000_000;

const RECEIVE_STALLED: Error = Error::TimedOut(TimedOut::Receive);
const SEND_STALLED: Error = Error::TimedOut(TimedOut::Send);

#[test]
fn handshake_deadline_is_exact_to_the_microsecond() {
    for new in [Endpoint::server, Endpoint::client] {
        let mut endpoint = new(&challenge(Digest::Sha256));
        assert_eq!(endpoint.timeout(), Some(HANDSHAKE));
        endpoint.advance_to(HANDSHAKE - 1);
        assert_eq!(endpoint.events(), []);
        endpoint.advance_to(HANDSHAKE);
        assert_eq!(endpoint.error(), Error::TimedOut(TimedOut::Handshake));
    }
    let timeout = Duration::from_micros(7);
    let mut endpoint = Endpoint::server(&framed(Framing::Raw).with_handshake_timeout(timeout));
    assert_eq!(endpoint.timeout(), Some(7));
    endpoint.advance_to(7);
    assert_eq!(endpoint.error(), Error::TimedOut(TimedOut::Handshake));
}

#[test]
fn slow_bytes_do_not_extend_the_handshake_deadline() {
    let mut endpoint = Endpoint::server(&challenge(Digest::Sha256));
    endpoint.transmit_all();
    for second in 1..5 {
        endpoint.advance_to(second * 1_000_000);
        endpoint.feed(b"x");
        assert_eq!(endpoint.events(), []);
        assert_eq!(endpoint.timeout(), Some(HANDSHAKE));
    }
    endpoint.advance_to(HANDSHAKE);
    assert_eq!(endpoint.error(), Error::TimedOut(TimedOut::Handshake));
}

#[test]
fn handshake_deadline_runs_during_a_key_request() {
    let mut endpoint = Endpoint::client(&challenge(Digest::Sha256));
    endpoint.feed(&[1; 32]);
    assert_eq!(endpoint.events(), [Event::KeyNeeded]);
    endpoint.advance_to(HANDSHAKE);
    assert_eq!(endpoint.error(), Error::TimedOut(TimedOut::Handshake));
    let key = key(Digest::Sha256, SECRET);
    let late = endpoint.session.provide_key(Ok(Candidates::one(&key)), endpoint.now);
    assert_eq!(late, Err(KeyError::NotAsked));
    assert_eq!(endpoint.transmit_all(), b"");
}

#[test]
fn idle_session_has_no_deadline() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    assert_eq!(endpoint.timeout(), None);
    endpoint.advance_to(u64::MAX);
    assert_eq!(endpoint.events(), []);
}

#[test]
fn timeouts_before_the_deadline_change_nothing() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.feed(b"\0");
    assert_eq!(endpoint.events(), []);
    for micros in [0, 1, 1, 5, 2, STALL - 1] {
        endpoint.advance_to(micros);
        assert_eq!(endpoint.events(), []);
        assert_eq!(endpoint.timeout(), Some(STALL));
    }
    endpoint.advance_to(STALL);
    assert_eq!(endpoint.error(), RECEIVE_STALLED);
    endpoint.advance_to(STALL);
    endpoint.advance_to(u64::MAX);
    assert_eq!(endpoint.error(), RECEIVE_STALLED);
    assert_eq!(endpoint.timeout(), None);
}

#[test]
fn partial_frame_fails_after_the_stall_timeout() {
    for len in [1, 4, 5] {
        let mut endpoint = Endpoint::established(&framed(Framing::U32));
        endpoint.advance_to(1_000);
        endpoint.feed(&frame(b"part")[..len]);
        assert_eq!(endpoint.events(), []);
        assert_eq!(endpoint.timeout(), Some(1_000 + STALL));
        endpoint.advance_to(1_000 + STALL - 1);
        assert_eq!(endpoint.events(), []);
        endpoint.advance_to(1_000 + STALL);
        assert_eq!(endpoint.error(), RECEIVE_STALLED, "after {len} bytes");
    }
}

#[test]
fn trickled_chunk_has_one_stall_timeout() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    for (n, byte) in (0..).zip(&frame(b"slow")[..7]) {
        endpoint.advance_to(n * 1_000_000);
        endpoint.feed(&[*byte]);
        assert_eq!(endpoint.events(), []);
        assert_eq!(endpoint.timeout(), Some(STALL));
    }
    endpoint.advance_to(STALL);
    assert_eq!(endpoint.error(), Error::TimedOut(TimedOut::Receive));
}

#[test]
fn each_chunk_of_a_frame_has_its_own_stall_timeout() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    let long = frame(&[7; 150]);
    endpoint.feed(&long[..60]);
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.timeout(), Some(STALL));
    endpoint.advance_to(STALL - 1);
    endpoint.feed(&long[60..64]);
    assert_eq!(endpoint.events().len(), 1);
    endpoint.session.consume(endpoint.now);
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.timeout(), Some(STALL - 1 + STALL));
}

#[test]
fn empty_read_does_not_extend_the_stall_timeout() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.feed(b"\0");
    assert_eq!(endpoint.events(), []);
    endpoint.advance_to(STALL - 1);
    endpoint.session.recv_space();
    endpoint.session.handle_received(0, endpoint.now);
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.timeout(), Some(STALL));
}

#[test]
fn receive_timer_stops_while_a_chunk_is_pending() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.feed(&frame(&[1; 61])[..64]);
    assert_eq!(endpoint.events().len(), 1);
    assert_eq!(endpoint.timeout(), None);
    assert_eq!(endpoint.offer(b"x"), 0);
    endpoint.advance_to(10 * STALL);
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.timeout(), None);
    endpoint.consume();
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.timeout(), Some(11 * STALL));
}

#[test]
fn receive_timer_stops_while_awaiting_a_buffer() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.feed(b"\0");
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.timeout(), Some(STALL));
    endpoint.pools.receive.exhausted.set(true);
    assert_eq!(endpoint.offer(b"\0"), 0);
    assert!(endpoint.session.awaiting_buffer());
    assert_eq!(endpoint.timeout(), None);
    assert_eq!(endpoint.events(), []);
    endpoint.advance_to(STALL);
    assert_eq!(endpoint.events(), []);
    endpoint.pools.receive.exhausted.set(false);
    endpoint.feed(b"\0");
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.timeout(), Some(2 * STALL));
}

#[test]
fn unread_output_fails_after_the_stall_timeout() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.advance_to(500);
    endpoint.send(b"unread").unwrap();
    assert_eq!(endpoint.timeout(), None, "the driver has not polled it yet");
    assert_eq!(endpoint.session.poll_transmit(endpoint.now), b"unread");
    endpoint.session.handle_transmitted(0, endpoint.now);
    assert_eq!(endpoint.timeout(), Some(500 + STALL));
    endpoint.advance_to(500 + STALL - 1);
    assert_eq!(
        endpoint.session.poll_transmit(endpoint.now),
        b"unread",
        "polling again is no progress"
    );
    assert_eq!(endpoint.timeout(), Some(500 + STALL));
    endpoint.send(b", too").unwrap();
    assert_eq!(endpoint.timeout(), Some(500 + STALL), "queueing more is no progress");
    assert_eq!(endpoint.events(), []);
    endpoint.advance_to(500 + STALL);
    assert_eq!(endpoint.error(), SEND_STALLED);
    assert!(endpoint.session.is_done(), "unread output is dropped");
    assert_eq!(endpoint.transmit_all(), b"");
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
}

#[test]
fn queued_bytes_share_one_stall_timeout() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.send(b"slow").unwrap();
    for n in 0..3 {
        endpoint.advance_to(n * 1_000_000);
        assert_eq!(endpoint.transmit(1).len(), 1);
        assert_eq!(endpoint.timeout(), Some(STALL));
    }
    // Bytes queued later have a stall timeout of their own, from the last byte before them on.
    endpoint.send(b"er").unwrap();
    assert_eq!(endpoint.timeout(), Some(STALL));
    assert_eq!(endpoint.transmit(1).len(), 1);
    assert_eq!(endpoint.timeout(), Some(2_000_000 + STALL));
    assert_eq!(endpoint.transmit(2).len(), 2);
    assert_eq!(endpoint.timeout(), None);
    assert_eq!(endpoint.events(), []);
}

#[test]
fn unsent_challenge_is_dropped_at_the_handshake_deadline() {
    let mut endpoint = Endpoint::server(&challenge(Digest::Sha256));
    assert_eq!(endpoint.transmit(5).len(), 5);
    assert_eq!(endpoint.timeout(), Some(HANDSHAKE));
    endpoint.advance_to(HANDSHAKE);
    assert_eq!(endpoint.error(), Error::TimedOut(TimedOut::Handshake));
    assert!(endpoint.session.is_done() && endpoint.session.wants_shutdown());
    assert_eq!(endpoint.timeout(), None);
    assert_eq!(endpoint.transmit_all(), b"", "the rest of the challenge is not transmitted");
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
}

#[test]
fn shorter_stall_timeout_applies_to_the_challenge() {
    let config = challenge(Digest::Sha256).with_stall_timeout(Duration::from_micros(9));
    let mut endpoint = Endpoint::server(&config);
    assert_eq!(endpoint.transmit(31).len(), 31);
    assert_eq!(endpoint.timeout(), Some(9));
    assert_eq!(endpoint.transmit(1).len(), 1);
    assert_eq!(endpoint.timeout(), Some(HANDSHAKE));
    let mut endpoint = Endpoint::server(&config);
    assert_eq!(endpoint.transmit(31).len(), 31);
    endpoint.advance_to(9);
    assert_eq!(endpoint.error(), SEND_STALLED);
    assert_eq!(endpoint.transmit_all(), b"");
}

#[test]
fn output_after_an_abort_has_the_stall_timeout() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.send(b"queued").unwrap();
    endpoint.session.abort(CloseReason::Shutdown, endpoint.now);
    assert_eq!(endpoint.transmit(1), b"q");
    assert_eq!(endpoint.timeout(), Some(STALL));
    endpoint.advance_to(STALL);
    assert_eq!(endpoint.error(), Error::Aborted(CloseReason::Shutdown));
    assert!(endpoint.session.is_done());
    assert_eq!(endpoint.transmit_all(), b"");
}

#[test]
fn configured_stall_timeout_applies_and_may_be_never() {
    let config = framed(Framing::U32).with_stall_timeout(Duration::from_micros(9));
    let mut endpoint = Endpoint::established(&config);
    endpoint.feed(b"\0");
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.timeout(), Some(9));
    let mut endpoint =
        Endpoint::established(&framed(Framing::U32).with_stall_timeout(Duration::MAX));
    endpoint.feed(b"\0");
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.timeout(), None, "an unreachable deadline is no deadline");
    endpoint.advance_to(u64::MAX - 1);
    assert_eq!(endpoint.events(), []);
}

#[test]
fn earlier_of_two_stalls_ends_the_session() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.send(b"unread").unwrap();
    assert!(!endpoint.session.poll_transmit(endpoint.now).is_empty());
    endpoint.advance_to(10);
    endpoint.feed(b"\0");
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.timeout(), Some(STALL));
    endpoint.advance_to(STALL);
    assert_eq!(endpoint.error(), SEND_STALLED);
    assert_eq!(endpoint.timeout(), None);
}

#[test]
fn eof_stops_the_receive_timer() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.feed(b"\0");
    assert_eq!(endpoint.events(), []);
    endpoint.eof();
    assert_eq!(endpoint.timeout(), None);
    endpoint.advance_to(STALL);
    assert_eq!(endpoint.error(), Error::Truncated(Truncated::Message));
}

#[test]
fn unsent_response_fails_at_the_handshake_deadline() {
    let mut endpoint = Endpoint::client(&challenge(Digest::Sha256));
    endpoint.feed(&[7; 32]);
    assert_eq!(endpoint.events(), [Event::KeyNeeded]);
    endpoint.provide_key(&key(Digest::Sha256, SECRET));
    assert_eq!(endpoint.transmit(1).len(), 1);
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.timeout(), Some(HANDSHAKE));
    endpoint.advance_to(HANDSHAKE);
    assert_eq!(endpoint.error(), Error::TimedOut(TimedOut::Handshake));
    assert_eq!(endpoint.transmit_all(), b"");
    // The bytes offered before are dropped; reporting them as transmitted has no effect.
    endpoint.session.handle_transmitted(31, endpoint.now);
    assert!(endpoint.session.is_done());
}
