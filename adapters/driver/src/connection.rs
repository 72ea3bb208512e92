//! A connection that its owner drives by calls, rather than one that calls a service.

use core::fmt;
use core::ops::DerefMut;
use core::task::Poll;

use countersign::{CloseReason, Error, Event, Instant, Outbox, Peer, Protocol, SendError};

use crate::chunk::Chunk;
use crate::driver::{Driver, Failure, Progress};
use crate::io::Io;
use crate::keys::Keys;
use crate::message_buffer::{BufferError, MessageBuffer};
use crate::queue_error::QueueError;
use crate::reassembler::Reassembler;
use crate::send_queue::{SendQueue, send_from};

/// Why a call on a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionError<E> {
    /// The transport failed. Later calls report [`Error::Transport`].
    Io(E),
    /// The session failed, for good.
    Protocol(Error),
    /// Nothing was sent.
    Send(SendError),
    /// The peer's message does not fit the buffer: what has arrived of it stays at hand, to be taken in
    /// chunks. Or the memory for a message to send is exhausted: nothing was sent.
    Buffer(BufferError),
    /// The caller's time limit passed. The connection is as it was, and the call can be repeated.
    TimedOut,
    /// The peer sends no more messages, so no reply can come.
    PeerFinished,
}

impl<E: fmt::Display> fmt::Display for ConnectionError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the connection failed: {error}"),
            Self::Protocol(error) => error.fmt(f),
            Self::Send(error) => error.fmt(f),
            Self::Buffer(error @ BufferError::TooLong { .. }) => {
                write!(f, "{error}: take it in chunks")
            }
            Self::Buffer(error @ BufferError::Exhausted) => error.fmt(f),
            Self::TimedOut => f.write_str("the call timed out"),
            Self::PeerFinished => f.write_str("the peer finished without a reply"),
        }
    }
}

impl<E: core::error::Error> core::error::Error for ConnectionError<E> {}

impl<E> From<Failure<E>> for ConnectionError<E> {
    fn from(failure: Failure<E>) -> Self {
        match failure {
            Failure::Io(error) => Self::Io(error),
            Failure::Protocol(error) => Self::Protocol(error),
        }
    }
}

/// A [`Driver`], and what its events have changed.
///
/// The owner [`poll`](Self::poll)s it, tries an operation (`poll_…`), polls again if the operation
/// [left something to do](Self::wants_poll), and waits if the operation is pending.
#[derive(Debug)]
pub struct Connection<P, E> {
    driver: Driver<P, E>,
    peer_finished: bool,
    /// This side has finished. It stays so when the connection is over.
    finished: bool,
    /// An operation left something to do.
    dirty: bool,
    /// All that was sent has left, as of the last poll.
    flushed: bool,
    /// The transport had failed when it was last polled, with a chunk at hand.
    broken: bool,
    /// How the connection ended. An I/O error is reported once.
    closed: Option<Result<(), Failure<E>>>,
    /// Counts what a waiting caller may wait for.
    changes: u32,
}

impl<P: DerefMut<Target: Protocol>, E> Connection<P, E> {
    /// A connection at its beginning.
    pub fn new(protocol: P) -> Self {
        Self {
            driver: Driver::new(protocol),
            peer_finished: false,
            finished: false,
            dirty: false,
            flushed: false,
            broken: false,
            closed: None,
            changes: 0,
        }
    }

    /// Makes progress until nothing more can be done now. The only event that it returns is
    /// [`Event::Established`], for callers that record connections: poll again then.
    pub fn poll<I: Io<Error = E>, K: Keys + ?Sized>(
        &mut self,
        io: &mut I,
        keys: &K,
        now: Instant,
    ) -> Progress<E> {
        self.dirty = false;
        if self.closed.is_some() {
            return Progress::Closed(Ok(()));
        }
        loop {
            let progress = self.driver.poll(io, keys, now);
            match progress {
                Progress::Event(event) => {
                    self.changes = self.changes.wrapping_add(1);
                    self.peer_finished |= event == Event::PeerFinished;
                    if event == Event::Established {
                        return progress;
                    }
                }
                Progress::Wait(interest) => {
                    let broken = self.driver.is_broken();
                    if broken != self.broken {
                        self.broken = broken;
                        self.changes = self.changes.wrapping_add(1);
                    }
                    self.note_flushed(!interest.write && !broken);
                    return progress;
                }
                Progress::Yield => return progress,
                Progress::Closed(result) => {
                    self.changes = self.changes.wrapping_add(1);
                    self.closed = Some(result);
                    return Progress::Closed(Ok(()));
                }
            }
        }
    }

    fn note_flushed(&mut self, flushed: bool) {
        if self.flushed != flushed {
            self.flushed = flushed;
            self.changes = self.changes.wrapping_add(1);
        }
    }

    /// Whether an operation left something to do since the last poll.
    pub const fn wants_poll(&self) -> bool {
        self.dirty
    }

    /// Differs from an earlier value if something has happened that a caller may wait for.
    pub const fn changes(&self) -> u32 {
        self.changes
    }

    /// Whether the connection is over and the transport can be dropped.
    pub const fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Whether the transport failed, or the session.
    pub const fn has_failed(&self) -> bool {
        matches!(self.closed, Some(Err(_))) || self.driver.error().is_some()
    }

    /// Ends the connection at once, without a last word. Calls report [`Error::Aborted`].
    pub fn abandon(&mut self, why: CloseReason) {
        if self.closed.is_none() {
            let error = self.driver.error();
            let aborted = self.driver.abandon().then_some(Error::Aborted(why));
            self.changes = self.changes.wrapping_add(1);
            self.closed = Some(error.or(aborted).map_or(Ok(()), |it| Err(Failure::Protocol(it))));
        }
    }

    /// The driver.
    pub const fn driver(&self) -> &Driver<P, E> {
        &self.driver
    }

    /// The driver. Poll afterwards.
    pub const fn driver_mut(&mut self) -> &mut Driver<P, E> {
        self.dirty = true;
        &mut self.driver
    }

    /// The peer, once the handshake is over.
    pub fn peer(&self) -> Option<Peer<'_>> {
        self.driver.peer()
    }

    /// Why nothing more will happen, if that is so.
    fn ended(&mut self) -> Option<ConnectionError<E>> {
        if let Some(error) = self.driver.error() {
            return Some(ConnectionError::Protocol(error));
        }
        match self.closed.as_mut()? {
            Ok(()) => Some(ConnectionError::Send(SendError::Ended)),
            failed => match core::mem::replace(failed, Err(Failure::Protocol(Error::Transport))) {
                Err(failure) => Some(failure.into()),
                Ok(()) => None,
            },
        }
    }

    /// Why nothing that is sent will leave any more, if that is so. What the peer has sent may still be
    /// at hand.
    fn send_ended(&mut self) -> Option<ConnectionError<E>> {
        let broken = ConnectionError::Protocol(Error::Transport);
        self.ended().or_else(|| self.driver.is_broken().then_some(broken))
    }

    /// Ready when the handshake is over and all of it has left. In a handshake that proves nothing to
    /// the client that is when it has answered: the peer's refusal is found out later.
    pub fn poll_established(&mut self) -> Poll<Result<(), ConnectionError<E>>> {
        if !self.driver.is_established() {
            return self.ended().map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
        }
        // If it has ended meanwhile, the next call finds out.
        if self.flushed || self.broken || !self.driver.is_open() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Ready when a chunk is at hand (true), or no more will be (false).
    pub fn poll_chunk(&mut self) -> Poll<Result<bool, ConnectionError<E>>> {
        if self.driver.chunk().is_some() {
            return Poll::Ready(Ok(true));
        }
        if self.peer_finished && self.driver.error().is_none() {
            return Poll::Ready(Ok(false));
        }
        self.ended().map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
    }

    /// The chunk at hand.
    pub fn chunk(&mut self) -> Option<Chunk<'_>> {
        self.driver.chunk()
    }

    /// Releases the chunk at hand.
    pub fn consume(&mut self, now: Instant) {
        self.dirty = true;
        self.driver.consume(now);
    }

    /// Moves chunks to `message`; ready when it is complete (true), or no more comes (false).
    pub fn poll_message<B: MessageBuffer>(
        &mut self,
        message: &mut Reassembler<B>,
        now: Instant,
    ) -> Poll<Result<bool, ConnectionError<E>>> {
        match self.poll_chunk() {
            Poll::Ready(Ok(true)) => {}
            other => return other,
        }
        let pushed = self.driver.chunk().map(|chunk| message.push(chunk));
        match pushed {
            None => Poll::Pending,
            Some(Err(error)) => Poll::Ready(Err(ConnectionError::Buffer(error))),
            Some(Ok(complete)) => {
                self.consume(now);
                if complete { Poll::Ready(Ok(true)) } else { Poll::Pending }
            }
        }
    }

    /// Sends a message through `queue`, which takes what finds no room. Ready when the message was taken,
    /// whole; pending while an earlier one is queued. Where the memory of the queue is exhausted, a message
    /// that is one chunk waits for room in the send buffer, and a longer one fails.
    pub fn poll_send<B: MessageBuffer>(
        &mut self,
        message: &[u8],
        queue: &mut SendQueue<B>,
    ) -> Poll<Result<(), ConnectionError<E>>> {
        if !queue.is_empty() {
            return self.send_ended().map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
        }
        let is_chunk = message.len() <= self.driver.outbox().max_chunk();
        match self.put(|out| queue.send(message, out)) {
            Poll::Ready(Err(ConnectionError::Buffer(_))) if is_chunk => Poll::Pending,
            result => result,
        }
    }

    /// Sends a message from where it is, without a queue: as much of it as there is room for behind the
    /// first `sent` bytes, which it counts up. Ready when all was sent. Another message may only follow
    /// after that.
    pub fn poll_send_from(
        &mut self,
        message: &[u8],
        sent: &mut usize,
    ) -> Poll<Result<(), ConnectionError<E>>> {
        let before = *sent;
        if before > 0 && before >= message.len() {
            return Poll::Ready(Ok(()));
        }
        let result = self.put(|out| send_from(out, message, sent));
        if *sent > before {
            self.note_sent();
        }
        result
    }

    /// Does `send` to the outbox; pending if it is full.
    pub fn put<R: Into<QueueError>>(
        &mut self,
        send: impl FnOnce(&mut Outbox<'_>) -> Result<(), R>,
    ) -> Poll<Result<(), ConnectionError<E>>> {
        if self.driver.error().is_some() || self.closed.is_some() {
            return match self.ended() {
                // Whether the peer's end has arrived meanwhile makes no difference.
                Some(ConnectionError::Send(SendError::Ended)) if self.finished => {
                    Poll::Ready(Err(ConnectionError::Send(SendError::Finished)))
                }
                error => error.map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
            };
        }
        if self.finished {
            return Poll::Ready(Err(ConnectionError::Send(SendError::Finished)));
        }
        if let Some(error) = self.send_ended() {
            return Poll::Ready(Err(error));
        }
        match send(&mut self.driver.outbox()).map_err(R::into) {
            Ok(()) => {
                self.note_sent();
                Poll::Ready(Ok(()))
            }
            // Until there is room, or the handshake is over.
            Err(QueueError::Send(SendError::Full | SendError::NotEstablished)) => Poll::Pending,
            Err(QueueError::Send(error)) => {
                Poll::Ready(Err(self.ended().unwrap_or(ConnectionError::Send(error))))
            }
            Err(QueueError::MemoryExhausted) => {
                Poll::Ready(Err(ConnectionError::Buffer(BufferError::Exhausted)))
            }
        }
    }

    /// Something was put into the outbox.
    const fn note_sent(&mut self) {
        self.dirty = true;
        self.flushed = false;
    }

    /// No more messages from this side. Poll afterwards.
    pub fn finish(&mut self) {
        self.note_sent();
        self.finished = true;
        self.driver.outbox().finish();
    }

    /// Moves on what is queued; ready when all that was sent has left the transport.
    pub fn poll_flush<B: MessageBuffer>(
        &mut self,
        queue: &mut SendQueue<B>,
    ) -> Poll<Result<(), ConnectionError<E>>> {
        if self.driver.is_broken() {
            return Poll::Ready(Err(ConnectionError::Protocol(Error::Transport)));
        }
        if !queue.is_empty() && self.driver.is_open() {
            match queue.flush(&mut self.driver.outbox()) {
                Ok(true) => self.note_sent(),
                Ok(false) => {}
                Err(error) => {
                    return Poll::Ready(Err(self.ended().unwrap_or(ConnectionError::Send(error))));
                }
            }
            return Poll::Pending;
        }
        self.poll_sent()
    }

    /// Ready when all that was sent has left the transport.
    pub fn poll_sent(&mut self) -> Poll<Result<(), ConnectionError<E>>> {
        if self.flushed && self.driver.is_open() {
            return Poll::Ready(Ok(()));
        }
        match self.send_ended() {
            // Both sides have finished, and all has left.
            Some(ConnectionError::Send(SendError::Ended)) => Poll::Ready(Ok(())),
            Some(error) => Poll::Ready(Err(error)),
            None if self.flushed => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }

    /// Drops what the peer still sends; ready when the connection is over.
    pub fn poll_closed(&mut self, now: Instant) -> Poll<Result<(), ConnectionError<E>>> {
        if self.driver.chunk().is_some() {
            self.consume(now);
        }
        match self.ended() {
            Some(ConnectionError::Send(SendError::Ended)) => Poll::Ready(Ok(())),
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }
}
