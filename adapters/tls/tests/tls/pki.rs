//! [`Pki`] and [`CertificateAuthority`]: certificates, and endpoints of one TLS version that present
//! them.

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

use crate::inner::Inner;
use crate::link::Link;

/// The name in the server's certificate.
pub(crate) const NAME: &str = "server.example";

/// A certificate and its private key, in PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A CA.
pub(crate) struct CertificateAuthority {
    /// The CA's own certificate and key.
    pub(crate) identity: Identity,
    issuer: Issuer<'static, KeyPair>,
}

impl CertificateAuthority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        let identity = Identity { certificate: certificate.pem(), key: key.serialize_pem() };
        Self { identity, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `name`, with its parameters changed by `change`.
    pub(crate) fn sign_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.into()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn sign(&self, name: &str) -> Identity {
        self.sign_with(name, |_| {})
    }
}

pub(crate) fn credentials(identity: Option<&Identity>, trusted: Option<&Identity>) -> Credentials {
    let mut credentials = Credentials::new();
    if let Some(identity) = identity {
        let (chain, key) = (identity.certificate.as_bytes(), identity.key.as_bytes());
        credentials = credentials.with_certificate(chain, key).unwrap();
    }
    if let Some(trusted) = trusted {
        credentials = credentials.with_trust(trusted.certificate.as_bytes()).unwrap();
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

fn chain(identity: &Identity) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(identity.certificate.as_bytes()).map(Result::unwrap).collect()
}

fn private_key(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap()
}

/// A CA, and a certificate of that CA for each endpoint.
pub(crate) struct Pki {
    roots: Arc<RootCertStore>,
    client: Identity,
    server: Identity,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let ca = CertificateAuthority::new("a CA");
        let mut roots = RootCertStore::empty();
        roots.add(chain(&ca.identity).remove(0)).unwrap();
        Self { roots: Arc::new(roots), client: ca.sign("client"), server: ca.sign(NAME) }
    }

    pub(crate) fn client_config(&self, version: Version) -> ClientConfig {
        self.client_config_with(ring::default_provider(), version)
    }

    /// A configuration with the cipher suites of `provider`.
    pub(crate) fn client_config_with(
        &self,
        provider: CryptoProvider,
        version: Version,
    ) -> ClientConfig {
        let provider = Arc::new(provider);
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version.rustls()])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(chain(&self.client), private_key(&self.client))
            .unwrap()
    }

    /// A client that trusts the servers of `other`, which do not trust its certificate.
    pub(crate) fn untrusted_client_config(&self, other: &Self, version: Version) -> ClientConfig {
        let roots = other.roots.clone();
        Self { roots, client: self.client.clone(), server: self.server.clone() }
            .client_config(version)
    }

    pub(crate) fn server_config(&self, version: Version) -> ServerConfig {
        self.server_config_with(ring::default_provider(), version)
    }

    /// A configuration with the cipher suites of `provider`.
    pub(crate) fn server_config_with(
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
            .with_single_cert(chain(&self.server), private_key(&self.server))
            .unwrap()
    }

    pub(crate) fn client(&self, inner: Inner, version: Version) -> BoxedProtocol {
        let name = ServerName::try_from(NAME).unwrap();
        let config = self.client_config(version);
        let sessions = inner.sessions(Role::Client);
        let factory = TlsFactory::with_client_config(sessions, config, name);
        factory.client(&Waker::noop().into(), Instant::EPOCH).unwrap()
    }

    pub(crate) fn server(&self, inner: Inner, version: Version) -> BoxedProtocol {
        let sessions = inner.sessions(Role::Server);
        let factory = TlsFactory::with_server_config(sessions, self.server_config(version));
        factory.server(&Waker::noop().into(), Instant::EPOCH).unwrap()
    }

    pub(crate) fn link(&self, inner: Inner, version: Version) -> Link {
        Link::new(self.client(inner, version), self.server(inner, version))
    }
}
