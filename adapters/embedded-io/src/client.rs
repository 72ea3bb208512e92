//! What both clients are: a conversation, looked at between two waits.

use core::fmt;
use core::ops::DerefMut;
use core::task::Poll;

use countersign::{Error, Instant, Key, Outbox, Protocol, Remaining, SendError};
use countersign_driver::services::Desk;
use countersign_driver::{Chunk, Connection, Failure};

/// After the handshake nobody asks for a key.
pub(crate) const NO_KEYS: Option<Key> = None;

/// Why a client's call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientError<E> {
    /// The transport failed. The next call says that the connection is lost.
    Io(E),
    /// The protocol did, for good.
    Protocol(Error),
    /// Nothing was sent.
    Send(SendError),
    /// The message is longer than the buffer of its [`Message`]. The buffer is full of its beginning;
    /// the part that did not fit is still at hand, for [`Message::clear`] and another call, or to be
    /// taken as a part.
    TooLong,
    /// The time was over before there was an answer: of a blocking client's timeout. All is as it
    /// was, and the call can be made again.
    TimedOut,
}

impl<E: fmt::Display> fmt::Display for ClientError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Protocol(error) => error.fmt(f),
            Self::Send(error) => error.fmt(f),
            Self::TooLong => {
                f.write_str("the peer's message is longer than its buffer: take it in parts")
            }
            Self::TimedOut => f.write_str("nothing happened for too long"),
        }
    }
}

impl<E: core::error::Error> core::error::Error for ClientError<E> {}

impl<E> From<Failure<E>> for ClientError<E> {
    fn from(failure: Failure<E>) -> Self {
        match failure {
            Failure::Io(error) => Self::Io(error),
            Failure::Protocol(error) => Self::Protocol(error),
        }
    }
}

/// A message that is put together from its parts, in memory of the caller's. What has come of it stays
/// here when a call is given up: the next one goes on with it.
#[derive(Debug)]
pub struct Message<'b> {
    buffer: &'b mut [u8],
    len: usize,
    whole: bool,
}

impl<'b> Message<'b> {
    /// Messages of at most `buffer.len()` bytes.
    pub fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, len: 0, whole: false }
    }

    /// What has come of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// Whether that is all of it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Forgets what has come of it.
    pub fn clear(&mut self) {
        (self.len, self.whole) = (0, false);
    }

    /// Takes a part, or none of it if there is no room.
    fn push(&mut self, chunk: Chunk<'_>) -> bool {
        let Some(space) = self.buffer[self.len..].get_mut(..chunk.bytes.len()) else {
            return false;
        };
        space.copy_from_slice(chunk.bytes);
        self.len += chunk.bytes.len();
        self.whole = matches!(chunk.remaining, Remaining::End | Remaining::Unknown);
        true
    }
}

/// A connection and how far its caller is with it.
#[derive(Debug)]
pub(crate) struct Talk<M> {
    pub(crate) connection: Connection<M, Desk>,
    /// The part at hand was given to the caller, who is done with it at the next call.
    lent: bool,
    /// Of a message that is sent in parts: how much has been, and how much is to come.
    begun: Option<(usize, usize)>,
}

impl<M: DerefMut<Target: Protocol>> Talk<M> {
    pub(crate) fn new(machine: M) -> Self {
        Self { connection: Connection::new(machine, Desk::default()), lent: false, begun: None }
    }

    pub(crate) fn changes(&self) -> u32 {
        self.connection.service().changes()
    }

    /// Whether the connection has ended, and not in order. A machine whose transport has failed does not
    /// know.
    fn failed(&self) -> bool {
        matches!(self.connection.service().closed(), Some(Err(_)))
    }

    /// Why nothing more will happen.
    pub(crate) fn ended<E>(&self) -> ClientError<E> {
        match self.connection.service().closed() {
            Some(Err(error)) => ClientError::Protocol(error),
            _ => ClientError::Send(SendError::Ended),
        }
    }

    /// Whether the handshake is over.
    pub(crate) fn opened<E>(&self) -> Poll<Result<(), ClientError<E>>> {
        match self.connection.service() {
            desk if desk.closed().is_some() => Poll::Ready(Err(self.ended())),
            desk if desk.is_open() => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    /// The caller calls again, and so is done with what it was given.
    pub(crate) fn take_back(&mut self, now: Instant) {
        if core::mem::take(&mut self.lent) {
            self.connection.consume(now);
        }
    }

    /// Whether a part is at hand (`true`), or none will be.
    pub(crate) fn look<E>(&mut self) -> Poll<Result<bool, ClientError<E>>> {
        if self.connection.chunk().is_some() {
            return Poll::Ready(Ok(true));
        }
        match self.connection.service().peer_finished() {
            _ if self.failed() => Poll::Ready(Err(self.ended())),
            true => Poll::Ready(Ok(false)),
            false => Poll::Pending,
        }
    }

    /// Lends the caller the part at hand.
    pub(crate) fn lend(&mut self) -> Option<Chunk<'_>> {
        let chunk = self.connection.chunk();
        self.lent = chunk.is_some();
        chunk
    }

    /// Puts what is at hand into `message`; ready when that is whole, or no more comes.
    pub(crate) fn gather<E>(
        &mut self,
        message: &mut Message<'_>,
        now: Instant,
    ) -> Poll<Result<bool, ClientError<E>>> {
        match self.look() {
            Poll::Ready(Ok(true)) => {}
            other => return other,
        }
        if self.connection.chunk().is_some_and(|chunk| !message.push(chunk)) {
            return Poll::Ready(Err(ClientError::TooLong));
        }
        self.connection.consume(now);
        if message.whole { Poll::Ready(Ok(true)) } else { Poll::Pending }
    }

    /// Sends as much of `message` as there is room for; ready when that is all.
    pub(crate) fn send<E>(&mut self, message: &[u8]) -> Poll<Result<(), ClientError<E>>> {
        if self.failed() {
            return Poll::Ready(Err(self.ended()));
        }
        let (mut sent, left) = self.begun.unwrap_or((0, message.len()));
        if sent + left != message.len() {
            let due = left as u64;
            return Poll::Ready(Err(ClientError::Send(SendError::LengthMismatch { due })));
        }
        loop {
            let mut out = self.connection.outbox();
            let chunk = &message[sent..];
            let chunk = &chunk[..chunk.len().min(out.max_chunk())];
            let remaining = match message.len() - sent - chunk.len() {
                0 => Remaining::End,
                more => Remaining::Bytes(more as u64),
            };
            match out.send_chunk(chunk, remaining) {
                Err(SendError::Full) => return Poll::Pending,
                Err(why) => return Poll::Ready(Err(self.refused(why))),
                Ok(()) => sent += chunk.len(),
            }
            self.begun = (remaining != Remaining::End).then_some((sent, message.len() - sent));
            if self.begun.is_none() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Does to the outbox what `send` does, once there is room.
    pub(crate) fn put<E>(
        &mut self,
        send: impl FnOnce(&mut Outbox<'_>) -> Result<(), SendError>,
    ) -> Poll<Result<(), ClientError<E>>> {
        if self.failed() {
            return Poll::Ready(Err(self.ended()));
        }
        match send(&mut self.connection.outbox()) {
            Err(SendError::Full) => Poll::Pending,
            Err(why) => Poll::Ready(Err(self.refused(why))),
            Ok(()) => Poll::Ready(Ok(())),
        }
    }

    /// Whether all that was sent has been written.
    pub(crate) fn written<E>(&mut self, now: Instant) -> Poll<Result<(), ClientError<E>>> {
        if !self.failed() && !self.connection.transmit(now).is_empty() {
            return Poll::Pending;
        }
        // What an ended connection had to send is gone, or was its last word.
        Poll::Ready(if self.failed() { Err(self.ended()) } else { Ok(()) })
    }

    /// Throws away what comes, for as long as it does.
    pub(crate) fn discard<E>(&mut self, now: Instant) -> Poll<Result<(), ClientError<E>>> {
        self.connection.consume(now);
        Poll::Pending
    }

    /// That a connection has ended says less than why.
    fn refused<E>(&self, why: SendError) -> ClientError<E> {
        if why == SendError::Ended { self.ended() } else { ClientError::Send(why) }
    }
}
