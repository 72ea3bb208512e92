//! Shared by the targets: schemes and framings, keys, and the honest peer of a session under test.
#![allow(dead_code)]

#[path = "../../src/python.rs"]
pub mod python;

use std::time::Duration;

use arbitrary::Arbitrary;
use countersign::{
    Buffers, Candidates, Config, Digest, Error, Event, Framing, Instant, Key, KeyRejection,
    KeyRequest, Multiprocessing, Mutual, Name, Nonce, ProcessId, Protocol, Role, Scheme, Session,
};
use python::PYTHON_DIGESTS;

pub const SECRET: &[u8] = b"the fuzzer does not know this";
pub const EXPORTER: [u8; 32] = [0xeb; 32];
pub const HEARTBEAT: Duration = Duration::from_secs(1);

/// What two endpoints speak: a scheme, its parameters, and a framing.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionSpec {
    Raw,
    U32,
    Challenge {
        digest: u8,
        u32_framing: bool,
    },
    /// Scheme `none` with CPython's framing.
    Python,
    Multiprocessing {
        digest: u8,
        compatible: bool,
        own_framing: bool,
    },
    Mutual,
    Bound,
    Untagged,
}

impl SessionSpec {
    /// Returns the variant with this number.
    pub fn numbered(n: u8) -> Self {
        match n % 8 {
            0 => Self::Raw,
            1 => Self::U32,
            2 => Self::Challenge { digest: n / 8, u32_framing: n >= 128 },
            3 => Self::Python,
            4 => Self::Multiprocessing {
                digest: n / 8,
                compatible: n >= 128,
                own_framing: n & 64 == 0,
            },
            5 => Self::Mutual,
            6 => Self::Bound,
            _ => Self::Untagged,
        }
    }

    pub fn is_mutual(self) -> bool {
        matches!(self, Self::Mutual | Self::Bound | Self::Untagged)
    }

    pub fn is_tagged(self) -> bool {
        matches!(self, Self::Mutual | Self::Bound)
    }

    /// Whether the peer of an endpoint of `role` has to prove itself.
    pub fn authenticates_peer(self, role: Role) -> bool {
        match self {
            Self::Raw | Self::U32 | Self::Python => false,
            Self::Challenge { .. } => role == Role::Server,
            Self::Multiprocessing { .. } | Self::Mutual | Self::Bound | Self::Untagged => true,
        }
    }

    /// Whether an endpoint of `role` must accept the bytes `received`, given the bytes of an
    /// `honest` peer.
    pub fn must_accept(self, role: Role, honest: &[u8], received: &[u8]) -> bool {
        let Some(policy) = self.policy() else { return received.starts_with(honest) };
        let session = self.session(role, &self.config(role), (0, 0));
        let own = session.challenge().expect("its own challenge");
        python::must_accept(policy, role, own, (honest, received))
    }

    fn digest(digest: u8) -> Digest {
        Digest::ALL[usize::from(digest) % Digest::ALL.len()]
    }

    fn policy(self) -> Option<Multiprocessing> {
        let Self::Multiprocessing { digest, compatible, .. } = self else { return None };
        let (digest, _) = PYTHON_DIGESTS[usize::from(digest) % PYTHON_DIGESTS.len()];
        let strict = Multiprocessing::new(digest);
        Some(if compatible { strict.compatible() } else { strict })
    }

    /// Returns keys for every request of either endpoint.
    pub fn keys(self) -> KeySet {
        let challenge = |digest| Key::challenge(digest, SECRET).expect("a good key");
        KeySet(match (self, self.policy()) {
            (Self::Challenge { digest, .. }, _) => vec![challenge(Self::digest(digest))],
            (_, Some(policy)) => policy.digests().map(challenge).collect(),
            _ => vec![Key::mutual(SECRET).expect("a good key")],
        })
    }

    pub fn config(self, role: Role) -> Config {
        let process_id = ProcessId::from_bytes(&[role as u8; ProcessId::LEN]);
        let name = Name::new(["client", "server"][role as usize]).expect("a name");
        let mutual = Mutual::new(name, process_id).with_heartbeat(HEARTBEAT);
        match self {
            Self::Raw => Config::new(Scheme::None).with_framing(Framing::Raw),
            Self::U32 => Config::new(Scheme::None),
            Self::Challenge { digest, u32_framing } => {
                let digest = Self::digest(digest);
                let framing = if u32_framing { Framing::U32 } else { Framing::Raw };
                Config::new(Scheme::Challenge { digest }).with_framing(framing)
            }
            Self::Python => Config::new(Scheme::None).with_framing(Framing::Multiprocessing),
            Self::Multiprocessing { own_framing, .. } => {
                let policy = self.policy().expect("it has one");
                let framing = if own_framing { Framing::Multiprocessing } else { Framing::Raw };
                Config::new(Scheme::Multiprocessing(policy)).with_framing(framing)
            }
            Self::Mutual => Config::new(Scheme::Mutual(mutual)),
            Self::Bound => Config::new(Scheme::Mutual(mutual.with_channel_binding())),
            Self::Untagged => {
                Config::new(Scheme::Mutual(mutual.with_channel_binding().without_tags()))
            }
        }
    }

    /// Makes a session with `extra` bytes in the receive and the send buffer beyond what it needs.
    pub fn session(self, role: Role, config: &Config, extra: (usize, usize)) -> Session<Vec<u8>> {
        let buffers = Buffers {
            handshake: vec![0; config.handshake_len()],
            receive: vec![0; config.receive_len() + extra.0],
            send: vec![0; Config::MIN_BUFFER + extra.1],
        };
        let make = if role == Role::Server { Session::server } else { Session::client };
        let nonce = Nonce::from_bytes([role as u8; Nonce::LEN]);
        make(config, nonce, buffers, Instant::EPOCH).expect("long enough buffers")
    }

    /// Returns the honest peer of an endpoint of `role`.
    pub fn peer(self, role: Role) -> Session<Vec<u8>> {
        let role = if role == Role::Server { Role::Client } else { Role::Server };
        let config = self.config(role).with_stall_timeout(Duration::MAX);
        let mut peer = self.session(role, &config, (4096, 4096));
        peer.bind_channel(&EXPORTER, Instant::EPOCH);
        peer
    }
}

/// The keys with which an endpoint answers key requests.
pub struct KeySet(Vec<Key>);

impl KeySet {
    pub fn answer(&self, request: &KeyRequest<'_>) -> Result<Candidates<'_>, KeyRejection> {
        let key = self.0.iter().find(|key| key.purpose() == request.purpose);
        key.map(|key| Candidates::two(key, key)).ok_or(KeyRejection::Unknown)
    }

    /// Returns a key, which need not be the requested one.
    pub fn any(&self) -> &Key {
        &self.0[0]
    }
}

/// Lets `session` receive as much of `bytes` as it wants; returns how many. Answers key requests
/// and consumes chunks, whose bytes are appended to `received`.
pub fn receive(
    session: &mut Session<Vec<u8>>,
    keys: &KeySet,
    bytes: &[u8],
    now: Instant,
    received: &mut Vec<u8>,
) -> Result<usize, Error> {
    let mut read = 0;
    loop {
        while let Some(event) = session.poll_event(now)? {
            if event == Event::KeyNeeded {
                let answer = keys.answer(&session.key_request().expect("a request"));
                session.provide_key(answer, now).expect("a key of the right purpose");
            }
            received.extend_from_slice(session.split().0);
            session.consume(now);
        }
        let space = session.recv_space();
        let n = space.len().min(bytes.len() - read);
        if n == 0 {
            return Ok(read);
        }
        space[..n].copy_from_slice(&bytes[read..][..n]);
        session.handle_received(n, now);
        read += n;
    }
}

/// Returns everything that is ready to be transmitted.
pub fn drain(session: &mut Session<Vec<u8>>, now: Instant) -> Vec<u8> {
    let mut sent = Vec::new();
    loop {
        let bytes = session.poll_transmit(now).to_vec();
        if bytes.is_empty() {
            return sent;
        }
        session.handle_transmitted(bytes.len(), now);
        sent.extend(bytes);
    }
}

/// Completes the handshake between the two.
pub fn connect(tested: &mut Session<Vec<u8>>, peer: &mut Session<Vec<u8>>, keys: &KeySet) {
    let now = Instant::EPOCH;
    while tested.peer().is_none() || peer.peer().is_none() {
        let sent = drain(peer, now);
        receive(tested, keys, &sent, now, &mut Vec::new()).expect("an honest handshake");
        let sent = drain(tested, now);
        receive(peer, keys, &sent, now, &mut Vec::new()).expect("an honest handshake");
    }
}
