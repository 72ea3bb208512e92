//! Why a call on a connection failed.

use std::fmt;
use std::io;

use countersign::{Error, SendError};
use countersign_driver::{BufferError, ConnectionError, Failure};

use crate::session_factory::StartError;

/// Why a call on a connection failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError {
    /// The connection could not be made.
    Connect(io::Error),
    /// The handshake could not begin.
    Start(StartError),
    /// The transport failed.
    Io(io::Error),
    /// The session failed.
    Protocol(Error),
    /// The message was not sent.
    Send(SendError),
    /// [`ConnectionOptions::timeout`](crate::ConnectionOptions::timeout) passed. The connection is as it was.
    TimedOut,
    /// [`ConnectionOptions::timeout`](crate::ConnectionOptions::timeout) passed while an earlier message was
    /// still queued. Nothing of this one was.
    Busy,
    /// The peer's message exceeds the limit. Nothing of it is lost: take it in chunks.
    MessageTooLong,
    /// The memory for messages is exhausted. A message to send was not sent. Nothing of the peer's message
    /// is lost: receive again later, or take it in chunks.
    MemoryExhausted,
    /// The peer sends no more messages, so no reply can come.
    PeerFinished,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::Start(error) => error.fmt(f),
            Self::Io(error) => write!(f, "the connection broke: {error}"),
            Self::Protocol(error) => error.fmt(f),
            Self::Send(error) => error.fmt(f),
            Self::TimedOut => f.write_str("the call timed out"),
            Self::Busy => f.write_str("the call timed out before an earlier message had left"),
            Self::MessageTooLong => {
                f.write_str("the peer's message exceeds the limit: raise it, or take chunks")
            }
            Self::MemoryExhausted => {
                f.write_str("the memory for messages is exhausted: try again, or raise its limit")
            }
            Self::PeerFinished => f.write_str("the peer finished without a reply"),
        }
    }
}

impl std::error::Error for CallError {}

/// The [`CallError`] is inside.
impl From<CallError> for io::Error {
    fn from(error: CallError) -> Self {
        let kind = match &error {
            CallError::Connect(error) | CallError::Io(error) => error.kind(),
            CallError::Protocol(Error::Truncated(_)) | CallError::PeerFinished => {
                io::ErrorKind::UnexpectedEof
            }
            CallError::Protocol(_) => io::ErrorKind::InvalidData,
            CallError::Send(_) => io::ErrorKind::BrokenPipe,
            CallError::TimedOut | CallError::Busy => io::ErrorKind::TimedOut,
            CallError::MemoryExhausted => io::ErrorKind::OutOfMemory,
            CallError::Start(_) | CallError::MessageTooLong => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<Failure<io::Error>> for CallError {
    fn from(failure: Failure<io::Error>) -> Self {
        match failure {
            Failure::Io(error) => Self::Io(error),
            Failure::Protocol(error) => Self::Protocol(error),
        }
    }
}

impl From<ConnectionError<io::Error>> for CallError {
    fn from(error: ConnectionError<io::Error>) -> Self {
        match error {
            ConnectionError::Io(error) => Self::Io(error),
            ConnectionError::Protocol(Error::Transport) => {
                Self::Io(io::ErrorKind::NotConnected.into())
            }
            ConnectionError::Protocol(error) => Self::Protocol(error),
            ConnectionError::Send(error) => Self::Send(error),
            ConnectionError::Buffer(BufferError::TooLong { .. }) => Self::MessageTooLong,
            ConnectionError::Buffer(BufferError::Exhausted) => Self::MemoryExhausted,
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::PeerFinished => Self::PeerFinished,
        }
    }
}
