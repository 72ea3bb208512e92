//! Certificates, and ends of one version of TLS that show them.

use std::sync::Arc;
use std::task::Waker;

use countersign::{Instant, Role};
use countersign_host::{BoxedProtocol, ProtocolFactory};
use countersign_tls::{Credentials, TlsFactory};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::ends::{Inside, Link};

pub(crate) const NAME: &str = "server.example";

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Pem {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A CA, and whom it signs.
pub(crate) struct Ca {
    pub(crate) pem: Pem,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        let pem = Pem { certificate: certificate.pem(), key: key.serialize_pem() };
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `name`, as `change` has it.
    pub(crate) fn sign_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pem {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.into()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pem { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn sign(&self, name: &str) -> Pem {
        self.sign_with(name, |_| {})
    }
}

pub(crate) fn credentials(own: Option<&Pem>, trust: Option<&Pem>) -> Credentials {
    let mut credentials = Credentials::new();
    if let Some(own) = own {
        let (chain, key) = (own.certificate.as_bytes(), own.key.as_bytes());
        credentials = credentials.with_certificate(chain, key).unwrap();
    }
    if let Some(trust) = trust {
        credentials = credentials.with_trust(trust.certificate.as_bytes()).unwrap();
    }
    credentials
}

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
        self.client_config_by(ring::default_provider(), version)
    }

    /// The same with other ciphers than usual.
    pub(crate) fn client_config_by(
        &self,
        provider: CryptoProvider,
        version: Version,
    ) -> ClientConfig {
        let provider = Arc::new(provider);
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version.rustls()])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(chain(&self.client), key(&self.client))
            .unwrap()
    }

    /// A client of this one's that trusts the server of another, which does not trust it.
    pub(crate) fn stranger_to(&self, other: &Self, version: Version) -> ClientConfig {
        let roots = other.roots.clone();
        Self { roots, client: self.client.clone(), server: self.server.clone() }
            .client_config(version)
    }

    pub(crate) fn server_config(&self, version: Version) -> ServerConfig {
        self.server_config_by(ring::default_provider(), version)
    }

    /// The same with other ciphers than usual.
    pub(crate) fn server_config_by(
        &self,
        provider: CryptoProvider,
        version: Version,
    ) -> ServerConfig {
        let provider = Arc::new(provider);
        let clients =
            WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider.clone());
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version.rustls()])
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(chain(&self.server), key(&self.server))
            .unwrap()
    }

    pub(crate) fn client(&self, inside: Inside, version: Version) -> BoxedProtocol {
        let name = ServerName::try_from(NAME).unwrap();
        let config = self.client_config(version);
        let sessions = inside.sessions(Role::Client);
        let sessions = TlsFactory::with_client_config(sessions, config, name);
        sessions.client(Waker::noop(), Instant::EPOCH).unwrap()
    }

    pub(crate) fn server(&self, inside: Inside, version: Version) -> BoxedProtocol {
        let sessions = inside.sessions(Role::Server);
        let sessions = TlsFactory::with_server_config(sessions, self.server_config(version));
        sessions.server(Waker::noop(), Instant::EPOCH).unwrap()
    }

    pub(crate) fn link(&self, inside: Inside, version: Version) -> Link {
        Link::new(self.client(inside, version), self.server(inside, version))
    }
}
