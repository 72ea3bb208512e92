//! What a session is to speak.

use core::time::Duration;

use crate::handshake;
use crate::mac::Digest;

/// How two ends prove who they are. docs/PROTOCOL.md has each to the byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// Nothing is proved. For use inside something that proves it, such as mutual TLS.
    None,
    /// The server sends 32 random bytes, the client answers with their HMAC.
    Challenge {
        /// What the HMAC is over; both ends must agree beforehand.
        digest: Digest,
    },
}

impl Scheme {
    /// The name as the command line and the documents write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Challenge { .. } => "challenge",
        }
    }
}

/// How bytes become messages once the handshake is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Framing {
    /// Not at all: a byte stream.
    Raw,
    /// `u32 N`, big-endian, then N bytes.
    U32,
}

/// Everything two ends must agree on, and the limits of this one. Made once, used for every
/// session.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) scheme: Scheme,
    pub(crate) framing: Framing,
    pub(crate) max_frame: u64,
    pub(crate) handshake_timeout: Duration,
    pub(crate) stall_timeout: Duration,
}

impl Config {
    /// The shortest receive and the shortest send buffer, in bytes.
    pub const MIN_BUFFER: usize = 64;

    /// `scheme` with its own framing: `challenge` is followed by a raw byte stream, `none` by
    /// frames with a `u32` length. Handshakes take at most 5 s, stalls at most 30 s, frames
    /// at most 16 MiB.
    #[must_use]
    pub const fn new(scheme: Scheme) -> Self {
        Self {
            scheme,
            framing: match scheme {
                Scheme::None => Framing::U32,
                Scheme::Challenge { .. } => Framing::Raw,
            },
            max_frame: 16 << 20,
            handshake_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(30),
        }
    }

    /// Another framing than the scheme's own.
    #[must_use]
    pub const fn with_framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// The longest frame to accept, in bytes, its length field not counted. A longer one ends the
    /// session before any of it is kept. Frames longer than the receive buffer come in parts, so
    /// this bounds what a peer may say at once and not memory. A raw byte stream has no frames.
    #[must_use]
    pub const fn with_max_frame(mut self, bytes: u64) -> Self {
        self.max_frame = bytes;
        self
    }

    /// How long the whole handshake may take, from the session's construction.
    #[must_use]
    pub const fn with_handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// How long the peer may take for the rest of a part that has begun to arrive (a frame, or of a
    /// long one as much as fills the receive buffer), and to read what we have queued. Time in
    /// which we ourselves do not read does not count.
    #[must_use]
    pub const fn with_stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// The scheme.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The framing.
    #[must_use]
    pub const fn framing(&self) -> Framing {
        self.framing
    }

    /// The longest frame that is accepted, in bytes.
    #[must_use]
    pub const fn max_frame(&self) -> u64 {
        self.max_frame
    }

    /// The shortest handshake buffer, in bytes. 1024 are enough for every scheme.
    #[must_use]
    pub const fn handshake_len(&self) -> usize {
        handshake::receive_len(self.scheme) + handshake::transmit_len(self.scheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_what_it_was_made() {
        let challenge = Config::new(Scheme::Challenge { digest: Digest::Sha256 });
        assert_eq!(challenge.framing(), Framing::Raw);
        assert_eq!(challenge.scheme().name(), "challenge");
        let none = Config::new(Scheme::None).with_max_frame(77);
        assert_eq!(none.framing(), Framing::U32);
        assert_eq!((none.scheme().name(), none.max_frame()), ("none", 77));
        assert_eq!(none.with_framing(Framing::Raw).framing(), Framing::Raw);
    }
}
