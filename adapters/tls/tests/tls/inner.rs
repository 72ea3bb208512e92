//! [`Inner`]: what runs inside TLS.

use std::task::Waker;
use std::time::Duration;

use countersign::{
    Config, Digest, Framing, Instant, Multiprocessing, Mutual, ProcessId, Role, Scheme,
};
use countersign_host::{
    BoxedProtocol, OutstandingChallenges, PoolOptions, Pools, ProtocolFactory, SessionFactory,
};
use countersign_tls::{Credentials, TlsFactory};

fn mutual(role: Role) -> Mutual {
    let (name, process) = match role {
        Role::Client => ("client", 1),
        Role::Server => ("server", 2),
    };
    Mutual::new(name.parse().unwrap(), ProcessId::from_bytes(&[process; ProcessId::LEN]))
        .with_heartbeat(Duration::ZERO)
}

/// The scheme and framing of a session inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inner {
    None,
    Challenge,
    Multiprocessing,
    Mutual,
    /// `mutual` without tags.
    Untagged,
    /// No handshake and no frames.
    Raw,
}

impl Inner {
    pub(crate) const ALL: [Self; 6] = [
        Self::None,
        Self::Challenge,
        Self::Multiprocessing,
        Self::Mutual,
        Self::Untagged,
        Self::Raw,
    ];

    /// Sessions without TLS, with their own outstanding challenges, as in a separate process.
    pub(crate) fn sessions(self, role: Role) -> SessionFactory {
        let scheme = match self {
            Self::None | Self::Raw => Scheme::None,
            Self::Challenge => Scheme::Challenge { digest: Digest::Sha256 },
            Self::Multiprocessing => Scheme::Multiprocessing(Multiprocessing::new(Digest::Sha256)),
            Self::Mutual => Scheme::Mutual(mutual(role)),
            Self::Untagged => Scheme::Mutual(mutual(role).with_channel_binding().without_tags()),
        };
        let pools = Pools::new(&PoolOptions::default());
        let mut config = Config::new(scheme);
        if self == Self::Raw {
            config = config.with_framing(Framing::Raw);
        }
        SessionFactory::new(config, pools).with_outstanding(OutstandingChallenges::new())
    }

    pub(crate) fn client(self, credentials: &Credentials, name: &str) -> BoxedProtocol {
        let factory = TlsFactory::client(self.sessions(Role::Client), credentials, name).unwrap();
        factory.client(&Waker::noop().into(), Instant::EPOCH).unwrap()
    }

    pub(crate) fn server(self, credentials: &Credentials) -> BoxedProtocol {
        let factory = TlsFactory::server(self.sessions(Role::Server), credentials).unwrap();
        factory.server(&Waker::noop().into(), Instant::EPOCH).unwrap()
    }
}
