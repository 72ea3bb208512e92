//! A connection that is driven by calls: what blocking and asynchronous connections have in common.

use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker, ready};
use std::time::Duration;

use countersign::{CloseReason, Error, Instant, Peer, Remaining};
use countersign_driver::{
    Chunk, Connection, ConnectionError, Failure, Io, Keys, Progress, Reassembler, SendQueue,
};

use crate::call_error::CallError;
use crate::connection_handle::{Close, ConnectionHandle};
use crate::message_memory::{MessageBytes, MessageMemory};
use crate::monitored_connection::{ConnectionEnd, ConnectionEvent, Step};
use crate::operation::Sending;
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

/// A chunk of a message, owned.
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
    /// How much of `incoming` was [read](Self::read). Always less than all of it.
    read: usize,
    /// Whether what is in `incoming` is the beginning of its message.
    incoming_first: bool,
    /// What follows what is in `incoming`.
    incoming_remaining: Remaining,
    outgoing: SendQueue<MessageBytes>,
    /// Something was received since the last send, or since a call found nothing to receive. An orderly stop
    /// waits: the application may be about to answer.
    answering: bool,
    /// What the driver knows: an orderly stop waits also for what is queued.
    busy: bool,
    served: Option<Box<Served>>,
}

/// What a connection that a server accepted has in addition.
struct Served {
    context: Arc<ServerContext>,
    /// Until its transport is dropped.
    guard: Option<AdmissionGuard>,
    handle: ConnectionHandle,
    keys: KeysWatcher,
    /// When the connection is abandoned, once the server was told to stop.
    give_up: Option<Instant>,
    reported_end: bool,
}

impl CallConnection {
    /// A connection at its beginning.
    #[must_use]
    pub fn new(protocol: BoxedProtocol, memory: &MessageMemory) -> Self {
        Self {
            connection: Connection::new(protocol),
            incoming: Reassembler::new(memory.message_buffer()),
            read: 0,
            incoming_first: true,
            incoming_remaining: Remaining::End,
            outgoing: SendQueue::new(memory.buffer()),
            answering: false,
            busy: false,
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
        let (guard, give_up, reported_end) = (Some(guard), None, false);
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
        self.update_busy();
        self.connection.wants_poll()
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

    /// Gives back what the server held for the connection. Call it when the transport was dropped.
    pub fn release(&mut self) {
        if let Some(served) = &mut self.served {
            served.guard = None;
        }
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

    /// Calls `look` with the peer once the handshake is over, and takes it.
    pub fn look_at_peer<T>(
        &mut self,
        look: &mut Option<impl FnOnce(Peer<'_>) -> T>,
    ) -> Option<Result<T, CallError>> {
        if let Some(Err(error)) = self.established() {
            return Some(Err(error));
        }
        let peer = self.peer()?;
        Some(Ok(look.take()?(peer)))
    }

    /// Whether the handshake is over, and all of it has left.
    pub fn established(&mut self) -> Option<Result<(), CallError>> {
        done(self.connection.poll_established())
    }

    /// The next chunk of a message; `None` inside: the peer sends no more.
    pub fn recv_chunk(&mut self, now: Instant) -> Option<Result<Option<OwnedChunk>, CallError>> {
        let received = done(self.try_recv_chunk(now));
        self.set_answering(matches!(received, Some(Ok(Some(_)))));
        received
    }

    fn set_answering(&mut self, answering: bool) {
        self.answering = answering;
        self.update_busy();
    }

    fn update_busy(&mut self) {
        let busy = self.answering || !self.outgoing.is_empty();
        // Only a change is something to poll for.
        if mem::replace(&mut self.busy, busy) != busy {
            self.connection.driver_mut().set_busy(busy);
        }
    }

    fn try_recv_chunk(&mut self, now: Instant) -> Poll<Result<Option<OwnedChunk>, CallError>> {
        self.drop_read();
        if !self.incoming.is_empty() {
            let (first, remaining) = (self.incoming_first, self.incoming_remaining);
            let bytes = self.incoming.bytes().to_vec();
            self.incoming.clear();
            return Poll::Ready(Ok(Some(OwnedChunk { bytes, first, remaining })));
        }
        let Some(chunk) = ready!(self.next_chunk())? else { return Poll::Ready(Ok(None)) };
        let (bytes, first, remaining) = (chunk.bytes.to_vec(), chunk.first, chunk.remaining);
        self.connection.consume(now);
        Poll::Ready(Ok(Some(OwnedChunk { bytes, first, remaining })))
    }

    /// The chunk at hand; `None` inside: the peer sends no more.
    fn next_chunk(&mut self) -> Poll<Result<Option<Chunk<'_>>, CallError>> {
        if ready!(self.connection.poll_chunk())? {
            self.connection.chunk().map_or(Poll::Pending, |chunk| Poll::Ready(Ok(Some(chunk))))
        } else {
            Poll::Ready(Ok(None))
        }
    }

    /// The next message; `None` inside: the peer sends no more. What has arrived of an incomplete message
    /// is kept for the next call, also for [`recv_chunk`](Self::recv_chunk) and [`read`](Self::read).
    pub fn recv(&mut self, now: Instant) -> Option<Result<Option<Vec<u8>>, CallError>> {
        let received = done(self.try_recv(now));
        self.set_answering(matches!(received, Some(Ok(Some(_)))));
        received
    }

    fn try_recv(&mut self, now: Instant) -> Poll<Result<Option<Vec<u8>>, CallError>> {
        self.drop_read();
        loop {
            if self.incoming.is_complete() {
                let message = self.incoming.bytes().to_vec();
                self.incoming.clear();
                return Poll::Ready(Ok(Some(message)));
            }
            if !ready!(self.connection.poll_chunk())? {
                return Poll::Ready(Ok(None));
            }
            let Some(chunk) = self.connection.chunk() else { return Poll::Pending };
            if self.incoming.is_whole(&chunk) {
                let message = chunk.bytes.to_vec();
                self.connection.consume(now);
                return Poll::Ready(Ok(Some(message)));
            }
            self.collect(now)?;
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
        let read = done(self.try_read(into, now));
        self.set_answering(matches!(read, Some(Ok(n)) if n > 0));
        read
    }

    fn try_read(&mut self, into: &mut [u8], now: Instant) -> Poll<Result<usize, CallError>> {
        if into.is_empty() {
            return Poll::Ready(Ok(0));
        }
        while self.incoming.bytes().is_empty() {
            if ready!(self.next_chunk())?.is_none() {
                return Poll::Ready(Ok(0));
            }
            self.collect(now)?;
        }
        let left = &self.incoming.bytes()[self.read..];
        let n = left.len().min(into.len());
        into[..n].copy_from_slice(&left[..n]);
        (self.read, self.incoming_first) = (self.read + n, false);
        if self.read == self.incoming.bytes().len() {
            self.drop_read();
        }
        Poll::Ready(Ok(n))
    }

    /// Drops what was read from `incoming`. Not after each read, which would move the rest each time.
    fn drop_read(&mut self) {
        self.incoming.drop_front(mem::take(&mut self.read));
    }

    /// Takes `sending` once there is room, and then reports when it has left.
    pub fn send(&mut self, sending: &mut Sending<'_>) -> Option<Result<(), CallError>> {
        done(self.try_send(sending))
    }

    fn try_send(&mut self, sending: &mut Sending<'_>) -> Poll<Result<(), CallError>> {
        if sending.taken {
            let sent = self.connection.poll_flush(&mut self.outgoing).map_err(CallError::from);
            self.update_busy();
            return sent;
        }
        match &sending.message {
            Some(message) => ready!(self.connection.poll_send(message, &mut self.outgoing))?,
            None => {
                ready!(self.connection.poll_flush(&mut self.outgoing))?;
                self.connection.finish();
            }
        }
        sending.taken = true;
        self.set_answering(false);
        Poll::Pending
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
            self.report(event, now);
        }
        if let Some(error) = connection.driver().error() {
            self.end(connection, Err(Failure::Protocol(error)), now);
        } else if let Progress::Closed(_) = progress {
            // The error of the transport is for the next call.
            self.end(connection, result(connection.has_failed()), now);
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
            self.report(ConnectionEvent::Ended(end), now);
            self.handle.set_over();
        }
    }

    fn report(&mut self, event: ConnectionEvent<'_>, now: Instant) {
        if let Some(guard) = &mut self.guard {
            self.context.record(event, guard, now);
        }
    }
}

impl Drop for CallConnection {
    /// A connection of a server that has not ended counts as lost.
    fn drop(&mut self) {
        if let Some(served) = &mut self.served {
            // A session that has ended in order has lost nothing.
            let lost = self.connection.driver().is_open() || self.connection.has_failed();
            let now = served.context.now();
            served.end(&self.connection, result(lost), now);
        }
    }
}

impl fmt::Debug for CallConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallConnection").field("peer", &self.peer()).finish_non_exhaustive()
    }
}

/// How a connection has ended, with or without its transport.
const fn result(failed: bool) -> Result<(), Failure<io::Error>> {
    if failed { Err(Failure::Protocol(Error::Transport)) } else { Ok(()) }
}

fn done<T, E: Into<CallError>>(poll: Poll<Result<T, E>>) -> Option<Result<T, CallError>> {
    match poll {
        Poll::Ready(result) => Some(result.map_err(E::into)),
        Poll::Pending => None,
    }
}
