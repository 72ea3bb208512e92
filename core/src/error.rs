//! What can go wrong, and whose fault it is.

use core::fmt;

/// Why a session ended other than by both sides' leave. Small, `Copy`, and final: once a machine
/// has reported one, it reports the same for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// The peer's proof does not verify: it holds another key, or uses another digest.
    WrongKey,
    /// The holder of our keys refused to answer for this session.
    Refused(Refuse),
    /// The peer announced a frame of `len` bytes and we take `max`.
    FrameTooLong {
        /// Bytes that the peer announced.
        len: u64,
        /// [`Config::max_frame`](crate::Config::max_frame).
        max: u64,
    },
    /// The peer's bytes ended in the middle of something.
    Truncated(Truncated),
    /// The peer was too slow.
    TimedOut(TimedOut),
    /// We ended it: [`Machine::abort`](crate::Machine::abort).
    Aborted(Reason),
    /// The transport failed under the session. Machines never report it; a driver does, which
    /// alone knows the I/O error.
    Lost,
}

/// What was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Truncated {
    /// The handshake.
    Handshake,
    /// A message.
    Message,
}

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimedOut {
    /// The handshake, as a whole.
    Handshake,
    /// The rest of a part: it was not whole by the stall timeout.
    Receive,
    /// The peer's reading: what we queued had not all left by the stall timeout.
    Send,
}

/// Why a key request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refuse {
    /// There is no key for it.
    Unknown,
    /// The peer sent a challenge of our own back to us.
    Reflected,
}

/// Why we end a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// We are shutting down.
    Shutdown,
    /// The peer broke the protocol that runs inside.
    Protocol,
    /// The peer took too long, by the application's own measure.
    Timeout,
    /// The application wants it so.
    Application,
}

impl Error {
    /// Whether the peer tried to authenticate and failed: what a guesser would cause, and an honest
    /// peer on a bad line would not.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::WrongKey | Self::Refused(_))
    }

    /// One word for logs and metrics; it will not change.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::WrongKey => "wrong-key",
            Self::Refused(Refuse::Unknown) => "unknown-key",
            Self::Refused(Refuse::Reflected) => "reflected",
            Self::FrameTooLong { .. } => "frame-too-long",
            Self::Truncated(Truncated::Handshake) => "truncated-handshake",
            Self::Truncated(Truncated::Message) => "truncated-message",
            Self::TimedOut(TimedOut::Handshake) => "handshake-timeout",
            Self::TimedOut(TimedOut::Receive) => "receive-timeout",
            Self::TimedOut(TimedOut::Send) => "send-timeout",
            Self::Aborted(Reason::Shutdown) => "aborted-shutdown",
            Self::Aborted(Reason::Protocol) => "aborted-protocol",
            Self::Aborted(Reason::Timeout) => "aborted-timeout",
            Self::Aborted(Reason::Application) => "aborted-application",
            Self::Lost => "connection-lost",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongKey => f.write_str(
                "the peer's answer to the challenge is wrong: give both ends the same key and digest",
            ),
            Self::Refused(Refuse::Unknown) => {
                f.write_str("no key for this peer: add it, or check which key the peer names")
            }
            Self::Refused(Refuse::Reflected) => f.write_str(
                "the peer sent our own challenge back: a program between the two is bouncing it, or they are one",
            ),
            Self::FrameTooLong { len, max } => write!(
                f,
                "the peer announced a frame of {len} bytes and at most {max} are taken: raise the limit, or check that both ends speak the same"
            ),
            Self::Truncated(Truncated::Handshake) => f.write_str(
                "the peer closed the connection before the handshake was over: check that both ends use the same scheme",
            ),
            Self::Truncated(Truncated::Message) => f.write_str(
                "the peer closed the connection in the middle of a message: what came of it is not whole",
            ),
            Self::TimedOut(TimedOut::Handshake) => f.write_str(
                "the handshake took too long: check that the peer speaks this scheme, or allow more time",
            ),
            Self::TimedOut(TimedOut::Receive) => {
                f.write_str("the peer stopped in the middle of a message, or sends it too slowly: check the peer and the network")
            }
            Self::TimedOut(TimedOut::Send) => {
                f.write_str("the peer stopped reading, or reads too slowly: check that it takes the answers it asks for")
            }
            Self::Aborted(Reason::Shutdown) => f.write_str("ended here: shutting down"),
            Self::Aborted(Reason::Protocol) => {
                f.write_str("ended here: the peer broke the application's protocol")
            }
            Self::Aborted(Reason::Timeout) => {
                f.write_str("ended here: the peer was silent for too long")
            }
            Self::Aborted(Reason::Application) => f.write_str("ended here by the application"),
            Self::Lost => f.write_str("the connection broke: connect again"),
        }
    }
}

impl core::error::Error for Error {}

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
    /// The key was made for another digest than the request names.
    Digest,
    /// No key request is open.
    NotAsked,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the secret is empty: make one with `countersign keygen`",
            Self::TooLong => "the secret is longer than 1024 bytes: use a shorter one",
            Self::Digest => "the key was made for another digest than this session uses",
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
    /// Longer than [`Outbox::max_part`](crate::Outbox::max_part): send it in parts.
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

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::BTreeSet;
    use std::string::ToString;
    use std::vec::Vec;

    use super::*;

    fn all() -> Vec<Error> {
        let mut all =
            std::vec![Error::WrongKey, Error::FrameTooLong { len: 9, max: 8 }, Error::Lost];
        all.extend([Refuse::Unknown, Refuse::Reflected].map(Error::Refused));
        all.extend([Truncated::Handshake, Truncated::Message].map(Error::Truncated));
        all.extend([TimedOut::Handshake, TimedOut::Receive, TimedOut::Send].map(Error::TimedOut));
        let reasons = [Reason::Shutdown, Reason::Protocol, Reason::Timeout, Reason::Application];
        all.extend(reasons.map(Error::Aborted));
        all
    }

    /// A line for a person: something was said, and it is not said of anything else.
    fn assert_told_apart<T: ToString>(all: &[T]) {
        let said: BTreeSet<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), all.len());
        assert!(said.iter().all(|line| line.len() > 8 && !line.contains('\n')), "{said:?}");
    }

    #[test]
    fn each_error_has_a_word_and_a_line_of_its_own() {
        let words: BTreeSet<_> = all().into_iter().map(Error::code).collect();
        assert_eq!(words.len(), all().len());
        for word in words {
            assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && word.len() > 3);
        }
        assert_told_apart(&all());
        assert_told_apart(&[
            ConfigError::HandshakeBuffer { needed: 64 },
            ConfigError::Buffer { needed: 64 },
            ConfigError::Busy,
        ]);
        assert_told_apart(&[
            KeyError::Empty,
            KeyError::TooLong,
            KeyError::Digest,
            KeyError::NotAsked,
        ]);
        assert_told_apart(&[
            SendError::Full,
            SendError::TooLong { max: 7 },
            SendError::LengthNeeded,
            SendError::LengthMismatch { due: 7 },
            SendError::NotEstablished,
            SendError::Finished,
            SendError::Ended,
        ]);
    }

    #[test]
    fn a_refusal_is_a_failed_proof_and_nothing_else() {
        let refusals: Vec<_> = all().into_iter().filter(|error| error.is_refusal()).collect();
        let refused = [Refuse::Unknown, Refuse::Reflected].map(Error::Refused);
        assert_eq!(refusals, [Error::WrongKey, refused[0], refused[1]]);
    }

    #[test]
    fn the_words_are_those_that_log_watchers_know() {
        let words: Vec<_> = all().into_iter().map(Error::code).collect();
        let known = [
            "wrong-key",
            "frame-too-long",
            "connection-lost",
            "unknown-key",
            "reflected",
            "truncated-handshake",
            "truncated-message",
            "handshake-timeout",
            "receive-timeout",
            "send-timeout",
            "aborted-shutdown",
            "aborted-protocol",
            "aborted-timeout",
            "aborted-application",
        ];
        assert_eq!(words, known);
    }
}
