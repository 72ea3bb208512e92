//! Puts messages together from their chunks.

use countersign::Remaining;

use crate::chunk::Chunk;
use crate::message_buffer::{BufferError, MessageBuffer};

/// Appends a chunk to what `buffer` holds of its message; returns whether that is now complete.
pub(crate) fn append(
    buffer: &mut impl MessageBuffer,
    chunk: Chunk<'_>,
) -> Result<bool, BufferError> {
    let len = chunk.bytes.len();
    match chunk.remaining {
        Remaining::Bytes(more) => {
            let more = usize::try_from(more).unwrap_or(usize::MAX);
            buffer.reserve(len.saturating_add(more))?;
        }
        Remaining::End | Remaining::More | Remaining::Unknown => buffer.reserve(len)?,
    }
    buffer.append(chunk.bytes)?;
    Ok(chunk.is_last())
}

/// Whether `chunk` alone is a message that `buffer` could hold, and nothing is in it. In a byte stream the
/// length of a piece is chance, and no limit applies.
pub(crate) fn is_whole(buffer: &impl MessageBuffer, chunk: &Chunk<'_>) -> bool {
    let fits = match chunk.remaining {
        Remaining::End => chunk.bytes.len() <= buffer.max_len(),
        Remaining::Unknown => true,
        Remaining::Bytes(_) | Remaining::More => false,
    };
    fits && buffer.bytes().is_empty()
}

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
        self.complete = append(&mut self.buffer, chunk)?;
        Ok(self.complete)
    }

    /// Whether `chunk` alone is the next message, and not too long: it can be used where it is.
    pub fn is_whole(&self, chunk: &Chunk<'_>) -> bool {
        !self.complete && is_whole(&self.buffer, chunk)
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
