//! What can go wrong, and whose fault it is.

use core::fmt;

mod usage;

pub use usage::{ConfigError, KeyError, SendError};

/// Why a session ended other than by both sides' leave. Small, `Copy`, and final: once a machine
/// has reported one, it reports the same for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// The peer's proof does not verify: it holds another key, or uses another digest; or somebody
    /// changed what was said on the way.
    WrongKey,
    /// The peer's proof verifies, and it is not whom it should be.
    Identity(IdentityError),
    /// The peer's bytes are no message of the handshake: it speaks another scheme.
    Malformed,
    /// The peer knows no version, no suite or no digest of the handshake that we allow.
    Incompatible,
    /// The peer said so in place of the handshake's next message. It is a hint: whoever is on the
    /// way can say it too.
    Alert(Alert),
    /// The holder of our keys refused to answer for this session.
    Refused(KeyRejection),
    /// The peer announced a frame that is longer than we take:
    /// [`Config::max_frame`](crate::Config::max_frame).
    FrameTooLong {
        /// Bytes that the peer announced.
        len: u64,
    },
    /// The TLS that the session is in failed. SessionFactory never report it; what is around them does.
    Channel(ChannelError),
    /// A frame is not what an honest peer can have sent.
    Frame(FrameError),
    /// The peer ended the session, and said why.
    PeerClosed(CloseReason),
    /// The peer's bytes ended in the middle of something.
    Truncated(Truncated),
    /// The peer was too slow.
    TimedOut(TimedOut),
    /// We ended it: [`Protocol::abort`](crate::Protocol::abort).
    Aborted(CloseReason),
    /// The transport failed under the session. Machines never report it; a driver does, which
    /// alone knows the I/O error.
    Transport,
}

/// Who a peer should have been and is not. It holds the key all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IdentityError {
    /// The client asks for a server of another name than ours.
    WrongServer,
    /// The server has another name than the one expected of it.
    UnexpectedServer,
    /// It has our own name.
    SameName,
    /// It is of our own [`ProcessId`](crate::ProcessId): we are talking to ourselves.
    SameProcess,
    /// Whoever holds the keys does not admit this name for this key.
    NameNotAllowed,
}

/// What a peer says in place of its next message: a server of the scheme `mutual` any of these,
/// either end of the scheme `multiprocessing` the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Alert {
    /// Authentication failed; it does not say how.
    Refused,
    /// No version or no suite in common.
    Incompatible,
    /// It has no room now.
    Busy,
    /// It could not read what we sent.
    Malformed,
    /// The handshake took too long.
    TimedOut,
    /// A code that this version does not know.
    Unknown(u8),
}

/// A failure of the channel that a session runs inside, such as TLS. Whatever implements the channel
/// describes its errors in statics, so that this stays small and `Copy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelError(&'static ChannelErrorInfo);

/// The description of a [`ChannelError`].
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ChannelErrorInfo {
    /// One word for logs and metrics.
    pub code: &'static str,
    /// What happened, then what to do about it, in one line.
    pub message: &'static str,
    /// Who caused it.
    pub kind: ChannelErrorKind,
}

/// Who caused a [`ChannelError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChannelErrorKind {
    /// The peer did not prove who it is.
    Authentication,
    /// The peer did not accept our proof of who we are.
    Rejected,
    /// The two ends have no version or algorithm in common.
    Incompatible,
    /// The peer broke the channel's protocol, or an attacker changed its bytes.
    Protocol,
    /// The peer ended the channel with an error of its own.
    Closed,
    /// This end can no longer use the channel.
    Local,
}

impl ChannelError {
    /// The error that `info` describes.
    #[must_use]
    pub const fn new(info: &'static ChannelErrorInfo) -> Self {
        Self(info)
    }

    /// Its description.
    #[must_use]
    pub const fn info(self) -> &'static ChannelErrorInfo {
        self.0
    }

    /// Who caused it.
    #[must_use]
    pub const fn kind(self) -> ChannelErrorKind {
        self.0.kind
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.message)
    }
}

impl core::error::Error for ChannelError {}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameError {
    /// Its tag: a frame was changed, left out, repeated, or put in on the way.
    Tag,
    /// Its length, which is negative.
    Length,
    /// Its type, which this version does not know and may not ignore.
    Type,
    /// Its payload is not as long as its type says, or is no text where it should be.
    Payload,
    /// It may not come here: data behind the end, or the end within a message.
    Order,
}

/// What was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Truncated {
    /// The handshake.
    Handshake,
    /// A message.
    Message,
    /// The stream, between two messages: the peer did not say that it had finished.
    Stream,
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
    /// The peer, of whom nothing was heard for more than two heartbeats.
    Peer,
}

/// Why a key request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyRejection {
    /// There is no key for it.
    Unknown,
    /// There is, and it is not valid now.
    OutOfDate,
    /// There is, and it is not for this end to use in this role.
    WrongRole,
    /// The peer sent a challenge of our own back to us.
    Reflected,
}

/// Why we end a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
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
    pub const fn is_authentication_failure(self) -> bool {
        match self {
            Self::WrongKey | Self::Refused(_) | Self::Identity(_) => true,
            Self::Channel(error) => matches!(error.kind(), ChannelErrorKind::Authentication),
            _ => false,
        }
    }

    /// One word for logs and metrics; it will not change.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::WrongKey => "wrong-key",
            Self::Identity(IdentityError::WrongServer) => "other-server-expected",
            Self::Identity(IdentityError::UnexpectedServer) => "unexpected-name",
            Self::Identity(IdentityError::SameName) => "own-name",
            Self::Identity(IdentityError::SameProcess) => "own-instance",
            Self::Identity(IdentityError::NameNotAllowed) => "name-not-admitted",
            Self::Malformed => "malformed",
            Self::Incompatible => "nothing-in-common",
            Self::Alert(Alert::Refused) => "alert-refused",
            Self::Alert(Alert::Incompatible) => "alert-nothing-in-common",
            Self::Alert(Alert::Busy) => "alert-busy",
            Self::Alert(Alert::Malformed) => "alert-malformed",
            Self::Alert(Alert::TimedOut) => "alert-timeout",
            Self::Alert(Alert::Unknown(_)) => "alert-unknown",
            Self::Channel(error) => error.info().code,
            Self::Frame(FrameError::Tag) => "bad-tag",
            Self::Frame(FrameError::Length) => "bad-frame-length",
            Self::Frame(FrameError::Type) => "bad-frame-type",
            Self::Frame(FrameError::Payload) => "bad-frame-payload",
            Self::Frame(FrameError::Order) => "bad-frame-order",
            Self::PeerClosed(CloseReason::Shutdown) => "peer-closed-shutdown",
            Self::PeerClosed(CloseReason::Protocol) => "peer-closed-protocol",
            Self::PeerClosed(CloseReason::Timeout) => "peer-closed-timeout",
            Self::PeerClosed(CloseReason::Application) => "peer-closed-application",
            Self::Refused(KeyRejection::Unknown) => "unknown-key",
            Self::Refused(KeyRejection::OutOfDate) => "key-out-of-date",
            Self::Refused(KeyRejection::WrongRole) => "key-wrong-role",
            Self::Refused(KeyRejection::Reflected) => "reflected",
            Self::FrameTooLong { .. } => "frame-too-long",
            Self::Truncated(Truncated::Handshake) => "truncated-handshake",
            Self::Truncated(Truncated::Message) => "truncated-message",
            Self::Truncated(Truncated::Stream) => "truncated-stream",
            Self::TimedOut(TimedOut::Handshake) => "handshake-timeout",
            Self::TimedOut(TimedOut::Receive) => "receive-timeout",
            Self::TimedOut(TimedOut::Send) => "send-timeout",
            Self::TimedOut(TimedOut::Peer) => "peer-silent",
            Self::Aborted(CloseReason::Shutdown) => "aborted-shutdown",
            Self::Aborted(CloseReason::Protocol) => "aborted-protocol",
            Self::Aborted(CloseReason::Timeout) => "aborted-timeout",
            Self::Aborted(CloseReason::Application) => "aborted-application",
            Self::Transport => "connection-lost",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::Channel(error) => return error.fmt(f),
            Self::Alert(Alert::Unknown(code)) => {
                return write!(f, "the server ended the handshake with alert {code}: see its log");
            }
            Self::FrameTooLong { len } => {
                return write!(
                    f,
                    "the peer announced a frame of {len} bytes, which exceeds the limit: raise the limit, or check that both ends use the same scheme"
                );
            }
            Self::WrongKey => {
                "the peer's proof is wrong: give both ends the same key, key id and digest"
            }
            Self::Identity(IdentityError::WrongServer) => {
                "the client expects a server with another name: check the name of the server and the name that the client expects"
            }
            Self::Identity(IdentityError::UnexpectedServer) => {
                "the server holds the key but does not have the expected name: check its name and its address"
            }
            Self::Identity(IdentityError::SameName) => {
                "the peer holds the key but has our own name: give each end its own name"
            }
            Self::Identity(IdentityError::SameProcess) => {
                "the peer has the process id of this end: a process connected to itself, or both ends were given one process id"
            }
            Self::Identity(IdentityError::NameNotAllowed) => {
                "the peer holds the key but may not use it under its name: add the name to the names of the key"
            }
            Self::Malformed => {
                "the peer's bytes are not a message of this handshake: check that both ends use the same scheme, and TLS on both or on neither"
            }
            Self::Incompatible => {
                "the peer supports no version, suite or digest that is allowed here: update the older end, or allow its digest"
            }
            Self::Alert(Alert::Refused) => {
                "the peer refused to authenticate us: check the key, the key id and the names; its log has the reason"
            }
            Self::Alert(Alert::Incompatible) => {
                "the server supports no version or suite that is allowed here: update the older end"
            }
            Self::Alert(Alert::Busy) => "the server is at its limit: try again later",
            Self::Alert(Alert::Malformed) => {
                "the server could not parse our message: update the older end"
            }
            Self::Alert(Alert::TimedOut) => {
                "the handshake took longer than the server allows: check the network, or raise its timeout"
            }
            Self::Frame(FrameError::Tag) => {
                "the tag of a frame is wrong: the stream was changed on its way and cannot be trusted"
            }
            Self::Frame(FrameError::Length) => {
                "the peer sent a frame with a negative length: check that both ends use the same scheme"
            }
            Self::Frame(FrameError::Type) => {
                "the peer sent a frame of an unknown type: update the older end"
            }
            Self::Frame(FrameError::Payload) => {
                "the peer sent a frame whose payload does not fit its type: update the older end"
            }
            Self::Frame(FrameError::Order) => {
                "the peer sent a frame out of order: within an unfinished message, or after its end of stream"
            }
            Self::PeerClosed(CloseReason::Shutdown) => {
                "the peer is shutting down: connect again later"
            }
            Self::PeerClosed(CloseReason::Protocol) => {
                "the peer ended the session because of a protocol error on our side: see its log"
            }
            Self::PeerClosed(CloseReason::Timeout) => {
                "the peer ended the session because we were too slow: see its log"
            }
            Self::PeerClosed(CloseReason::Application) => {
                "the application of the peer ended the session: see its log"
            }
            Self::Refused(KeyRejection::Unknown) => {
                "there is no key for this peer: add it, or check the key id that the peer sends"
            }
            Self::Refused(KeyRejection::OutOfDate) => {
                "the key for this peer is not valid now: check its validity period and both clocks"
            }
            Self::Refused(KeyRejection::WrongRole) => {
                "the key for this peer may not be used by this end: check the roles of the key"
            }
            Self::Refused(KeyRejection::Reflected) => {
                "the peer sent our own challenge back: an attacker reflects it, or both ends are in one process"
            }
            Self::Truncated(Truncated::Handshake) => {
                "the peer closed the connection during the handshake: check that both ends use the same scheme, and TLS on both or on neither"
            }
            Self::Truncated(Truncated::Message) => {
                "the peer closed the connection within a message: the message is incomplete"
            }
            Self::Truncated(Truncated::Stream) => {
                "the connection was closed without the peer's end of stream: messages may be missing"
            }
            Self::TimedOut(TimedOut::Peer) => {
                "the peer was silent for more than two heartbeats: check the peer and the network"
            }
            Self::TimedOut(TimedOut::Handshake) => {
                "the handshake took too long: check that the peer uses this scheme, or raise the timeout"
            }
            Self::TimedOut(TimedOut::Receive) => {
                "the peer stopped within a message, or sends it too slowly: check the peer and the network"
            }
            Self::TimedOut(TimedOut::Send) => {
                "the peer stopped reading, or reads too slowly: check that it reads its answers"
            }
            Self::Aborted(CloseReason::Shutdown) => "ended by this end: shutting down",
            Self::Aborted(CloseReason::Protocol) => {
                "ended by this end: the peer broke the protocol of the application"
            }
            Self::Aborted(CloseReason::Timeout) => {
                "ended by this end: the peer was silent for too long"
            }
            Self::Aborted(CloseReason::Application) => "ended by the application of this end",
            Self::Transport => "the connection was lost: connect again",
        })
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests;
