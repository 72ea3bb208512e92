use super::*;

/// What was delivered of the messages: each part with its event.
fn delivered(end: &mut End) -> Vec<(Event, Vec<u8>)> {
    let mut chunks = Vec::new();
    while let Some(event) = end.poll().unwrap() {
        chunks.push((event, end.chunk().to_vec()));
        end.consume();
    }
    chunks
}

#[test]
fn a_frame_cut_off_at_any_byte_is_truncated() {
    let bytes = frame(b"some message");
    for len in 1..bytes.len() {
        let mut end = End::open(&framed(Framing::U32));
        end.feed(&bytes[..len]);
        end.eof();
        assert_eq!(end.error(), Error::Truncated(Truncated::Message), "at {len}");
        assert_eq!(end.chunk(), b"");
    }
    let mut end = End::open(&framed(Framing::U32));
    end.feed(&bytes);
    end.eof();
    assert_eq!(end.events(), [whole()]);
}

#[test]
fn a_long_frame_cut_off_between_its_parts_is_truncated() {
    let mut end = End::open(&framed(Framing::U32));
    end.feed(&frame(&[7; 61])[..64]);
    end.eof();
    assert_eq!(end.events(), [Event::Chunk { first: true, remaining: Remaining::Bytes(1) }]);
    end.consume();
    assert_eq!(end.error(), Error::Truncated(Truncated::Message));
}

#[test]
fn a_frame_longer_than_the_buffer_comes_in_equal_parts_that_can_be_echoed() {
    let body: Vec<u8> = (0..=255).collect();
    for (receive, send, max) in [(64, 64, 60), (100, 64, 60), (64, 100, 60), (77, 80, 73)] {
        let mut end = End::new(&framed(Framing::U32), Role::Server, receive, send);
        assert_eq!(end.events(), [Event::Established]);
        let bytes = frame(&body);
        let (mut read, mut due, mut echoed) = (0, body.len(), Vec::new());
        while due > 0 {
            let n = end.offer(&bytes[read..]);
            assert!(n > 0, "{due} bytes are due and not wanted");
            read += n;
            while let Some(event) = end.poll().unwrap() {
                let len = due.min(max);
                let first = due == body.len();
                due -= len;
                let remaining =
                    if due == 0 { Remaining::End } else { Remaining::Bytes(due as u64) };
                assert_eq!(event, Event::Chunk { first, remaining });
                let (chunk, mut outbox) = end.session.split();
                assert_eq!(chunk.len(), len);
                assert!(outbox.max_chunk() >= len);
                outbox.send_chunk(chunk, remaining).unwrap();
                end.consume();
                echoed.extend(end.sent());
            }
        }
        assert_eq!(echoed, bytes);
    }
}

#[test]
fn one_byte_at_a_time_delivers_the_same_as_all_at_once() {
    let bytes = [frame(b""), frame(b"abc"), frame(&[9; 200]), frame(b""), frame(&[3; 60])].concat();
    let mut all = End::open(&framed(Framing::U32));
    let (mut expected, mut read) = (Vec::new(), 0);
    while read < bytes.len() {
        let n = all.offer(&bytes[read..]);
        assert!(n > 0, "the bytes from {read} on are not wanted");
        read += n;
        expected.extend(delivered(&mut all));
    }
    assert_eq!(expected.len(), 1 + 1 + 4 + 1 + 1);
    let mut bytewise = End::open(&framed(Framing::U32));
    let mut chunks = Vec::new();
    for &byte in &bytes {
        assert_eq!(bytewise.offer(&[byte]), 1);
        chunks.extend(delivered(&mut bytewise));
    }
    assert_eq!(chunks, expected);
}

#[test]
fn a_frame_over_the_limit_is_refused_from_its_header_alone() {
    let config = framed(Framing::U32).with_max_frame(100);
    for len in [101_u32, 0x0001_0000, u32::MAX] {
        let mut end = End::open(&config);
        let header = len.to_be_bytes();
        end.feed(&header[..3]);
        assert_eq!(end.events(), []);
        end.feed(&header[3..]);
        assert_eq!(end.error(), Error::FrameTooLong { len: len.into() });
        assert_eq!(end.pools.held(), (0, 0, 0));
    }
    let mut end = End::open(&config);
    end.feed(&frame(&[1; 100])[..64]);
    assert_eq!(end.events(), [Event::Chunk { first: true, remaining: Remaining::Bytes(40) }]);
}

#[test]
fn empty_messages_are_messages() {
    let mut end = End::open(&framed(Framing::U32));
    end.feed(&[frame(b""), frame(b""), frame(b"a")].concat());
    let expected = [(whole(), Vec::new()), (whole(), Vec::new()), (whole(), Vec::from(&b"a"[..]))];
    assert_eq!(delivered(&mut end), expected);
}

#[test]
fn every_raw_read_is_a_part_of_one_message_without_an_end() {
    let mut end = End::open(&framed(Framing::Raw));
    for (read, first) in [(&b"some"[..], true), (b" bytes", false)] {
        end.feed(read);
        let message = Event::Chunk { first, remaining: Remaining::Unknown };
        assert_eq!(delivered(&mut end), [(message, read.to_vec())]);
    }
}

#[test]
fn no_part_is_longer_than_can_be_sent_on() {
    for framing in [Framing::Raw, Framing::U32] {
        let mut end = End::new(&framed(framing), Role::Server, 512, 64);
        assert_eq!(end.events(), [Event::Established]);
        end.feed(&frame(&[5; 300]));
        let max = end.session.split().1.max_chunk();
        let chunks = delivered(&mut end);
        assert!(chunks.iter().all(|(_, chunk)| chunk.len() <= max));
        assert!(chunks.len() >= 5);
    }
}

#[test]
fn a_part_stays_until_it_is_consumed() {
    let mut end = End::open(&framed(Framing::U32));
    end.feed(&frame(b"one"));
    assert_eq!(end.events(), [whole()]);
    end.feed(&frame(b"two"));
    for _ in 0..3 {
        assert_eq!(end.events(), [], "no other message meanwhile");
        assert_eq!(end.chunk(), b"one");
    }
    end.consume();
    assert_eq!(end.chunk(), b"");
    assert_eq!(end.events(), [whole()]);
    assert_eq!(end.chunk(), b"two");
}

#[test]
fn room_may_be_announced_while_a_part_is_at_hand() {
    let mut end = End::open(&framed(Framing::U32));
    end.send(&[1; 60]).unwrap();
    end.feed(&frame(b"question"));
    assert_eq!(end.events(), [whole()]);
    assert_eq!(end.send(b"answer"), Err(SendError::Full));
    assert_eq!(end.events(), []);
    assert_eq!(end.sent().len(), 64);
    assert_eq!(end.events(), [Event::Writable]);
    assert_eq!(end.chunk(), b"question");
    end.send(b"answer").unwrap();
    end.consume();
    assert_eq!(end.events(), []);
}

#[test]
fn consuming_nothing_changes_nothing() {
    let mut end = End::open(&framed(Framing::U32));
    end.consume();
    end.feed(&frame(b"one")[..5]);
    end.consume();
    end.feed(&frame(b"one")[5..]);
    end.consume();
    assert_eq!(end.events(), [whole()]);
    assert_eq!(end.chunk(), b"one");
    end.consume();
    end.consume();
    assert_eq!(end.events(), []);
}

#[test]
fn bytes_have_no_effect_before_events_are_polled() {
    let mut end = End::open(&framed(Framing::U32).with_max_frame(1));
    end.feed(&frame(b"too long"));
    assert_eq!(end.chunk(), b"");
    assert!(!end.session.is_done() && end.session.wants_read());
    assert_eq!(end.error(), Error::FrameTooLong { len: 8 });
}

#[test]
fn a_read_of_nothing_changes_nothing() {
    let bytes = frame(b"message");
    for len in 0..bytes.len() {
        let mut end = End::open(&framed(Framing::U32));
        end.feed(&bytes[..len]);
        assert_eq!(end.events(), []);
        end.session.recv_space();
        end.session.handle_received(0, end.now);
        end.session.handle_received(0, end.now);
        assert_eq!(end.events(), []);
        end.feed(&bytes[len..]);
        assert_eq!(end.events(), [whole()], "cut at {len}");
        end.session.handle_received(0, end.now);
        assert_eq!(end.chunk(), b"message");
    }
}

#[test]
fn more_than_was_offered_counts_as_what_was_offered() {
    let mut end = End::open(&framed(Framing::Raw));
    let space = end.session.recv_space();
    let offered = space.len();
    space.fill(b'x');
    end.session.handle_received(usize::MAX, end.now);
    end.session.handle_received(usize::MAX, end.now);
    assert_eq!(end.events(), [Event::Chunk { first: true, remaining: Remaining::Unknown }]);
    assert_eq!(end.chunk(), vec![b'x'; offered]);
    end.consume();
    end.session.handle_received(7, end.now);
    assert_eq!(end.events(), []);
}

#[test]
fn a_full_receive_side_stops_reading() {
    let mut end = End::open(&framed(Framing::Raw));
    end.feed(&[1; 64]);
    assert_eq!(end.events().len(), 1);
    assert!(!end.session.wants_read());
    assert_eq!(end.offer(b"more"), 0);
    end.consume();
    assert!(end.session.wants_read());
    assert_eq!(end.offer(b"more"), 4);
}

#[test]
fn what_follows_a_part_is_read_while_it_is_at_hand() {
    let mut end = End::open(&framed(Framing::U32));
    end.feed(&frame(&[1; 10]));
    assert_eq!(end.events(), [whole()]);
    let next = frame(&[2; 56]);
    let read = end.offer(&next);
    assert_eq!(read, 64 - 14);
    assert_eq!(end.chunk(), [1; 10]);
    end.consume();
    assert_eq!(end.events(), []);
    end.feed(&next[read..]);
    assert_eq!(end.events(), [whole()]);
    assert_eq!(end.chunk(), [2; 56]);
}

#[test]
fn of_a_long_part_no_more_is_read_than_is_missing() {
    let mut end = End::new(&framed(Framing::U32), Role::Server, 100, 64);
    assert_eq!(end.events(), [Event::Established]);
    let bytes = frame(&[7; 200]);
    end.feed(&bytes[..30]);
    assert_eq!(end.events(), []);
    assert_eq!(end.offer(&bytes[30..]), 34);
    assert_eq!(end.events(), [Event::Chunk { first: true, remaining: Remaining::Bytes(140) }]);
}
