//! Puts messages together from their chunks.

use countersign::Remaining;

use crate::chunk::Chunk;
use crate::message_buffer::{BufferError, MessageBuffer};

/// Puts messages together from their chunks, in a [`MessageBuffer`].
///
/// What has arrived of a message stays when the caller gives up waiting for the rest.
#[derive(Debug)]
pub struct Reassembler<B> {
    buffer: B,
    /// The buffer holds a whole message.
    complete: bool,
}

impl<B: MessageBuffer> Reassembler<B> {
    /// A reassembler of messages of at most `buffer.max_len()` bytes.
    pub const fn new(buffer: B) -> Self {
        Self { buffer, complete: false }
    }

    /// Appends a chunk; returns whether the message is now complete. A complete message is dropped first.
    ///
    /// # Errors
    /// The message does not fit, and the chunk was not taken. Where the framing announces the length
    /// that is found out with the first chunk.
    pub fn push(&mut self, chunk: Chunk<'_>) -> Result<bool, BufferError> {
        if self.complete {
            self.clear();
        }
        let len = chunk.bytes.len();
        match chunk.remaining {
            Remaining::Bytes(more) => {
                let more = usize::try_from(more).unwrap_or(usize::MAX);
                self.buffer.reserve(len.saturating_add(more))?;
            }
            Remaining::End | Remaining::More | Remaining::Unknown => self.buffer.reserve(len)?,
        }
        self.buffer.grow(len)?.copy_from_slice(chunk.bytes);
        self.complete = chunk.is_last();
        Ok(self.complete)
    }

    /// What has arrived of the message.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.bytes()
    }

    /// Whether that is all of it.
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether nothing of a message is in it.
    pub fn is_empty(&self) -> bool {
        !self.complete && self.buffer.bytes().is_empty()
    }

    /// Drops the first `n` bytes that have arrived. What is left is no whole message any more, but its
    /// end.
    pub fn drop_front(&mut self, n: usize) {
        self.buffer.drop_front(n);
        if self.buffer.bytes().is_empty() {
            self.clear();
        }
    }

    /// Drops what has arrived and gives the memory back.
    pub fn clear(&mut self) {
        self.complete = false;
        self.buffer.clear();
    }

    /// The longest message, in bytes.
    pub fn max_len(&self) -> usize {
        self.buffer.max_len()
    }
}
