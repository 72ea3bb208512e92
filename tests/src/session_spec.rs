use std::time::Duration;

use countersign::{
    Candidates, Config, Digest, Framing, Instant, Key, KeyRejection, KeyRequest, Multiprocessing,
    Mutual, Name, Nonce, ProcessId, Protocol, Role, Scheme, Session,
};

use crate::{HonestPeer, LeasedBuffer, Pools, drain, python};

/// The key of both endpoints.
pub const SECRET: &[u8] = b"the key of both ends";
/// A key that no peer has.
pub const ANOTHER_SECRET: &[u8] = b"another key than that";
/// The TLS exporter of both endpoints where sessions are bound to a channel.
pub const EXPORTER: [u8; 32] = [0xeb; 32];
/// The key id of mutual clients.
pub const KEY_ID: &str = "k1";

/// The framings that can be combined with schemes other than `mutual`.
pub const FRAMINGS: [Framing; 3] = [Framing::Raw, Framing::U32, Framing::Multiprocessing];

/// What a client and a server agree on: a scheme, its parameters, and a framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionSpec {
    /// The scheme `none`.
    None(Framing),
    /// The scheme `challenge`.
    Challenge(Digest, Framing),
    /// The scheme `multiprocessing`.
    Multiprocessing(Policy, Framing),
    /// The scheme `mutual`.
    Mutual(FrameProtection),
}

/// Which proofs endpoints of `multiprocessing` give and accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Only proofs with this digest.
    Strict(Digest),
    /// The proofs that CPython gives and accepts; the server asks for the first digest, the client
    /// for the second.
    Compatible(Digest, Digest),
}

impl Policy {
    /// Returns the policy of an endpoint of `role`.
    #[must_use]
    pub const fn of(self, role: Role) -> Multiprocessing {
        match (self, role) {
            (Self::Strict(digest), _) => Multiprocessing::new(digest),
            (Self::Compatible(asked, _), Role::Server)
            | (Self::Compatible(_, asked), Role::Client) => {
                Multiprocessing::new(asked).compatible()
            }
        }
    }
}

/// The keys of an endpoint, or why it has none.
pub type KeySet = Result<Vec<Key>, KeyRejection>;

/// Returns the key in `keys` for the purpose of `request`. The key id does not matter.
///
/// # Errors
/// No key has that purpose.
pub fn candidates<'a>(
    keys: &'a KeySet,
    request: &KeyRequest<'_>,
) -> Result<Candidates<'a>, KeyRejection> {
    let keys = keys.as_ref().map_err(|&why| why)?;
    let key = keys.iter().find(|key| key.purpose() == request.purpose);
    key.map(Candidates::one).ok_or(KeyRejection::Unknown)
}

/// What protects the frames of `mutual`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameProtection {
    /// Their tags.
    Tags,
    /// Their tags, in a session bound to a TLS channel.
    Bound,
    /// The TLS channel alone.
    Untagged,
}

impl FrameProtection {
    /// All variants.
    pub const ALL: [Self; 3] = [Self::Tags, Self::Bound, Self::Untagged];
}

/// Returns the role of the peer of an endpoint of `role`.
#[must_use]
pub const fn peer_role(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

/// Returns the name of the endpoint of `role` in schemes with names.
#[must_use]
pub const fn endpoint_name(role: Role) -> &'static str {
    match role {
        Role::Client => "the-client",
        Role::Server => "the-server",
    }
}

impl SessionSpec {
    /// Returns the framing of messages.
    #[must_use]
    pub const fn framing(self) -> Framing {
        match self {
            Self::None(framing)
            | Self::Challenge(_, framing)
            | Self::Multiprocessing(_, framing) => framing,
            Self::Mutual(_) => Framing::Sealed,
        }
    }

    /// Whether the scheme is `mutual`.
    #[must_use]
    pub const fn is_mutual(self) -> bool {
        matches!(self, Self::Mutual(_))
    }

    /// Whether both endpoints are inside TLS.
    #[must_use]
    pub const fn is_bound(self) -> bool {
        matches!(self, Self::Mutual(FrameProtection::Bound | FrameProtection::Untagged))
    }

    /// Whether frames carry tags that only a holder of the key can make.
    #[must_use]
    pub const fn is_tagged(self) -> bool {
        matches!(self, Self::Mutual(FrameProtection::Tags | FrameProtection::Bound))
    }

    /// Whether an endpoint of `role` authenticates its peer.
    #[must_use]
    pub const fn authenticates_peer(self, role: Role) -> bool {
        match self {
            Self::None(_) => false,
            Self::Challenge(..) => matches!(role, Role::Server),
            Self::Multiprocessing(..) | Self::Mutual(_) => true,
        }
    }

    /// Returns the configuration of an endpoint of `role`, with `heartbeat` where the framing has
    /// heartbeats.
    #[must_use]
    pub fn config(self, role: Role, heartbeat: Duration) -> Config {
        let (protection, framing) = match self {
            Self::None(framing) => return Config::new(Scheme::None).with_framing(framing),
            Self::Challenge(digest, framing) => {
                return Config::new(Scheme::Challenge { digest }).with_framing(framing);
            }
            Self::Multiprocessing(policy, framing) => {
                let scheme = Scheme::Multiprocessing(policy.of(role));
                return Config::new(scheme).with_framing(framing);
            }
            Self::Mutual(protection) => (protection, Framing::Sealed),
        };
        let process_id = ProcessId::from_bytes(&[role as u8; ProcessId::LEN]);
        let mutual = Mutual::new(Name::new(endpoint_name(role)).unwrap(), process_id)
            .with_key_id(KEY_ID.parse().unwrap())
            .with_heartbeat(heartbeat);
        let mutual = match protection {
            FrameProtection::Tags => mutual,
            FrameProtection::Bound => mutual.with_channel_binding(),
            FrameProtection::Untagged => mutual.with_channel_binding().without_tags(),
        };
        Config::new(Scheme::Mutual(mutual)).with_framing(framing)
    }

    /// Returns the keys that endpoints need, made from `secret`.
    ///
    /// # Errors
    /// The scheme has no keys.
    pub fn keys(self, secret: &[u8]) -> KeySet {
        let challenge = |digest| Key::challenge(digest, secret).unwrap();
        match self {
            Self::None(_) => Err(KeyRejection::Unknown),
            Self::Challenge(digest, _) => Ok(vec![challenge(digest)]),
            Self::Multiprocessing(policy, _) => {
                Ok(policy.of(Role::Server).digests().map(challenge).collect())
            }
            Self::Mutual(_) => Ok(vec![Key::mutual(secret).unwrap()]),
        }
    }

    /// Whether an endpoint of `role` must accept the bytes `received`, given the bytes of an
    /// `honest` peer.
    #[must_use]
    pub fn must_accept(self, role: Role, honest: &[u8], received: &[u8]) -> bool {
        let Self::Multiprocessing(policy, _) = self else { return received.starts_with(honest) };
        let config = self.config(role, HonestPeer::HEARTBEAT);
        let end = self.unbound_session(role, &config, &Pools::default(), (64, 64));
        python::must_accept(policy.of(role), role, end.challenge().unwrap(), (honest, received))
    }

    /// Returns what an endpoint of `role` sends before it receives anything.
    #[must_use]
    pub fn greeting(self, role: Role) -> Vec<u8> {
        let config = self.config(role, HonestPeer::HEARTBEAT);
        let mut end = self.session(role, &config, &Pools::default(), (config.receive_len(), 64));
        drain(&mut end, Instant::EPOCH)
    }

    /// Returns the random bytes of the nonce of every endpoint of `role`, so that equal inputs give
    /// equal outputs.
    #[must_use]
    pub const fn nonce(role: Role) -> [u8; Nonce::LEN] {
        [0x6e + role as u8; Nonce::LEN]
    }

    /// Makes a session of `role` that is not yet bound to a channel.
    #[must_use]
    pub fn unbound_session(
        self,
        role: Role,
        config: &Config,
        pools: &Pools,
        (receive, send): (usize, usize),
    ) -> Session<LeasedBuffer> {
        let make = match role {
            Role::Client => Session::client,
            Role::Server => Session::server,
        };
        let nonce = Nonce::from_bytes(Self::nonce(role));
        make(config, nonce, pools.buffers(receive, send), Instant::EPOCH).unwrap()
    }

    /// Makes a session of `role`, bound to the channel if the scheme requires it.
    #[must_use]
    pub fn session(
        self,
        role: Role,
        config: &Config,
        pools: &Pools,
        sizes: (usize, usize),
    ) -> Session<LeasedBuffer> {
        let mut session = self.unbound_session(role, config, pools, sizes);
        if self.is_bound() {
            session.bind_channel(&EXPORTER, Instant::EPOCH);
        }
        session
    }
}
