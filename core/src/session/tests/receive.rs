//! Received messages: chunks, limits, and reads of any size.

use super::*;

#[test]
fn frame_cut_off_at_any_byte_is_truncated() {
    let bytes = frame(b"some message");
    for len in 1..bytes.len() {
        let mut endpoint = Endpoint::established(&framed(Framing::U32));
        endpoint.feed(&bytes[..len]);
        endpoint.eof();
        assert_eq!(endpoint.error(), Error::Truncated(Truncated::Message), "at {len}");
        assert_eq!(endpoint.chunk(), b"");
    }
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.feed(&bytes);
    endpoint.eof();
    assert_eq!(endpoint.events(), [whole_message()]);
}

#[test]
fn frame_cut_off_between_chunks_is_truncated() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.feed(&frame(&[7; 61])[..64]);
    endpoint.eof();
    assert_eq!(endpoint.events(), [Event::Chunk { first: true, remaining: Remaining::Bytes(1) }]);
    endpoint.consume();
    assert_eq!(endpoint.error(), Error::Truncated(Truncated::Message));
}

#[test]
fn long_frame_is_delivered_in_equal_echoable_chunks() {
    let body: Vec<u8> = (0..=255).collect();
    for (receive, send, max) in [(64, 64, 60), (100, 64, 60), (64, 100, 60), (77, 80, 73)] {
        let mut endpoint = Endpoint::new(&framed(Framing::U32), Role::Server, receive, send);
        assert_eq!(endpoint.events(), [Event::Established]);
        let bytes = frame(&body);
        let (mut read, mut due, mut echoed) = (0, body.len(), Vec::new());
        while due > 0 {
            let n = endpoint.offer(&bytes[read..]);
            assert!(n > 0, "the session does not read {due} missing bytes");
            read += n;
            while let Some(event) = endpoint.poll().unwrap() {
                let len = due.min(max);
                let first = due == body.len();
                due -= len;
                let remaining =
                    if due == 0 { Remaining::End } else { Remaining::Bytes(due as u64) };
                assert_eq!(event, Event::Chunk { first, remaining });
                let (chunk, mut outbox) = endpoint.session.split();
                assert_eq!(chunk.len(), len);
                assert!(outbox.max_chunk() >= len);
                outbox.send_chunk(chunk, remaining).unwrap();
                endpoint.consume();
                echoed.extend(endpoint.transmit_all());
            }
        }
        assert_eq!(echoed, bytes);
    }
}

#[test]
fn bytewise_delivery_equals_bulk_delivery() {
    let bytes = [frame(b""), frame(b"abc"), frame(&[9; 200]), frame(b""), frame(&[3; 60])].concat();
    let mut bulk = Endpoint::established(&framed(Framing::U32));
    let (mut expected, mut read) = (Vec::new(), 0);
    while read < bytes.len() {
        let n = bulk.offer(&bytes[read..]);
        assert!(n > 0, "the session does not read the bytes from {read} on");
        read += n;
        expected.extend(bulk.drain_chunks());
    }
    assert_eq!(expected.len(), 1 + 1 + 4 + 1 + 1);
    let mut bytewise = Endpoint::established(&framed(Framing::U32));
    let mut chunks = Vec::new();
    for &byte in &bytes {
        assert_eq!(bytewise.offer(&[byte]), 1);
        chunks.extend(bytewise.drain_chunks());
    }
    assert_eq!(chunks, expected);
}

#[test]
fn frame_over_max_frame_is_rejected_at_its_header() {
    let config = framed(Framing::U32).with_max_frame(100);
    for len in [101_u32, 0x0001_0000, u32::MAX] {
        let mut endpoint = Endpoint::established(&config);
        let header = len.to_be_bytes();
        endpoint.feed(&header[..3]);
        assert_eq!(endpoint.events(), []);
        endpoint.feed(&header[3..]);
        assert_eq!(endpoint.error(), Error::FrameTooLong { len: len.into() });
        assert_eq!(endpoint.pools.held(), (0, 0, 0));
    }
    let mut endpoint = Endpoint::established(&config);
    endpoint.feed(&frame(&[1; 100])[..64]);
    assert_eq!(endpoint.events(), [Event::Chunk { first: true, remaining: Remaining::Bytes(40) }]);
}

#[test]
fn empty_messages_are_delivered() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.feed(&[frame(b""), frame(b""), frame(b"a")].concat());
    let expected = [
        (whole_message(), Vec::new()),
        (whole_message(), Vec::new()),
        (whole_message(), Vec::from(&b"a"[..])),
    ];
    assert_eq!(endpoint.drain_chunks(), expected);
}

#[test]
fn raw_reads_are_chunks_of_one_endless_message() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    for (read, first) in [(&b"some"[..], true), (b" bytes", false)] {
        endpoint.feed(read);
        let message = Event::Chunk { first, remaining: Remaining::Unknown };
        assert_eq!(endpoint.drain_chunks(), [(message, read.to_vec())]);
    }
}

#[test]
fn received_chunks_never_exceed_the_send_max_chunk() {
    for framing in [Framing::Raw, Framing::U32] {
        let mut endpoint = Endpoint::new(&framed(framing), Role::Server, 512, 64);
        assert_eq!(endpoint.events(), [Event::Established]);
        endpoint.feed(&frame(&[5; 300]));
        let max = endpoint.session.split().1.max_chunk();
        let chunks = endpoint.drain_chunks();
        assert!(chunks.iter().all(|(_, chunk)| chunk.len() <= max));
        assert!(chunks.len() >= 5);
    }
}

#[test]
fn chunk_stays_until_it_is_consumed() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.feed(&frame(b"one"));
    assert_eq!(endpoint.events(), [whole_message()]);
    endpoint.feed(&frame(b"two"));
    for _ in 0..3 {
        assert_eq!(endpoint.events(), [], "the next message waits for `consume`");
        assert_eq!(endpoint.chunk(), b"one");
    }
    endpoint.consume();
    assert_eq!(endpoint.chunk(), b"");
    assert_eq!(endpoint.events(), [whole_message()]);
    assert_eq!(endpoint.chunk(), b"two");
}

#[test]
fn writable_may_arrive_while_a_chunk_is_pending() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.send(&[1; 60]).unwrap();
    endpoint.feed(&frame(b"question"));
    assert_eq!(endpoint.events(), [whole_message()]);
    assert_eq!(endpoint.send(b"answer"), Err(SendError::Full));
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.transmit_all().len(), 64);
    assert_eq!(endpoint.events(), [Event::Writable]);
    assert_eq!(endpoint.chunk(), b"question");
    endpoint.send(b"answer").unwrap();
    endpoint.consume();
    assert_eq!(endpoint.events(), []);
}

#[test]
fn consume_without_a_chunk_is_ignored() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.consume();
    endpoint.feed(&frame(b"one")[..5]);
    endpoint.consume();
    endpoint.feed(&frame(b"one")[5..]);
    endpoint.consume();
    assert_eq!(endpoint.events(), [whole_message()]);
    assert_eq!(endpoint.chunk(), b"one");
    endpoint.consume();
    endpoint.consume();
    assert_eq!(endpoint.events(), []);
}

#[test]
fn received_bytes_are_parsed_only_by_poll_event() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32).with_max_frame(1));
    endpoint.feed(&frame(b"too long"));
    assert_eq!(endpoint.chunk(), b"");
    assert!(!endpoint.session.is_done() && endpoint.session.wants_read());
    assert_eq!(endpoint.error(), Error::FrameTooLong { len: 8 });
}

#[test]
fn empty_read_changes_nothing() {
    let bytes = frame(b"message");
    for len in 0..bytes.len() {
        let mut endpoint = Endpoint::established(&framed(Framing::U32));
        endpoint.feed(&bytes[..len]);
        assert_eq!(endpoint.events(), []);
        endpoint.session.recv_space();
        endpoint.session.handle_received(0, endpoint.now);
        endpoint.session.handle_received(0, endpoint.now);
        assert_eq!(endpoint.events(), []);
        endpoint.feed(&bytes[len..]);
        assert_eq!(endpoint.events(), [whole_message()], "cut at {len}");
        endpoint.session.handle_received(0, endpoint.now);
        assert_eq!(endpoint.chunk(), b"message");
    }
}

#[test]
fn handle_received_is_capped_at_the_offered_space() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    let space = endpoint.session.recv_space();
    let offered = space.len();
    space.fill(b'x');
    endpoint.session.handle_received(usize::MAX, endpoint.now);
    endpoint.session.handle_received(usize::MAX, endpoint.now);
    assert_eq!(endpoint.events(), [Event::Chunk { first: true, remaining: Remaining::Unknown }]);
    assert_eq!(endpoint.chunk(), vec![b'x'; offered]);
    endpoint.consume();
    endpoint.session.handle_received(7, endpoint.now);
    assert_eq!(endpoint.events(), []);
}

#[test]
fn full_receive_buffer_stops_reading() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.feed(&[1; 64]);
    assert_eq!(endpoint.events().len(), 1);
    assert!(!endpoint.session.wants_read());
    assert_eq!(endpoint.offer(b"more"), 0);
    endpoint.consume();
    assert!(endpoint.session.wants_read());
    assert_eq!(endpoint.offer(b"more"), 4);
}

#[test]
fn next_frame_is_read_while_a_chunk_is_pending() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.feed(&frame(&[1; 10]));
    assert_eq!(endpoint.events(), [whole_message()]);
    let next = frame(&[2; 56]);
    let read = endpoint.offer(&next);
    assert_eq!(read, 64 - 14);
    assert_eq!(endpoint.chunk(), [1; 10]);
    endpoint.consume();
    assert_eq!(endpoint.events(), []);
    endpoint.feed(&next[read..]);
    assert_eq!(endpoint.events(), [whole_message()]);
    assert_eq!(endpoint.chunk(), [2; 56]);
}

#[test]
fn long_chunk_is_read_exactly_to_its_end() {
    let mut endpoint = Endpoint::new(&framed(Framing::U32), Role::Server, 100, 64);
    assert_eq!(endpoint.events(), [Event::Established]);
    let bytes = frame(&[7; 200]);
    endpoint.feed(&bytes[..30]);
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.offer(&bytes[30..]), 34);
    assert_eq!(endpoint.events(), [Event::Chunk { first: true, remaining: Remaining::Bytes(140) }]);
}
