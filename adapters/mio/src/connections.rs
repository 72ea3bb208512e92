//! Connections in an event loop.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use countersign::Instant;
use countersign_driver::{Interest, Io, Keys, StreamService};
use countersign_host::{
    Address, BoxedProtocol, ConnectionEvent, DeadlineHeap, MonitoredConnection, Step, Stream,
    WakeQueue,
};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Registry, Token};
use slab::Slab;

use crate::wake_queue::wake_queue;

/// Connections on the `mio::Poll` of the application.
///
/// The owner of the loop passes each event whose token is [`ours`](Self::is_ours) to
/// [`handle_event`](Self::handle_event), calls [`run`](Self::run), and sleeps no longer than
/// [`timeout`](Self::timeout). `T` is kept for each connection until its socket is closed. A connection
/// costs the memory of its protocol, its service and some 200 bytes.
///
/// The example `mio_own_loop` is a whole program.
pub struct Connections<S: StreamService, T = ()> {
    registry: Arc<Registry>,
    wakes: Arc<WakeQueue>,
    wake_token: Token,
    /// Boxed, so that growth moves pointers and does not fragment the heap.
    slots: Slab<Box<Slot<S, T>>>,
    /// Counts connections: distinguishes one from an earlier one in the same slot.
    generation: u32,
    deadlines: DeadlineHeap<Token>,
    ready: VecDeque<Token>,
}

struct Slot<S: StreamService, T> {
    connection: MonitoredConnection<S>,
    socket: Socket,
    state: SocketState,
    token: Token,
    /// The deadline that is registered for it.
    armed: Option<Instant>,
    queued: bool,
    /// All that was to be sent had left when it was last polled.
    sent: bool,
    held: T,
}

/// How far a socket is.
enum SocketState {
    Connected,
    /// Until its first event, or until the registered deadline.
    Connecting,
    /// It was still connecting when all connections were told to stop.
    Stopped,
}

/// A socket and its readiness, as of the last events.
struct Socket {
    stream: Stream,
    readable: bool,
    writable: bool,
    /// The peer has shut a direction: a short read does not mean that there is no more.
    hangup: bool,
}

/// The bits of a token that hold the slot; those above hold the generation.
const SLOT_BITS: u32 = usize::BITS / 2;
const SLOT_MASK: usize = (1 << SLOT_BITS) - 1;
/// How many obsolete deadlines are kept before they are removed.
const STALE: usize = 1024;

impl<S: StreamService, T> Connections<S, T> {
    /// No connections yet. `token` is used for wake-ups. Connections use the tokens whose highest bit is
    /// clear, so all others must have it set, `token` too.
    ///
    /// # Errors
    /// The system's.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let wakes = wake_queue(registry, token)?;
        Ok(Self::with_wakes(Arc::new(registry.try_clone()?), token, wakes))
    }

    /// As [`new`](Self::new), with wake-ups that are registered already. Opens no descriptor.
    pub(crate) fn with_wakes(registry: Arc<Registry>, token: Token, wakes: Arc<WakeQueue>) -> Self {
        Self {
            registry,
            wakes,
            wake_token: token,
            slots: Slab::new(),
            generation: 0,
            deadlines: DeadlineHeap::default(),
            ready: VecDeque::new(),
        }
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

    /// Adds a connected socket. `make` gets the waker of the connection, the socket and `held`, and makes
    /// the protocol and the service; [`run`](Self::run) polls them first. `held` is kept as long as the
    /// socket is open.
    ///
    /// # Errors
    /// The system's, from registering the socket, or what `make` returns.
    pub fn insert<E: From<io::Error>>(
        &mut self,
        stream: Stream,
        held: T,
        make: impl FnOnce(&Waker, &Stream, &mut T) -> Result<(BoxedProtocol, S), E>,
    ) -> Result<(), E> {
        let wakes = self.wakes.clone();
        self.insert_with(stream, held, |token, stream, held| {
            make(&wakes.waker(token.0), stream, held)
        })
    }

    /// As [`insert`](Self::insert), with the key of the connection in the queue of wake-ups.
    pub(crate) fn insert_with<E: From<io::Error>>(
        &mut self,
        stream: Stream,
        held: T,
        make: impl FnOnce(Token, &Stream, &mut T) -> Result<(BoxedProtocol, S), E>,
    ) -> Result<(), E> {
        // Its readiness is found out by trying.
        let socket = Socket { stream, readable: true, writable: true, hangup: false };
        self.add(socket, None, held, make)
    }

    /// Begins to connect to `address`, and adds the connection. If it cannot be connected, or is not by
    /// `until`, it ends with the error of the system, or with [`io::ErrorKind::TimedOut`]. The deadline of
    /// the handshake runs from when `make` makes the protocol, which is at once.
    ///
    /// # Errors
    /// As [`insert`](Self::insert), and those of [`Address::start_connect`].
    pub fn connect<E: From<io::Error>>(
        &mut self,
        address: &Address,
        until: Instant,
        held: T,
        make: impl FnOnce(&Waker, &Stream, &mut T) -> Result<(BoxedProtocol, S), E>,
    ) -> Result<(), E> {
        let (stream, _) = address.start_connect()?;
        // Before it is connected the readiness of a socket differs between systems: it is not used before
        // the first event.
        let socket = Socket { stream, readable: false, writable: false, hangup: false };
        let wakes = self.wakes.clone();
        self.add(socket, Some(until), held, |token, stream, held| {
            make(&wakes.waker(token.0), stream, held)
        })
    }

    fn add<E: From<io::Error>>(
        &mut self,
        socket: Socket,
        until: Option<Instant>,
        mut held: T,
        make: impl FnOnce(Token, &Stream, &mut T) -> Result<(BoxedProtocol, S), E>,
    ) -> Result<(), E> {
        let entry = self.slots.vacant_entry();
        self.generation = self.generation.wrapping_add(1);
        let high = (self.generation as usize & (SLOT_MASK >> 1)) << SLOT_BITS;
        let token = Token(high | entry.key());
        let interest = mio::Interest::READABLE | mio::Interest::WRITABLE;
        // First: no service is made for a socket that cannot be served.
        self.registry.register(&mut SourceFd(&socket.stream.as_raw_fd()), token, interest)?;
        // If this fails the socket is closed, which ends its registration.
        let (protocol, service) = make(token, &socket.stream, &mut held)?;
        let slot = entry.insert(Box::new(Slot {
            connection: MonitoredConnection::new(protocol, service),
            socket,
            state: match until {
                Some(_) => SocketState::Connecting,
                None => SocketState::Connected,
            },
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

    /// Whether `token` is one of a connection, or the one for wake-ups.
    #[must_use]
    pub fn is_ours(&self, token: Token) -> bool {
        token == self.wake_token || token.0 >> (usize::BITS - 1) == 0
    }

    /// Takes note of an event.
    pub fn handle_event(&mut self, event: &Event) {
        // The event of a wake-up only ends the sleep: `run` takes the wake-ups themselves.
        if let Some(slot) = get(&mut self.slots, event.token()) {
            slot.socket.readable |=
                event.is_readable() || event.is_read_closed() || event.is_error();
            slot.socket.writable |=
                event.is_writable() || event.is_write_closed() || event.is_error();
            slot.socket.hangup |= event.is_read_closed() || event.is_error();
            enqueue(&mut self.ready, slot);
        }
    }

    /// Polls every connection that has something to do, once. Reports to `report` when one is established
    /// and when one has ended, with what is held for it.
    pub fn run<K: Keys + ?Sized>(
        &mut self,
        keys: &K,
        now: Instant,
        mut report: impl FnMut(ConnectionEvent<'_>, &mut T),
    ) {
        for key in self.wakes.take() {
            if let Some(slot) = get(&mut self.slots, Token(key)) {
                slot.connection.connection_mut().wake();
                enqueue(&mut self.ready, slot);
            }
        }
        while let Some((token, at)) = self.deadlines.pop_due(now) {
            if let Some(slot) = get(&mut self.slots, token)
                && slot.armed == Some(at)
            {
                slot.armed = None;
                // Bytes of the peer may have arrived whose event was not fetched yet. They are read before
                // a deadline counts: it may be we who are late.
                slot.socket.readable |= matches!(slot.state, SocketState::Connected);
                enqueue(&mut self.ready, slot);
            }
        }
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else { break };
            let Some(slot) = get(&mut self.slots, token) else { continue };
            slot.queued = false;
            let step = slot.poll(keys, now, &mut report);
            slot.sent = matches!(step, Step::Wait(interest) if !interest.write);
            match step {
                Step::Yield => enqueue(&mut self.ready, slot),
                Step::Wait(interest) => {
                    self.deadlines.arm(token, &mut slot.armed, interest.until);
                }
                Step::Closed => close(self.slots.remove(token.0 & SLOT_MASK)),
            }
        }
        // Deadlines of removed connections may be hours away.
        if self.deadlines.len() > 2 * self.slots.len() + STALE {
            let Self { deadlines, slots, .. } = self;
            deadlines.retain(|token, at| get(slots, token).is_some_and(|it| it.armed == Some(at)));
        }
    }

    /// Whether all that the connections had to send had left this process when each was last polled. What
    /// a service could not send yet is not included.
    #[must_use]
    pub fn all_sent(&self) -> bool {
        self.slots.iter().all(|(_, slot)| slot.sent)
    }

    /// How long the loop may sleep; `None` until an event.
    #[must_use]
    pub fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        self.deadlines.next().map(|at| at.saturating_duration_since(now))
    }

    /// Ends every connection whose key is not among `keys` any more; returns how many.
    pub fn revoke<K: Keys + ?Sized>(&mut self, keys: &K, now: Instant) -> usize {
        let mut revoked = 0;
        for (_, slot) in &mut self.slots {
            if slot.connection.revoke(keys, now) {
                revoked += 1;
                enqueue(&mut self.ready, slot);
            }
        }
        revoked
    }

    /// Ends every connection in order, as soon as nothing is in progress on it.
    pub fn stop(&mut self) {
        for (_, slot) in &mut self.slots {
            enqueue(&mut self.ready, slot);
            if let SocketState::Connecting = slot.state {
                slot.state = SocketState::Stopped;
                continue;
            }
            slot.connection.connection_mut().driver_mut().stop();
            // Bytes of the peer may have arrived whose event was not fetched yet: whether the connection
            // is idle is found out by reading.
            slot.socket.readable = true;
        }
    }

    /// Drops every connection at once; reports those that had not ended.
    pub fn abandon(&mut self, mut report: impl FnMut(ConnectionEvent<'_>, &mut T)) {
        for mut slot in self.slots.drain() {
            let Slot { connection, held, .. } = &mut *slot;
            connection.abandon(|event| report(event, held));
            close(slot);
        }
        self.ready.clear();
    }
}

impl<S: StreamService, T> Slot<S, T> {
    fn poll<K: Keys + ?Sized>(
        &mut self,
        keys: &K,
        now: Instant,
        mut report: impl FnMut(ConnectionEvent<'_>, &mut T),
    ) -> Step {
        let Self { connection, socket, state, held, armed, .. } = self;
        let report = |event: ConnectionEvent<'_>| report(event, held);
        match *state {
            SocketState::Connected => return connection.poll(socket, keys, now, report),
            SocketState::Connecting => match socket.connected() {
                Some(Ok(())) => {
                    *state = SocketState::Connected;
                    return connection.poll(socket, keys, now, report);
                }
                Some(Err(error)) => connection.transport_failed(error, report),
                None if armed.is_none() => {
                    connection.transport_failed(io::ErrorKind::TimedOut.into(), report);
                }
                None => return Step::Wait(Interest::default()),
            },
            SocketState::Stopped => connection.abandon(report),
        }
        Step::Closed
    }
}

impl<S: StreamService, T> fmt::Debug for Connections<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<S: StreamService, T> Drop for Connections<S, T> {
    /// Every service is told that its connection has ended.
    fn drop(&mut self) {
        self.abandon(|_, _| ());
    }
}

/// Closes the socket, which deregisters it. A service that panics when it is dropped does not end the loop.
fn close<S: StreamService, T>(slot: Box<Slot<S, T>>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(slot)));
}

fn get<S: StreamService, T>(
    slots: &mut Slab<Box<Slot<S, T>>>,
    token: Token,
) -> Option<&mut Slot<S, T>> {
    slots.get_mut(token.0 & SLOT_MASK).map(|slot| &mut **slot).filter(|slot| slot.token == token)
}

fn enqueue<S: StreamService, T>(ready: &mut VecDeque<Token>, slot: &mut Slot<S, T>) {
    if !mem::replace(&mut slot.queued, true) {
        ready.push_back(slot.token);
    }
}

impl Socket {
    /// The result of connecting, once there has been an event.
    fn connected(&self) -> Option<io::Result<()>> {
        (self.readable || self.writable).then(|| self.stream.take_error()?.map_or(Ok(()), Err))
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
        // A short read has emptied the socket, and later bytes bring an edge of their own, unless the edge
        // of the peer's shutdown has come.
        self.readable = read.is_some_and(|n| n == into.len() || n == 0 || self.hangup);
        Ok(read)
    }

    fn discard(&mut self) -> io::Result<Option<usize>> {
        if !self.readable {
            return Ok(None);
        }
        let read = self.stream.discard()?;
        self.readable = read.is_some();
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

    /// A service with a deadline in a day.
    struct DueTomorrow;

    impl StreamService for DueTomorrow {
        fn on_chunk(&mut self, _: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
            Flow::Consumed
        }

        fn poll_timeout(&self) -> Option<Instant> {
            Some(Instant::EPOCH.saturating_add(Duration::from_secs(86_400)))
        }
    }

    #[test]
    fn removed_connections_leave_no_deadlines() {
        let poll = Poll::new().unwrap();
        let mut connections = Connections::new(poll.registry(), Token(usize::MAX)).unwrap();
        let sessions =
            SessionFactory::new(Config::new(Scheme::None), Pools::new(&PoolOptions::default()));
        let insert = |connections: &mut Connections<DueTomorrow>| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let make = |waker: &Waker, _: &Stream, (): &mut ()| -> io::Result<_> {
                Ok((sessions.server(&waker.into(), Instant::EPOCH).unwrap(), DueTomorrow))
            };
            connections.insert(Stream::Unix(ours), (), make).unwrap();
            connections.run(&None::<Key>, Instant::EPOCH, |_, ()| ());
            theirs
        };
        let stays = insert(&mut connections);
        for _ in 0..3 * STALE {
            drop(insert(&mut connections));
            // The connection has armed its deadline; this poll finds that its peer has closed it.
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
