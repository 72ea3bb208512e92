//! The sending interface of a session.

use core::fmt;

use crate::error::{CloseReason, SendError};
use crate::event::Remaining;
use crate::send_buffer::SendBuffer;
use crate::storage::Storage;

/// Sends messages on a session. Borrowed from [`Protocol::split`](crate::Protocol::split).
///
/// Each call queues all of its bytes or none. A call that returns [`SendError::Full`] changes
/// nothing and is followed by exactly one [`Event::Writable`](crate::Event::Writable).
///
/// ```
/// use countersign::{Outbox, SendError};
///
/// /// Returns whether the message was queued. If not, try again on `Event::Writable`.
/// fn try_send(outbox: &mut Outbox<'_>, message: &[u8]) -> Result<bool, SendError> {
///     match outbox.send(message) {
///         Ok(()) => Ok(true),
///         Err(SendError::Full) => Ok(false),
///         Err(error) => Err(error), // for example `TooLong`: use `send_chunk`
///     }
/// }
/// # let _ = try_send;
/// ```
pub struct Outbox<'a> {
    buffer: &'a mut SendBuffer,
    storage: &'a mut dyn Storage,
}

impl<'a> Outbox<'a> {
    pub(crate) fn new(buffer: &'a mut SendBuffer, storage: &'a mut dyn Storage) -> Self {
        Self { buffer, storage }
    }

    /// The same outbox for a shorter time, for another owner.
    #[must_use]
    pub fn reborrow(&mut self) -> Outbox<'_> {
        Outbox::new(self.buffer, self.storage)
    }

    /// Queues `message` whole. In a raw byte stream an empty message has no effect.
    ///
    /// # Errors
    /// Every [`SendError`]. After [`SendError::TooLong`], send the message in chunks of at most
    /// [`max_chunk`](Self::max_chunk) bytes.
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_chunk(message, Remaining::End)
    }

    /// Queues a chunk of a message, of which `remaining` follows.
    ///
    /// Framings that send the length of a message first need that length: they reject
    /// [`Remaining::More`] and [`Remaining::Unknown`], and chunks that do not add up.
    ///
    /// # Errors
    /// Every [`SendError`].
    pub fn send_chunk(&mut self, chunk: &[u8], remaining: Remaining) -> Result<(), SendError> {
        self.buffer.send(self.storage, chunk.len(), remaining, |space| space.copy_from_slice(chunk))
    }

    /// Queues a chunk of `len` bytes that `fill` writes in place, over zeros. `remaining` follows of its
    /// message, as in [`send_chunk`](Self::send_chunk). Without room `fill` is not called.
    ///
    /// # Errors
    /// Every [`SendError`].
    pub fn send_with(
        &mut self,
        len: usize,
        remaining: Remaining,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        self.buffer.send(self.storage, len, remaining, |space| {
            // A shared buffer may still hold the bytes of another connection.
            space.fill(0);
            fill(space);
        })
    }

    /// The longest chunk that an empty send buffer takes, in bytes. No received chunk is longer.
    #[must_use]
    pub fn max_chunk(&self) -> usize {
        self.buffer.max_chunk()
    }

    /// Ends the session, in both directions, with [`Error::Aborted`](crate::Error::Aborted).
    /// Queued bytes are still sent. See [`Protocol::abort`](crate::Protocol::abort).
    pub fn abort(&mut self, why: CloseReason) {
        self.buffer.abort(why);
    }

    /// Ends the sending direction. Queued messages are still sent. Idempotent. See
    /// [`Protocol::finish`](crate::Protocol::finish).
    pub fn finish(&mut self) {
        self.buffer.finish(self.storage);
    }
}

impl fmt::Debug for Outbox<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("phase", self.buffer.phase()).finish_non_exhaustive()
    }
}
