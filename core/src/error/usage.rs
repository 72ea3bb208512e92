//! What the application may not ask for. Nothing has changed when it is told so.

use core::fmt;

/// Why a session cannot be made so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigError {
    /// The handshake buffer is shorter than [`Config::handshake_len`](crate::Config::handshake_len).
    HandshakeBuffer {
        /// Bytes that it needs.
        needed: usize,
    },
    /// The receive or send buffer is shorter than [`Config::MIN_BUFFER`](crate::Config::MIN_BUFFER).
    Buffer {
        /// Bytes that each needs.
        needed: usize,
    },
    /// There is no lease of a handshake buffer to be had now: too many handshakes are under way.
    Busy,
    /// [`Framing::Sealed`](crate::Framing::Sealed) goes with the scheme `mutual` and with no other.
    Framing,
    /// Frames without tags are for sessions with a channel binding.
    Unprotected,
    /// A heartbeat is 0 for none, or 1 s to 1 h in whole milliseconds.
    Heartbeat,
    /// The scheme `multiprocessing` knows neither sha1 nor sha512.
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
            Self::Busy => f.write_str("too many handshakes are under way: try later"),
            Self::Framing => f.write_str(
                "sealed frames go with the scheme mutual, and mutual with sealed frames: leave the framing to the scheme",
            ),
            Self::Unprotected => f.write_str(
                "frames without tags are allowed inside TLS only: configure a channel binding, or leave the tags on",
            ),
            Self::Heartbeat => {
                f.write_str("a heartbeat is 0 for none, or 1 s to 1 h: choose one of these")
            }
            Self::Digest => f.write_str(
                "the scheme multiprocessing knows md5, sha256, sha384, sha3-256 and sha3-384: choose one of these",
            ),
        }
    }
}

impl core::error::Error for ConfigError {}

/// Why a key cannot be made, or not be used here. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyError {
    /// The secret has no bytes.
    Empty,
    /// The secret is longer than [`Key::MAX_LEN`](crate::Key::MAX_LEN).
    TooLong,
    /// The secret is too short to derive keys from: less than
    /// [`Key::MIN_DERIVATION_LEN`](crate::Key::MIN_DERIVATION_LEN) bytes.
    TooShort,
    /// The key was made for another purpose than the request names.
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

/// Why something was not sent. Nothing of it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendError {
    /// No room now. One [`Event::Writable`](crate::Event::Writable) follows when there is.
    Full,
    /// Longer than [`Outbox::max_chunk`](crate::Outbox::max_chunk): send it in parts.
    TooLong {
        /// The most that one part takes, in bytes.
        max: usize,
    },
    /// This framing writes a message's length first, so what is still to come must be known, and
    /// the message fit its length field.
    LengthNeeded,
    /// The parts do not add up to the length that the first one announced.
    LengthMismatch {
        /// Bytes of the message that are still due.
        due: u64,
    },
    /// The handshake is not over.
    NotEstablished,
    /// We have said that nothing more comes.
    Finished,
    /// The session has ended.
    Ended,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no room to send now: wait for the event Writable"),
            Self::TooLong { max } => {
                write!(f, "too long for one part: send it in parts of at most {max} bytes")
            }
            Self::LengthNeeded => f.write_str(
                "this framing sends a message's length first: say how many bytes follow, fewer than 4 GiB in all",
            ),
            Self::LengthMismatch { due } => {
                write!(f, "the message that was begun has {due} bytes to go: send those first")
            }
            Self::NotEstablished => {
                f.write_str("the handshake is not over: wait for the event Established")
            }
            Self::Finished => f.write_str("this side has finished sending"),
            Self::Ended => f.write_str("the session has ended"),
        }
    }
}

impl core::error::Error for SendError {}
