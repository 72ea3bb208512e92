use super::*;

fn space(end: &mut End, len: usize) -> Result<usize, SendError> {
    end.session.split().1.send_space(len, Remaining::End).map(|space| space.len())
}

#[test]
fn messages_go_out_in_their_framing() {
    let mut raw = End::open(&framed(Framing::Raw));
    let mut framed = End::open(&framed(Framing::U32));
    for end in [&mut raw, &mut framed] {
        end.send(b"one").unwrap();
        end.send(b"").unwrap();
        end.send(b"two").unwrap();
    }
    assert_eq!(raw.sent(), b"onetwo", "of an empty message a byte stream has nothing");
    assert_eq!(framed.sent(), [frame(b"one"), frame(b""), frame(b"two")].concat());
}

#[test]
fn an_empty_raw_message_takes_no_lease_and_always_fits() {
    let mut end = End::open(&framed(Framing::Raw));
    end.send(b"").unwrap();
    end.send_chunk(b"", Remaining::Unknown).unwrap();
    assert!(!end.session.wants_write());
    assert_eq!(end.pools.held(), (0, 0, 0));
    end.send(&[1; 64]).unwrap();
    end.send(b"").unwrap();
    assert_eq!(end.sent().len(), 64);
}

#[test]
fn a_message_in_parts_is_one_frame() {
    let mut end = End::open(&framed(Framing::U32));
    end.send_chunk(b"", Remaining::Bytes(9)).unwrap();
    end.send_chunk(b"one", Remaining::Bytes(6)).unwrap();
    end.send_chunk(b"", Remaining::Bytes(6)).unwrap();
    end.send_chunk(b"three", Remaining::Bytes(1)).unwrap();
    end.send_chunk(b"!", Remaining::End).unwrap();
    end.send(b"next").unwrap();
    assert_eq!(end.sent(), [frame(b"onethree!"), frame(b"next")].concat());
}

#[test]
fn a_length_that_is_not_known_is_asked_for() {
    let mut end = End::open(&framed(Framing::U32));
    assert_eq!(end.send_chunk(b"a", Remaining::Unknown), Err(SendError::LengthNeeded));
    assert_eq!(end.send_chunk(b"a", Remaining::Bytes(u64::MAX)), Err(SendError::LengthNeeded));
    let four_gib = u64::from(u32::MAX);
    assert_eq!(end.send_chunk(b"a", Remaining::Bytes(four_gib)), Err(SendError::LengthNeeded));
    assert!(!end.session.wants_write());
    let mut raw = End::open(&framed(Framing::Raw));
    raw.send_chunk(b"a", Remaining::Unknown).unwrap();
    raw.send_chunk(b"b", Remaining::Bytes(u64::MAX)).unwrap();
    assert_eq!(raw.sent(), b"ab");
}

#[test]
fn parts_that_do_not_add_up_change_nothing() {
    let mut end = End::open(&framed(Framing::U32));
    end.send_chunk(b"ab", Remaining::Bytes(3)).unwrap();
    let mismatch = Err(SendError::LengthMismatch { due: 3 });
    assert_eq!(end.send(b"xx"), mismatch);
    assert_eq!(end.send(b"xxxx"), mismatch);
    assert_eq!(end.send_chunk(b"x", Remaining::Bytes(3)), mismatch);
    assert_eq!(end.send_chunk(b"x", Remaining::Unknown), Err(SendError::LengthNeeded));
    end.send(b"cde").unwrap();
    assert_eq!(end.sent(), frame(b"abcde"));
}

#[test]
fn a_message_too_long_for_the_buffer_is_refused_whatever_waits() {
    for (framing, max) in [(Framing::Raw, 64), (Framing::U32, 60)] {
        let mut end = End::open(&framed(framing));
        assert_eq!(end.session.split().1.max_chunk(), max);
        assert_eq!(end.send(&[1; 65][..=max]), Err(SendError::TooLong { max }));
        end.send(&[1; 64][..max]).unwrap();
        assert_eq!(end.session.split().1.max_chunk(), max, "it is that of an empty send side");
        assert_eq!(end.send(&[1; 65][..=max]), Err(SendError::TooLong { max }));
        assert_eq!(end.sent().len(), 64);
        assert_eq!(end.events(), [], "it never will fit, so nothing is promised");
    }
}

#[test]
fn nothing_is_sent_before_the_handshake_is_over() {
    let mut end = End::server(&challenge(Digest::Sha256));
    assert_eq!(end.send(b"early"), Err(SendError::NotEstablished));
    assert_eq!(end.sent(), [0x6e; 32]);
    let mut end = End::server(&framed(Framing::Raw));
    assert_eq!(end.send(b"early"), Err(SendError::NotEstablished));
    assert_eq!(end.events(), [Event::Established]);
    end.send(b"now").unwrap();
    assert_eq!(end.sent(), b"now");
}

#[test]
fn nothing_is_sent_after_finish_nor_after_the_end() {
    let mut end = End::open(&framed(Framing::Raw));
    end.send(b"last").unwrap();
    end.finish();
    assert_eq!(end.send(b"more"), Err(SendError::Finished));
    assert_eq!(end.send(b""), Err(SendError::Finished));
    end.session.abort(CloseReason::Application, end.now);
    assert_eq!(end.send(b"more"), Err(SendError::Ended));
    assert_eq!(space(&mut end, 1), Err(SendError::Ended));
    end.finish();
    assert_eq!(end.send(b"more"), Err(SendError::Ended));
    assert_eq!(end.sent(), b"last");
}

#[test]
fn full_changes_nothing_and_is_followed_by_one_writable() {
    let mut end = End::open(&framed(Framing::U32));
    end.send(&[1; 50]).unwrap();
    assert_eq!(end.send(&[2; 20]), Err(SendError::Full));
    assert_eq!(end.send(&[2; 20]), Err(SendError::Full));
    assert_eq!(end.send(&[3; 7]), Err(SendError::Full));
    assert_eq!(end.events(), []);
    let mut sent = end.transmit(13);
    assert_eq!(end.events(), [], "of 24 bytes there are 23");
    sent.extend(end.transmit(1));
    assert_eq!(end.events(), [Event::Writable]);
    assert_eq!(end.events(), []);
    end.send(&[2; 20]).unwrap();
    sent.extend(end.sent());
    assert_eq!(sent, [frame(&[1; 50]), frame(&[2; 20])].concat());
    assert_eq!(end.events(), []);
    assert_eq!(end.pools.held(), (0, 0, 0));
}

#[test]
fn each_full_after_a_writable_gets_its_own() {
    let mut end = End::open(&framed(Framing::Raw));
    end.send(&[1; 64]).unwrap();
    for _ in 0..3 {
        assert_eq!(end.send(&[2; 64]), Err(SendError::Full));
        assert_eq!(end.sent().len(), 64);
        assert_eq!(end.events(), [Event::Writable]);
        end.send(&[2; 64]).unwrap();
    }
}

#[test]
fn something_smaller_that_still_fits_does_not_take_the_writable_away() {
    let mut end = End::open(&framed(Framing::Raw));
    end.send(&[1; 60]).unwrap();
    assert_eq!(end.send(&[2; 5]), Err(SendError::Full));
    end.send(&[3; 4]).unwrap();
    assert_eq!(end.sent().len(), 64);
    assert_eq!(end.events(), [Event::Writable]);
}

#[test]
fn room_that_was_asked_for_is_announced_after_finish_too() {
    let mut end = End::open(&framed(Framing::Raw));
    end.send(&[1; 64]).unwrap();
    assert_eq!(end.send(&[2; 64]), Err(SendError::Full));
    end.finish();
    assert_eq!(end.sent().len(), 64);
    // A part may be waiting for it.
    assert_eq!(end.events(), [Event::Writable]);
    assert_eq!(end.send(&[2; 64]), Err(SendError::Finished));
}

#[test]
fn an_application_can_end_the_session_from_its_outbox() {
    let mut end = End::open(&framed(Framing::Raw));
    end.send(b"last word").unwrap();
    let mut outbox = end.session.split().1;
    outbox.abort(CloseReason::Application);
    outbox.abort(CloseReason::Protocol);
    assert_eq!(end.error(), Error::Aborted(CloseReason::Application));
    assert_eq!(end.sent(), b"last word");
    assert!(end.session.is_done());
}

#[test]
fn space_to_write_in_place_shows_nothing_of_what_was_there_before() {
    let mut end = End::open(&framed(Framing::Raw));
    end.send(b"another's secret").unwrap();
    assert_eq!(end.sent(), b"another's secret");
    let mut outbox = end.session.split().1;
    assert_eq!(outbox.send_space(16, Remaining::Unknown).unwrap(), [0; 16]);
}

#[test]
fn all_of_the_buffer_is_used_wherever_its_bytes_lie() {
    let mut end = End::open(&framed(Framing::Raw));
    let (mut expected, mut sent) = (Vec::new(), Vec::new());
    for n in 0..200_u8 {
        expected.extend([n; 24]);
        end.send(&[n; 24]).unwrap();
        if n > 0 {
            sent.extend(end.transmit(24));
        }
    }
    sent.extend(end.sent());
    assert_eq!(sent, expected);
}

#[test]
fn space_that_is_not_committed_is_not_sent() {
    for framing in [Framing::Raw, Framing::U32] {
        let mut end = End::open(&framed(framing));
        assert_eq!(space(&mut end, 5), Ok(5));
        assert!(!end.session.wants_write());
        assert_eq!(end.sent(), b"");
        assert_eq!(end.pools.held(), (0, 0, 0));
        end.session.split().1.commit();
        assert_eq!(end.sent(), b"");
    }
}

#[test]
fn only_the_last_space_is_committed_and_only_once() {
    let mut end = End::open(&framed(Framing::U32));
    let mut outbox = end.session.split().1;
    outbox.send_space(9, Remaining::Bytes(3)).unwrap().fill(b'x');
    outbox.send_space(2, Remaining::End).unwrap().copy_from_slice(b"ok");
    outbox.commit();
    outbox.commit();
    outbox.send_space(3, Remaining::End).unwrap().fill(b'x');
    assert!(outbox.send_space(61, Remaining::End).is_err());
    outbox.commit();
    assert_eq!(end.sent(), frame(b"ok"));
}

#[test]
fn more_than_is_pending_counts_as_what_is_pending() {
    let mut end = End::server(&challenge(Digest::Sha256));
    assert_eq!(end.session.poll_transmit(end.now).len(), 32);
    end.session.handle_transmitted(usize::MAX, end.now);
    assert!(!end.session.wants_write());

    let mut end = End::open(&framed(Framing::Raw));
    end.session.handle_transmitted(usize::MAX, end.now);
    end.send(b"abc").unwrap();
    assert_eq!(end.session.poll_transmit(end.now), b"abc");
    end.session.handle_transmitted(usize::MAX, end.now);
    assert!(!end.session.wants_write());
    end.send(b"def").unwrap();
    assert_eq!(end.sent(), b"def");
}

#[test]
fn what_was_not_transmitted_is_offered_again() {
    let mut end = End::open(&framed(Framing::Raw));
    end.send(b"abc").unwrap();
    assert_eq!(end.session.poll_transmit(end.now), b"abc");
    end.session.handle_transmitted(0, end.now);
    assert_eq!(end.session.poll_transmit(end.now), b"abc");
    assert_eq!(end.transmit(2), b"ab");
    end.send(b"d").unwrap();
    assert_eq!(end.session.poll_transmit(end.now), b"cd");
}
