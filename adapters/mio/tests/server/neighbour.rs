//! Connections in a loop whose owner has other things in it.

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
use countersign_driver::{Chunk, Failure, Flow, Service};
use countersign_host::{
    Address, BoxedProtocol, Clock, ConnectionEvent, Ended, PeerAddr, PoolOptions, ProtocolFactory,
    Stream,
};
use countersign_mio::Connections;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::{PATIENCE, frame, sessions};

const WAKE: Token = Token(usize::MAX);
/// The owner's own tokens begin here: the highest bit is set.
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

/// Sends every message back and says how it was called.
pub(crate) struct Telling {
    calls: Sender<Call>,
    /// The last of them comes first.
    timeouts: Vec<Moment>,
}

impl Telling {
    fn tell(&self, call: Call) {
        // Who does not listen has heard enough.
        let _ = self.calls.send(call);
    }
}

impl Service for Telling {
    fn on_open(&mut self, _: &Peer<'_>, _: &mut Outbox<'_>, _: Moment) {
        self.tell(Call::Open);
    }

    fn on_message(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Moment) -> Flow {
        self.tell(Call::Message(chunk.bytes.to_vec()));
        if out.send_chunk(chunk.bytes, chunk.remaining).is_ok() {
            Flow::Consumed
        } else {
            Flow::Backpressure
        }
    }

    fn on_wake(&mut self, _: &mut Outbox<'_>, _: Moment) {
        self.tell(Call::Wake);
    }

    fn on_timeout(&mut self, _: &mut Outbox<'_>, now: Moment) {
        self.timeouts.pop();
        self.tell(Call::Timeout(now));
    }

    fn poll_timeout(&self) -> Option<Moment> {
        self.timeouts.last().copied()
    }

    fn on_closed(&mut self, why: Result<(), countersign::Error>) {
        self.tell(Call::Closed(why));
    }
}

/// Somebody's loop. Connections hold an `Rc`, to see when it goes.
pub(crate) struct Loop {
    poll: Poll,
    clock: Clock,
    pub(crate) connections: Connections<Telling, Rc<()>>,
    pub(crate) established: usize,
    pub(crate) ended: Vec<Ended>,
    /// Tokens of events that were not the connections'.
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

    /// A connection, as its peer sees it, and what becomes of its service.
    fn insert(
        &mut self,
        timeouts: Vec<Moment>,
        held: &Rc<()>,
    ) -> (UnixStream, Waker, Receiver<Call>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_read_timeout(Some(PATIENCE)).unwrap();
        let (calls, told) = channel();
        let mut waker = None;
        let mut pools = PoolOptions::default();
        pools.buffer_len = 1024;
        let now = self.clock.now();
        let make = |wake: &Waker, _: &Stream| -> Result<(BoxedProtocol, Telling), Box<dyn Error>> {
            waker = Some(wake.clone());
            let machine = sessions(&pools).server(wake, now).map_err(Box::new)?;
            Ok((machine, Telling { calls, timeouts }))
        };
        self.connections.insert(Stream::Unix(ours), PeerAddr::Unix, held.clone(), make).unwrap();
        (theirs, waker.unwrap(), told)
    }

    /// A connection to `address`, which has `patience` to be made.
    pub(crate) fn connect(
        &mut self,
        address: &Address,
        patience: Duration,
        held: &Rc<()>,
    ) -> io::Result<Receiver<Call>> {
        let (calls, told) = channel();
        let now = self.clock.now();
        let make = |wake: &Waker, _: &Stream| {
            let machine = sessions(&PoolOptions::default()).client(wake, now);
            Ok((machine.map_err(io::Error::other)?, Telling { calls, timeouts: Vec::new() }))
        };
        let until = now.saturating_add(patience);
        self.connections.connect::<io::Error>(address, until, held.clone(), make)?;
        Ok(told)
    }

    fn run(&mut self) {
        let now = self.clock.now();
        self.connections.run(&NO_KEY, now, |notice, _| match notice {
            ConnectionEvent::Established { .. } => self.established += 1,
            ConnectionEvent::Ended(ended) => self.ended.push(ended),
        });
    }

    /// Sleeps for no longer than `most`, and takes note of what has happened.
    fn sleep(&mut self, most: Duration) {
        let timeout = self.connections.timeout(self.clock.now());
        let mut events = Events::with_capacity(8);
        self.poll.poll(&mut events, Some(timeout.map_or(most, |t| t.min(most)))).unwrap();
        for event in &events {
            if self.connections.is_ours(event.token()) {
                self.connections.ready(event);
            } else {
                self.own.push(event.token());
            }
        }
    }

    /// As its documentation says, until `done`.
    pub(crate) fn until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            self.run();
            if done(self) {
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain");
            self.sleep(left);
        }
    }

    /// Runs without sleeping until there is nothing to do at once.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.run();
            if self.connections.timeout(self.clock.now()) != Some(Duration::ZERO) {
                return;
            }
        }
        panic!("never at rest");
    }
}

/// Waits in `looped` for the service's next call.
pub(crate) fn next(looped: &mut Loop, told: &Receiver<Call>) -> Call {
    let mut call = None;
    looped.until(|_| {
        call = told.try_recv().ok();
        call.is_some()
    });
    call.unwrap()
}

#[test]
fn the_owner_of_a_loop_keeps_its_own_events() {
    let mut looped = Loop::new();
    let held = Rc::new(());
    let (mut theirs, _, told) = looped.insert(Vec::new(), &held);
    assert_eq!((looped.connections.len(), Rc::strong_count(&held)), (1, 2));
    let own = Token(OWN);
    assert!(!looped.connections.is_ours(own) && looped.connections.is_ours(WAKE));
    // The other end is the owner's, in the same loop.
    let descriptor = theirs.as_raw_fd();
    let mut source = SourceFd(&descriptor);
    looped.poll.registry().register(&mut source, own, Interest::READABLE).unwrap();

    assert_eq!(next(&mut looped, &told), Call::Open);
    theirs.write_all(&frame(b"hello")).unwrap();
    assert_eq!(next(&mut looped, &told), Call::Message(b"hello".to_vec()));
    looped.until(|looped| looped.own == [own]);
    let mut answer = [0; 9];
    theirs.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..], frame(b"hello"));

    theirs.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&mut looped, &told), Call::Closed(Ok(())));
    looped.until(|looped| looped.connections.is_empty());
    assert_eq!(Rc::strong_count(&held), 1);
    assert_eq!((looped.established, looped.ended.len()), (1, 1));
    let ended = &looped.ended[0];
    assert!(ended.how.is_ok() && ended.established && ended.origin == PeerAddr::Unix, "{ended:?}");
    assert_eq!(theirs.read(&mut answer).unwrap(), 0);
}

#[test]
fn a_loop_that_sleeps_as_told_is_in_time_for_a_service() {
    let mut looped = Loop::new();
    let due = [100, 200].map(|millis| Moment::EPOCH.saturating_add(Duration::from_millis(millis)));
    let (_theirs, _, told) = looped.insert(vec![due[1], due[0]], &Rc::new(()));
    assert_eq!(next(&mut looped, &told), Call::Open);
    for due in due {
        let Call::Timeout(now) = next(&mut looped, &told) else { panic!("another call") };
        assert!(due <= now, "{now:?}, due {due:?}");
        // A loop that slept for as long as nothing happened found it then.
        let late = now.saturating_duration_since(due);
        assert!(late < PATIENCE / 2, "late by {late:?}");
    }
    assert_eq!(looped.connections.timeout(looped.clock.now()), None);
}

#[test]
fn bytes_that_are_there_come_before_a_deadline_that_is_past() {
    let mut looped = Loop::new();
    let due = Moment::EPOCH.saturating_add(Duration::from_millis(100));
    let (mut theirs, _, told) = looped.insert(vec![due], &Rc::new(()));
    looped.settle();
    looped.sleep(Duration::ZERO);
    looped.settle();
    assert_eq!(told.try_recv(), Ok(Call::Open));
    theirs.write_all(&frame(b"hello")).unwrap();
    // The process had no turn for so long, and the event of the bytes is not fetched yet.
    while looped.clock.now() < due {
        std::thread::sleep(Duration::from_millis(10));
    }
    looped.run();
    assert_eq!(told.try_recv(), Ok(Call::Message(b"hello".to_vec())));
    assert!(matches!(told.try_recv(), Ok(Call::Timeout(_))));
}

#[test]
fn the_waker_of_a_connection_that_is_gone_wakes_nobody() {
    let mut looped = Loop::new();
    let (first, gone, told) = looped.insert(Vec::new(), &Rc::new(()));
    drop(first);
    assert_eq!(next(&mut looped, &told), Call::Open);
    assert_eq!(next(&mut looped, &told), Call::Closed(Ok(())));
    looped.until(|looped| looped.connections.is_empty());
    // In the place of the first.
    let (_second, waker, told) = looped.insert(Vec::new(), &Rc::new(()));
    looped.settle();
    assert_eq!(told.try_recv(), Ok(Call::Open));
    gone.wake();
    looped.settle();
    assert!(told.try_recv().is_err());
    waker.wake();
    assert_eq!(next(&mut looped, &told), Call::Wake);
}

#[test]
fn a_wake_ends_the_sleep_of_the_loop() {
    let mut looped = Loop::new();
    let (_theirs, waker, told) = looped.insert(Vec::new(), &Rc::new(()));
    // Nothing of the socket is left to be told.
    looped.settle();
    looped.sleep(Duration::ZERO);
    looped.settle();
    assert_eq!(told.try_recv(), Ok(Call::Open));
    let waking = std::thread::spawn(move || waker.wake());
    assert_eq!(next(&mut looped, &told), Call::Wake);
    waking.join().unwrap();
}

#[test]
fn what_is_left_after_a_turn_is_taken_up_without_another_event() {
    let mut looped = Loop::new();
    let (mut theirs, _, told) = looped.insert(Vec::new(), &Rc::new(()));
    let (mut other, _, other_told) = looped.insert(Vec::new(), &Rc::new(()));
    looped.settle();
    // More than one turn reads.
    let many = frame(&[7; 508]).repeat(40);
    theirs.write_all(&many).unwrap();
    other.write_all(&frame(b"hello")).unwrap();
    looped.sleep(PATIENCE);
    looped.sleep(Duration::ZERO);
    looped.run();
    // Nobody is served at another's expense.
    assert_eq!(other_told.try_iter().last(), Some(Call::Message(b"hello".to_vec())));
    assert!(told.try_iter().count() < 40);
    assert_eq!(looped.connections.timeout(looped.clock.now()), Some(Duration::ZERO));
    looped.settle();
    let mut answers = vec![0; many.len()];
    theirs.read_exact(&mut answers).unwrap();
    assert_eq!(answers, many);
}

#[test]
fn answers_that_the_peer_did_not_read_at_first_leave_when_it_does() {
    let mut looped = Loop::new();
    let (theirs, _, _told) = looped.insert(Vec::new(), &Rc::new(()));
    theirs.set_nonblocking(true).unwrap();
    let all = frame(&[7; 508]).repeat(4_000);
    let mut sent = 0;
    let mut send = || match (&theirs).write(&all[sent..]) {
        Ok(n) => sent += n,
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
    };
    // Until there is room on no side.
    for _ in 0..100 {
        send();
        looped.settle();
    }
    looped.sleep(Duration::ZERO);
    let (mut answers, mut space) = (Vec::new(), vec![0; 1 << 16]);
    looped.until(|_| {
        while let Ok(n) = (&theirs).read(&mut space) {
            answers.extend_from_slice(&space[..n]);
        }
        send();
        answers.len() >= all.len()
    });
    assert!(answers == all);
}

#[test]
fn the_end_of_stream_that_came_with_the_last_bytes_is_found() {
    let mut looped = Loop::new();
    let (mut theirs, _, told) = looped.insert(Vec::new(), &Rc::new(()));
    looped.settle();
    looped.sleep(Duration::ZERO);
    looped.settle();
    theirs.write_all(&frame(b"bye")).unwrap();
    theirs.shutdown(Shutdown::Write).unwrap();
    // One event tells of both.
    looped.until(|looped| looped.connections.is_empty());
    let expected = [Call::Open, Call::Message(b"bye".to_vec()), Call::Closed(Ok(()))];
    assert_eq!(told.try_iter().collect::<Vec<_>>(), expected);
    let mut answer = Vec::new();
    theirs.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, frame(b"bye"));
}

#[test]
fn an_end_is_reported_once_and_before_the_peer_has_left() {
    let mut looped = Loop::new();
    let held = Rc::new(());
    let (mut theirs, _, told) = looped.insert(Vec::new(), &held);
    theirs.write_all(&[0xff; 4]).unwrap();
    looped.until(|looped| !looped.ended.is_empty());
    // It takes leave: its place is taken until the peer has left.
    assert_eq!((looped.connections.len(), Rc::strong_count(&held)), (1, 2));
    assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0);
    drop(theirs);
    looped.until(|looped| looped.connections.is_empty());
    assert_eq!(looped.ended.len(), 1);
    assert!(
        matches!(
            looped.ended[0].how,
            Err(Failure::Protocol(countersign::Error::FrameTooLong { .. }))
        ),
        "{:?}",
        looped.ended
    );
    assert_eq!(told.try_iter().filter(|call| matches!(call, Call::Closed(_))).count(), 1);
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn services_are_told_when_their_connections_are_dropped_or_abandoned() {
    let shutdown = Err(countersign::Error::Aborted(CloseReason::Shutdown));
    let held = Rc::new(());
    let mut looped = Loop::new();
    let (_theirs, _, told) = looped.insert(Vec::new(), &held);
    looped.settle();
    let mut ended = Vec::new();
    looped.connections.abandon(|notice, held| {
        let ConnectionEvent::Ended(end) = notice else { panic!("{notice:?}") };
        ended.push((end, held.clone()));
    });
    assert_eq!(told.try_iter().last(), Some(Call::Closed(shutdown)));
    assert!(matches!(ended[..], [(Ended { how: Err(_), .. }, _)]), "{ended:?}");
    drop(ended);
    assert_eq!(Rc::strong_count(&held), 1);

    let (_theirs, _, told) = looped.insert(Vec::new(), &held);
    looped.settle();
    drop(looped);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [Call::Open, Call::Closed(shutdown)]);
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn a_machine_that_cannot_be_made_leaves_nothing_behind() {
    let mut looped = Loop::new();
    let held = Rc::new(());
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut pools = PoolOptions::default();
    pools.handshakes = 0;
    let make = |wake: &Waker, _: &Stream| -> Result<(BoxedProtocol, Telling), Box<dyn Error>> {
        let machine = sessions(&pools).server(wake, Moment::EPOCH).map_err(Box::new)?;
        Ok((machine, Telling { calls: channel().0, timeouts: Vec::new() }))
    };
    let refused = looped.connections.insert(Stream::Unix(ours), PeerAddr::Unix, held.clone(), make);
    assert!(refused.is_err());
    assert!(looped.connections.is_empty());
    assert_eq!(Rc::strong_count(&held), 1);
    assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0);
}
