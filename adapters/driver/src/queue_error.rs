//! Why a message was not queued.

use core::fmt;

use countersign::SendError;

/// Why a [`SendQueue`](crate::SendQueue) did not take a message. Nothing of it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// The outbox or the queue refused it. [`SendError::Full`]: there is room again when the queue is
    /// flushed.
    Send(SendError),
    /// The memory that the messages of all connections share is exhausted. Nothing reports when it is
    /// not any more.
    MemoryExhausted,
}

impl From<SendError> for QueueError {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(error) => error.fmt(f),
            Self::MemoryExhausted => f.write_str("the memory for messages is exhausted"),
        }
    }
}

impl core::error::Error for QueueError {}
