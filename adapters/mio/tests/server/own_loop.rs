//! Connections in an event loop of the application.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Waker;
use std::time::{Duration, Instant};

use countersign::{CloseReason, Instant as Moment, Key, Outbox, Peer};
use countersign_driver::{Chunk, Failure, Flow, StreamService};
use countersign_host::{
    Address, BoxedProtocol, Clock, ConnectionEnd, ConnectionEvent, PoolOptions, ProtocolFactory,
    Stream,
};
use countersign_mio::Connections;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::{TIMEOUT, frame, sessions};

const WAKE: Token = Token(usize::MAX);
/// The first token of the application: the highest bit is set.
const OWN: usize = 1 << (usize::BITS - 1);
const NO_KEY: Option<Key> = None;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Message(Vec<u8>),
    Wake,
    Timeout(Moment),
    Closed(Result<(), countersign::Error>),
}

/// Sends every message back and reports its calls.
pub(crate) struct Reporting {
    calls: Sender<Call>,
    /// The last one is due first.
    timeouts: Vec<Moment>,
}

impl Reporting {
    fn report(&self, call: Call) {
        // The test may have dropped the receiver.
        let _ = self.calls.send(call);
    }
}

impl StreamService for Reporting {
    fn on_open(&mut self, _: &Peer<'_>, _: &mut Outbox<'_>, _: Moment) {
        self.report(Call::Open);
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Moment) -> Flow {
        self.report(Call::Message(chunk.bytes.to_vec()));
        if out.send_chunk(chunk.bytes, chunk.remaining).is_ok() {
            Flow::Consumed
        } else {
            Flow::Backpressure
        }
    }

    fn on_wake(&mut self, _: &mut Outbox<'_>, _: Moment) {
        self.report(Call::Wake);
    }

    fn on_timeout(&mut self, _: &mut Outbox<'_>, now: Moment) {
        self.timeouts.pop();
        self.report(Call::Timeout(now));
    }

    fn poll_timeout(&self) -> Option<Moment> {
        self.timeouts.last().copied()
    }

    fn on_closed(&mut self, result: Result<(), countersign::Error>) {
        self.report(Call::Closed(result));
    }
}

/// An event loop. Connections hold an `Rc`, to observe when it is dropped.
pub(crate) struct Loop {
    poll: Poll,
    clock: Clock,
    pub(crate) connections: Connections<Reporting, Rc<()>>,
    pub(crate) established: usize,
    pub(crate) ended: Vec<ConnectionEnd>,
    /// Tokens of the events of the application.
    own: Vec<Token>,
}

impl Loop {
    pub(crate) fn new() -> Self {
        let poll = Poll::new().unwrap();
        let connections = Connections::new(poll.registry(), WAKE).unwrap();
        Self {
            poll,
            clock: Clock::start(),
            connections,
            established: 0,
            ended: Vec::new(),
            own: Vec::new(),
        }
    }

    /// Inserts a connection; returns the socket of its peer, its waker and the calls of its service.
    fn insert(
        &mut self,
        timeouts: Vec<Moment>,
        held: &Rc<()>,
    ) -> (UnixStream, Waker, Receiver<Call>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_read_timeout(Some(TIMEOUT)).unwrap();
        let (sender, calls) = channel();
        let mut waker = None;
        let mut pools = PoolOptions::default();
        pools.buffer_len = 1024;
        let now = self.clock.now();
        let make = |wake: &Waker,
                    _: &Stream,
                    _: &mut Rc<()>|
         -> Result<(BoxedProtocol, Reporting), Box<dyn Error>> {
            waker = Some(wake.clone());
            let protocol = sessions(&pools).server(&wake.into(), now).map_err(Box::new)?;
            Ok((protocol, Reporting { calls: sender, timeouts }))
        };
        self.connections.insert(Stream::Unix(ours), held.clone(), make).unwrap();
        (theirs, waker.unwrap(), calls)
    }

    /// Connects to `address` within `timeout`.
    pub(crate) fn connect(
        &mut self,
        address: &Address,
        timeout: Duration,
        held: &Rc<()>,
    ) -> io::Result<Receiver<Call>> {
        let (sender, calls) = channel();
        let now = self.clock.now();
        let make = |wake: &Waker, _: &Stream, _: &mut Rc<()>| {
            let protocol = sessions(&PoolOptions::default()).client(&wake.into(), now);
            Ok((
                protocol.map_err(io::Error::other)?,
                Reporting { calls: sender, timeouts: Vec::new() },
            ))
        };
        let until = now.saturating_add(timeout);
        self.connections.connect::<io::Error>(address, until, held.clone(), make)?;
        Ok(calls)
    }

    fn run(&mut self) {
        let now = self.clock.now();
        self.connections.run(&NO_KEY, now, |event, _| match event {
            ConnectionEvent::Established(_) => self.established += 1,
            ConnectionEvent::Ended(end) => self.ended.push(end),
        });
    }

    /// Sleeps for at most `most`, and handles the events.
    fn sleep(&mut self, most: Duration) {
        let timeout = self.connections.timeout(self.clock.now());
        let mut events = Events::with_capacity(8);
        self.poll.poll(&mut events, Some(timeout.map_or(most, |t| t.min(most)))).unwrap();
        for event in &events {
            if self.connections.is_ours(event.token()) {
                self.connections.handle_event(event);
            } else {
                self.own.push(event.token());
            }
        }
    }

    /// Runs as the documentation of `Connections` says, until `done`.
    pub(crate) fn until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + TIMEOUT;
        loop {
            self.run();
            if done(self) {
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "timed out");
            self.sleep(left);
        }
    }

    /// Runs without sleeping until nothing can be done at once.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.run();
            if self.connections.timeout(self.clock.now()) != Some(Duration::ZERO) {
                return;
            }
        }
        panic!("endless");
    }
}

/// Runs `event_loop` until the next call of the service.
pub(crate) fn next(event_loop: &mut Loop, calls: &Receiver<Call>) -> Call {
    let mut call = None;
    event_loop.until(|_| {
        call = calls.try_recv().ok();
        call.is_some()
    });
    call.unwrap()
}

#[test]
fn events_of_the_application_are_left_to_it() {
    let mut event_loop = Loop::new();
    let held = Rc::new(());
    let (mut theirs, _, calls) = event_loop.insert(Vec::new(), &held);
    assert_eq!((event_loop.connections.len(), Rc::strong_count(&held)), (1, 2));
    let own = Token(OWN);
    assert!(!event_loop.connections.is_ours(own) && event_loop.connections.is_ours(WAKE));
    // The other end belongs to the application, in the same loop.
    let descriptor = theirs.as_raw_fd();
    let mut source = SourceFd(&descriptor);
    event_loop.poll.registry().register(&mut source, own, Interest::READABLE).unwrap();

    assert_eq!(next(&mut event_loop, &calls), Call::Open);
    theirs.write_all(&frame(b"hello")).unwrap();
    assert_eq!(next(&mut event_loop, &calls), Call::Message(b"hello".to_vec()));
    event_loop.until(|event_loop| event_loop.own == [own]);
    let mut reply = [0; 9];
    theirs.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..], frame(b"hello"));

    theirs.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&mut event_loop, &calls), Call::Closed(Ok(())));
    event_loop.until(|event_loop| event_loop.connections.is_empty());
    assert_eq!(Rc::strong_count(&held), 1);
    assert_eq!((event_loop.established, event_loop.ended.len()), (1, 1));
    let ended = &event_loop.ended[0];
    assert!(ended.result.is_ok() && ended.established, "{ended:?}");
    assert_eq!(theirs.read(&mut reply).unwrap(), 0);
}

#[test]
fn timeout_of_the_loop_covers_service_deadlines() {
    let mut event_loop = Loop::new();
    let due = [100, 200].map(|millis| Moment::EPOCH.saturating_add(Duration::from_millis(millis)));
    let (_theirs, _, calls) = event_loop.insert(vec![due[1], due[0]], &Rc::new(()));
    assert_eq!(next(&mut event_loop, &calls), Call::Open);
    for due in due {
        let Call::Timeout(now) = next(&mut event_loop, &calls) else { panic!("another call") };
        assert!(due <= now, "{now:?}, due {due:?}");
        // The sleep ended in time for it.
        let late = now.saturating_duration_since(due);
        assert!(late < TIMEOUT / 2, "late by {late:?}");
    }
    assert_eq!(event_loop.connections.timeout(event_loop.clock.now()), None);
}

#[test]
fn available_bytes_are_read_before_a_past_deadline() {
    let mut event_loop = Loop::new();
    let due = Moment::EPOCH.saturating_add(Duration::from_millis(100));
    let (mut theirs, _, calls) = event_loop.insert(vec![due], &Rc::new(()));
    event_loop.settle();
    event_loop.sleep(Duration::ZERO);
    event_loop.settle();
    assert_eq!(calls.try_recv(), Ok(Call::Open));
    theirs.write_all(&frame(b"hello")).unwrap();
    // The process did not run until the deadline had passed, and the event of the bytes is not fetched.
    while event_loop.clock.now() < due {
        std::thread::sleep(Duration::from_millis(10));
    }
    event_loop.run();
    assert_eq!(calls.try_recv(), Ok(Call::Message(b"hello".to_vec())));
    assert!(matches!(calls.try_recv(), Ok(Call::Timeout(_))));
}

#[test]
fn waker_of_a_closed_connection_has_no_effect() {
    let mut event_loop = Loop::new();
    let (first, gone, calls) = event_loop.insert(Vec::new(), &Rc::new(()));
    drop(first);
    assert_eq!(next(&mut event_loop, &calls), Call::Open);
    assert_eq!(next(&mut event_loop, &calls), Call::Closed(Ok(())));
    event_loop.until(|event_loop| event_loop.connections.is_empty());
    // In the slot of the first.
    let (_second, waker, calls) = event_loop.insert(Vec::new(), &Rc::new(()));
    event_loop.settle();
    assert_eq!(calls.try_recv(), Ok(Call::Open));
    gone.wake();
    event_loop.settle();
    assert!(calls.try_recv().is_err());
    waker.wake();
    assert_eq!(next(&mut event_loop, &calls), Call::Wake);
}

#[test]
fn wake_ends_the_sleep_of_the_loop() {
    let mut event_loop = Loop::new();
    let (_theirs, waker, calls) = event_loop.insert(Vec::new(), &Rc::new(()));
    // No event of the socket is left to fetch.
    event_loop.settle();
    event_loop.sleep(Duration::ZERO);
    event_loop.settle();
    assert_eq!(calls.try_recv(), Ok(Call::Open));
    let waking = std::thread::spawn(move || waker.wake());
    assert_eq!(next(&mut event_loop, &calls), Call::Wake);
    waking.join().unwrap();
}

#[test]
fn unfinished_work_continues_without_another_event() {
    let mut event_loop = Loop::new();
    let (mut theirs, _, calls) = event_loop.insert(Vec::new(), &Rc::new(()));
    let (mut other, _, other_calls) = event_loop.insert(Vec::new(), &Rc::new(()));
    event_loop.settle();
    // More than one poll reads.
    let many = frame(&[7; 508]).repeat(40);
    theirs.write_all(&many).unwrap();
    other.write_all(&frame(b"hello")).unwrap();
    event_loop.sleep(TIMEOUT);
    event_loop.sleep(Duration::ZERO);
    event_loop.run();
    // The flood of one connection does not delay the other.
    assert_eq!(other_calls.try_iter().last(), Some(Call::Message(b"hello".to_vec())));
    assert!(calls.try_iter().count() < 40);
    assert_eq!(event_loop.connections.timeout(event_loop.clock.now()), Some(Duration::ZERO));
    event_loop.settle();
    let mut answers = vec![0; many.len()];
    theirs.read_exact(&mut answers).unwrap();
    assert_eq!(answers, many);
}

#[test]
fn replies_leave_when_the_peer_reads_again() {
    let mut event_loop = Loop::new();
    let (theirs, _, _calls) = event_loop.insert(Vec::new(), &Rc::new(()));
    theirs.set_nonblocking(true).unwrap();
    let all = frame(&[7; 508]).repeat(4_000);
    let mut sent = 0;
    let mut send = || match (&theirs).write(&all[sent..]) {
        Ok(n) => sent += n,
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
    };
    // Until both directions are full.
    for _ in 0..100 {
        send();
        event_loop.settle();
    }
    event_loop.sleep(Duration::ZERO);
    let (mut answers, mut space) = (Vec::new(), vec![0; 1 << 16]);
    event_loop.until(|_| {
        while let Ok(n) = (&theirs).read(&mut space) {
            answers.extend_from_slice(&space[..n]);
        }
        send();
        answers.len() >= all.len()
    });
    assert!(answers == all);
}

#[test]
fn end_of_stream_with_the_last_bytes_is_found() {
    let mut event_loop = Loop::new();
    let (mut theirs, _, calls) = event_loop.insert(Vec::new(), &Rc::new(()));
    event_loop.settle();
    event_loop.sleep(Duration::ZERO);
    event_loop.settle();
    theirs.write_all(&frame(b"bye")).unwrap();
    theirs.shutdown(Shutdown::Write).unwrap();
    // One event reports both.
    event_loop.until(|event_loop| event_loop.connections.is_empty());
    let expected = [Call::Open, Call::Message(b"bye".to_vec()), Call::Closed(Ok(()))];
    assert_eq!(calls.try_iter().collect::<Vec<_>>(), expected);
    let mut answer = Vec::new();
    theirs.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, frame(b"bye"));
}

#[test]
fn end_is_reported_once_and_before_the_peer_has_closed() {
    let mut event_loop = Loop::new();
    let held = Rc::new(());
    let (mut theirs, _, calls) = event_loop.insert(Vec::new(), &held);
    theirs.write_all(&[0xff; 4]).unwrap();
    event_loop.until(|event_loop| !event_loop.ended.is_empty());
    // It is closing: it stays in its slot until the peer has closed.
    assert_eq!((event_loop.connections.len(), Rc::strong_count(&held)), (1, 2));
    assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0);
    drop(theirs);
    event_loop.until(|event_loop| event_loop.connections.is_empty());
    assert_eq!(event_loop.ended.len(), 1);
    assert!(
        matches!(
            event_loop.ended[0].result,
            Err(Failure::Protocol(countersign::Error::FrameTooLong { .. }))
        ),
        "{:?}",
        event_loop.ended
    );
    assert_eq!(calls.try_iter().filter(|call| matches!(call, Call::Closed(_))).count(), 1);
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn on_closed_is_called_when_connections_are_dropped() {
    let shutdown = Err(countersign::Error::Aborted(CloseReason::Shutdown));
    let held = Rc::new(());
    let mut event_loop = Loop::new();
    let (_theirs, _, calls) = event_loop.insert(Vec::new(), &held);
    event_loop.settle();
    let mut ended = Vec::new();
    event_loop.connections.abandon(|event, held| {
        let ConnectionEvent::Ended(end) = event else { panic!("{event:?}") };
        ended.push((end, held.clone()));
    });
    assert_eq!(calls.try_iter().last(), Some(Call::Closed(shutdown)));
    assert!(matches!(ended[..], [(ConnectionEnd { result: Err(_), .. }, _)]), "{ended:?}");
    drop(ended);
    assert_eq!(Rc::strong_count(&held), 1);

    let (_theirs, _, calls) = event_loop.insert(Vec::new(), &held);
    event_loop.settle();
    drop(event_loop);
    assert_eq!(calls.try_iter().collect::<Vec<_>>(), [Call::Open, Call::Closed(shutdown)]);
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn failed_insert_leaves_nothing_behind() {
    let mut event_loop = Loop::new();
    let held = Rc::new(());
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut pools = PoolOptions::default();
    pools.handshakes = 0;
    let make = |wake: &Waker,
                _: &Stream,
                _: &mut Rc<()>|
     -> Result<(BoxedProtocol, Reporting), Box<dyn Error>> {
        let protocol = sessions(&pools).server(&wake.into(), Moment::EPOCH).map_err(Box::new)?;
        Ok((protocol, Reporting { calls: channel().0, timeouts: Vec::new() }))
    };
    let refused = event_loop.connections.insert(Stream::Unix(ours), held.clone(), make);
    assert!(refused.is_err());
    assert!(event_loop.connections.is_empty());
    assert_eq!(Rc::strong_count(&held), 1);
    assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0);
}
