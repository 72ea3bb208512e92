//! What is spoken: every scheme with every framing that it can have, inside TLS and not.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use countersign::{Candidates, Config, Digest, Framing, KeyRejection, KeyRequest, Peer, Role};
use countersign_driver::Keys;
use countersign_host::{KeyList, OutstandingChallenges, Pools, ProtocolFactory, SessionFactory};
use countersign_tests::{FRAMINGS, FrameProtection, Policy, SECRET, SessionSpec};
use countersign_tls::{Credentials, TlsFactory};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::adapters::With;
use crate::running::pools;

const SHA256: Digest = Digest::Sha256;
const NAME: &str = "server.example";

/// A scheme, a framing, and whether all of it is inside TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) spec: SessionSpec,
    pub(crate) tls: bool,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{}", self.spec, if self.tls { " in TLS" } else { "" })
    }
}

impl Way {
    /// Messages with their lengths, from anybody.
    pub(crate) const FRAMES: Self = Self::plain(SessionSpec::None(Framing::U32));
    /// A byte stream behind a challenge.
    pub(crate) const CHALLENGE: Self = Self::plain(SessionSpec::Challenge(SHA256, Framing::Raw));
    /// The whole of `mutual`.
    pub(crate) const MUTUAL: Self = Self::plain(SessionSpec::Mutual(FrameProtection::Tags));
    /// As Python speaks.
    pub(crate) const PYTHON: Self =
        Self::plain(SessionSpec::Multiprocessing(Policy::Strict(SHA256), Framing::Multiprocessing));
    /// One of each scheme, and one inside TLS.
    pub(crate) const FEW: [Self; 5] =
        [Self::FRAMES, Self::CHALLENGE, Self::PYTHON, Self::MUTUAL, Self::MUTUAL.in_tls()];

    pub(crate) const fn plain(spec: SessionSpec) -> Self {
        Self { spec, tls: false }
    }

    pub(crate) const fn in_tls(self) -> Self {
        let spec = match self.spec {
            // In TLS it is tied to it.
            SessionSpec::Mutual(FrameProtection::Tags) => {
                SessionSpec::Mutual(FrameProtection::Bound)
            }
            other => other,
        };
        Self { spec, tls: true }
    }

    /// All there are.
    pub(crate) fn all() -> Vec<Self> {
        let mut all =
            vec![Self::MUTUAL, Self::plain(SessionSpec::Mutual(FrameProtection::Untagged))];
        for framing in FRAMINGS {
            let policies = [Policy::Strict(SHA256), Policy::Compatible(SHA256, SHA256)];
            all.extend(
                [SessionSpec::None(framing), SessionSpec::Challenge(SHA256, framing)]
                    .map(Self::plain),
            );
            all.extend(policies.map(|it| Self::plain(SessionSpec::Multiprocessing(it, framing))));
        }
        let tls: Vec<_> = all.iter().map(|way| way.in_tls()).collect();
        all.retain(|way| way.spec != SessionSpec::Mutual(FrameProtection::Untagged));
        all.extend(tls);
        all
    }

    /// Whether messages keep their bounds.
    pub(crate) fn has_messages(self) -> bool {
        self.spec.framing() != Framing::Raw
    }

    /// Whether anything is proved.
    pub(crate) fn has_key(self) -> bool {
        !matches!(self.spec, SessionSpec::None(_))
    }

    /// How a server is configured that asks for this heartbeat.
    pub(crate) fn config(self, heartbeat: Duration) -> Config {
        self.spec.config(Role::Server, heartbeat)
    }

    /// What a server speaks, with buffers from `pools`.
    pub(crate) fn server(self, pools: &Pools, config: Config) -> Arc<dyn ProtocolFactory> {
        let sessions = SessionFactory::new(config, pools.clone());
        if self.tls {
            Arc::new(TlsFactory::server(sessions, &CREDENTIALS.0).unwrap())
        } else {
            Arc::new(sessions)
        }
    }

    /// A client that holds the server's key.
    pub(crate) fn client(self) -> With {
        self.client_that(|config| config)
    }

    /// One that holds `secret`.
    pub(crate) fn client_with(self, secret: &[u8]) -> With {
        With { keys: Arc::new(self.keys(secret)), ..self.client_that(|config| config) }
    }

    /// One that is configured otherwise.
    pub(crate) fn client_that(self, change: impl FnOnce(Config) -> Config) -> With {
        let config = self.spec.config(Role::Client, Duration::ZERO);
        let sessions = SessionFactory::new(change(config), pools())
            // What a process says to itself is refused, and here one plays both ends.
            .with_outstanding(OutstandingChallenges::new());
        let factory: Arc<dyn ProtocolFactory> = if self.tls {
            Arc::new(TlsFactory::client(sessions, &CREDENTIALS.1, NAME).unwrap())
        } else {
            Arc::new(sessions)
        };
        With { factory, keys: Arc::new(self.keys(SECRET)) }
    }

    /// Keys made of `secret`.
    pub(crate) fn keys(self, secret: &[u8]) -> KeySet {
        KeySet(self.spec.keys(secret).unwrap_or_default().into_iter().collect())
    }
}

/// The keys of an end, whatever id they are asked for by.
pub(crate) struct KeySet(KeyList);

impl Keys for KeySet {
    fn candidates(&self, request: &KeyRequest<'_>) -> Result<Candidates<'_>, KeyRejection> {
        // The key id does not matter here.
        let mut request = *request;
        request.key_id = None;
        self.0.candidates(&request)
    }

    fn hold(&self, peer: &Peer<'_>) -> bool {
        self.0.hold(peer)
    }
}

/// Of a server and of a client, each of which asks for the other's.
static CREDENTIALS: LazyLock<(Credentials, Credentials)> = LazyLock::new(|| {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let credentials = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.into()]).unwrap();
        let own = params.signed_by(&key, &issuer).unwrap().pem();
        let credentials = Credentials::new();
        let own = credentials.with_certificate(own.as_bytes(), key.serialize_pem().as_bytes());
        own.unwrap().with_trust(ca.as_bytes()).unwrap()
    };
    (credentials(NAME), credentials("client.example"))
});
