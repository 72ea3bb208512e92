//! Messages to send: framing, limits, back-pressure.

use super::*;

#[test]
fn messages_are_transmitted_in_their_framing() {
    let mut raw = Endpoint::established(&framed(Framing::Raw));
    let mut framed = Endpoint::established(&framed(Framing::U32));
    for endpoint in [&mut raw, &mut framed] {
        endpoint.send(b"one").unwrap();
        endpoint.send(b"").unwrap();
        endpoint.send(b"two").unwrap();
    }
    assert_eq!(raw.transmit_all(), b"onetwo", "an empty message adds nothing to a byte stream");
    assert_eq!(framed.transmit_all(), [frame(b"one"), frame(b""), frame(b"two")].concat());
}

#[test]
fn empty_raw_message_needs_no_lease_and_always_fits() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.send(b"").unwrap();
    endpoint.send_chunk(b"", Remaining::Unknown).unwrap();
    assert!(!endpoint.session.wants_write());
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
    endpoint.send(&[1; 64]).unwrap();
    endpoint.send(b"").unwrap();
    assert_eq!(endpoint.transmit_all().len(), 64);
}

#[test]
fn message_sent_in_chunks_is_one_frame() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.send_chunk(b"", Remaining::Bytes(9)).unwrap();
    endpoint.send_chunk(b"one", Remaining::Bytes(6)).unwrap();
    endpoint.send_chunk(b"", Remaining::Bytes(6)).unwrap();
    endpoint.send_chunk(b"three", Remaining::Bytes(1)).unwrap();
    endpoint.send_chunk(b"!", Remaining::End).unwrap();
    endpoint.send(b"next").unwrap();
    assert_eq!(endpoint.transmit_all(), [frame(b"onethree!"), frame(b"next")].concat());
}

#[test]
fn u32_framing_rejects_an_unknown_length() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    assert_eq!(endpoint.send_chunk(b"a", Remaining::Unknown), Err(SendError::LengthNeeded));
    assert_eq!(endpoint.send_chunk(b"a", Remaining::Bytes(u64::MAX)), Err(SendError::LengthNeeded));
    let four_gib = u64::from(u32::MAX);
    assert_eq!(endpoint.send_chunk(b"a", Remaining::Bytes(four_gib)), Err(SendError::LengthNeeded));
    assert!(!endpoint.session.wants_write());
    let mut raw = Endpoint::established(&framed(Framing::Raw));
    raw.send_chunk(b"a", Remaining::Unknown).unwrap();
    raw.send_chunk(b"b", Remaining::Bytes(u64::MAX)).unwrap();
    assert_eq!(raw.transmit_all(), b"ab");
}

#[test]
fn chunks_that_do_not_add_up_are_rejected() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.send_chunk(b"ab", Remaining::Bytes(3)).unwrap();
    let mismatch = Err(SendError::LengthMismatch { due: 3 });
    assert_eq!(endpoint.send(b"xx"), mismatch);
    assert_eq!(endpoint.send(b"xxxx"), mismatch);
    assert_eq!(endpoint.send_chunk(b"x", Remaining::Bytes(3)), mismatch);
    assert_eq!(endpoint.send_chunk(b"x", Remaining::Unknown), Err(SendError::LengthNeeded));
    endpoint.send(b"cde").unwrap();
    assert_eq!(endpoint.transmit_all(), frame(b"abcde"));
}

#[test]
fn message_longer_than_max_chunk_is_rejected() {
    for (framing, max) in [(Framing::Raw, 64), (Framing::U32, 60)] {
        let mut endpoint = Endpoint::established(&framed(framing));
        assert_eq!(endpoint.session.split().1.max_chunk(), max);
        assert_eq!(endpoint.send(&[1; 65][..=max]), Err(SendError::TooLong { max }));
        endpoint.send(&[1; 64][..max]).unwrap();
        assert_eq!(
            endpoint.session.split().1.max_chunk(),
            max,
            "the value is that of an empty buffer"
        );
        assert_eq!(endpoint.send(&[1; 65][..=max]), Err(SendError::TooLong { max }));
        assert_eq!(endpoint.transmit_all().len(), 64);
        assert_eq!(endpoint.events(), [], "`TooLong` is not followed by `Writable`");
    }
}

#[test]
fn send_before_established_is_rejected() {
    let mut endpoint = Endpoint::server(&challenge(Digest::Sha256));
    assert_eq!(endpoint.send(b"early"), Err(SendError::NotEstablished));
    assert_eq!(endpoint.transmit_all(), [0x6e; 32]);
    let mut endpoint = Endpoint::server(&framed(Framing::Raw));
    assert_eq!(endpoint.send(b"early"), Err(SendError::NotEstablished));
    assert_eq!(endpoint.events(), [Event::Established]);
    endpoint.send(b"now").unwrap();
    assert_eq!(endpoint.transmit_all(), b"now");
}

#[test]
fn send_after_finish_or_abort_is_rejected() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.send(b"last").unwrap();
    endpoint.finish();
    assert_eq!(endpoint.send(b"more"), Err(SendError::Finished));
    assert_eq!(endpoint.send(b""), Err(SendError::Finished));
    endpoint.session.abort(CloseReason::Application, endpoint.now);
    assert_eq!(endpoint.send(b"more"), Err(SendError::Ended));
    let mut outbox = endpoint.session.split().1;
    assert_eq!(outbox.send_with(1, Remaining::End, |_| unreachable!()), Err(SendError::Ended));
    endpoint.finish();
    assert_eq!(endpoint.send(b"more"), Err(SendError::Ended));
    assert_eq!(endpoint.transmit_all(), b"last");
}

#[test]
fn full_is_followed_by_exactly_one_writable() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.send(&[1; 50]).unwrap();
    assert_eq!(endpoint.send(&[2; 20]), Err(SendError::Full));
    assert_eq!(endpoint.send(&[2; 20]), Err(SendError::Full));
    assert_eq!(endpoint.send(&[3; 7]), Err(SendError::Full));
    assert_eq!(endpoint.events(), []);
    let mut sent = endpoint.transmit(13);
    assert_eq!(endpoint.events(), [], "23 of 24 bytes are free");
    sent.extend(endpoint.transmit(1));
    assert_eq!(endpoint.events(), [Event::Writable]);
    assert_eq!(endpoint.events(), []);
    endpoint.send(&[2; 20]).unwrap();
    sent.extend(endpoint.transmit_all());
    assert_eq!(sent, [frame(&[1; 50]), frame(&[2; 20])].concat());
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
}

#[test]
fn each_full_gets_its_own_writable() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.send(&[1; 64]).unwrap();
    for _ in 0..3 {
        assert_eq!(endpoint.send(&[2; 64]), Err(SendError::Full));
        assert_eq!(endpoint.transmit_all().len(), 64);
        assert_eq!(endpoint.events(), [Event::Writable]);
        endpoint.send(&[2; 64]).unwrap();
    }
}

#[test]
fn smaller_send_does_not_cancel_the_writable() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.send(&[1; 60]).unwrap();
    assert_eq!(endpoint.send(&[2; 5]), Err(SendError::Full));
    endpoint.send(&[3; 4]).unwrap();
    assert_eq!(endpoint.transmit_all().len(), 64);
    assert_eq!(endpoint.events(), [Event::Writable]);
}

#[test]
fn writable_is_emitted_after_finish() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.send(&[1; 64]).unwrap();
    assert_eq!(endpoint.send(&[2; 64]), Err(SendError::Full));
    endpoint.finish();
    assert_eq!(endpoint.transmit_all().len(), 64);
    // A relay may hold a chunk until it can send again.
    assert_eq!(endpoint.events(), [Event::Writable]);
    assert_eq!(endpoint.send(&[2; 64]), Err(SendError::Finished));
}

#[test]
fn outbox_abort_ends_the_session() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.send(b"queued").unwrap();
    let mut outbox = endpoint.session.split().1;
    outbox.abort(CloseReason::Application);
    outbox.abort(CloseReason::Protocol);
    assert_eq!(endpoint.error(), Error::Aborted(CloseReason::Application));
    assert_eq!(endpoint.transmit_all(), b"queued");
    assert!(endpoint.session.is_done());
}

#[test]
fn chunk_is_written_in_place_over_zeros() {
    for framing in [Framing::Raw, Framing::U32] {
        let mut endpoint = Endpoint::established(&framed(framing));
        endpoint.send(b"another's secret").unwrap();
        endpoint.transmit_all();
        let mut outbox = endpoint.session.split().1;
        let fill = |space: &mut [u8]| {
            assert_eq!(space, [0; 16]);
            space[..3].copy_from_slice(b"own");
        };
        outbox.send_with(16, Remaining::End, fill).unwrap();
        let chunk = b"own\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let expected = if framing == Framing::Raw { chunk.to_vec() } else { frame(chunk) };
        assert_eq!(endpoint.transmit_all(), expected);
    }
}

#[test]
fn chunk_without_room_is_not_written() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.send(&[1; 50]).unwrap();
    let mut outbox = endpoint.session.split().1;
    for (len, remaining, error) in [
        (20, Remaining::End, SendError::Full),
        (61, Remaining::End, SendError::TooLong { max: 60 }),
        (1, Remaining::More, SendError::LengthNeeded),
    ] {
        assert_eq!(outbox.send_with(len, remaining, |_| unreachable!()), Err(error));
    }
    assert_eq!(endpoint.transmit_all(), frame(&[1; 50]));
}

#[test]
fn send_buffer_is_fully_used_at_every_offset() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    let (mut expected, mut sent) = (Vec::new(), Vec::new());
    for n in 0..200_u8 {
        expected.extend([n; 24]);
        endpoint.send(&[n; 24]).unwrap();
        if n > 0 {
            sent.extend(endpoint.transmit(24));
        }
    }
    sent.extend(endpoint.transmit_all());
    assert_eq!(sent, expected);
}

#[test]
fn handle_transmitted_is_capped_at_pending_bytes() {
    let mut endpoint = Endpoint::server(&challenge(Digest::Sha256));
    assert_eq!(endpoint.session.poll_transmit(endpoint.now).len(), 32);
    endpoint.session.handle_transmitted(usize::MAX, endpoint.now);
    assert!(!endpoint.session.wants_write());

    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.session.handle_transmitted(usize::MAX, endpoint.now);
    endpoint.send(b"abc").unwrap();
    assert_eq!(endpoint.session.poll_transmit(endpoint.now), b"abc");
    endpoint.session.handle_transmitted(usize::MAX, endpoint.now);
    assert!(!endpoint.session.wants_write());
    endpoint.send(b"def").unwrap();
    assert_eq!(endpoint.transmit_all(), b"def");
}

#[test]
fn untransmitted_bytes_are_offered_again() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.send(b"abc").unwrap();
    assert_eq!(endpoint.session.poll_transmit(endpoint.now), b"abc");
    endpoint.session.handle_transmitted(0, endpoint.now);
    assert_eq!(endpoint.session.poll_transmit(endpoint.now), b"abc");
    assert_eq!(endpoint.transmit(2), b"ab");
    endpoint.send(b"d").unwrap();
    assert_eq!(endpoint.session.poll_transmit(endpoint.now), b"cd");
}
