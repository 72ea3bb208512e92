use std::time::Duration;

use countersign::{
    Candidates, Config, Digest, Framing, Instant, Key, KeyRejection, KeyRequest, Multiprocessing,
    Mutual, Name, Nonce, ProcessId, Protocol, Role, Scheme, Session,
};

use crate::{HonestPeer, Pools, Region, drain, python};

/// The key of both endpoints.
pub const SECRET: &[u8] = b"the key of both ends";
/// A key that no peer has.
pub const ANOTHER_SECRET: &[u8] = b"another key than that";
/// The TLS exporter of both endpoints where sessions are bound to a channel.
pub const EXPORTER: [u8; 32] = [0xeb; 32];
/// The key id of mutual clients.
pub const KID: &str = "k1";

/// The framings that can be combined with schemes other than `mutual`.
pub const FRAMINGS: [Framing; 3] = [Framing::Raw, Framing::U32, Framing::Multiprocessing];

/// What two endpoints speak: a scheme, its parameters, and a framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// The scheme `none`.
    None(Framing),
    /// The scheme `challenge`.
    Challenge(Digest, Framing),
    /// The scheme `multiprocessing`.
    Multiprocessing(Policy, Framing),
    /// The scheme `mutual`.
    Mutual(Cover),
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

/// The keys with which an endpoint answers key requests.
pub type Ring = Result<Vec<Key>, KeyRejection>;

/// Returns the key of `ring` that is made for the purpose of `request`, whatever its key id.
///
/// # Errors
/// No key has that purpose.
pub fn answer<'a>(
    ring: &'a Ring,
    request: &KeyRequest<'_>,
) -> Result<Candidates<'a>, KeyRejection> {
    let keys = ring.as_ref().map_err(|&why| why)?;
    let key = keys.iter().find(|key| key.purpose() == request.purpose);
    key.map(Candidates::one).ok_or(KeyRejection::Unknown)
}

/// What protects the frames of `mutual`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cover {
    /// Their tags.
    Tags,
    /// Their tags, in a session bound to a TLS channel.
    Bound,
    /// The TLS channel alone.
    Untagged,
}

impl Cover {
    /// All variants.
    pub const ALL: [Self; 3] = [Self::Tags, Self::Bound, Self::Untagged];
}

/// Returns the other role.
#[must_use]
pub const fn other(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

/// Returns the name of the endpoint of `role`, where endpoints have names.
#[must_use]
pub const fn name(role: Role) -> &'static str {
    match role {
        Role::Client => "the-client",
        Role::Server => "the-server",
    }
}

impl Speech {
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
        matches!(self, Self::Mutual(Cover::Bound | Cover::Untagged))
    }

    /// Whether frames carry tags that only a holder of the key can make.
    #[must_use]
    pub const fn is_tagged(self) -> bool {
        matches!(self, Self::Mutual(Cover::Tags | Cover::Bound))
    }

    /// Whether the peer of an endpoint of `role` has to prove itself.
    #[must_use]
    pub const fn proves_to(self, role: Role) -> bool {
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
        let (cover, framing) = match self {
            Self::None(framing) => return Config::new(Scheme::None).with_framing(framing),
            Self::Challenge(digest, framing) => {
                return Config::new(Scheme::Challenge { digest }).with_framing(framing);
            }
            Self::Multiprocessing(policy, framing) => {
                let scheme = Scheme::Multiprocessing(policy.of(role));
                return Config::new(scheme).with_framing(framing);
            }
            Self::Mutual(cover) => (cover, Framing::Sealed),
        };
        let process_id = ProcessId::from_bytes(&[role as u8; ProcessId::LEN]);
        let mutual = Mutual::new(Name::new(name(role)).unwrap(), process_id)
            .with_key_id(KID.parse().unwrap())
            .with_heartbeat(heartbeat);
        let mutual = match cover {
            Cover::Tags => mutual,
            Cover::Bound => mutual.with_channel_binding(),
            Cover::Untagged => mutual.with_channel_binding().without_tags(),
        };
        Config::new(Scheme::Mutual(mutual)).with_framing(framing)
    }

    /// Returns the keys made from `secret` that endpoints need.
    ///
    /// # Errors
    /// The scheme has no keys.
    pub fn ring(self, secret: &[u8]) -> Ring {
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
    pub fn proves(self, role: Role, honest: &[u8], received: &[u8]) -> bool {
        let Self::Multiprocessing(policy, _) = self else { return received.starts_with(honest) };
        let config = self.config(role, HonestPeer::HEARTBEAT);
        let end = self.unbound_session(role, &config, &Pools::default(), (64, 64));
        python::proves(policy.of(role), role, end.challenge().unwrap(), (honest, received))
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
    ) -> Session<Region> {
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
    ) -> Session<Region> {
        let mut session = self.unbound_session(role, config, pools, sizes);
        if self.is_bound() {
            session.bind_channel(&EXPORTER, Instant::EPOCH);
        }
        session
    }
}
