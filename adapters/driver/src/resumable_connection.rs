//! Calls on a connection that can be given up and repeated.

use core::ops::DerefMut;
use core::task::{Poll, ready};

use countersign::{Instant, Protocol, Remaining, SendError};

use crate::chunk::Chunk;
use crate::connection::{Connection, ConnectionError};
use crate::driver::{Interest, Progress};
use crate::io::Io;
use crate::keys::Keys;
use crate::message_buffer::MessageBuffer;
use crate::reassembler::Reassembler;

/// What an operation on a connection comes to.
pub type ConnectionResult<T, E> = Result<T, ConnectionError<E>>;

/// How far a call is after [`ResumableConnection::poll_call`].
#[derive(Debug)]
#[must_use]
pub enum CallProgress<T> {
    /// The call is over.
    Ready(T),
    /// More can be done at once. Poll again after other tasks.
    Yield,
    /// Nothing can be done until the transport is ready or the deadline passes.
    Wait(Interest),
}

/// A [`Connection`], and how far its owner's calls are: a call that is given up and then repeated with
/// the same arguments continues. It allocates nothing, and sends from the caller's memory.
///
/// A blocking or asynchronous client makes a call of each operation (`poll_…`):
/// [`begin_call`](Self::begin_call) once, then [`poll_call`](Self::poll_call) and wait until it is ready.
#[derive(Debug)]
pub struct ResumableConnection<P, E> {
    connection: Connection<P, E>,
    /// The caller was lent the chunk at hand. Its next call releases it.
    lent: bool,
    /// Of a message that is partly sent: how many bytes were sent, and its length.
    sending: Option<(usize, usize)>,
    /// The length of a request that was sent and has no reply yet.
    requested: Option<usize>,
}

impl<P: DerefMut<Target: Protocol>, E> ResumableConnection<P, E> {
    /// A connection at its beginning.
    pub fn new(protocol: P) -> Self {
        let connection = Connection::new(protocol);
        Self { connection, lent: false, sending: None, requested: None }
    }

    /// The connection.
    pub const fn get_ref(&self) -> &Connection<P, E> {
        &self.connection
    }

    /// The connection, for the operations that need no state of a call.
    pub const fn get_mut(&mut self) -> &mut Connection<P, E> {
        &mut self.connection
    }

    /// Begins a call: releases the chunk that [`lend_chunk`](Self::lend_chunk) returned.
    pub fn begin_call(&mut self, now: Instant) {
        if core::mem::take(&mut self.lent) {
            self.connection.consume(now);
        }
    }

    /// Polls the connection and tries `operation`, until it is ready or there is nothing to do but wait.
    /// An operation has to be ready once the connection is closed; all of this type and of
    /// [`Connection`] are.
    pub fn poll_call<I: Io<Error = E>, K: Keys + ?Sized, T>(
        &mut self,
        io: &mut I,
        keys: &K,
        now: Instant,
        mut operation: impl FnMut(&mut Self, Instant) -> Poll<T>,
    ) -> CallProgress<T> {
        loop {
            let progress = self.connection.poll(io, keys, now);
            if let Poll::Ready(result) = operation(self, now) {
                return CallProgress::Ready(result);
            }
            match progress {
                Progress::Yield => return CallProgress::Yield,
                Progress::Wait(interest) if !self.connection.wants_poll() => {
                    return CallProgress::Wait(interest);
                }
                _ => {}
            }
        }
    }

    /// Sends a message. Ready when all of it is in the send buffer. While a message is partly sent, one
    /// of another length is refused as [`SendError::LengthMismatch`].
    pub fn poll_send(&mut self, message: &[u8]) -> Poll<ConnectionResult<(), E>> {
        self.requested = None;
        let (mut sent, len) = self.sending.unwrap_or((0, message.len()));
        if len != message.len() {
            return self.refuse(len - sent);
        }
        let result = self.connection.poll_send_from(message, &mut sent);
        self.sending = (result.is_pending() && sent > 0).then_some((sent, len));
        result
    }

    /// Sends a chunk of a message, all of it or nothing. Refused while [`poll_send`](Self::poll_send) has
    /// sent a message partly.
    pub fn poll_send_chunk(
        &mut self,
        chunk: &[u8],
        remaining: Remaining,
    ) -> Poll<ConnectionResult<(), E>> {
        self.requested = None;
        match self.sending {
            Some((sent, len)) => self.refuse(len - sent),
            None => self.connection.put(|out| out.send_chunk(chunk, remaining)),
        }
    }

    /// Refuses a message while `due` bytes of another one have to be sent.
    fn refuse(&mut self, due: usize) -> Poll<ConnectionResult<(), E>> {
        self.connection.put(|_| Err(SendError::LengthMismatch { due: due as u64 }))
    }

    /// Ready when a chunk is at hand (true), or no more will be (false). The caller then
    /// [borrows](Self::lend_chunk) it.
    pub fn poll_chunk(&mut self) -> Poll<ConnectionResult<bool, E>> {
        self.requested = None;
        self.connection.poll_chunk()
    }

    /// The chunk at hand. The next [`begin_call`](Self::begin_call) releases it.
    pub fn lend_chunk(&mut self) -> Option<Chunk<'_>> {
        let chunk = self.connection.chunk();
        self.lent = chunk.is_some();
        chunk
    }

    /// Receives a message. Ready when it is complete (true), or no more comes (false).
    pub fn poll_recv<B: MessageBuffer>(
        &mut self,
        message: &mut Reassembler<B>,
        now: Instant,
    ) -> Poll<ConnectionResult<bool, E>> {
        self.requested = None;
        self.poll_message(message, now)
    }

    fn poll_message<B: MessageBuffer>(
        &mut self,
        message: &mut Reassembler<B>,
        now: Instant,
    ) -> Poll<ConnectionResult<bool, E>> {
        // A message of an earlier call: if this one is given up, the caller must not mistake it for new.
        if message.is_complete() {
            message.clear();
        }
        self.connection.poll_message(message, now)
    }

    /// Sends `request`, unless a call that was given up has, and receives the reply. Until then a request
    /// of another length is refused as [`SendError::LengthMismatch`]. Another operation ends the request:
    /// the next one is sent.
    pub fn poll_request<B: MessageBuffer>(
        &mut self,
        request: &[u8],
        reply: &mut Reassembler<B>,
        now: Instant,
    ) -> Poll<ConnectionResult<(), E>> {
        match self.requested {
            None => ready!(self.poll_send(request))?,
            // The reply to the earlier request must not pass for the reply to this one.
            Some(len) if len != request.len() => return self.refuse(0),
            Some(_) => {}
        }
        let replied = self.poll_message(reply, now);
        self.requested = replied.is_pending().then_some(request.len());
        match ready!(replied)? {
            true => Poll::Ready(Ok(())),
            false => Poll::Ready(Err(ConnectionError::PeerFinished)),
        }
    }
}
