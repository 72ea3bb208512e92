use super::*;

const NONE: (usize, usize, usize) = (0, 0, 0);

/// A turn of a driver whose transport has nothing to read.
fn idle_turn(end: &mut End) {
    assert_eq!(end.events(), []);
    end.sent();
    if !end.session.recv_space().is_empty() {
        end.session.handle_received(0, end.now);
    }
}

#[test]
fn an_idle_session_holds_no_lease() {
    for framing in [Framing::Raw, Framing::U32] {
        let mut end = End::open(&framed(framing));
        assert_eq!(end.pools.held(), NONE);
        idle_turn(&mut end);
        assert_eq!(end.pools.held(), NONE);
        end.send(b"message").unwrap();
        assert_eq!(end.pools.held(), (0, 0, 1));
        idle_turn(&mut end);
        assert_eq!(end.pools.held(), NONE);
        end.feed(&frame(b"message"));
        assert_eq!(end.pools.held(), (0, 1, 0));
        end.events();
        end.consume();
        idle_turn(&mut end);
        assert_eq!(end.pools.held(), NONE);
    }
}

#[test]
fn part_of_a_header_waits_without_a_lease() {
    for len in 1..4 {
        let mut end = End::open(&framed(Framing::U32));
        let bytes = frame(b"message");
        end.feed(&bytes[..len]);
        idle_turn(&mut end);
        assert_eq!(end.pools.held(), NONE, "after {len} bytes");
        assert!(end.session.wants_read());
        end.feed(&bytes[len..]);
        assert_eq!(end.events(), [whole()]);
        assert_eq!(end.chunk(), b"message");
    }
}

#[test]
fn what_waits_of_a_long_frame_is_kept_in_its_lease() {
    let mut end = End::open(&framed(Framing::U32));
    let bytes = frame(&[9; 60]);
    end.feed(&bytes[..40]);
    idle_turn(&mut end);
    assert_eq!(end.pools.held(), (0, 1, 0));
    end.feed(&bytes[40..]);
    assert_eq!(end.events(), [whole()]);
    assert_eq!(end.chunk(), [9; 60]);
}

#[test]
fn a_part_at_hand_keeps_its_lease() {
    let mut end = End::open(&framed(Framing::U32));
    end.feed(&frame(b""));
    assert_eq!(end.events(), [whole()]);
    idle_turn(&mut end);
    assert_eq!(end.pools.held(), (0, 1, 0));
    end.consume();
    idle_turn(&mut end);
    assert_eq!(end.pools.held(), NONE);
}

#[test]
fn the_handshakes_lease_is_given_back_once_it_is_over_and_out() {
    let digest = Digest::Sha256;
    let mut client = End::client(&challenge(digest));
    assert_eq!(client.pools.held(), (1, 0, 0));
    client.feed(&[0x6e; 32]);
    assert_eq!(client.events(), [Event::KeyNeeded]);
    client.key(&key(digest, SECRET));
    assert_eq!(client.events(), [], "the response is not out");
    assert_eq!(client.pools.held(), (1, 0, 0));
    let mut response = client.transmit(31);
    assert_eq!(client.events(), []);
    assert_eq!(client.pools.held(), (1, 0, 0));
    response.extend(client.transmit(1));
    assert_eq!(client.events(), [Event::Established]);
    assert_eq!(client.pools.held(), NONE);

    let mut server = End::server(&challenge(digest));
    server.sent();
    server.feed(&response);
    assert_eq!(server.events(), [Event::KeyNeeded]);
    assert_eq!(server.pools.held(), (1, 0, 0));
    server.key(&key(digest, SECRET));
    assert_eq!(server.events(), [Event::Established]);
    assert_eq!(server.pools.held(), NONE);

    let mut end = End::server(&framed(Framing::U32));
    assert_eq!(end.pools.held(), (1, 0, 0));
    assert_eq!(end.events(), [Event::Established]);
    assert_eq!(end.pools.held(), NONE);
}

#[test]
fn a_failed_session_holds_no_lease_once_drained() {
    let mut end = End::server(&challenge(Digest::Sha256));
    end.session.abort(CloseReason::Shutdown, end.now);
    assert_eq!(end.pools.held(), NONE, "a handshake has no last word");

    let mut end = End::open(&framed(Framing::U32));
    end.send(b"last word").unwrap();
    end.feed(&frame(&[1; 60])[..50]);
    assert_eq!(end.events(), []);
    assert_eq!(end.pools.held(), (0, 1, 1));
    end.eof();
    assert_eq!(end.error(), Error::Truncated(Truncated::Message));
    assert_eq!(end.pools.held(), (0, 0, 1));
    end.sent();
    assert_eq!(end.pools.held(), NONE);

    let mut end = End::open(&framed(Framing::U32));
    end.session.recv_space();
    end.session.abort(CloseReason::Shutdown, end.now);
    assert_eq!(end.pools.held(), NONE);
}

#[test]
fn a_closed_session_holds_no_lease() {
    let mut end = End::open(&framed(Framing::Raw));
    end.feed(b"last");
    end.eof();
    assert_eq!(end.events().len(), 1);
    end.send(b"answer").unwrap();
    end.consume();
    end.finish();
    assert_eq!(end.events(), [Event::PeerFinished]);
    assert_eq!(end.pools.held(), (0, 0, 1));
    end.sent();
    assert_eq!(end.events(), [Event::Closed]);
    assert_eq!(end.pools.held(), NONE);
}

#[test]
fn reading_waits_for_a_lease_and_goes_on_with_it() {
    let mut end = End::open(&framed(Framing::U32));
    end.feed(&frame(b"message")[..3]);
    idle_turn(&mut end);
    end.pools.receive.dry.set(true);
    assert!(!end.session.awaiting_buffer(), "nothing was asked for yet");
    assert!(end.session.wants_read());
    assert_eq!(end.offer(&frame(b"message")[3..]), 0);
    assert!(end.session.awaiting_buffer());
    assert!(end.session.wants_read(), "the bytes are wanted all the same");
    assert_eq!(end.events(), []);
    end.send(b"not blocked").unwrap();
    assert_eq!(end.sent(), frame(b"not blocked"));
    end.pools.receive.dry.set(false);
    end.feed(&frame(b"message")[3..]);
    assert!(!end.session.awaiting_buffer());
    assert_eq!(end.events(), [whole()]);
    assert_eq!(end.chunk(), b"message");
}

#[test]
fn sending_waits_for_a_lease_and_goes_on_with_it() {
    let mut end = End::open(&framed(Framing::U32));
    end.pools.send.dry.set(true);
    assert_eq!(end.send(b"message"), Err(SendError::Full));
    assert!(end.session.awaiting_buffer());
    assert!(!end.session.wants_write());
    assert_eq!(end.events(), []);
    assert_eq!(end.sent(), b"");
    assert!(end.session.awaiting_buffer(), "a turn does not forget it");
    assert!(end.pools.send.awaited.get(), "nor its place in the queue");
    end.feed(&frame(b"not blocked"));
    assert_eq!(end.events(), [whole()]);
    end.consume();
    end.pools.send.dry.set(false);
    assert_eq!(end.events(), [Event::Writable]);
    assert!(!end.session.awaiting_buffer());
    end.send(b"message").unwrap();
    assert_eq!(end.sent(), frame(b"message"));
    assert_eq!(end.pools.send.out.get(), 0);
}

#[test]
fn a_lease_that_is_not_used_after_all_is_given_back() {
    let mut end = End::open(&framed(Framing::Raw));
    end.pools.send.dry.set(true);
    assert_eq!(end.send(b"message"), Err(SendError::Full));
    end.pools.send.dry.set(false);
    assert_eq!(end.events(), [Event::Writable]);
    idle_turn(&mut end);
    assert_eq!(end.pools.held(), NONE);
}

#[test]
fn an_error_gives_a_lease_back_that_nothing_waits_in() {
    let mut end = End::open(&framed(Framing::Raw));
    end.pools.send.dry.set(true);
    assert_eq!(end.send(b"message"), Err(SendError::Full));
    end.pools.send.dry.set(false);
    assert_eq!(end.events(), [Event::Writable]);
    end.session.abort(CloseReason::Shutdown, end.now);
    assert_eq!(end.pools.held(), NONE);
}

#[test]
fn who_finishes_or_fails_waits_for_no_lease() {
    for fails in [true, false] {
        let mut end = End::open(&framed(Framing::Raw));
        end.pools.send.dry.set(true);
        end.pools.receive.dry.set(true);
        assert_eq!(end.send(b"message"), Err(SendError::Full));
        assert_eq!(end.offer(b"message"), 0);
        assert!(end.session.awaiting_buffer());
        if fails {
            end.session.abort(CloseReason::Shutdown, end.now);
        } else {
            end.finish();
            end.eof();
            assert_eq!(end.events(), [Event::Writable, Event::PeerFinished, Event::Closed]);
        }
        assert!(!end.session.awaiting_buffer());
        assert!(end.session.is_done());
        assert_eq!(end.sent(), b"");
        assert!(!end.pools.send.awaited.get() && !end.pools.receive.awaited.get());
    }
}

#[test]
fn getters_take_no_lease() {
    let end = End::open(&framed(Framing::U32));
    assert!(end.session.wants_read() && !end.session.wants_write());
    assert!(
        !end.session.wants_shutdown() && !end.session.is_done() && !end.session.awaiting_buffer()
    );
    assert!(end.session.peer().is_some() && end.session.key_request().is_none());
    assert_eq!(end.pools.held(), NONE);
}
