//! Errors: the reasons for which a session ends, and in [`usage`] the misuse of an interface.

use core::fmt;

mod usage;

pub use usage::{ConfigError, KeyError, SendError};

/// Why a session ended other than by an orderly end in both directions.
///
/// Small, `Copy` and final: once a protocol has reported an error it reports the same one on every
/// call. `Display` gives a message of one line, what happened and what to do;
/// [`code`](Self::code) a stable word for logs and metrics.
///
/// ```
/// use countersign::{Error, TimedOut};
///
/// let error = Error::TimedOut(TimedOut::Handshake);
/// assert_eq!(error.code(), "handshake-timeout");
/// assert!(!error.is_authentication_failure());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// The proof of the peer does not verify: the peer has another key or digest, or an attacker
    /// changed the handshake.
    WrongKey,
    /// The proof of the peer verifies, but its name or process id is not acceptable.
    Identity(IdentityError),
    /// The peer sent bytes that are not a message of this handshake.
    Malformed,
    /// The peer supports no version, suite or digest that this end allows.
    Incompatible,
    /// The peer sent an alert in place of the next message of the handshake. Alerts are not
    /// authenticated, so an attacker on the path can send one too.
    Alert(Alert),
    /// The application rejected the key request of this session.
    Refused(KeyRejection),
    /// The peer announced a frame longer than [`Config::max_frame`](crate::Config::max_frame).
    FrameTooLong {
        /// The announced length, in bytes.
        len: u64,
    },
    /// The channel that carries the session, such as TLS, failed. Reported by the protocol that
    /// wraps the session, never by [`Session`](crate::Session).
    Channel(ChannelError),
    /// The peer sent a frame that violates the framing.
    Frame(FrameError),
    /// The peer ended the session, for this reason.
    PeerClosed(CloseReason),
    /// The stream ended where it must not.
    Truncated(Truncated),
    /// The peer exceeded a deadline.
    TimedOut(TimedOut),
    /// The session held a buffer that others waited for, and its peer has more than its share of them:
    /// [`Storage::is_revoked`](crate::Storage::is_revoked).
    Overload,
    /// This end ended the session: [`Protocol::abort`](crate::Protocol::abort).
    Aborted(CloseReason),
    /// The transport failed. Reported by a driver, which has the I/O error, never by a protocol.
    Transport,
}

/// Why a peer that holds the key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IdentityError {
    /// The client expects a server with another name than ours.
    WrongServer,
    /// The server does not have the name that this client expects.
    UnexpectedServer,
    /// The peer has the name of this end.
    SameName,
    /// The peer has the [`ProcessId`](crate::ProcessId) of this end: the process is connected to
    /// itself, or an attacker reflects its messages.
    SameProcess,
    /// The peer may not use the key under the name that it gave.
    NameNotAllowed,
}

/// An alert of the peer, in place of the next message of the handshake.
///
/// A server of the scheme `mutual` sends any of them, either end of the scheme `multiprocessing`
/// only [`Refused`](Self::Refused).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Alert {
    /// Authentication failed, for a reason that the peer does not reveal.
    Refused,
    /// The ends have no version or no suite in common.
    Incompatible,
    /// The server is at its limit of connections.
    Busy,
    /// The server could not parse a message of this end.
    Malformed,
    /// The handshake exceeded the deadline of the server.
    TimedOut,
    /// A code that this version does not define.
    Unknown(u8),
}

/// A failure of the channel that carries a session, such as TLS.
///
/// The implementation of the channel describes its errors in statics, so that the type is small and
/// `Copy`.
///
/// ```
/// use countersign::{ChannelError, ChannelErrorInfo, ChannelErrorKind, Error};
///
/// static UNTRUSTED: ChannelErrorInfo = ChannelErrorInfo {
///     code: "tls-untrusted",
///     message: "the certificate of the peer is not trusted: check the trusted certificates",
///     kind: ChannelErrorKind::Authentication,
/// };
/// assert!(Error::Channel(ChannelError::new(&UNTRUSTED)).is_authentication_failure());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelError(&'static ChannelErrorInfo);

/// The description of a [`ChannelError`].
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ChannelErrorInfo {
    /// A stable word for logs and metrics.
    pub code: &'static str,
    /// What happened, then what to do, in one line.
    pub message: &'static str,
    /// The cause.
    pub kind: ChannelErrorKind,
}

/// The cause of a [`ChannelError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChannelErrorKind {
    /// The peer did not authenticate.
    Authentication,
    /// The peer rejected our authentication.
    Rejected,
    /// The ends have no version or algorithm in common.
    Incompatible,
    /// The peer violated the protocol of the channel, or an attacker changed its bytes.
    Protocol,
    /// The peer ended the channel with an error.
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

    /// The description of the error.
    #[must_use]
    pub const fn info(self) -> &'static ChannelErrorInfo {
        self.0
    }

    /// The cause of the error.
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

/// How a frame violates the framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameError {
    /// The tag is wrong: an attacker changed, dropped, repeated, reordered or inserted a frame.
    Tag,
    /// The length is negative.
    Length,
    /// The type is unknown and must not be ignored.
    Type,
    /// The payload has the wrong length for the type, or is not the UTF-8 that it must be.
    Payload,
    /// The frame is out of order: a message after the end of stream, or the end of stream within a
    /// message.
    Order,
}

/// Where the stream of the peer ended too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Truncated {
    /// In the handshake.
    Handshake,
    /// Within a message.
    Message,
    /// Between two messages, without the FIN of the peer.
    Stream,
}

/// The deadline that the peer exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimedOut {
    /// The deadline of the whole handshake.
    Handshake,
    /// The stall timeout, with a chunk received in part.
    Receive,
    /// The stall timeout, with queued bytes that the peer did not read.
    Send,
    /// The keepalive timeout: nothing was received for two heartbeats plus 5 s.
    Peer,
}

/// Why the application rejects a key request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyRejection {
    /// There is no key with this id.
    Unknown,
    /// The key is not valid at this time.
    OutOfDate,
    /// The key may not be used by an end in this role.
    WrongRole,
    /// The challenge is one that this process sent itself: a reflection attack. See
    /// [`Challenge::Theirs`](crate::Challenge::Theirs).
    Reflected,
}

/// Why an end ended the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The process is shutting down.
    Shutdown,
    /// The other end violated the protocol, of this crate or of the application.
    Protocol,
    /// The other end was too slow, by a deadline of this crate or of the application.
    Timeout,
    /// A reason of the application.
    Application,
}

impl Error {
    /// Whether the peer tried to authenticate and failed, as a peer that guesses keys would. Limits
    /// on failed attempts count these errors.
    #[must_use]
    pub const fn is_authentication_failure(self) -> bool {
        match self {
            Self::WrongKey | Self::Refused(_) | Self::Identity(_) => true,
            Self::Channel(error) => matches!(error.kind(), ChannelErrorKind::Authentication),
            _ => false,
        }
    }

    /// A stable word for logs and metrics.
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
            Self::Overload => "overload",
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
            Self::Overload => {
                "the peer kept a buffer in use that others waited for: use fewer connections, or send and read faster"
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
