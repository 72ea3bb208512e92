use super::*;

#[test]
fn a_read_of_nothing_behind_unparsed_bytes_changes_nothing() {
    for framing in [Framing::Raw, Framing::U32] {
        let mut end = End::open(&framed(framing));
        end.feed(&frame(b"x"));
        end.session.recv_space();
        end.session.handle_received(0, end.now); // the next read would block
        let events = end.events();
        assert_eq!(events.len(), 1, "{framing:?}");
    }
}

#[test]
fn an_end_of_stream_found_by_the_next_read_does_not_truncate_a_whole_message() {
    let mut end = End::open(&framed(Framing::U32));
    end.feed(&frame(b"x"));
    end.session.recv_space();
    end.session.handle_received(0, end.now);
    end.eof();
    assert_eq!(end.poll(), Ok(Some(whole())));
}

#[test]
fn space_that_went_stale_takes_no_bytes() {
    let mut end = End::open(&framed(Framing::U32));
    end.session.recv_space();
    assert_eq!(end.events(), []); // gives the lease back
    end.session.handle_received(5, end.now);
    assert_eq!(end.events(), []);
}

#[test]
fn bytes_that_were_not_shown_are_not_transmitted() {
    let mut end = End::open(&framed(Framing::Raw));
    assert_eq!(end.session.poll_transmit(end.now), b"");
    end.send(b"abc").unwrap();
    end.session.handle_transmitted(2, end.now);
    assert_eq!(end.sent(), b"abc");
}

#[test]
fn more_than_the_last_response_was_long_does_not_eat_what_follows_it() {
    let mut client = End::client(&challenge(Digest::Sha256));
    client.feed(&[0x6e; 32]);
    assert_eq!(client.events(), [Event::KeyNeeded]);
    client.key(&key(Digest::Sha256, SECRET));
    assert_eq!(client.session.poll_transmit(client.now).len(), 32);
    client.session.handle_transmitted(99, client.now);
    client.session.handle_transmitted(99, client.now);
    assert_eq!(client.events(), [Event::Established]);
    client.send(b"hello").unwrap();
    client.session.handle_transmitted(99, client.now);
    assert_eq!(client.sent(), b"hello");
}

#[test]
fn handshake_bytes_without_room_offered_do_not_count() {
    let mut end = End::server(&challenge(Digest::Sha256));
    end.session.handle_received(32, end.now);
    assert_eq!(end.events(), []);
}

#[test]
fn handshake_bytes_after_eof_do_not_count() {
    let mut end = End::server(&challenge(Digest::Sha256));
    end.session.recv_space();
    end.eof();
    end.session.handle_received(32, end.now);
    assert_eq!(end.error(), Error::Truncated(Truncated::Handshake));
}

#[test]
fn finish_takes_back_what_is_reserved() {
    let mut end = End::open(&framed(Framing::Raw));
    let mut outbox = end.session.split().1;
    outbox.send_space(2, Remaining::End).unwrap();
    outbox.finish();
    outbox.commit();
    assert_eq!(end.sent(), b"");
}

#[test]
fn a_closed_session_answers_no_sends_with_ended_and_keeps_part_of_message_silent() {
    // finish within a message: what does this side say?
    let mut end = End::open(&framed(Framing::U32));
    end.send_chunk(b"ab", Remaining::Bytes(3)).unwrap();
    end.finish();
    end.sent();
    end.eof();
    std::println!("{:?}", end.events());
}

#[test]
fn a_starved_reader_at_eof_is_not_starved() {
    let mut end = End::open(&framed(Framing::U32));
    end.pools.receive.dry.set(true);
    end.offer(b"x");
    assert!(end.session.awaiting_buffer());
    end.eof();
    assert_eq!(end.events(), [Event::PeerFinished]);
    assert!(!end.session.awaiting_buffer());
}

#[test]
fn starved_send_does_not_hold_a_lease_for_ever_when_idle() {
    // Writable took the lease; the application does not send; the driver polls transmit.
    let mut end = End::open(&framed(Framing::Raw));
    end.pools.send.dry.set(true);
    assert_eq!(end.send(b"m"), Err(SendError::Full));
    end.pools.send.dry.set(false);
    assert_eq!(end.events(), [Event::Writable]);
    assert_eq!(end.pools.held(), (0, 0, 1));
    end.session.abort(CloseReason::Shutdown, end.now);
    assert_eq!(end.pools.held(), (0, 0, 0));
}

#[test]
fn a_space_that_is_not_committed_gives_its_lease_back_when_finished() {
    let mut end = End::open(&framed(Framing::Raw));
    end.session.split().1.send_space(2, Remaining::End).unwrap();
    end.finish();
    end.eof();
    assert_eq!(end.events(), [Event::PeerFinished, Event::Closed]);
    assert!(end.session.is_done());
    assert_eq!(end.pools.held(), (0, 0, 0));
}

#[test]
fn last_bytes_out_then_closed_without_another_poll_transmit_holds_nothing() {
    let mut end = End::open(&framed(Framing::Raw));
    end.send(b"bye").unwrap();
    end.finish();
    end.eof();
    assert_eq!(end.events(), [Event::PeerFinished]);
    end.transmit(usize::MAX);
    assert_eq!(end.events(), [Event::Closed]);
    assert!(end.session.is_done());
    assert_eq!(end.pools.held(), (0, 0, 0));
}

#[test]
fn a_failed_session_whose_last_bytes_left_holds_nothing() {
    let mut end = End::open(&framed(Framing::Raw));
    end.send(b"bye").unwrap();
    end.session.abort(CloseReason::Shutdown, end.now);
    end.transmit(usize::MAX);
    assert!(end.session.is_done());
    assert_eq!(end.pools.held(), (0, 0, 0));
}
