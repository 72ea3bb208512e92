//! What can go wrong, and whose fault it is.

use core::fmt;

mod misuse;

pub use misuse::{ConfigError, KeyError, SendError};

/// Why a session ended other than by both sides' leave. Small, `Copy`, and final: once a machine
/// has reported one, it reports the same for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// The peer's proof does not verify: it holds another key, or uses another digest; or somebody
    /// changed what was said on the way.
    WrongKey,
    /// The peer's proof verifies, and it is not whom it should be.
    Identity(Identity),
    /// The peer's bytes are no message of the handshake: it speaks another scheme.
    Malformed,
    /// The peer knows no version, no suite or no digest of the handshake that we allow.
    NothingInCommon,
    /// The peer said so in place of the handshake's next message. It is a hint: whoever is on the
    /// way can say it too.
    Alert(Alert),
    /// The holder of our keys refused to answer for this session.
    Refused(Refuse),
    /// The peer announced a frame that is longer than we take:
    /// [`Config::max_frame`](crate::Config::max_frame).
    FrameTooLong {
        /// Bytes that the peer announced.
        len: u64,
    },
    /// The TLS that the session is in failed. Sessions never report it; what is around them does.
    Tls(BadTls),
    /// A frame is not what an honest peer can have sent.
    Frame(BadFrame),
    /// The peer ended the session, and said why.
    PeerClosed(Reason),
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

/// Who a peer should have been and is not. It holds the key all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Identity {
    /// The client asks for a server of another name than ours.
    NotMe,
    /// The server has another name than the one expected of it.
    Unexpected,
    /// It has our own name.
    MyName,
    /// It is of our own [`Instance`](crate::Instance): we are talking to ourselves.
    Myself,
    /// Whoever holds the keys does not admit this name for this key.
    NotAdmitted,
}

/// What a peer says in place of its next message: a server of the scheme `mutual` any of these,
/// either end of the scheme `multiprocessing` the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Alert {
    /// Authentication failed; it does not say how.
    Refused,
    /// No version or no suite in common.
    NothingInCommon,
    /// It has no room now.
    Busy,
    /// It could not read what we sent.
    Malformed,
    /// The handshake took too long.
    TimedOut,
    /// A code that this version does not know.
    Unknown(u8),
}

/// What is wrong with TLS (RFC 8446, RFC 5246).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BadTls {
    /// The client has to show a certificate and shows none.
    NoCertificate,
    /// The peer's certificate is not valid at this time.
    Expired,
    /// The peer's certificate is neither signed by a CA that is trusted nor pinned.
    Untrusted,
    /// The server's certificate is for another name.
    OtherName,
    /// The peer's certificate is of a kind that cannot be verified, or is not for this purpose.
    Unusable,
    /// There is no version or no suite that both ends allow.
    NothingInCommon,
    /// The peer gave up, and this is its alert (RFC 8446, section 6).
    Alert(u8),
    /// What came is no TLS, or was changed on the way.
    Broken,
    /// As many records were sent as the keys of a TLS 1.2 connection are good for.
    KeysUsedUp,
}

impl BadTls {
    /// Whether an alert says that our certificate will not do (RFC 8446, section 6.2).
    #[must_use]
    pub const fn is_about_certificates(self) -> bool {
        matches!(
            self,
            Self::NoCertificate
                | Self::Expired
                | Self::Untrusted
                | Self::OtherName
                | Self::Unusable
                | Self::Alert(42..=46 | 48 | 49 | 51 | 116)
        )
    }
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BadFrame {
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
pub enum Refuse {
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
        match self {
            Self::WrongKey | Self::Refused(_) | Self::Identity(_) => true,
            Self::Tls(BadTls::Alert(_)) => false,
            Self::Tls(bad) => bad.is_about_certificates(),
            _ => false,
        }
    }

    /// One word for logs and metrics; it will not change.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::WrongKey => "wrong-key",
            Self::Identity(Identity::NotMe) => "other-server-expected",
            Self::Identity(Identity::Unexpected) => "unexpected-name",
            Self::Identity(Identity::MyName) => "own-name",
            Self::Identity(Identity::Myself) => "own-instance",
            Self::Identity(Identity::NotAdmitted) => "name-not-admitted",
            Self::Malformed => "malformed",
            Self::NothingInCommon => "nothing-in-common",
            Self::Alert(Alert::Refused) => "alert-refused",
            Self::Alert(Alert::NothingInCommon) => "alert-nothing-in-common",
            Self::Alert(Alert::Busy) => "alert-busy",
            Self::Alert(Alert::Malformed) => "alert-malformed",
            Self::Alert(Alert::TimedOut) => "alert-timeout",
            Self::Alert(Alert::Unknown(_)) => "alert-unknown",
            Self::Tls(BadTls::NoCertificate) => "tls-no-certificate",
            Self::Tls(BadTls::Expired) => "tls-certificate-expired",
            Self::Tls(BadTls::Untrusted) => "tls-certificate-untrusted",
            Self::Tls(BadTls::OtherName) => "tls-certificate-other-name",
            Self::Tls(BadTls::Unusable) => "tls-certificate-unusable",
            Self::Tls(BadTls::NothingInCommon) => "tls-nothing-in-common",
            Self::Tls(BadTls::Alert(_)) => "tls-alert",
            Self::Tls(BadTls::Broken) => "tls-broken",
            Self::Tls(BadTls::KeysUsedUp) => "tls-keys-used-up",
            Self::Frame(BadFrame::Tag) => "bad-tag",
            Self::Frame(BadFrame::Length) => "bad-frame-length",
            Self::Frame(BadFrame::Type) => "bad-frame-type",
            Self::Frame(BadFrame::Payload) => "bad-frame-payload",
            Self::Frame(BadFrame::Order) => "bad-frame-order",
            Self::PeerClosed(Reason::Shutdown) => "peer-closed-shutdown",
            Self::PeerClosed(Reason::Protocol) => "peer-closed-protocol",
            Self::PeerClosed(Reason::Timeout) => "peer-closed-timeout",
            Self::PeerClosed(Reason::Application) => "peer-closed-application",
            Self::Refused(Refuse::Unknown) => "unknown-key",
            Self::Refused(Refuse::OutOfDate) => "key-out-of-date",
            Self::Refused(Refuse::WrongRole) => "key-wrong-role",
            Self::Refused(Refuse::Reflected) => "reflected",
            Self::FrameTooLong { .. } => "frame-too-long",
            Self::Truncated(Truncated::Handshake) => "truncated-handshake",
            Self::Truncated(Truncated::Message) => "truncated-message",
            Self::Truncated(Truncated::Stream) => "truncated-stream",
            Self::TimedOut(TimedOut::Handshake) => "handshake-timeout",
            Self::TimedOut(TimedOut::Receive) => "receive-timeout",
            Self::TimedOut(TimedOut::Send) => "send-timeout",
            Self::TimedOut(TimedOut::Peer) => "peer-silent",
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
                "the peer's proof is wrong: give both ends the same key, key id and digest",
            ),
            Self::Identity(Identity::NotMe) => f.write_str(
                "the client expects a server of another name: check its --expect-server and our --name",
            ),
            Self::Identity(Identity::Unexpected) => f.write_str(
                "the server holds the key and has another name than was expected: check its name and the address",
            ),
            Self::Identity(Identity::MyName) => f.write_str(
                "the peer holds the key and has our own name: give each end a name of its own",
            ),
            Self::Identity(Identity::Myself) => f.write_str(
                "the peer is this very process: it has connected to itself, or somebody has connected the two",
            ),
            Self::Identity(Identity::NotAdmitted) => f.write_str(
                "the peer holds the key and may not use it under its name: add the name to the key's `names`",
            ),
            Self::Malformed => f.write_str(
                "the peer sent what is no message of this handshake: check that both ends use the same scheme, and both TLS or neither",
            ),
            Self::NothingInCommon => f.write_str(
                "the peer knows no version, suite or digest that is allowed here: update the older end, or allow its digest (--digest, --compatible)",
            ),
            Self::Alert(Alert::Refused) => f.write_str(
                "the peer refused to authenticate us: check the key, the key id and the names; its log says which",
            ),
            Self::Alert(Alert::NothingInCommon) => f.write_str(
                "the server knows no version or suite of ours: update the older end",
            ),
            Self::Alert(Alert::Busy) => f.write_str("the server has no room now: try again later"),
            Self::Alert(Alert::Malformed) => {
                f.write_str("the server could not read our message: update the older end")
            }
            Self::Alert(Alert::TimedOut) => f.write_str(
                "the server found the handshake too slow: check the network, or allow it more time",
            ),
            Self::Alert(Alert::Unknown(code)) => {
                write!(f, "the server ended the handshake with code {code}: look into its log")
            }
            Self::Tls(BadTls::NoCertificate) => f.write_str(
                "the client showed no certificate: give it --tls-cert and --tls-key; `countersign certs` makes them",
            ),
            Self::Tls(BadTls::Expired) => f.write_str(
                "the peer's certificate is not valid now: check both clocks, or make new ones with `countersign certs`",
            ),
            Self::Tls(BadTls::Untrusted) => f.write_str(
                "the peer's certificate is neither signed by a CA that is trusted here nor pinned: check --tls-ca and --tls-client-ca; `countersign certs` makes a set that fits",
            ),
            Self::Tls(BadTls::OtherName) => f.write_str(
                "the server's certificate is for another name: give --tls-name, or make one for this name with `countersign certs --name`",
            ),
            Self::Tls(BadTls::Unusable) => f.write_str(
                "the peer's certificate cannot be verified as one of its kind: give that very certificate as the CA, which pins it, or make others with `countersign certs`",
            ),
            Self::Tls(BadTls::NothingInCommon) => f.write_str(
                "the peer allows no TLS that is allowed here: it is to be 1.3, or 1.2 with the extended master secret",
            ),
            Self::Tls(bad @ BadTls::Alert(code)) if bad.is_about_certificates() => write!(
                f,
                "the peer refused our certificate, or that there is none (TLS alert {code}): check --tls-cert, and the CA that the peer trusts; `countersign certs` makes a set that fits"
            ),
            // handshake_failure, protocol_version, insufficient_security: RFC 8446, 6.2.
            Self::Tls(BadTls::Alert(code @ (40 | 70 | 71))) => write!(
                f,
                "the peer allows no TLS that is allowed here (TLS alert {code}): it is to be 1.3, or 1.2 with the extended master secret; its log may say more"
            ),
            Self::Tls(BadTls::Alert(code)) => {
                write!(f, "the peer ended TLS with alert {code}: look into its log")
            }
            Self::Tls(BadTls::Broken) => f.write_str(
                "what the peer sent is no TLS, or was changed on the way: check that both ends use TLS",
            ),
            Self::Tls(BadTls::KeysUsedUp) => f.write_str(
                "this TLS 1.2 connection has sent all that its keys are good for: connect again, or use TLS 1.3, which changes them",
            ),
            Self::Frame(BadFrame::Tag) => f.write_str(
                "a frame's tag is wrong: something on the way changes the stream, and it cannot be trusted",
            ),
            Self::Frame(BadFrame::Length) => {
                f.write_str("the peer sent a frame of a negative length: check that both ends speak the same")
            }
            Self::Frame(BadFrame::Type) => {
                f.write_str("the peer sent a frame of an unknown type: update the older end")
            }
            Self::Frame(BadFrame::Payload) => {
                f.write_str("the peer sent a frame whose payload is not what its type says")
            }
            Self::Frame(BadFrame::Order) => {
                f.write_str("the peer sent a frame that may not come here: a message was cut off, or went on behind the end")
            }
            Self::PeerClosed(Reason::Shutdown) => {
                f.write_str("the peer is shutting down: connect again later")
            }
            Self::PeerClosed(Reason::Protocol) => {
                f.write_str("the peer ended the session, for we broke the protocol: look into its log")
            }
            Self::PeerClosed(Reason::Timeout) => {
                f.write_str("the peer ended the session, for we were too slow: look into its log")
            }
            Self::PeerClosed(Reason::Application) => {
                f.write_str("the peer's application ended the session: look into its log")
            }
            Self::Refused(Refuse::Unknown) => {
                f.write_str("no key for this peer: add it, or check which key the peer names")
            }
            Self::Refused(Refuse::OutOfDate) => f.write_str(
                "the key for this peer is not valid now: check its not_before and not_after, and both clocks",
            ),
            Self::Refused(Refuse::WrongRole) => {
                f.write_str("the key for this peer is not for this end: check its `roles`")
            }
            Self::Refused(Refuse::Reflected) => f.write_str(
                "the peer sent our own challenge back: a program between the two is bouncing it, or they are one",
            ),
            Self::FrameTooLong { len } => write!(
                f,
                "the peer announced a frame of {len} bytes, which is longer than is taken here: raise the limit, or check that both ends speak the same"
            ),
            Self::Truncated(Truncated::Handshake) => f.write_str(
                "the peer closed the connection before the handshake was over: check that both ends use the same scheme, and both TLS or neither",
            ),
            Self::Truncated(Truncated::Message) => f.write_str(
                "the peer closed the connection in the middle of a message: what came of it is not whole",
            ),
            Self::Truncated(Truncated::Stream) => f.write_str(
                "the connection was closed and the peer had not said that it had finished: there may have been more",
            ),
            Self::TimedOut(TimedOut::Peer) => {
                f.write_str("nothing was heard of the peer for more than two heartbeats: it is gone, or the network is")
            }
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

#[cfg(test)]
mod tests;
