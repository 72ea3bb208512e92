//! The configuration of a session.

use core::time::Duration;

use crate::crypto::mac::Digest;
use crate::error::ConfigError;
use crate::name::{KeyId, Name};
use crate::process_id::ProcessId;

/// How the two ends authenticate. docs/PROTOCOL.md specifies each scheme to the byte.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Scheme {
    /// No authentication. For use inside a channel that authenticates, such as mutual TLS.
    None,
    /// The client proves possession of the key: the server sends 32 random bytes and the client
    /// answers with their HMAC. One-way; nothing after the handshake is protected.
    Challenge {
        /// The digest of the HMAC. Both ends must be configured with the same one.
        digest: Digest,
    },
    /// The handshake of CPython's `multiprocessing.connection`: each end answers a challenge of the
    /// other with the same key. The server is Python's `Listener`, the client its `Client`.
    Multiprocessing(Multiprocessing),
    /// Both ends prove possession of the key, with names, roles and a key id, and every later
    /// frame carries a tag.
    Mutual(Mutual),
}

impl Scheme {
    /// The name of the scheme on the command line, in logs and in the documentation.
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

/// Configures the scheme `multiprocessing`: which digests its proofs may use.
///
/// ```
/// use countersign::{Config, Digest, Multiprocessing, Scheme};
///
/// // Interoperates with every CPython since 3.12.
/// let scheme = Multiprocessing::new(Digest::Sha256);
/// let config = Config::new(Scheme::Multiprocessing(scheme));
/// assert_eq!(scheme.digests().collect::<Vec<_>>(), [Digest::Sha256]);
/// # let _ = config;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multiprocessing {
    pub(crate) digest: Digest,
    pub(crate) compatible: bool,
}

impl Multiprocessing {
    /// Requests and accepts HMAC over `digest` only.
    ///
    /// CPython 3.12 and later requests sha256 and answers with the digest that is requested;
    /// earlier versions support md5 only. The scheme has no sha1 and no sha512: a session with these
    /// fails with [`ConfigError::Digest`].
    #[must_use]
    pub const fn new(digest: Digest) -> Self {
        Self { digest, compatible: false }
    }

    /// Requests the digest, but accepts and answers what CPython itself accepts and answers,
    /// including md5. Limited to the digests of this build.
    #[must_use]
    pub const fn compatible(mut self) -> Self {
        self.compatible = true;
        self
    }

    pub(crate) fn allows(self, digest: Digest) -> bool {
        self.compatible || digest == self.digest
    }
}

/// Configures the scheme `mutual`: this end and the peer that it expects.
///
/// ```
/// use std::time::Duration;
///
/// use countersign::{Config, Mutual, ProcessId, Scheme};
///
/// let process_id = ProcessId::generate(&mut getrandom::SysRng)?; // once per process
/// let server = Mutual::new("server".parse().unwrap(), process_id.clone())
///     .with_heartbeat(Duration::from_secs(30));
/// let client = Mutual::new("client".parse().unwrap(), process_id)
///     .with_key_id("fleet-2".parse().unwrap())
///     .with_expected_server("server".parse().unwrap());
/// let configs = [server, client].map(|mutual| Config::new(Scheme::Mutual(mutual)));
/// # let _ = configs;
/// # Ok::<(), getrandom::Error>(())
/// ```
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
    /// The key id of a client that is not configured with another one.
    pub const DEFAULT_KEY_ID: &str = "default";

    /// An end with the name `name` in the process `process_id`.
    ///
    /// A client uses the key id [`DEFAULT_KEY_ID`](Self::DEFAULT_KEY_ID) and accepts every server
    /// that holds the key and has another name than its own. A server requests a heartbeat of 15 s.
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

    /// Client: sets the id of the key to use.
    #[must_use]
    pub const fn with_key_id(mut self, key_id: KeyId) -> Self {
        self.key_id = key_id;
        self
    }

    /// Client: accepts only a server with this name.
    #[must_use]
    pub const fn with_expected_server(mut self, name: Name) -> Self {
        self.expected = Some(name);
        self
    }

    /// Server: sets the time without transmission after which either end sends a PING.
    ///
    /// 0 for never, or 1 s to 1 h in whole milliseconds. An end that has received nothing for
    /// twice the heartbeat plus 5 s ends the session with
    /// [`TimedOut::Peer`](crate::TimedOut::Peer).
    #[must_use]
    pub const fn with_heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// Inside TLS: binds the session to its TLS connection, so that it fails if an attacker
    /// terminates TLS between the ends.
    ///
    /// The session waits for [`Protocol::bind_channel`](crate::Protocol::bind_channel) before it
    /// sends anything.
    #[must_use]
    pub const fn with_channel_binding(mut self) -> Self {
        self.bound = true;
        self
    }

    /// With a channel binding: sends frames without tags if both ends allow it. TLS then protects
    /// the frames.
    #[must_use]
    pub const fn without_tags(mut self) -> Self {
        self.untagged = true;
        self
    }

    /// The same configuration with another process id, for example after a `fork`.
    #[must_use]
    pub fn with_process_id(mut self, process_id: ProcessId) -> Self {
        self.process_id = process_id;
        self
    }

    /// The heartbeat to send in M3, checked.
    pub(crate) fn heartbeat_ms(&self) -> Result<u32, ConfigError> {
        let ms = u32::try_from(self.heartbeat.as_millis()).unwrap_or(u32::MAX);
        // M3 has milliseconds only; rounding would change what was configured.
        let whole = Duration::from_millis(ms.into()) == self.heartbeat;
        if whole && is_heartbeat(ms) { Ok(ms) } else { Err(ConfigError::Heartbeat) }
    }
}

/// Whether a heartbeat of `ms` milliseconds is valid.
pub(crate) const fn is_heartbeat(ms: u32) -> bool {
    matches!(ms, 0 | 1_000..=3_600_000)
}

/// How bytes become messages after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Framing {
    /// No framing: a byte stream.
    Raw,
    /// `u32 N`, big-endian, then N bytes.
    U32,
    /// The framing of CPython's `multiprocessing.connection`: `i32 n`, big-endian, then n bytes. For
    /// lengths beyond an `i32`: -1, `u64 n`, then n bytes.
    Multiprocessing,
    /// Frames with a type, an implicit sequence number and a tag. Used with the scheme `mutual` and
    /// only there.
    Sealed,
}

/// The configuration of a session: what both ends must agree on, and the limits of this end.
///
/// Created once and used for every session.
///
/// ```
/// use std::time::Duration;
///
/// use countersign::{Config, Digest, Framing, Scheme};
///
/// let config = Config::new(Scheme::Challenge { digest: Digest::Sha256 })
///     .with_framing(Framing::U32)
///     .with_max_frame(64 * 1024)
///     .with_stall_timeout(Duration::from_secs(10));
/// assert_eq!(config.max_frame(), 65_536);
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) scheme: Scheme,
    pub(crate) framing: Framing,
    pub(crate) max_frame: u64,
    pub(crate) handshake_timeout: Duration,
    pub(crate) stall_timeout: Duration,
}

impl Config {
    /// The least length of a send buffer, and of a receive buffer for all framings but
    /// [`Framing::Sealed`], in bytes.
    pub const MIN_BUFFER: usize = 64;

    /// A configuration of `scheme` with its default framing.
    ///
    /// | scheme | framing |
    /// |---|---|
    /// | `none` | [`Framing::U32`] |
    /// | `challenge` | [`Framing::Raw`] |
    /// | `multiprocessing` | [`Framing::Multiprocessing`] |
    /// | `mutual` | [`Framing::Sealed`] |
    ///
    /// The handshake timeout is 5 s, the stall timeout 30 s and the greatest frame 16 MiB.
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

    /// Replaces the default framing of the scheme. [`Framing::Sealed`] cannot be replaced, and
    /// cannot be used with another scheme than `mutual` ([`ConfigError::Framing`]).
    #[must_use]
    pub const fn with_framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Sets the length of the longest frame to accept, in bytes, without its length field.
    ///
    /// A longer frame ends the session with
    /// [`Error::FrameTooLong`](crate::Error::FrameTooLong) before any of it is stored. A frame that
    /// is longer than the receive buffer is delivered in chunks, so the limit does not determine
    /// memory. A sealed frame must fit the receive buffer, so the smaller of both limits applies and
    /// is announced to the peer; longer messages take several frames. A raw byte stream has no
    /// frames.
    #[must_use]
    pub const fn with_max_frame(mut self, bytes: u64) -> Self {
        self.max_frame = bytes;
        self
    }

    /// Sets the deadline of the whole handshake, from the creation of the session.
    #[must_use]
    pub const fn with_handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Sets how long the peer may take to complete a chunk that has begun to arrive (a frame, or as
    /// much of it as fills the receive buffer), and to read what is queued. Time in which this end
    /// does not read is not counted.
    #[must_use]
    pub const fn with_stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// The same configuration in another process; see [`ProcessId`]. Affects the scheme `mutual`
    /// only.
    #[must_use]
    pub fn with_process_id(mut self, process_id: ProcessId) -> Self {
        if let Scheme::Mutual(mutual) = &mut self.scheme {
            mutual.process_id = process_id;
        }
        self
    }

    /// The same configuration inside TLS; see [`Mutual::with_channel_binding`]. Affects the scheme
    /// `mutual` only.
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

    /// The length of the longest accepted frame, in bytes.
    #[must_use]
    pub const fn max_frame(&self) -> u64 {
        self.max_frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_getters_return_what_was_set() {
        let challenge = Config::new(Scheme::Challenge { digest: Digest::Sha256 });
        assert_eq!(challenge.framing(), Framing::Raw);
        assert_eq!(challenge.scheme().name(), "challenge");
        let none = Config::new(Scheme::None).with_max_frame(77);
        assert_eq!(none.framing(), Framing::U32);
        assert_eq!((none.scheme().name(), none.max_frame()), ("none", 77));
        assert_eq!(none.with_framing(Framing::Raw).framing(), Framing::Raw);
    }

    #[test]
    fn heartbeat_must_be_whole_milliseconds_in_range() {
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
