//! The application's side of a session's send buffer.

use core::fmt;

use crate::error::{CloseReason, SendError};
use crate::event::Remaining;
use crate::framing::Plan;
use crate::send_buffer::SendBuffer;
use crate::storage::Storage;

/// Where an application sends messages: all of one, or none of it.
///
/// Whatever is [`Full`](SendError::Full) changes nothing and is followed by one
/// [`Event::Writable`](crate::Event::Writable).
pub struct Outbox<'a> {
    buffer: &'a mut SendBuffer,
    storage: &'a mut dyn Storage,
    reserved: Option<Plan>,
}

impl<'a> Outbox<'a> {
    pub(crate) fn new(buffer: &'a mut SendBuffer, storage: &'a mut dyn Storage) -> Self {
        Self { buffer, storage, reserved: None }
    }

    /// Sends `message`. In a raw byte stream an empty one is nothing.
    ///
    /// # Errors
    /// Every [`SendError`]; [`SendError::TooLong`] asks for parts.
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_chunk(message, Remaining::End)
    }

    /// Sends a part of a message that `rest` follows. Framings that write a message's length first
    /// need to know it: to them [`Remaining::More`] and [`Remaining::Unknown`] are errors, and so are parts that
    /// do not add up.
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

    /// Room for a part of `len` bytes that `rest` follows, all 0, to write it in place. It is sent
    /// by [`commit`](Self::commit), and not at all without.
    ///
    /// # Errors
    /// Every [`SendError`].
    pub fn send_space(&mut self, len: usize, remaining: Remaining) -> Result<&mut [u8], SendError> {
        self.reserved = None;
        let plan = self.buffer.reserve(self.storage, len, remaining)?;
        self.reserved = Some(plan);
        let space = &mut self.buffer.frame(self.storage, &plan)[plan.chunk()];
        // What the buffer held before was perhaps another connection's.
        space.fill(0);
        Ok(space)
    }

    /// Sends what was written to the last [`send_space`](Self::send_space); nothing if there is
    /// none.
    pub fn commit(&mut self) {
        if let Some(plan) = self.reserved.take() {
            let frame = self.buffer.frame(self.storage, &plan);
            self.buffer.commit(&plan, frame);
        }
    }

    /// The longest part that an empty send side takes, in bytes. No received part is longer.
    #[must_use]
    pub fn max_chunk(&self) -> usize {
        self.buffer.max_chunk()
    }

    /// Ends the session, both ways, with [`Error::Aborted`](crate::Error::Aborted); what was sent
    /// still goes out. See [`Protocol::abort`](crate::Protocol::abort).
    pub fn abort(&mut self, why: CloseReason) {
        self.reserved = None;
        self.buffer.abort(why);
    }

    /// No more messages from this side; what was sent still goes out. Idempotent. See
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
