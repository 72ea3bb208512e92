//! Services of whole messages.

#![cfg(test)]

#[path = "support/pair.rs"]
mod pair;

use std::cell::Cell;
use std::rc::Rc;

use countersign::{CloseReason, Error, Instant, Peer, Remaining, Role, SendError};
use countersign_driver::{
    Context, Driver, Interest, MessageService, Progress, QueueError, Service, ServiceConnection,
    ServiceError, StreamService,
};
use pair::{Broken, Budgeted, End, Framed, Protocol, Side, at, ends, key, session};

const BUFFER: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Open,
    Message(Vec<u8>),
    Writable,
    Wake,
    Finished,
    Closed(Result<(), Error>),
}

/// Records its calls and follows the instruction in each message.
#[derive(Default)]
struct Recorder {
    calls: Vec<Call>,
    /// Sends so many bytes when woken, then finishes.
    on_wake: Option<usize>,
    /// What sending returned.
    sent: Vec<Result<(), QueueError>>,
    /// How many bytes were queued after sending.
    queued: usize,
    /// Where messages began in memory.
    pointers: Vec<*const u8>,
    busy: bool,
}

impl Service for Recorder {
    fn on_open(&mut self, _: &Peer<'_>, _: &mut Context<'_>) -> Result<(), ServiceError> {
        self.calls.push(Call::Open);
        Ok(())
    }

    fn on_message(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), ServiceError> {
        self.calls.push(Call::Message(message.to_vec()));
        self.pointers.push(message.as_ptr());
        match message {
            b"abort" => return Err(CloseReason::Timeout.into()),
            b"finish" => cx.finish(),
            b"ignore" => {}
            _ => cx.send(message)?,
        }
        self.queued = cx.queued();
        Ok(())
    }

    fn on_writable(&mut self, _: &mut Context<'_>) -> Result<(), ServiceError> {
        self.calls.push(Call::Writable);
        Ok(())
    }

    fn on_wake(&mut self, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        self.calls.push(Call::Wake);
        if let Some(len) = self.on_wake {
            self.sent.push(cx.send(&vec![7; len]));
            cx.finish();
            self.sent.push(cx.send(b"late"));
        }
        Ok(())
    }

    fn on_finished(&mut self, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        self.calls.push(Call::Finished);
        cx.finish();
        Ok(())
    }

    fn is_idle(&self) -> bool {
        !self.busy
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        self.calls.push(Call::Closed(result));
    }
}

type Messages = MessageService<Recorder, Budgeted>;

/// A server with a service, and a client that the test drives.
struct Pair {
    server: ServiceConnection<Protocol, Messages, Broken>,
    io: End,
    client: Side,
    budget: Rc<Cell<usize>>,
}

impl Pair {
    /// `max` limits each message, `budget` the memory of all messages.
    fn new(framed: Framed, max: usize, budget: usize) -> Self {
        let budget = Rc::new(Cell::new(budget));
        let buffer = || Budgeted::new(max, &budget);
        let service = MessageService::new(Recorder::default(), buffer(), buffer());
        let (up, down) = ends();
        let server = ServiceConnection::new(session(Role::Server, framed, BUFFER), service);
        let driver = Driver::new(session(Role::Client, framed, BUFFER));
        let client = Side { driver, io: up };
        let mut pair = Self { server, io: down, client, budget };
        for _ in 0..5 {
            pair.poll();
            pair.client.settle(at(0));
        }
        assert_eq!(pair.take_calls(), [Call::Open]);
        pair
    }

    fn poll(&mut self) -> Interest {
        loop {
            match self.server.poll(&mut self.io, &key(), at(0)) {
                Progress::Wait(interest) => return interest,
                Progress::Closed(result) => panic!("closed: {result:?}"),
                Progress::Event(_) | Progress::Yield => {}
            }
        }
    }

    /// Sends a chunk as the client does, and polls the server.
    fn chunk(&mut self, bytes: &[u8], remaining: Remaining) {
        self.client.outbox().send_chunk(bytes, remaining).unwrap();
        self.client.settle(at(0));
        self.poll();
    }

    fn message(&mut self, bytes: &[u8]) {
        self.chunk(bytes, Remaining::End);
    }

    fn service(&self) -> &Recorder {
        self.server.service().get_ref()
    }

    fn take_calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.server.service_mut().get_mut().calls)
    }

    /// Everything that the client receives, as chunks put together.
    fn receive(&mut self) -> Vec<u8> {
        let mut received = Vec::new();
        for _ in 0..100 {
            self.client.settle(at(0));
            while let Some(chunk) = self.client.driver.chunk() {
                received.extend_from_slice(chunk.bytes);
                self.client.driver.consume(at(0));
                self.client.settle(at(0));
            }
            self.poll();
        }
        received
    }

    /// Blocks the server's output.
    fn block(&mut self) {
        self.io.output.borrow_mut().capacity = 0;
    }

    fn unblock(&mut self) {
        self.io.output.borrow_mut().capacity = usize::MAX;
    }
}

#[test]
fn message_in_one_chunk_is_not_copied() {
    let mut pair = Pair::new(Framed::Announced, 3, 0);
    pair.message(b"one");
    pair.message(b"two");
    let message = |text: &[u8]| Call::Message(text.to_vec());
    assert_eq!(pair.take_calls(), [message(b"one"), message(b"two")]);
    assert_eq!(pair.receive(), b"onetwo");
    // Both messages were in the receive buffer, not copied.
    let pointers = &pair.service().pointers;
    assert_eq!(pointers[0], pointers[1]);
}

#[test]
fn message_in_several_chunks_is_one_message() {
    for (framed, first, second) in [
        (Framed::Announced, Remaining::Bytes(608), Remaining::Bytes(100)),
        (Framed::Unannounced, Remaining::More, Remaining::More),
    ] {
        let mut pair = Pair::new(framed, 2000, 4000);
        // A chunk of an announced message arrives when it fills the receive buffer.
        let len = if framed == Framed::Announced { 508 } else { 400 };
        pair.chunk(&vec![1; len], first);
        pair.chunk(&vec![2; len], second);
        assert!(pair.take_calls().is_empty());
        assert!(!pair.server.service().is_idle());
        pair.chunk(&[3; 100], Remaining::End);
        let whole = [vec![1; len], vec![2; len], vec![3; 100]].concat();
        assert!(matches!(&pair.take_calls()[0], Call::Message(message) if *message == whole));
        assert!(pair.receive() == whole);
        // The memory is released.
        assert!(pair.server.service().is_idle() && pair.budget.get() == 4000);
    }
}

#[test]
fn message_that_is_too_long_ends_the_connection() {
    for (framed, chunks) in [
        // In one chunk; announced by the first of several; detected at the last of several.
        (Framed::Announced, &[(501, Remaining::End)][..]),
        (Framed::Announced, &[(508, Remaining::Bytes(1))]),
        (
            Framed::Unannounced,
            &[(200, Remaining::More), (200, Remaining::More), (101, Remaining::More)],
        ),
    ] {
        let mut pair = Pair::new(framed, 500, usize::MAX);
        for &(len, remaining) in chunks {
            assert!(pair.take_calls().is_empty());
            pair.chunk(&vec![1; len], remaining);
        }
        let aborted = Error::Aborted(CloseReason::Protocol);
        assert_eq!(pair.take_calls(), [Call::Closed(Err(aborted))]);
        assert_eq!(pair.server.driver().error(), Some(aborted));
        let error = pair.server.service().error();
        assert_eq!(error, Some(ServiceError::MessageTooLong { max: 500 }));
        pair.poll();
        assert_eq!(pair.take_calls(), []);
        assert_eq!(pair.budget.get(), usize::MAX);
    }
}

#[test]
fn reply_that_finds_no_memory_ends_as_overload() {
    let mut pair = Pair::new(Framed::Announced, 1000, 1000);
    pair.chunk(&[1; 500], Remaining::Bytes(484));
    pair.chunk(&[2; 484], Remaining::End);
    assert_eq!(pair.server.service().error(), Some(ServiceError::Overload));
}

#[test]
fn longest_message_is_accepted() {
    let mut pair = Pair::new(Framed::Announced, 1000, 2000);
    pair.chunk(&[1; 500], Remaining::Bytes(500));
    pair.chunk(&[2; 500], Remaining::End);
    // Its reply does not fit the queue, whose messages have a header.
    assert!(matches!(&pair.take_calls()[0], Call::Message(message) if message.len() == 1000));
    let too_long = SendError::TooLong { max: 984 };
    assert_eq!(pair.server.service().error(), Some(ServiceError::Send(too_long)));
}

#[test]
fn exhausted_memory_ends_the_connection() {
    let mut pair = Pair::new(Framed::Announced, 2000, 600);
    pair.chunk(&[1; 508], Remaining::Bytes(93));
    let aborted = Error::Aborted(CloseReason::Application);
    assert_eq!(pair.take_calls(), [Call::Closed(Err(aborted))]);
    assert_eq!(pair.server.service().error(), Some(ServiceError::Overload));
    assert_eq!(pair.budget.get(), 600);
}

#[test]
fn no_message_is_passed_on_while_the_reply_is_queued() {
    let mut pair = Pair::new(Framed::Announced, 4000, usize::MAX);
    pair.block();
    // Longer than the send buffer, so that its reply is queued.
    pair.client.io.output.borrow_mut().capacity = usize::MAX;
    pair.chunk(&[1; 500], Remaining::Bytes(500));
    pair.chunk(&[1; 500], Remaining::End);
    assert!(pair.take_calls() == [Call::Message(vec![1; 1000])]);
    assert!(pair.service().queued > 0 && !pair.server.service().is_idle());
    pair.message(b"next");
    pair.server.wake();
    pair.poll();
    assert_eq!(pair.take_calls(), [Call::Wake]);
    pair.unblock();
    pair.poll();
    // The service learns that there is room before it gets the next message.
    assert_eq!(pair.take_calls(), [Call::Writable, Call::Message(b"next".to_vec())]);
    assert!(pair.receive() == [&[1; 1000][..], b"next"].concat());
}

#[test]
fn chunks_are_read_while_the_reply_is_queued() {
    let mut pair = Pair::new(Framed::Announced, 4000, usize::MAX);
    pair.block();
    pair.chunk(&[1; 508], Remaining::Bytes(492));
    pair.chunk(&[1; 492], Remaining::End);
    // A peer that sends all of its next message before it reads does not stall before its last chunk.
    for left in [1524, 1016, 508] {
        pair.chunk(&[2; 508], Remaining::Bytes(left));
        assert!(pair.server.driver_mut().chunk().is_none());
    }
    pair.chunk(&[2; 508], Remaining::End);
    assert!(pair.server.driver_mut().chunk().is_some());
    assert_eq!(pair.take_calls().len(), 1);
    pair.unblock();
    pair.poll();
    let calls = pair.take_calls();
    assert!(calls[0] == Call::Writable && calls[1] == Call::Message(vec![2; 2032]));
    assert_eq!(pair.receive().len(), 3032);
}

#[test]
fn finish_follows_what_is_queued() {
    let mut pair = Pair::new(Framed::Unannounced, 4000, usize::MAX);
    pair.block();
    pair.server.service_mut().get_mut().on_wake = Some(2000);
    pair.server.wake();
    pair.poll();
    assert_eq!(pair.service().sent, [Ok(()), Err(SendError::Finished.into())]);
    pair.unblock();
    assert!(pair.receive() == [7; 2000]);
    pair.client.outbox().finish();
    let _ = pair.client.poll(at(0));
    let _ = pair.server.poll(&mut pair.io, &key(), at(0));
    assert_eq!(
        pair.take_calls(),
        [Call::Wake, Call::Writable, Call::Finished, Call::Closed(Ok(()))]
    );
}

#[test]
fn error_of_the_service_aborts_and_is_reported_once() {
    let mut pair = Pair::new(Framed::Unannounced, 1000, usize::MAX);
    pair.client.outbox().send(b"abort").unwrap();
    pair.message(b"next");
    let aborted = Error::Aborted(CloseReason::Timeout);
    let expected = [Call::Message(b"abort".to_vec()), Call::Closed(Err(aborted))];
    assert_eq!(pair.take_calls(), expected);
    let error = pair.server.service().error();
    assert_eq!(error, Some(ServiceError::Closed(CloseReason::Timeout)));
    pair.server.wake();
    pair.poll();
    assert_eq!(pair.take_calls(), []);
    let _ = pair.client.poll(at(0));
    let closed = Error::PeerClosed(CloseReason::Timeout);
    assert_eq!(pair.client.driver.error(), Some(closed));
}

#[test]
fn later_calls_are_dropped_after_an_error() {
    /// Fails when it opens.
    struct Fails(Rc<Cell<usize>>);

    impl Service for Fails {
        fn on_open(&mut self, _: &Peer<'_>, _: &mut Context<'_>) -> Result<(), ServiceError> {
            Err(CloseReason::Application.into())
        }

        fn on_message(&mut self, _: &[u8], _: &mut Context<'_>) -> Result<(), ServiceError> {
            self.0.set(self.0.get() + 1);
            Ok(())
        }
    }

    let calls = Rc::new(Cell::new(0));
    let service = Fails(calls.clone());
    let mut service = MessageService::new(service, Budgeted::alone(9), Budgeted::alone(9));
    let (mut client, mut server) = pair::established(Framed::Announced, BUFFER);
    client.outbox().send(b"message").unwrap();
    client.settle(at(0));
    server.settle(at(0));
    let (peer, mut out) = server.driver.split_peer().unwrap();
    service.on_open(&peer, &mut out, Instant::EPOCH);
    assert!(service.error().is_some());
    let (chunk, mut out) = server.driver.split();
    let _ = service.on_chunk(chunk.unwrap(), &mut out, Instant::EPOCH);
    assert_eq!(calls.get(), 0);
}

#[test]
fn stop_waits_for_queued_replies_and_busy_services() {
    let mut pair = Pair::new(Framed::Announced, 4000, usize::MAX);
    assert!(pair.server.service().is_idle());
    pair.server.service_mut().get_mut().busy = true;
    assert!(!pair.server.service().is_idle());
    pair.server.service_mut().get_mut().busy = false;
    pair.block();
    pair.chunk(&[1; 500], Remaining::Bytes(500));
    pair.chunk(&[1; 500], Remaining::End);
    assert!(!pair.server.service().is_idle());
    pair.server.driver_mut().stop();
    pair.poll();
    let _ = pair.server.poll(&mut pair.io, &key(), at(1_000));
    assert!(!pair.io.output.borrow().shut);
    pair.unblock();
    let _ = pair.server.poll(&mut pair.io, &key(), at(2_000));
    assert!(pair.server.service().is_idle() && !pair.io.output.borrow().shut);
    let _ = pair.server.poll(&mut pair.io, &key(), at(2_100));
    assert!(pair.io.output.borrow().shut);
}
