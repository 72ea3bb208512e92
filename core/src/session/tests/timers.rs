use super::*;

const HANDSHAKE: u64 = 5_000_000;
const STALL: u64 = 30_000_000;

const HALF: Error = Error::TimedOut(TimedOut::Receive);
const UNREAD: Error = Error::TimedOut(TimedOut::Send);

#[test]
fn the_handshake_has_one_deadline_to_the_microsecond() {
    for end in [End::server, End::client] {
        let mut end = end(&challenge(Digest::Sha256));
        assert_eq!(end.timeout(), Some(HANDSHAKE));
        end.at(HANDSHAKE - 1);
        assert_eq!(end.events(), []);
        end.at(HANDSHAKE);
        assert_eq!(end.error(), Error::TimedOut(TimedOut::Handshake));
    }
    let timeout = Duration::from_micros(7);
    let mut end = End::server(&framed(Framing::Raw).with_handshake_timeout(timeout));
    assert_eq!(end.timeout(), Some(7));
    end.at(7);
    assert_eq!(end.error(), Error::TimedOut(TimedOut::Handshake));
}

#[test]
fn a_byte_now_and_then_does_not_extend_the_handshake() {
    let mut end = End::server(&challenge(Digest::Sha256));
    end.sent();
    for second in 1..5 {
        end.at(second * 1_000_000);
        end.feed(b"x");
        assert_eq!(end.events(), []);
        assert_eq!(end.timeout(), Some(HANDSHAKE));
    }
    end.at(HANDSHAKE);
    assert_eq!(end.error(), Error::TimedOut(TimedOut::Handshake));
}

#[test]
fn the_deadline_runs_while_the_key_is_waited_for() {
    let mut end = End::client(&challenge(Digest::Sha256));
    end.feed(&[1; 32]);
    assert_eq!(end.events(), [Event::KeyNeeded]);
    end.at(HANDSHAKE);
    assert_eq!(end.error(), Error::TimedOut(TimedOut::Handshake));
    let key = key(Digest::Sha256, SECRET);
    let late = end.session.provide_key(Ok(Candidates::one(&key)), end.now);
    assert_eq!(late, Err(KeyError::NotAsked));
    assert_eq!(end.sent(), b"");
}

#[test]
fn an_idle_session_has_no_deadline() {
    let mut end = End::open(&framed(Framing::U32));
    assert_eq!(end.timeout(), None);
    end.at(u64::MAX);
    assert_eq!(end.events(), []);
}

#[test]
fn time_that_passes_for_nothing_does_no_harm() {
    let mut end = End::open(&framed(Framing::U32));
    end.feed(b"\0");
    assert_eq!(end.events(), []);
    for micros in [0, 1, 1, 5, 2, STALL - 1] {
        end.at(micros);
        assert_eq!(end.events(), []);
        assert_eq!(end.timeout(), Some(STALL));
    }
    end.at(STALL);
    assert_eq!(end.error(), HALF);
    end.at(STALL);
    end.at(u64::MAX);
    assert_eq!(end.error(), HALF);
    assert_eq!(end.timeout(), None);
}

#[test]
fn half_a_frame_may_stand_still_for_the_stall_timeout() {
    for len in [1, 4, 5] {
        let mut end = End::open(&framed(Framing::U32));
        end.at(1_000);
        end.feed(&frame(b"half")[..len]);
        assert_eq!(end.events(), []);
        assert_eq!(end.timeout(), Some(1_000 + STALL));
        end.at(1_000 + STALL - 1);
        assert_eq!(end.events(), []);
        end.at(1_000 + STALL);
        assert_eq!(end.error(), HALF, "after {len} bytes");
    }
}

#[test]
fn a_part_has_the_stall_timeout_as_a_whole_however_its_bytes_drip() {
    let mut end = End::open(&framed(Framing::U32));
    for (n, byte) in (0..).zip(&frame(b"slow")[..7]) {
        end.at(n * 1_000_000);
        end.feed(&[*byte]);
        assert_eq!(end.events(), []);
        assert_eq!(end.timeout(), Some(STALL));
    }
    end.at(STALL);
    assert_eq!(end.error(), Error::TimedOut(TimedOut::Receive));
}

#[test]
fn each_part_of_a_long_frame_has_the_stall_timeout_of_its_own() {
    let mut end = End::open(&framed(Framing::U32));
    let long = frame(&[7; 150]);
    end.feed(&long[..60]);
    assert_eq!(end.events(), []);
    assert_eq!(end.timeout(), Some(STALL));
    end.at(STALL - 1);
    end.feed(&long[60..64]);
    assert_eq!(end.events().len(), 1);
    end.session.consume(end.now);
    assert_eq!(end.events(), []);
    assert_eq!(end.timeout(), Some(STALL - 1 + STALL));
}

#[test]
fn a_read_of_nothing_is_no_progress() {
    let mut end = End::open(&framed(Framing::U32));
    end.feed(b"\0");
    assert_eq!(end.events(), []);
    end.at(STALL - 1);
    end.session.recv_space();
    end.session.handle_received(0, end.now);
    assert_eq!(end.events(), []);
    assert_eq!(end.timeout(), Some(STALL));
}

#[test]
fn the_peer_owes_nothing_while_a_part_is_at_hand() {
    let mut end = End::open(&framed(Framing::U32));
    end.feed(&frame(&[1; 61])[..64]);
    assert_eq!(end.events().len(), 1);
    assert_eq!(end.timeout(), None);
    assert_eq!(end.offer(b"x"), 0);
    end.at(10 * STALL);
    assert_eq!(end.events(), []);
    assert_eq!(end.timeout(), None);
    end.consume();
    assert_eq!(end.events(), []);
    assert_eq!(end.timeout(), Some(11 * STALL));
}

#[test]
fn the_peer_owes_nothing_while_we_are_starved() {
    let mut end = End::open(&framed(Framing::U32));
    end.feed(b"\0");
    assert_eq!(end.events(), []);
    assert_eq!(end.timeout(), Some(STALL));
    end.pools.receive.dry.set(true);
    assert_eq!(end.offer(b"\0"), 0);
    assert!(end.session.awaiting_buffer());
    assert_eq!(end.timeout(), None);
    assert_eq!(end.events(), []);
    end.at(STALL);
    assert_eq!(end.events(), []);
    end.pools.receive.dry.set(false);
    end.feed(b"\0");
    assert_eq!(end.events(), []);
    assert_eq!(end.timeout(), Some(2 * STALL));
}

#[test]
fn a_peer_that_does_not_read_is_given_up() {
    let mut end = End::open(&framed(Framing::Raw));
    end.at(500);
    end.send(b"unread").unwrap();
    assert_eq!(end.timeout(), None, "nobody has tried to send it");
    assert_eq!(end.session.poll_transmit(end.now), b"unread");
    end.session.handle_transmitted(0, end.now);
    assert_eq!(end.timeout(), Some(500 + STALL));
    end.at(500 + STALL - 1);
    assert_eq!(end.session.poll_transmit(end.now), b"unread", "asking again is no progress");
    assert_eq!(end.timeout(), Some(500 + STALL));
    end.send(b", too").unwrap();
    assert_eq!(end.timeout(), Some(500 + STALL), "nor is sending more");
    assert_eq!(end.events(), []);
    end.at(500 + STALL);
    assert_eq!(end.error(), UNREAD);
    assert!(end.session.is_done(), "what it did not read is dropped");
    assert_eq!(end.sent(), b"");
    assert_eq!(end.pools.held(), (0, 0, 0));
}

#[test]
fn what_waits_has_the_stall_timeout_to_leave_as_a_whole() {
    let mut end = End::open(&framed(Framing::Raw));
    end.send(b"slow").unwrap();
    for n in 0..3 {
        end.at(n * 1_000_000);
        assert_eq!(end.transmit(1).len(), 1);
        assert_eq!(end.timeout(), Some(STALL));
    }
    // What came behind it has as long again, from when it left.
    end.send(b"er").unwrap();
    assert_eq!(end.timeout(), Some(STALL));
    assert_eq!(end.transmit(1).len(), 1);
    assert_eq!(end.timeout(), Some(2_000_000 + STALL));
    assert_eq!(end.transmit(2).len(), 2);
    assert_eq!(end.timeout(), None);
    assert_eq!(end.events(), []);
}

#[test]
fn a_challenge_that_does_not_leave_is_dropped_at_the_handshakes_deadline() {
    let mut end = End::server(&challenge(Digest::Sha256));
    assert_eq!(end.transmit(5).len(), 5);
    assert_eq!(end.timeout(), Some(HANDSHAKE));
    end.at(HANDSHAKE);
    assert_eq!(end.error(), Error::TimedOut(TimedOut::Handshake));
    assert!(end.session.is_done() && end.session.wants_shutdown());
    assert_eq!(end.timeout(), None);
    assert_eq!(end.sent(), b"", "what is left of the challenge is no last word");
    assert_eq!(end.pools.held(), (0, 0, 0));
}

#[test]
fn a_challenge_has_the_stall_timeout_to_leave_where_that_is_the_shorter() {
    let config = challenge(Digest::Sha256).with_stall_timeout(Duration::from_micros(9));
    let mut end = End::server(&config);
    assert_eq!(end.transmit(31).len(), 31);
    assert_eq!(end.timeout(), Some(9));
    assert_eq!(end.transmit(1).len(), 1);
    assert_eq!(end.timeout(), Some(HANDSHAKE));
    let mut end = End::server(&config);
    assert_eq!(end.transmit(31).len(), 31);
    end.at(9);
    assert_eq!(end.error(), UNREAD);
    assert_eq!(end.sent(), b"");
}

#[test]
fn the_last_word_is_given_the_stall_timeout_too() {
    let mut end = End::open(&framed(Framing::Raw));
    end.send(b"word").unwrap();
    end.session.abort(CloseReason::Shutdown, end.now);
    assert_eq!(end.transmit(1), b"w");
    assert_eq!(end.timeout(), Some(STALL));
    end.at(STALL);
    assert_eq!(end.error(), Error::Aborted(CloseReason::Shutdown));
    assert!(end.session.is_done());
    assert_eq!(end.sent(), b"");
}

#[test]
fn the_stall_timeout_is_the_one_configured_and_the_far_future_stays_far() {
    let config = framed(Framing::U32).with_stall_timeout(Duration::from_micros(9));
    let mut end = End::open(&config);
    end.feed(b"\0");
    assert_eq!(end.events(), []);
    assert_eq!(end.timeout(), Some(9));
    let mut end = End::open(&framed(Framing::U32).with_stall_timeout(Duration::MAX));
    end.feed(b"\0");
    assert_eq!(end.events(), []);
    assert_eq!(end.timeout(), None, "a moment that never comes is none to wait for");
    end.at(u64::MAX - 1);
    assert_eq!(end.events(), []);
}

#[test]
fn the_earlier_of_two_stalls_ends_the_session() {
    let mut end = End::open(&framed(Framing::U32));
    end.send(b"unread").unwrap();
    assert!(!end.session.poll_transmit(end.now).is_empty());
    end.at(10);
    end.feed(b"\0");
    assert_eq!(end.events(), []);
    assert_eq!(end.timeout(), Some(STALL));
    end.at(STALL);
    assert_eq!(end.error(), UNREAD);
    assert_eq!(end.timeout(), None);
}

#[test]
fn the_end_of_the_stream_stops_the_receive_timer() {
    let mut end = End::open(&framed(Framing::U32));
    end.feed(b"\0");
    assert_eq!(end.events(), []);
    end.eof();
    assert_eq!(end.timeout(), None);
    end.at(STALL);
    assert_eq!(end.error(), Error::Truncated(Truncated::Message));
}

#[test]
fn a_response_that_does_not_leave_is_a_handshake_that_is_not_over() {
    let mut end = End::client(&challenge(Digest::Sha256));
    end.feed(&[7; 32]);
    assert_eq!(end.events(), [Event::KeyNeeded]);
    end.key(&key(Digest::Sha256, SECRET));
    assert_eq!(end.transmit(1).len(), 1);
    assert_eq!(end.events(), []);
    assert_eq!(end.timeout(), Some(HANDSHAKE));
    end.at(HANDSHAKE);
    assert_eq!(end.error(), Error::TimedOut(TimedOut::Handshake));
    assert_eq!(end.sent(), b"");
    // What was shown before is gone, and saying that it was sent changes nothing.
    end.session.handle_transmitted(31, end.now);
    assert!(end.session.is_done());
}
