//! Messages through a `SendQueue`, an outbox, and a `Reassembler` at the other end.

#![cfg(test)]

#[path = "support/pair.rs"]
mod pair;

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use countersign::{CloseReason, SendError};
use countersign_driver::{MessageBuffer, QueueError, Reassembler, SendQueue};
use pair::{Budgeted, Framed, Side, at, established, established_with, fill};

const BUFFER: usize = 512;
const OVERHEAD: usize = SendQueue::<Budgeted>::OVERHEAD;

fn message(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|n| (seed * 31 + n * 7) as u8).collect()
}

/// Receives what has arrived; returns the messages that are complete.
fn receive(side: &mut Side, reassembler: &mut Reassembler<Budgeted>) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    loop {
        side.settle(at(0));
        let Some(chunk) = side.driver.chunk() else { return messages };
        if reassembler.push(chunk).unwrap() {
            messages.push(reassembler.bytes().to_vec());
        }
        side.driver.consume(at(0));
    }
}

/// Moves everything from `queue` to the other end.
fn transfer<B: MessageBuffer>(
    sender: &mut Side,
    queue: &mut SendQueue<B>,
    receiver: &mut Side,
) -> Vec<Vec<u8>> {
    let mut reassembler = Reassembler::new(Budgeted::alone(1 << 20));
    let mut messages = Vec::new();
    for _ in 0..10_000 {
        let moved = queue.flush(&mut sender.outbox()).unwrap();
        sender.settle(at(0));
        let received = receive(receiver, &mut reassembler);
        if !moved && received.is_empty() && queue.is_empty() {
            assert!(reassembler.is_empty() || reassembler.is_complete());
            return messages;
        }
        messages.extend(received);
    }
    panic!("endless");
}

#[test]
fn message_that_fits_the_outbox_is_not_queued() {
    let (mut client, mut server) = established(Framed::Announced, BUFFER);
    // No memory at all.
    let mut queue = SendQueue::new(Budgeted::alone(OVERHEAD));
    let longest = client.outbox().max_chunk();
    queue.send(&message(1, longest), &mut client.outbox()).unwrap();
    assert!(queue.is_empty());
    assert_eq!(transfer(&mut client, &mut queue, &mut server), [message(1, longest)]);
    queue.send(b"", &mut client.outbox()).unwrap();
    assert_eq!(transfer(&mut client, &mut queue, &mut server), [b""]);
}

#[test]
fn message_longer_than_the_queue_is_not_sent_in_part() {
    for framed in [Framed::Announced, Framed::Unannounced] {
        let (mut client, mut server) = established(framed, BUFFER);
        let mut queue = SendQueue::new(Budgeted::alone(2000 + OVERHEAD));
        assert_eq!(queue.max_len(), 2000);
        let sent = queue.send(&message(1, 2001), &mut client.outbox());
        assert_eq!(sent, Err(SendError::TooLong { max: 2000 }.into()));
        assert!(queue.is_empty());
        queue.send(&message(2, 2000), &mut client.outbox()).unwrap();
        assert!(!queue.is_empty());
        assert_eq!(transfer(&mut client, &mut queue, &mut server), [message(2, 2000)]);
    }
}

#[test]
fn message_without_room_in_the_queue_is_not_sent_in_part() {
    let (mut client, mut server) = established(Framed::Unannounced, BUFFER);
    let mut queue = SendQueue::new(Budgeted::alone(2000 + OVERHEAD));
    queue.send(&message(1, 2000), &mut client.outbox()).unwrap();
    let before = queue.len();
    for len in [2000, 1000] {
        let sent = queue.send(&message(2, len), &mut client.outbox());
        assert_eq!((sent, queue.len()), (Err(SendError::Full.into()), before));
    }
    // A message that never fits has another error than one that does not fit now.
    let sent = queue.send(&message(2, 2001), &mut client.outbox());
    assert_eq!((sent, queue.len()), (Err(SendError::TooLong { max: 2000 }.into()), before));
    queue.send(&message(3, 100), &mut client.outbox()).unwrap();
    let expected = [message(1, 2000), message(3, 100)];
    assert_eq!(transfer(&mut client, &mut queue, &mut server), expected);
}

#[test]
fn exhausted_memory_refuses_before_the_first_chunk() {
    let budget = Rc::new(Cell::new(1000));
    let (mut client, mut server) = established(Framed::Unannounced, BUFFER);
    let mut queue = SendQueue::new(Budgeted::new(4000, &budget));
    let sent = queue.send(&message(1, 2000), &mut client.outbox());
    assert_eq!((sent, queue.len()), (Err(QueueError::MemoryExhausted), 0));
    // One chunk needs no memory while the outbox has room, and memory after that.
    queue.send(&message(2, 400), &mut client.outbox()).unwrap();
    budget.set(0);
    fill(&mut client.outbox());
    assert_eq!(queue.send(&message(3, 1), &mut client.outbox()), Err(QueueError::MemoryExhausted));
    let received = transfer(&mut client, &mut queue, &mut server);
    assert_eq!(received[0], message(2, 400));
    assert!(received[1..].iter().all(|it| it == b"x"));
}

#[test]
fn queued_messages_keep_their_order() {
    let (mut client, mut server) = established(Framed::Announced, BUFFER);
    let mut queue = SendQueue::new(Budgeted::alone(1 << 16));
    let filled = fill(&mut client.outbox());
    let lens = [0, 1, 700, 0, 3000, 508, 1];
    let mut expected = vec![b"x".to_vec(); filled];
    for (seed, len) in lens.into_iter().enumerate() {
        queue.send(&message(seed, len), &mut client.outbox()).unwrap();
        // Also when the outbox has room again: earlier messages are queued.
        client.settle(at(0));
        expected.push(message(seed, len));
    }
    assert_eq!(queue.len(), lens.iter().map(|len| len + OVERHEAD).sum::<usize>());
    assert_eq!(transfer(&mut client, &mut queue, &mut server), expected);
}

#[test]
fn empty_queue_releases_its_memory() {
    let budget = Rc::new(Cell::new(5000));
    let (mut client, mut server) = established(Framed::Announced, BUFFER);
    let mut queue = SendQueue::new(Budgeted::new(5000, &budget));
    queue.send(&message(1, 4000), &mut client.outbox()).unwrap();
    assert!(budget.get() < 1000);
    assert_eq!(transfer(&mut client, &mut queue, &mut server).len(), 1);
    assert_eq!(budget.get(), 5000);
    queue.send(&message(1, 4000), &mut client.outbox()).unwrap();
    queue.clear();
    assert!(queue.is_empty() && budget.get() == 5000);
}

#[test]
fn message_whose_chunks_all_fit_releases_its_memory() {
    let budget = Rc::new(Cell::new(5000));
    // The server's buffer limits the chunks, and the client's holds several of them.
    let (mut client, mut server) = established_with(Framed::Unannounced, 4096, BUFFER);
    assert!(client.outbox().max_chunk() < 1000);
    let mut queue = SendQueue::new(Budgeted::new(5000, &budget));
    queue.send(&message(1, 2000), &mut client.outbox()).unwrap();
    assert!(queue.is_empty() && budget.get() == 5000);
    assert_eq!(transfer(&mut client, &mut queue, &mut server), [message(1, 2000)]);
}

#[test]
fn flush_reports_whether_anything_was_handed_over() {
    let (mut client, _server) = established(Framed::Announced, BUFFER);
    let mut queue = SendQueue::new(Budgeted::alone(1 << 16));
    assert_eq!(queue.flush(&mut client.outbox()), Ok(false));
    queue.send(&message(1, 3000), &mut client.outbox()).unwrap();
    let len = queue.len();
    assert_eq!(queue.flush(&mut client.outbox()), Ok(false));
    client.settle(at(0));
    // A part of the first message: the queue is as long as before.
    assert_eq!((queue.flush(&mut client.outbox()), queue.len()), (Ok(true), len));
    assert_eq!(queue.flush(&mut client.outbox()), Ok(false));
}

#[test]
fn ended_outbox_clears_the_queue() {
    let (mut client, _server) = established(Framed::Announced, BUFFER);
    let mut queue = SendQueue::new(Budgeted::alone(1 << 16));
    queue.send(&message(1, 4000), &mut client.outbox()).unwrap();
    client.outbox().abort(CloseReason::Application);
    client.settle(at(0));
    assert_eq!(queue.flush(&mut client.outbox()), Err(SendError::Ended));
    assert!(queue.is_empty());
    assert_eq!(queue.flush(&mut client.outbox()), Ok(false));
    assert_eq!(queue.send(&message(1, 4000), &mut client.outbox()), Err(SendError::Ended.into()));
    assert!(queue.is_empty());
}

/// xorshift64*.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }
}

/// Sends random messages at random times through random buffers, pipes and budgets, and checks that the
/// other end receives exactly those that were accepted.
fn run(seed: u64) {
    let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let framed = if rng.below(2) == 0 { Framed::Announced } else { Framed::Unannounced };
    let (mut client, mut server) = established(framed, 300 + rng.below(2000));
    let budget = Rc::new(Cell::new(1 + rng.below(20_000)));
    let total = budget.get();
    let mut queue = SendQueue::new(Budgeted::new(rng.below(12_000), &budget));
    let mut reassembler = Reassembler::new(Budgeted::alone(1 << 16));
    let (mut expected, mut received) = (VecDeque::new(), 0);
    let (mut accepted, mut refused) = (0, 0);
    let mut check = |messages: Vec<Vec<u8>>, expected: &mut VecDeque<Vec<u8>>| {
        for message in messages {
            assert!(Some(message) == expected.pop_front(), "seed {seed}: message {received}");
            received += 1;
        }
    };
    for number in 0..60 {
        client.io.output.borrow_mut().capacity = rng.below(3000);
        for _ in 0..rng.below(4) {
            let len = [0, 1, 50, 1000, 9000][rng.below(5)];
            let message = message(number, rng.below(len + 1));
            let before = queue.len();
            match queue.send(&message, &mut client.outbox()) {
                Ok(()) => {
                    accepted += 1;
                    expected.push_back(message);
                }
                Err(
                    QueueError::MemoryExhausted
                    | QueueError::Send(SendError::Full | SendError::TooLong { .. }),
                ) => {
                    refused += 1;
                    assert_eq!(queue.len(), before, "seed {seed}: left in the queue");
                }
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        if rng.below(3) > 0 {
            client.settle(at(0));
        }
        if rng.below(3) > 0 {
            check(receive(&mut server, &mut reassembler), &mut expected);
        }
        if rng.below(3) > 0 {
            queue.flush(&mut client.outbox()).unwrap();
        }
    }
    client.io.output.borrow_mut().capacity = usize::MAX;
    let mut polls = 0;
    while !(queue.is_empty() && expected.is_empty()) {
        queue.flush(&mut client.outbox()).unwrap();
        client.settle(at(0));
        check(receive(&mut server, &mut reassembler), &mut expected);
        polls += 1;
        assert!(polls < 10_000, "seed {seed}: {} messages are missing", expected.len());
    }
    assert!(accepted > 0, "seed {seed}: {refused} refused");
    assert_eq!(budget.get(), total, "seed {seed}: memory is not released");
}

#[test]
fn random_messages_arrive_exactly_as_accepted() {
    for seed in 0..500 {
        run(seed);
    }
}
