//! Ends of one version of TLS.

use std::sync::Arc;
use std::task::Waker;

use countersign::{Instant, Role};
use countersign_drive::{BoxedMachine, Protocol};
use countersign_tls::TlsSessions;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::common::{Ca, Inside, Link, Pem};

pub(crate) const NAME: &str = "server.example";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

impl Version {
    pub(crate) const ALL: [Self; 2] = [Self::Tls12, Self::Tls13];

    fn rustls(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::Tls12 => &TLS12,
            Self::Tls13 => &TLS13,
        }
    }
}

fn chain(pem: &Pem) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.certificate.as_bytes()).map(Result::unwrap).collect()
}

fn key(pem: &Pem) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).unwrap()
}

/// A CA, and a certificate of its for each end.
pub(crate) struct Pki {
    roots: Arc<RootCertStore>,
    client: Pem,
    server: Pem,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let ca = Ca::new("a CA");
        let mut roots = RootCertStore::empty();
        roots.add(chain(&ca.pem).remove(0)).unwrap();
        Self { roots: Arc::new(roots), client: ca.sign("client"), server: ca.sign(NAME) }
    }

    pub(crate) fn client_config(&self, version: Version) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version.rustls()])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(chain(&self.client), key(&self.client))
            .unwrap()
    }

    pub(crate) fn server_config(&self, version: Version) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider.clone());
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version.rustls()])
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(chain(&self.server), key(&self.server))
            .unwrap()
    }

    pub(crate) fn client(&self, inside: Inside, version: Version) -> BoxedMachine {
        let name = ServerName::try_from(NAME).unwrap();
        let config = self.client_config(version);
        let sessions = inside.sessions(Role::Client);
        let sessions = TlsSessions::with_client_config(sessions, config, name);
        sessions.client(Waker::noop(), Instant::EPOCH).unwrap()
    }

    pub(crate) fn server(&self, inside: Inside, version: Version) -> BoxedMachine {
        let sessions = inside.sessions(Role::Server);
        let sessions = TlsSessions::with_server_config(sessions, self.server_config(version));
        sessions.server(Waker::noop(), Instant::EPOCH).unwrap()
    }

    pub(crate) fn link(&self, inside: Inside, version: Version) -> Link {
        Link::new(self.client(inside, version), self.server(inside, version))
    }
}
