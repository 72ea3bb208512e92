//! Misuse of an interface by the application. The failed call has no effect.

use core::fmt;

/// Why a session cannot be created from a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigError {
    /// The handshake buffer is shorter than [`Config::handshake_len`](crate::Config::handshake_len).
    HandshakeBuffer {
        /// The least length, in bytes.
        needed: usize,
    },
    /// The receive buffer is shorter than [`Config::receive_len`](crate::Config::receive_len), or
    /// the send buffer than [`Config::MIN_BUFFER`](crate::Config::MIN_BUFFER).
    Buffer {
        /// The least length, in bytes.
        needed: usize,
    },
    /// No lease of a handshake buffer is available: too many handshakes are in progress.
    Busy,
    /// [`Framing::Sealed`](crate::Framing::Sealed) and the scheme `mutual` require each other.
    Framing,
    /// Frames without tags require a channel binding.
    Unprotected,
    /// The heartbeat is neither 0 nor 1 s to 1 h in whole milliseconds.
    Heartbeat,
    /// The scheme `multiprocessing` does not support the digest: sha1 or sha512.
    Digest,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandshakeBuffer { needed } => {
                write!(f, "the handshake buffer is too short: give it {needed} bytes")
            }
            Self::Buffer { needed } => {
                write!(f, "the receive or send buffer is too short: give each {needed} bytes")
            }
            Self::Busy => f.write_str("too many handshakes are in progress: try again later"),
            Self::Framing => f.write_str(
                "sealed frames and the scheme mutual require each other: use the default framing of the scheme",
            ),
            Self::Unprotected => f.write_str(
                "frames without tags require TLS: configure a channel binding, or keep the tags",
            ),
            Self::Heartbeat => {
                f.write_str("the heartbeat is out of range: use 0 for none, or 1 s to 1 h in whole milliseconds")
            }
            Self::Digest => f.write_str(
                "the scheme multiprocessing does not support this digest: use md5, sha256, sha384, sha3-256 or sha3-384",
            ),
        }
    }
}

impl core::error::Error for ConfigError {}

/// Why a key cannot be created, or cannot answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyError {
    /// The secret is empty.
    Empty,
    /// The secret is longer than [`Key::MAX_LEN`](crate::Key::MAX_LEN).
    TooLong,
    /// The secret is shorter than
    /// [`Key::MIN_DERIVATION_LEN`](crate::Key::MIN_DERIVATION_LEN).
    TooShort,
    /// The key was made for another purpose than the request requires.
    Purpose,
    /// No key request is open.
    NotAsked,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the secret is empty: use 32 random bytes",
            Self::TooLong => "the secret is longer than 1024 bytes: use a shorter one",
            Self::TooShort => {
                "the secret is shorter than 16 bytes, which can be guessed: use 32 random bytes"
            }
            Self::Purpose => "the key was made for another scheme or digest than this session uses",
            Self::NotAsked => "no key was asked for: wait for the event KeyNeeded",
        })
    }
}

impl core::error::Error for KeyError {}

/// Why a message or chunk was not queued. None of its bytes were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendError {
    /// There is no room now. One [`Event::Writable`](crate::Event::Writable) follows when there is.
    Full,
    /// Longer than [`Outbox::max_chunk`](crate::Outbox::max_chunk): send it in chunks.
    TooLong {
        /// The length of the longest chunk, in bytes.
        max: usize,
    },
    /// The framing sends the length of a message first, so the number of bytes that follow must be
    /// given, and the whole length must fit the length field.
    LengthNeeded,
    /// The chunks do not add up to the length that the first one announced.
    LengthMismatch {
        /// Bytes of the message that are still missing.
        due: u64,
    },
    /// The handshake is not complete.
    NotEstablished,
    /// This end has called [`Protocol::finish`](crate::Protocol::finish).
    Finished,
    /// The session has ended.
    Ended,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no room to send now: wait for the event Writable"),
            Self::TooLong { max } => {
                write!(f, "too long for one chunk: send it in chunks of at most {max} bytes")
            }
            Self::LengthNeeded => f.write_str(
                "this framing sends the length of a message first: give the number of bytes that follow, less than 4 GiB in all",
            ),
            Self::LengthMismatch { due } => {
                write!(f, "the message in progress lacks {due} bytes: send those first")
            }
            Self::NotEstablished => {
                f.write_str("the handshake is not over: wait for the event Established")
            }
            Self::Finished => f.write_str("this end has finished sending: send before finish"),
            Self::Ended => f.write_str("the session has ended: connect again"),
        }
    }
}

impl core::error::Error for SendError {}
