//! Messages from chunks, without a connection.

#![cfg(test)]

#[path = "support/pair.rs"]
mod pair;

use std::cell::Cell;
use std::rc::Rc;

use countersign::Remaining;
use countersign_driver::{BufferError, Chunk, Reassembler, SliceBuffer};
use pair::Budgeted;

fn chunk(bytes: &[u8], remaining: Remaining) -> Chunk<'_> {
    Chunk { bytes, first: true, remaining }
}

#[test]
fn chunks_are_put_together() {
    let mut reassembler = Reassembler::new(Budgeted::alone(10));
    assert!(reassembler.is_empty());
    for [first, second] in
        [[Remaining::More, Remaining::More], [Remaining::Bytes(5), Remaining::Bytes(3)]]
    {
        assert_eq!(reassembler.push(chunk(b"abc", first)), Ok(false));
        assert_eq!(reassembler.push(chunk(b"de", second)), Ok(false));
        assert_eq!((reassembler.bytes(), reassembler.is_complete()), (&b"abcde"[..], false));
        assert_eq!(reassembler.push(chunk(b"fgh", Remaining::End)), Ok(true));
        assert_eq!((reassembler.bytes(), reassembler.is_complete()), (&b"abcdefgh"[..], true));
    }
}

#[test]
fn complete_message_is_dropped_by_the_next_chunk() {
    let mut memory = [0; 8];
    let mut reassembler = Reassembler::new(SliceBuffer::new(&mut memory));
    assert_eq!(reassembler.push(chunk(b"first", Remaining::End)), Ok(true));
    assert_eq!(reassembler.push(chunk(b"", Remaining::End)), Ok(true));
    assert_eq!(reassembler.bytes(), b"");
    // An empty message is a message.
    assert!(reassembler.is_complete() && !reassembler.is_empty());
    assert_eq!(reassembler.push(chunk(b"four", Remaining::More)), Ok(false));
    assert!(!reassembler.is_complete());
    assert_eq!(reassembler.push(chunk(b"th", Remaining::End)), Ok(true));
    assert_eq!(reassembler.bytes(), b"fourth");
}

#[test]
fn every_chunk_of_a_byte_stream_is_a_message() {
    let mut reassembler = Reassembler::new(Budgeted::alone(4));
    for bytes in [b"abc", b"def"] {
        assert_eq!(reassembler.push(chunk(bytes, Remaining::Unknown)), Ok(true));
        assert_eq!(reassembler.bytes(), bytes);
    }
}

#[test]
fn announced_length_is_checked_at_the_first_chunk() {
    let mut reassembler = Reassembler::new(Budgeted::alone(10));
    for more in [8, u64::MAX] {
        let pushed = reassembler.push(chunk(b"abc", Remaining::Bytes(more)));
        assert_eq!(pushed, Err(BufferError::TooLong { max: 10 }));
        assert!(reassembler.is_empty());
    }
    assert_eq!(reassembler.push(chunk(b"abc", Remaining::Bytes(7))), Ok(false));
}

#[test]
fn unannounced_length_is_checked_at_each_chunk() {
    let mut reassembler = Reassembler::new(Budgeted::alone(5));
    assert_eq!(reassembler.push(chunk(b"abc", Remaining::More)), Ok(false));
    let pushed = reassembler.push(chunk(b"def", Remaining::More));
    assert_eq!(pushed, Err(BufferError::TooLong { max: 5 }));
    // What had arrived stays at hand.
    assert_eq!(reassembler.bytes(), b"abc");
    assert_eq!(reassembler.push(chunk(b"de", Remaining::End)), Ok(true));
}

#[test]
fn exhausted_memory_takes_no_part_of_a_message() {
    let budget = Rc::new(Cell::new(5));
    let mut reassembler = Reassembler::new(Budgeted::new(100, &budget));
    let pushed = reassembler.push(chunk(b"abc", Remaining::Bytes(7)));
    assert_eq!((pushed, budget.get()), (Err(BufferError::Exhausted), 5));
    assert_eq!(reassembler.push(chunk(b"abc", Remaining::More)), Ok(false));
    assert_eq!(budget.get(), 2);
    reassembler.clear();
    assert!(reassembler.is_empty() && budget.get() == 5);
}

#[test]
fn dropped_front_leaves_the_end_of_the_message() {
    let mut reassembler = Reassembler::new(Budgeted::alone(10));
    reassembler.push(chunk(b"abcdef", Remaining::End)).unwrap();
    reassembler.drop_front(4);
    assert_eq!((reassembler.bytes(), reassembler.is_complete()), (&b"ef"[..], true));
    reassembler.drop_front(2);
    assert!(reassembler.is_empty() && !reassembler.is_complete());
}

#[test]
fn slice_buffer_is_bounded_by_its_memory() {
    let mut memory = [9; 4];
    let mut reassembler = Reassembler::new(SliceBuffer::new(&mut memory));
    assert_eq!(reassembler.max_len(), 4);
    assert_eq!(reassembler.push(chunk(b"abcd", Remaining::More)), Ok(false));
    let pushed = reassembler.push(chunk(b"e", Remaining::End));
    assert_eq!(pushed, Err(BufferError::TooLong { max: 4 }));
    reassembler.drop_front(1);
    assert_eq!(reassembler.push(chunk(b"e", Remaining::End)), Ok(true));
    assert_eq!(reassembler.bytes(), b"bcde");
}

#[test]
fn chunk_is_whole_if_it_is_the_message_and_not_too_long() {
    let mut memory = [0; 4];
    let mut reassembler = Reassembler::new(SliceBuffer::new(&mut memory));
    assert!(reassembler.is_whole(&chunk(b"abcd", Remaining::End)));
    assert!(!reassembler.is_whole(&chunk(b"abcde", Remaining::End)));
    assert!(!reassembler.is_whole(&chunk(b"ab", Remaining::Bytes(2))));
    assert!(!reassembler.is_whole(&chunk(b"ab", Remaining::More)));
    // A piece of a byte stream.
    assert!(reassembler.is_whole(&chunk(b"abcde", Remaining::Unknown)));
    reassembler.push(chunk(b"ab", Remaining::More)).unwrap();
    assert!(!reassembler.is_whole(&chunk(b"cd", Remaining::End)));
}
