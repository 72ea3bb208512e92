//! Connections in an event loop.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;

use countersign::Instant;
use countersign_driver::{Io, Keys, Service, Wait};
use countersign_host::{
    Address, BoxedProtocol, ConnectionEvent, Deadlines, MonitoredConnection, Next, PeerAddr, Stream,
};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use slab::Slab;

use crate::wake::Queue;

/// Connections driven by somebody's `mio::Poll`.
///
/// The loop's owner passes [`ready`](Self::ready) each event whose token is
/// [`ours`](Self::is_ours), calls [`run`](Self::run), and sleeps no longer than
/// [`timeout`](Self::timeout) says. A connection costs the memory of its machine, its service and
/// some 200 bytes.
pub struct Connections<S: Service, T = ()> {
    registry: Registry,
    queue: Arc<Queue>,
    queue_token: Token,
    /// Boxed, so that growing moves pointers and leaves no great holes in the heap.
    slots: Slab<Box<Slot<S, T>>>,
    /// Told apart from whatever had the same slot before.
    generation: u32,
    deadlines: Deadlines<Token>,
    ready: VecDeque<Token>,
}

struct Slot<S: Service, T> {
    connection: MonitoredConnection<S>,
    socket: Socket,
    link: Link,
    token: Token,
    /// When the connection is to be looked at even if nothing happens.
    armed: Option<Instant>,
    queued: bool,
    /// All that was to be sent has left, as far as its last turn knew.
    sent: bool,
    held: T,
}

/// How far a socket is.
enum Link {
    Connected,
    /// Until its first event, or at most for as long as the slot is armed.
    Connecting,
    /// It was still to be connected when all were told to stop.
    GivenUp,
}

/// A socket, and what the last events said of it.
struct Socket {
    stream: Stream,
    readable: bool,
    writable: bool,
    /// The peer has shut something: a short read does not mean that there is no more.
    hangup: bool,
}

/// The bits of a token that say which slot; those above say which generation.
const SLOT_BITS: u32 = usize::BITS / 2;
const SLOT_MASK: usize = (1 << SLOT_BITS) - 1;
/// So many deadlines may be kept for nothing before they are looked through.
const STALE: usize = 1024;

impl<S: Service, T> Connections<S, T> {
    /// No connections yet. `token` is kept for wakes; connections take tokens whose highest bit is
    /// clear, so everybody else's need it set.
    ///
    /// # Errors
    /// The system's.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        Ok(Self {
            registry: registry.try_clone()?,
            queue: Queue::new(registry, token)?,
            queue_token: token,
            slots: Slab::new(),
            generation: 0,
            deadlines: Deadlines::default(),
            ready: VecDeque::new(),
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn queue(&self) -> Arc<Queue> {
        self.queue.clone()
    }

    /// Adds a connection. `make` is given the connection's waker and its socket, and makes its machine
    /// and service; [`run`](Self::run) takes its first turn. `held` is kept as long as the socket is
    /// open, and then dropped.
    ///
    /// # Errors
    /// The system's, from registering the socket, or whatever `make` reports.
    pub fn insert<E: From<io::Error>>(
        &mut self,
        stream: Stream,
        origin: PeerAddr,
        held: T,
        make: impl FnOnce(&Waker, &Stream) -> Result<(BoxedProtocol, S), E>,
    ) -> Result<(), E> {
        // Until an event says otherwise, trying is the way to find out.
        let socket = Socket { stream, readable: true, writable: true, hangup: false };
        self.add((socket, None), origin, held, make)
    }

    /// Begins to connect to `address`, and adds the connection, whose origin is where it goes to. If
    /// it cannot be connected, or is not by `until`, that is how it ends: with the system's error, or
    /// with one of [`io::ErrorKind::TimedOut`]. Its handshake begins when it is connected, but its
    /// deadline is that of the machine that `make` makes at once.
    ///
    /// # Errors
    /// As [`insert`](Self::insert), and those of [`Address::start_connect`].
    pub fn connect<E: From<io::Error>>(
        &mut self,
        address: &Address,
        until: Instant,
        held: T,
        make: impl FnOnce(&Waker, &Stream) -> Result<(BoxedProtocol, S), E>,
    ) -> Result<(), E> {
        let (stream, origin) = address.start_connect()?;
        // What a socket says before it is connected differs from system to system: it is not asked
        // before its first event.
        let socket = Socket { stream, readable: false, writable: false, hangup: false };
        self.add((socket, Some(until)), origin, held, make)
    }

    fn add<E: From<io::Error>>(
        &mut self,
        (socket, until): (Socket, Option<Instant>),
        origin: PeerAddr,
        held: T,
        make: impl FnOnce(&Waker, &Stream) -> Result<(BoxedProtocol, S), E>,
    ) -> Result<(), E> {
        let entry = self.slots.vacant_entry();
        self.generation = self.generation.wrapping_add(1);
        let high = (self.generation as usize & (SLOT_MASK >> 1)) << SLOT_BITS;
        let token = Token(high | entry.key());
        let (machine, service) = make(&self.queue.waker(token), &socket.stream)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut SourceFd(&socket.stream.as_raw_fd()), token, interest)?;
        let slot = entry.insert(Box::new(Slot {
            connection: MonitoredConnection::new(machine, service, origin),
            socket,
            link: if until.is_some() { Link::Connecting } else { Link::Connected },
            token,
            armed: None,
            queued: true,
            sent: false,
            held,
        }));
        self.deadlines.arm(token, &mut slot.armed, until);
        self.ready.push_back(token);
        Ok(())
    }

    /// Whether `token` is a connection's, or the one for wakes.
    #[must_use]
    pub fn is_ours(&self, token: Token) -> bool {
        token == self.queue_token || token.0 >> (usize::BITS - 1) == 0
    }

    /// Takes note of an event.
    pub fn ready(&mut self, event: &Event) {
        // A wake's event only ends the sleep; `run` looks at the queue in any case.
        if let Some(slot) = get(&mut self.slots, event.token()) {
            slot.socket.readable |=
                event.is_readable() || event.is_read_closed() || event.is_error();
            slot.socket.writable |=
                event.is_writable() || event.is_write_closed() || event.is_error();
            slot.socket.hangup |= event.is_read_closed() || event.is_error();
            enqueue(&mut self.ready, slot);
        }
    }

    /// Gives every connection that has something to do one turn. `tell` is told of each that is
    /// established, and of each that has ended, once, with what is held for it.
    pub fn run<K: Keys + ?Sized>(
        &mut self,
        keys: &K,
        now: Instant,
        mut tell: impl FnMut(ConnectionEvent<'_>, &mut T),
    ) {
        for token in self.queue.take() {
            if let Some(slot) = get(&mut self.slots, token) {
                slot.connection.connection_mut().wake();
                enqueue(&mut self.ready, slot);
            }
        }
        while let Some((token, at)) = self.deadlines.pop_due(now) {
            if let Some(slot) = get(&mut self.slots, token)
                && slot.armed == Some(at)
            {
                slot.armed = None;
                // The peer's bytes may be here, and the event that says so not yet fetched: they come
                // before what is late, since it need not be the peer that was.
                slot.socket.readable |= matches!(slot.link, Link::Connected);
                enqueue(&mut self.ready, slot);
            }
        }
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else { break };
            let Some(slot) = get(&mut self.slots, token) else { continue };
            slot.queued = false;
            let next = slot.turn(keys, now, &mut tell);
            slot.sent = matches!(next, Next::Wait(wait) if !wait.write);
            match next {
                Next::Again => enqueue(&mut self.ready, slot),
                Next::Wait(wait) => self.deadlines.arm(token, &mut slot.armed, wait.until),
                Next::Over => let_go(self.slots.remove(token.0 & SLOT_MASK)),
            }
        }
        // What is left of connections that are gone may not be due for hours.
        if self.deadlines.len() > 2 * self.slots.len() + STALE {
            let Self { deadlines, slots, .. } = self;
            deadlines.retain(|token, at| get(slots, token).is_some_and(|it| it.armed == Some(at)));
        }
    }

    /// Whether all that connections had to send has left this process, as far as the last turn of each
    /// knew. What a service could not send for want of room is not among it.
    #[must_use]
    pub fn all_sent(&self) -> bool {
        self.slots.iter().all(|(_, slot)| slot.sent)
    }

    /// How long the loop may sleep: `None` for as long as nothing happens.
    #[must_use]
    pub fn timeout(&self, now: Instant) -> Option<std::time::Duration> {
        if !self.ready.is_empty() {
            return Some(std::time::Duration::ZERO);
        }
        self.deadlines.next().map(|at| at.saturating_duration_since(now))
    }

    /// Ends every connection that was authenticated by a key that is not among `keys`; returns how
    /// many there were.
    pub fn revoke<K: Keys + ?Sized>(&mut self, keys: &K, now: Instant) -> usize {
        let mut revoked = 0;
        for (_, slot) in &mut self.slots {
            if slot.connection.connection_mut().revoke(keys, now) {
                revoked += 1;
                enqueue(&mut self.ready, slot);
            }
        }
        revoked
    }

    /// Has every connection end as soon as nothing is under way on it.
    pub fn stop(&mut self) {
        for (_, slot) in &mut self.slots {
            enqueue(&mut self.ready, slot);
            if let Link::Connecting = slot.link {
                slot.link = Link::GivenUp;
                continue;
            }
            slot.connection.connection_mut().stop();
            // Its bytes may be here, and the event that says so not yet fetched: whether it is idle
            // is to be found out by reading.
            slot.socket.readable = true;
        }
    }

    /// Drops every connection as it is, and tells `tell` of each that had not ended.
    pub fn abandon(&mut self, mut tell: impl FnMut(ConnectionEvent<'_>, &mut T)) {
        for mut slot in self.slots.drain() {
            let Slot { connection, held, .. } = &mut *slot;
            connection.abandon(|notice| tell(notice, held));
            let_go(slot);
        }
        self.ready.clear();
    }
}

impl<S: Service, T> Slot<S, T> {
    fn turn<K: Keys + ?Sized>(
        &mut self,
        keys: &K,
        now: Instant,
        mut tell: impl FnMut(ConnectionEvent<'_>, &mut T),
    ) -> Next {
        let Self { connection, socket, link, held, armed, .. } = self;
        let tell = |notice: ConnectionEvent<'_>| tell(notice, held);
        match *link {
            Link::Connected => return connection.turn(socket, keys, now, tell),
            Link::Connecting => match socket.connected() {
                Some(Ok(())) => {
                    *link = Link::Connected;
                    return connection.turn(socket, keys, now, tell);
                }
                Some(Err(error)) => connection.lost(error, tell),
                None if armed.is_none() => connection.lost(io::ErrorKind::TimedOut.into(), tell),
                None => return Next::Wait(Wait { read: false, write: false, until: None }),
            },
            Link::GivenUp => connection.abandon(tell),
        }
        Next::Over
    }
}

impl<S: Service, T> Drop for Connections<S, T> {
    /// Services are told that their connections are no more.
    fn drop(&mut self) {
        self.abandon(|_, _| ());
    }
}

/// Closes the descriptor, and that deregisters it. Not even a service that panics when it is dropped ends
/// the loop.
fn let_go<S: Service, T>(slot: Box<Slot<S, T>>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(slot)));
}

fn get<S: Service, T>(slots: &mut Slab<Box<Slot<S, T>>>, token: Token) -> Option<&mut Slot<S, T>> {
    slots.get_mut(token.0 & SLOT_MASK).map(|slot| &mut **slot).filter(|slot| slot.token == token)
}

fn enqueue<S: Service, T>(ready: &mut VecDeque<Token>, slot: &mut Slot<S, T>) {
    if !mem::replace(&mut slot.queued, true) {
        ready.push_back(slot.token);
    }
}

impl Socket {
    /// What became of connecting, once there has been an event.
    fn connected(&self) -> Option<io::Result<()>> {
        (self.readable || self.writable).then(|| match self.stream.take_error() {
            Ok(None) => Ok(()),
            Ok(Some(error)) | Err(error) => Err(error),
        })
    }
}

impl Io for Socket {
    type Error = io::Error;

    fn may_read(&self) -> bool {
        self.readable
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        if !self.readable {
            return Ok(None);
        }
        let read = self.stream.read(into)?;
        // A short read has emptied the socket, and what comes later is an edge of its own, unless
        // the edge of the peer's shutdown came before.
        self.readable = read.is_some_and(|n| n == into.len() || n == 0 || self.hangup);
        Ok(read)
    }

    fn write(&mut self, from: &[u8]) -> io::Result<Option<usize>> {
        if !self.writable {
            return Ok(None);
        }
        let written = self.stream.write(from)?;
        self.writable = written == Some(from.len());
        Ok(written)
    }

    fn shut_write(&mut self) -> io::Result<()> {
        self.stream.shut_write()
    }

    fn acknowledge(&mut self) {
        self.stream.acknowledge();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use countersign::{Config, Key, Outbox, Scheme};
    use countersign_driver::{Chunk, Flow};
    use countersign_host::{PoolOptions, Pools, ProtocolFactory, SessionFactory};
    use mio::Poll;

    use super::*;

    /// Has a day's time.
    struct Patient;

    impl Service for Patient {
        fn on_message(&mut self, _: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
            Flow::Consumed
        }

        fn poll_timeout(&self) -> Option<Instant> {
            Some(Instant::EPOCH.saturating_add(Duration::from_secs(86_400)))
        }
    }

    #[test]
    fn connections_that_are_gone_do_not_leave_their_deadlines_behind() {
        let poll = Poll::new().unwrap();
        let mut connections = Connections::new(poll.registry(), Token(usize::MAX)).unwrap();
        let sessions =
            SessionFactory::new(Config::new(Scheme::None), Pools::new(&PoolOptions::default()));
        let insert = |connections: &mut Connections<Patient>| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let make = |wake: &Waker, _: &Stream| -> io::Result<_> {
                Ok((sessions.server(wake, Instant::EPOCH).unwrap(), Patient))
            };
            connections.insert(Stream::Unix(ours), PeerAddr::Unix, (), make).unwrap();
            connections.run(&None::<Key>, Instant::EPOCH, |_, ()| ());
            theirs
        };
        let stays = insert(&mut connections);
        for _ in 0..3 * STALE {
            drop(insert(&mut connections));
            // It has armed its deadline, and is found to be gone.
            connections.slots.iter_mut().for_each(|(_, slot)| slot.socket.readable = true);
            connections.slots.iter_mut().for_each(|(_, it)| enqueue(&mut connections.ready, it));
            connections.run(&None::<Key>, Instant::EPOCH, |_, ()| ());
            assert!(connections.deadlines.len() <= STALE + 4);
        }
        assert_eq!(connections.len(), 1);
        assert!(connections.deadlines.next().is_some());
        drop(stays);
    }
}
