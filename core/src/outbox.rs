//! The sending interface of a session.

use core::fmt;

use crate::error::{CloseReason, SendError};
use crate::event::Remaining;
use crate::framing::Plan;
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
    reserved: Option<Plan>,
}

impl<'a> Outbox<'a> {
    pub(crate) fn new(buffer: &'a mut SendBuffer, storage: &'a mut dyn Storage) -> Self {
        Self { buffer, storage, reserved: None }
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
        self.reserved = None;
        let plan = self.buffer.reserve(self.storage, chunk.len(), remaining)?;
        let frame = self.buffer.frame(self.storage, &plan);
        frame[plan.chunk()].copy_from_slice(chunk);
        self.buffer.commit(&plan, frame);
        Ok(())
    }

    /// Reserves `len` zero bytes for a chunk of which `remaining` follows, to be written in place.
    ///
    /// [`commit`](Self::commit) queues the chunk. Any other call discards the reservation.
    ///
    /// # Errors
    /// Every [`SendError`].
    pub fn send_space(&mut self, len: usize, remaining: Remaining) -> Result<&mut [u8], SendError> {
        self.reserved = None;
        let plan = self.buffer.reserve(self.storage, len, remaining)?;
        self.reserved = Some(plan);
        let space = &mut self.buffer.frame(self.storage, &plan)[plan.chunk()];
        // A shared buffer may still hold the bytes of another connection.
        space.fill(0);
        Ok(space)
    }

    /// Queues the chunk of the last [`send_space`](Self::send_space). No effect without one.
    pub fn commit(&mut self) {
        if let Some(plan) = self.reserved.take() {
            let frame = self.buffer.frame(self.storage, &plan);
            self.buffer.commit(&plan, frame);
        }
    }

    /// The longest chunk that an empty send buffer takes, in bytes. No received chunk is longer.
    #[must_use]
    pub fn max_chunk(&self) -> usize {
        self.buffer.max_chunk()
    }

    /// Ends the session, in both directions, with [`Error::Aborted`](crate::Error::Aborted).
    /// Queued bytes are still sent. See [`Protocol::abort`](crate::Protocol::abort).
    pub fn abort(&mut self, why: CloseReason) {
        self.reserved = None;
        self.buffer.abort(why);
    }

    /// Ends the sending direction. Queued messages are still sent. Idempotent. See
    /// [`Protocol::finish`](crate::Protocol::finish).
    pub fn finish(&mut self) {
        self.reserved = None;
        self.buffer.finish(self.storage);
    }
}

impl fmt::Debug for Outbox<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("phase", self.buffer.phase()).finish_non_exhaustive()
    }
}
