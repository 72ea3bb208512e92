//! [`ProtocolSpec`]: every combination of scheme and framing, plain and inside TLS.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use countersign::{Candidates, Config, Digest, Framing, KeyRejection, KeyRequest, Peer, Role};
use countersign_driver::Keys;
use countersign_host::{KeyList, OutstandingChallenges, Pools, ProtocolFactory, SessionFactory};
use countersign_tests::{FRAMINGS, FrameProtection, Policy, SECRET, SessionSpec};
use countersign_tls::{Credentials, TlsFactory};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::adapters::ClientSetup;
use crate::server::pools;

const SHA256: Digest = Digest::Sha256;
const NAME: &str = "server.example";

/// A protocol: a session, plain or inside TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProtocolSpec {
    pub(crate) session: SessionSpec,
    pub(crate) tls: bool,
}

impl fmt::Debug for ProtocolSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{}", self.session, if self.tls { " in TLS" } else { "" })
    }
}

impl ProtocolSpec {
    /// The scheme `none`, in `u32` frames.
    pub(crate) const NONE: Self = Self::plain(SessionSpec::None(Framing::U32));
    /// The scheme `challenge`, with a raw byte stream.
    pub(crate) const CHALLENGE: Self = Self::plain(SessionSpec::Challenge(SHA256, Framing::Raw));
    /// The scheme `mutual`.
    pub(crate) const MUTUAL: Self = Self::plain(SessionSpec::Mutual(FrameProtection::Tags));
    /// The scheme `multiprocessing` with its own framing.
    pub(crate) const MULTIPROCESSING: Self =
        Self::plain(SessionSpec::Multiprocessing(Policy::Strict(SHA256), Framing::Multiprocessing));
    /// One combination of each scheme, and `mutual` inside TLS.
    pub(crate) const EACH_SCHEME: [Self; 5] =
        [Self::NONE, Self::CHALLENGE, Self::MULTIPROCESSING, Self::MUTUAL, Self::MUTUAL.in_tls()];

    pub(crate) const fn plain(session: SessionSpec) -> Self {
        Self { session, tls: false }
    }

    pub(crate) const fn in_tls(self) -> Self {
        let session = match self.session {
            // Inside TLS, `mutual` is bound to the channel.
            SessionSpec::Mutual(FrameProtection::Tags) => {
                SessionSpec::Mutual(FrameProtection::Bound)
            }
            other => other,
        };
        Self { session, tls: true }
    }

    /// Returns all combinations.
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
        let tls: Vec<_> = all.iter().map(|spec| spec.in_tls()).collect();
        all.retain(|spec| spec.session != SessionSpec::Mutual(FrameProtection::Untagged));
        all.extend(tls);
        all
    }

    /// Whether the framing has message boundaries.
    pub(crate) fn has_messages(self) -> bool {
        self.session.framing() != Framing::Raw
    }

    /// Whether the scheme has a key.
    pub(crate) fn has_key(self) -> bool {
        !matches!(self.session, SessionSpec::None(_))
    }

    /// Returns the configuration of a server with this heartbeat interval.
    pub(crate) fn config(self, heartbeat: Duration) -> Config {
        self.session.config(Role::Server, heartbeat)
    }

    /// Returns the factory of a server with buffers from `pools`.
    pub(crate) fn server_factory(self, pools: &Pools, config: Config) -> Arc<dyn ProtocolFactory> {
        let sessions = SessionFactory::new(config, pools.clone());
        if self.tls {
            Arc::new(TlsFactory::server(sessions, &CREDENTIALS.0).unwrap())
        } else {
            Arc::new(sessions)
        }
    }

    /// Returns a client with the server's key.
    pub(crate) fn client(self) -> ClientSetup {
        self.client_with_config(|config| config)
    }

    /// Returns a client whose keys are made from `secret`.
    pub(crate) fn client_with_secret(self, secret: &[u8]) -> ClientSetup {
        ClientSetup {
            keys: Arc::new(self.keys(secret)),
            ..self.client_with_config(|config| config)
        }
    }

    /// Returns a client whose configuration `change` modifies.
    pub(crate) fn client_with_config(self, change: impl FnOnce(Config) -> Config) -> ClientSetup {
        let config = self.session.config(Role::Client, Duration::ZERO);
        let sessions = SessionFactory::new(change(config), pools())
            // Endpoints that share their outstanding challenges refuse each other, and the client
            // and the server are in one process here.
            .with_outstanding(OutstandingChallenges::new());
        let factory: Arc<dyn ProtocolFactory> = if self.tls {
            Arc::new(TlsFactory::client(sessions, &CREDENTIALS.1, NAME).unwrap())
        } else {
            Arc::new(sessions)
        };
        ClientSetup { factory, keys: Arc::new(self.keys(SECRET)) }
    }

    /// Returns keys made from `secret`.
    pub(crate) fn keys(self, secret: &[u8]) -> AnyKeyId {
        AnyKeyId(self.session.keys(secret).unwrap_or_default().into_iter().collect())
    }
}

/// Keys for any key id.
pub(crate) struct AnyKeyId(KeyList);

impl Keys for AnyKeyId {
    fn candidates(&self, request: &KeyRequest<'_>) -> Result<Candidates<'_>, KeyRejection> {
        let mut request = *request;
        request.key_id = None;
        self.0.candidates(&request)
    }

    fn hold(&self, peer: &Peer<'_>) -> bool {
        self.0.hold(peer)
    }
}

/// Credentials of a server and of a client. Each authenticates the other.
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
