//! A connection that is driven by calls: what blocking and asynchronous connections have in common.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use countersign::{CloseReason, Error, Instant, Peer, Remaining};
use countersign_driver::{
    Connection, ConnectionError, Failure, Interest, Io, Keys, Progress, Reassembler, SendQueue,
};

use crate::call_error::CallError;
use crate::connection_handle::{Close, ConnectionHandle};
use crate::message_memory::{MessageBytes, MessageMemory};
use crate::monitored_connection::{ConnectionEnd, ConnectionEvent, Step};
use crate::peer_addr::PeerAddr;
use crate::server_context::{AdmissionGuard, ServerContext};
use crate::session_factory::BoxedProtocol;
use crate::shared_keys::KeysWatcher;
use crate::stream::Stream;

/// The limits of a connection that is driven by calls.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionOptions {
    /// Time to connect, for each address of the host. The handshake has a deadline of its own.
    pub connect_timeout: Duration,
    /// Time for each call; `None` for no limit.
    pub timeout: Option<Duration>,
    /// Memory for whole messages.
    pub message_memory: MessageMemory,
}

impl Default for ConnectionOptions {
    /// 10 s to connect, no limit for calls, messages of 16 MiB.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            timeout: None,
            message_memory: MessageMemory::default(),
        }
    }
}

/// A chunk of a message, in memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedChunk {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether the message begins here.
    pub first: bool,
    /// What follows of the message.
    pub remaining: Remaining,
}

/// A connection that is driven by calls.
///
/// Each call [polls](Self::poll) it, tries its operation, polls again if the operation
/// [left something to do](Self::wants_poll), and waits if the operation is not done (`None`).
pub struct CallConnection {
    connection: Connection<BoxedProtocol, io::Error>,
    incoming: Reassembler<MessageBytes>,
    /// Whether what is in `incoming` is the beginning of its message.
    incoming_first: bool,
    /// What follows what is in `incoming`.
    incoming_remaining: Remaining,
    outgoing: SendQueue<MessageBytes>,
    /// Something was received since the last send, or since a call found nothing to receive. An orderly stop
    /// waits: the application may be about to answer.
    answering: bool,
    served: Option<Box<Served>>,
}

/// What a connection that a server accepted has in addition.
struct Served {
    context: Arc<ServerContext>,
    guard: AdmissionGuard,
    handle: ConnectionHandle,
    keys: KeysWatcher,
    /// When the connection is abandoned, once the server was told to stop.
    give_up: Option<Instant>,
    reported_end: bool,
}

/// A message that is being sent.
#[derive(Debug)]
pub struct Sending<'m> {
    /// `None`: the end of our messages.
    message: Option<Cow<'m, [u8]>>,
    taken: bool,
}

impl<'m> Sending<'m> {
    /// A message.
    #[must_use]
    pub const fn message(message: &'m [u8]) -> Self {
        Self { message: Some(Cow::Borrowed(message)), taken: false }
    }

    /// A message in memory of its own.
    #[must_use]
    pub const fn owned(message: Vec<u8>) -> Self {
        Self { message: Some(Cow::Owned(message)), taken: false }
    }

    /// The end of our messages.
    #[must_use]
    pub const fn finish() -> Self {
        Self { message: None, taken: false }
    }

    /// Whether the connection has taken it: it leaves even if its call is given up.
    #[must_use]
    pub const fn is_taken(&self) -> bool {
        self.taken
    }
}

impl CallConnection {
    /// A connection at its beginning.
    #[must_use]
    pub fn new(protocol: BoxedProtocol, memory: &MessageMemory) -> Self {
        Self {
            connection: Connection::new(protocol),
            incoming: Reassembler::new(memory.message_buffer()),
            incoming_first: true,
            incoming_remaining: Remaining::End,
            outgoing: SendQueue::new(memory.buffer()),
            answering: false,
            served: None,
        }
    }

    /// A connection that a server has accepted and [admitted](ServerContext::admit); `None` if it cannot
    /// begin.
    #[must_use]
    pub fn accepted(
        context: Arc<ServerContext>,
        stream: &Stream,
        addr: PeerAddr,
        mut guard: AdmissionGuard,
        waker: &Waker,
    ) -> Option<Self> {
        let begun = context.begin_with(stream, addr, &mut guard, waker, |handle| handle);
        let (protocol, handle) = begun?;
        let keys = context.keys().watch();
        let (give_up, reported_end) = (None, false);
        let served = Served { context, guard, handle, keys, give_up, reported_end };
        let memory = &served.context.options().message_memory;
        let mut connection = Self::new(protocol, memory);
        connection.served = Some(Box::new(served));
        Some(connection)
    }

    /// The handle of a connection that a server has accepted.
    #[must_use]
    pub fn handle(&self) -> Option<&ConnectionHandle> {
        self.served.as_ref().map(|served| &served.handle)
    }

    /// Makes progress until nothing more can be done now. A connection that a server has accepted uses
    /// the keys of the server rather than `keys`, ends when its key is removed, and obeys its handle and
    /// the server's.
    pub fn poll<I: Io<Error = io::Error>, K: Keys + ?Sized>(
        &mut self,
        io: &mut I,
        keys: &K,
        now: Instant,
    ) -> Step {
        if let Some(served) = &mut self.served {
            served.obey(&mut self.connection, self.outgoing.is_empty(), now);
        }
        self.flush_queue();
        loop {
            let progress = match &self.served {
                Some(served) => self.connection.poll(io, served.keys.keys(), now),
                None => self.connection.poll(io, keys, now),
            };
            if let Some(served) = &mut self.served {
                served.record(&self.connection, &progress, now);
            }
            match progress {
                Progress::Event(_) => {}
                Progress::Yield => return Step::Yield,
                // There was room again: without another poll nothing would report that there is more.
                Progress::Wait(_) if self.flush_queue() => return Step::Yield,
                Progress::Wait(interest) => {
                    let give_up = self.served.as_ref().and_then(|served| served.give_up);
                    return Step::Wait(interest.until_at_most(give_up));
                }
                Progress::Closed(_) => return Step::Closed,
            }
        }
    }

    /// Hands over what is queued, as much as there is room for; returns whether that was anything.
    fn flush_queue(&mut self) -> bool {
        if self.outgoing.is_empty() || !self.connection.driver().is_open() {
            return false;
        }
        // An outbox that takes no more has ended, which the next call finds out.
        let _ = self.connection.poll_flush(&mut self.outgoing);
        self.connection.wants_poll()
    }

    /// Polls until there is nothing to do but wait, and returns for what; for nothing once the connection
    /// is over.
    pub fn poll_until_wait<I: Io<Error = io::Error>, K: Keys + ?Sized>(
        &mut self,
        io: &mut I,
        keys: &K,
        now: impl Fn() -> Instant,
    ) -> Interest {
        loop {
            match self.poll(io, keys, now()) {
                Step::Yield => {}
                Step::Wait(interest) => return interest,
                Step::Closed => return Interest::default(),
            }
        }
    }

    /// Whether an operation left something to do.
    #[must_use]
    pub fn wants_poll(&self) -> bool {
        self.connection.wants_poll()
    }

    /// Differs from an earlier value if something has happened that a call may wait for.
    #[must_use]
    pub fn changes(&self) -> u32 {
        self.connection.changes()
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// The peer, once the handshake is over.
    #[must_use]
    pub fn peer(&self) -> Option<Peer<'_>> {
        self.connection.peer()
    }

    /// Whether the handshake is over, and all of it has left.
    pub fn established(&mut self) -> Option<Result<(), CallError>> {
        done(self.connection.poll_established())
    }

    /// The next chunk of a message; `None` inside: the peer sends no more.
    pub fn recv_chunk(&mut self, now: Instant) -> Option<Result<Option<OwnedChunk>, CallError>> {
        let received = self.try_recv_chunk(now);
        self.set_answering(matches!(received, Some(Ok(Some(_)))));
        received
    }

    fn set_answering(&mut self, answering: bool) {
        // Only a change is something to poll for.
        if mem::replace(&mut self.answering, answering) != answering {
            self.connection.driver_mut().set_busy(answering);
        }
    }

    fn try_recv_chunk(&mut self, now: Instant) -> Option<Result<Option<OwnedChunk>, CallError>> {
        if !self.incoming.is_empty() {
            let (first, remaining) = (self.incoming_first, self.incoming_remaining);
            let bytes = self.incoming.bytes().to_vec();
            self.incoming.clear();
            return Some(Ok(Some(OwnedChunk { bytes, first, remaining })));
        }
        match done(self.connection.poll_chunk())? {
            Ok(false) => return Some(Ok(None)),
            Ok(true) => {}
            Err(error) => return Some(Err(error)),
        }
        let chunk = self.connection.chunk()?;
        let chunk = OwnedChunk {
            bytes: chunk.bytes.to_vec(),
            first: chunk.first,
            remaining: chunk.remaining,
        };
        self.connection.consume(now);
        Some(Ok(Some(chunk)))
    }

    /// The next message; `None` inside: the peer sends no more. What has arrived of an incomplete message
    /// is kept for the next call, also for [`recv_chunk`](Self::recv_chunk) and [`read`](Self::read).
    pub fn recv(&mut self, now: Instant) -> Option<Result<Option<Vec<u8>>, CallError>> {
        let received = self.try_recv(now);
        self.set_answering(matches!(received, Some(Ok(Some(_)))));
        received
    }

    fn try_recv(&mut self, now: Instant) -> Option<Result<Option<Vec<u8>>, CallError>> {
        loop {
            if self.incoming.is_complete() {
                let message = self.incoming.bytes().to_vec();
                self.incoming.clear();
                return Some(Ok(Some(message)));
            }
            match done(self.connection.poll_chunk())? {
                Ok(false) => return Some(Ok(None)),
                Ok(true) => {}
                Err(error) => return Some(Err(error)),
            }
            let chunk = self.connection.chunk()?;
            if self.incoming.is_whole(&chunk) {
                let message = chunk.bytes.to_vec();
                self.connection.consume(now);
                return Some(Ok(Some(message)));
            }
            if let Err(error) = self.collect(now) {
                return Some(Err(error));
            }
        }
    }

    /// Moves the chunk at hand to `incoming`.
    fn collect(&mut self, now: Instant) -> Result<(), CallError> {
        let Some(chunk) = self.connection.chunk() else { return Ok(()) };
        let first = if self.incoming.is_empty() { chunk.first } else { self.incoming_first };
        let remaining = chunk.remaining;
        self.incoming.push(chunk).map_err(ConnectionError::Buffer)?;
        (self.incoming_first, self.incoming_remaining) = (first, remaining);
        self.connection.consume(now);
        Ok(())
    }

    /// Bytes of the next message, or of what is left of one; 0 bytes if the peer sends no more.
    pub fn read(&mut self, into: &mut [u8], now: Instant) -> Option<Result<usize, CallError>> {
        let read = self.try_read(into, now);
        self.set_answering(matches!(read, Some(Ok(n)) if n > 0));
        read
    }

    fn try_read(&mut self, into: &mut [u8], now: Instant) -> Option<Result<usize, CallError>> {
        if into.is_empty() {
            return Some(Ok(0));
        }
        loop {
            let arrived = self.incoming.bytes();
            if !arrived.is_empty() {
                let n = arrived.len().min(into.len());
                into[..n].copy_from_slice(&arrived[..n]);
                self.incoming.drop_front(n);
                self.incoming_first = false;
                return Some(Ok(n));
            }
            match done(self.connection.poll_chunk())? {
                Ok(false) => return Some(Ok(0)),
                Ok(true) => {}
                Err(error) => return Some(Err(error)),
            }
            if let Err(error) = self.collect(now) {
                return Some(Err(error));
            }
        }
    }

    /// Takes `sending` once there is room, and then reports when it has left.
    pub fn send(&mut self, sending: &mut Sending<'_>) -> Option<Result<(), CallError>> {
        if !sending.taken {
            match &sending.message {
                Some(message) => {
                    match done(self.connection.poll_send(message, &mut self.outgoing))? {
                        Ok(()) => {}
                        Err(error) => return Some(Err(error)),
                    }
                }
                None => match done(self.connection.poll_flush(&mut self.outgoing))? {
                    Ok(()) => self.connection.finish(),
                    Err(error) => return Some(Err(error)),
                },
            }
            sending.taken = true;
            self.set_answering(false);
            return None;
        }
        done(self.connection.poll_flush(&mut self.outgoing))
    }

    /// Reports that the transport failed between polls.
    pub fn close(&mut self, now: Instant) {
        if let Some(served) = &mut self.served {
            // A session that has ended in order has lost nothing.
            let lost = self.connection.driver().is_open() || self.connection.has_failed();
            let result = if lost { Err(Failure::Protocol(Error::Transport)) } else { Ok(()) };
            served.end(&self.connection, result, now);
        }
    }
}

impl Served {
    /// Does what the server and the handle request. `drained`: no message is queued.
    fn obey(
        &mut self,
        connection: &mut Connection<BoxedProtocol, io::Error>,
        drained: bool,
        now: Instant,
    ) {
        if self.keys.refresh() {
            connection.driver_mut().revoke(self.keys.keys(), now);
        }
        if self.give_up.is_none() && self.context.handle().is_stopping() {
            self.give_up = Some(now.saturating_add(self.context.options().stop_timeout));
            connection.driver_mut().stop();
        }
        if self.give_up.is_some_and(|at| at <= now) {
            connection.abandon(CloseReason::Shutdown);
            let result = Err(Failure::Protocol(Error::Aborted(CloseReason::Shutdown)));
            self.end(connection, result, now);
        }
        match self.handle.close_request() {
            Some(Close::Finish) if drained => connection.driver_mut().outbox().finish(),
            Some(Close::Abort(why)) => connection.driver_mut().abort(why, now),
            Some(Close::Finish) | None => {}
        }
    }

    fn record(
        &mut self,
        connection: &Connection<BoxedProtocol, io::Error>,
        progress: &Progress<io::Error>,
        now: Instant,
    ) {
        if let (Progress::Event(_), Some(peer)) = (progress, connection.peer()) {
            self.handle.set_peer(&peer);
            let event = ConnectionEvent::Established(peer);
            self.context.record(event, &mut self.guard, now);
        }
        if let Some(error) = connection.driver().error() {
            self.end(connection, Err(Failure::Protocol(error)), now);
        } else if let Progress::Closed(_) = progress {
            // The error of the transport is for the next call.
            let failed = connection.has_failed();
            let result = if failed { Err(Failure::Protocol(Error::Transport)) } else { Ok(()) };
            self.end(connection, result, now);
        }
    }

    fn end(
        &mut self,
        connection: &Connection<BoxedProtocol, io::Error>,
        result: Result<(), Failure<io::Error>>,
        now: Instant,
    ) {
        if !mem::replace(&mut self.reported_end, true) {
            let established = connection.driver().is_established();
            let end = ConnectionEnd { established, result, service: None };
            self.context.record(ConnectionEvent::Ended(end), &mut self.guard, now);
            self.handle.set_closed();
        }
    }
}

impl Drop for CallConnection {
    /// A connection of a server that has not ended counts as lost.
    fn drop(&mut self) {
        if let Some(served) = &self.served {
            let now = served.context.now();
            self.close(now);
        }
    }
}

impl fmt::Debug for CallConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallConnection").field("peer", &self.peer()).finish_non_exhaustive()
    }
}

fn done<T>(poll: Poll<Result<T, ConnectionError<io::Error>>>) -> Option<Result<T, CallError>> {
    match poll {
        Poll::Ready(result) => Some(result.map_err(CallError::from)),
        Poll::Pending => None,
    }
}
