//! What a session is to speak.

use core::time::Duration;

use crate::crypto::mac::Digest;
use crate::error::ConfigError;
use crate::name::{KeyId, Name};
use crate::process_id::ProcessId;

/// How two ends prove who they are. docs/PROTOCOL.md has each to the byte.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Scheme {
    /// Nothing is proved. For use inside something that proves it, such as mutual TLS.
    None,
    /// The server sends 32 random bytes, the client answers with their HMAC.
    Challenge {
        /// What the HMAC is over; both ends must agree beforehand.
        digest: Digest,
    },
    /// What CPython's `multiprocessing.connection` does: both ends answer a challenge, as in
    /// `challenge`, with the same key and in no role of their own. `Listener` is a server, `Client` a
    /// client.
    Multiprocessing(Multiprocessing),
    /// Both ends prove that they hold the key, and every frame that follows is protected.
    Mutual(Mutual),
}

impl Scheme {
    /// The name as the command line and the documents write it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Challenge { .. } => "challenge",
            Self::Multiprocessing(_) => "multiprocessing",
            Self::Mutual(_) => "mutual",
        }
    }
}

/// Which proofs are given and taken in the scheme `multiprocessing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multiprocessing {
    pub(crate) digest: Digest,
    pub(crate) compatible: bool,
}

impl Multiprocessing {
    /// HMAC over `digest`, and nothing else. CPython from 3.12 on asks for sha256 and gives what is
    /// asked for; before, it knows md5 alone. It has no sha1 and no sha512.
    #[must_use]
    pub const fn new(digest: Digest) -> Self {
        Self { digest, compatible: false }
    }

    /// Asks for the digest, and gives and takes whatever CPython itself would: md5, from peers of any
    /// age. Only digests of this build are known.
    #[must_use]
    pub const fn compatible(mut self) -> Self {
        self.compatible = true;
        self
    }

    pub(crate) fn allows(self, digest: Digest) -> bool {
        self.compatible || digest == self.digest
    }
}

/// Who we are in the scheme `mutual`, and whom we expect.
#[derive(Clone, Debug)]
pub struct Mutual {
    pub(crate) name: Name,
    pub(crate) process_id: ProcessId,
    pub(crate) key_id: KeyId,
    pub(crate) expected: Option<Name>,
    pub(crate) heartbeat: Duration,
    pub(crate) bound: bool,
    pub(crate) untagged: bool,
}

impl Mutual {
    /// The key id of whoever names none.
    pub const DEFAULT_KEY_ID: &str = "default";

    /// An end called `name`, of the process `instance`. A client uses the key `default` and takes
    /// any server that holds it, but one of its own name; a server has both ends send a heartbeat
    /// every 15 s.
    #[must_use]
    pub const fn new(name: Name, process_id: ProcessId) -> Self {
        let Ok(key_id) = KeyId::new(Self::DEFAULT_KEY_ID) else { unreachable!() };
        Self {
            name,
            process_id,
            key_id,
            expected: None,
            heartbeat: Duration::from_secs(15),
            bound: false,
            untagged: false,
        }
    }

    /// A client: the key to use.
    #[must_use]
    pub const fn with_key_id(mut self, key_id: KeyId) -> Self {
        self.key_id = key_id;
        self
    }

    /// A client: the only name that a server may have.
    #[must_use]
    pub const fn with_expected_server(mut self, name: Name) -> Self {
        self.expected = Some(name);
        self
    }

    /// A server: how long either end may be silent before it sends a PING. 1 s to 1 h, or 0 for
    /// never. A peer of which nothing was heard for twice as long and 5 s is given up.
    #[must_use]
    pub const fn with_heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// Inside TLS: the session waits for [`Protocol::bind_channel`](crate::Protocol::bind_channel),
    /// and will not be established with an end that is not at the other end of that very TLS
    /// connection.
    #[must_use]
    pub const fn with_channel_binding(mut self) -> Self {
        self.bound = true;
        self
    }

    /// With a channel binding: leaves the protection of frames to TLS if both ends allow it.
    #[must_use]
    pub const fn without_tags(mut self) -> Self {
        self.untagged = true;
        self
    }

    /// The same end in another process: after a `fork`, say.
    #[must_use]
    pub fn with_process_id(mut self, process_id: ProcessId) -> Self {
        self.process_id = process_id;
        self
    }

    /// What to advertise as heartbeat.
    pub(crate) fn heartbeat_ms(&self) -> Result<u32, ConfigError> {
        let ms = u32::try_from(self.heartbeat.as_millis()).unwrap_or(u32::MAX);
        let whole = Duration::from_millis(ms.into()) == self.heartbeat;
        if whole && is_heartbeat(ms) { Ok(ms) } else { Err(ConfigError::Heartbeat) }
    }
}

/// Whether a server may ask for a heartbeat of so many milliseconds.
pub(crate) const fn is_heartbeat(ms: u32) -> bool {
    matches!(ms, 0 | 1_000..=3_600_000)
}

/// How bytes become messages once the handshake is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Framing {
    /// Not at all: a byte stream.
    Raw,
    /// `u32 N`, big-endian, then N bytes.
    U32,
    /// `i32 n`, big-endian, then n bytes; for more than an `i32` can say, -1, then `u64 n`: as
    /// CPython's `multiprocessing.connection` has it.
    Multiprocessing,
    /// Frames with a type, a sequence number and a tag: what follows the scheme `mutual`, and
    /// nothing else.
    Sealed,
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
    /// The shortest send buffer, and the shortest receive buffer of most framings, in bytes.
    pub const MIN_BUFFER: usize = 64;

    /// `scheme` with its own framing: `mutual` is followed by sealed frames, `challenge` by a raw
    /// byte stream, `multiprocessing` by frames as Python has them, `none` by frames with a `u32`
    /// length. Handshakes take at most 5 s, stalls at
    /// most 30 s, frames at most 16 MiB.
    #[must_use]
    pub const fn new(scheme: Scheme) -> Self {
        Self {
            framing: match scheme {
                Scheme::None => Framing::U32,
                Scheme::Challenge { .. } => Framing::Raw,
                Scheme::Multiprocessing(_) => Framing::Multiprocessing,
                Scheme::Mutual(_) => Framing::Sealed,
            },
            scheme,
            max_frame: 16 << 20,
            handshake_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(30),
        }
    }

    /// Another framing than the scheme's own. `mutual` has no other.
    #[must_use]
    pub const fn with_framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// The longest frame to accept, in bytes, its length field not counted. A longer one ends the
    /// session before any of it is kept. Frames longer than the receive buffer come in parts, so
    /// this bounds what a peer may say at once and not memory. A raw byte stream has no frames. A
    /// sealed frame has to fit the receive buffer, so there that is a bound as well, of which the
    /// peer is told; a message of any length comes in several.
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

    /// The same in another process: see [`ProcessId`]. Changes nothing but for the scheme `mutual`.
    #[must_use]
    pub fn with_process_id(mut self, process_id: ProcessId) -> Self {
        if let Scheme::Mutual(mutual) = &mut self.scheme {
            mutual.process_id = process_id;
        }
        self
    }

    /// The same inside TLS: see [`Mutual::with_channel_binding`]. Changes nothing but for the scheme
    /// `mutual`.
    #[must_use]
    pub fn with_channel_binding(mut self) -> Self {
        if let Scheme::Mutual(mutual) = &mut self.scheme {
            mutual.bound = true;
        }
        self
    }

    /// The scheme.
    #[must_use]
    pub const fn scheme(&self) -> &Scheme {
        &self.scheme
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

    #[test]
    fn heartbeats_are_whole_milliseconds_within_bounds() {
        let process_id = ProcessId::from_bytes(&[0; ProcessId::LEN]);
        let mutual = Mutual::new(Name::new("n").unwrap(), process_id);
        assert_eq!(mutual.heartbeat_ms(), Ok(15_000));
        let ms = |heartbeat| mutual.clone().with_heartbeat(heartbeat).heartbeat_ms();
        for good in [0, 1_000, 3_600_000] {
            assert_eq!(ms(Duration::from_millis(good)), Ok(good as u32));
        }
        for bad in [1, 999, 3_600_001, 1 << 32, (1 << 32) + 5_000, u64::MAX] {
            assert_eq!(ms(Duration::from_millis(bad)), Err(ConfigError::Heartbeat));
        }
        assert_eq!(ms(Duration::from_micros(1_000_001)), Err(ConfigError::Heartbeat));
    }
}
