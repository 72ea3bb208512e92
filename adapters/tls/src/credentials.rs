//! What an end shows, and whom it trusts.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};

use crate::pins::{self, Trust};

/// The certificate that this end shows, if it has one, and those that it trusts.
#[derive(Clone, Default)]
pub struct Credentials {
    own: Option<Arc<CertifiedKey>>,
    trust: Option<Trust>,
}

/// Why credentials cannot be used. Each says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialsError {
    /// There is no certificate in PEM where there should be one or more.
    NoCertificate,
    /// A certificate cannot be read.
    Certificate,
    /// There is no private key in PEM where one should be, or none of a kind that is known.
    Key,
    /// The private key is not that of the certificate.
    Mismatch,
    /// A server has to show a certificate.
    ServerWithout,
    /// A client has to trust something.
    TrustNothing,
    /// What is to be the server's name is neither a DNS name nor an address.
    Name,
    /// rustls does not take the configuration.
    Configuration,
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => {
                "there is no certificate in it, in PEM: make some with `countersign certs`"
            }
            Self::Certificate => {
                "a certificate in it cannot be read: make others with `countersign certs`"
            }
            Self::Key => {
                "there is no private key in it, in PEM, RSA, ECDSA or Ed25519: make one with `countersign certs`"
            }
            Self::Mismatch => {
                "the private key is not that of the certificate: give the two that belong together"
            }
            Self::ServerWithout => {
                "a server needs a certificate and its key: give both, or make them with `countersign certs`"
            }
            Self::TrustNothing => {
                "a client needs to know which CA or certificate to trust: give one"
            }
            Self::Name => "the server's name is neither a DNS name nor an address: give another",
            Self::Configuration => "TLS cannot be configured so",
        })
    }
}

impl std::error::Error for CredentialsError {}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificates in `pem`, one or more.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|_| CredentialsError::Certificate)?;
    if certificates.is_empty() { Err(CredentialsError::NoCertificate) } else { Ok(certificates) }
}

impl Credentials {
    /// None: shows nothing and trusts nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows the certificate that comes first in `chain`, with those that lead to a CA behind it, all
    /// in PEM; `key` is its private key, in PEM.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn with_certificate(mut self, chain: &[u8], key: &[u8]) -> Result<Self, CredentialsError> {
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CredentialsError::Key)?;
        let key = ring::sign::any_supported_type(&key).map_err(|_| CredentialsError::Key)?;
        let public = pins::public_key(&chain[0]).ok_or(CredentialsError::Certificate)?;
        // rustls's own comparison does not read certificates without extensions.
        if key.public_key().is_some_and(|own| own.as_ref() != public.as_ref()) {
            return Err(CredentialsError::Mismatch);
        }
        self.own = Some(Arc::new(CertifiedKey::new(chain, key)));
        Ok(self)
    }

    /// Trusts each certificate in `pem`: a CA's to sign others, whose names then count; and each, a
    /// CA's or not, to be shown itself. The latter is a pin: it is compared byte for byte, its name and
    /// its dates do not matter, and its key has to sign the handshake like any other.
    ///
    /// A server that trusts anyone requires a certificate of each client.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn with_trust(mut self, pem: &[u8]) -> Result<Self, CredentialsError> {
        self.trust = Some(Trust::new(certificates(pem)?)?);
        Ok(self)
    }

    pub(crate) fn server(&self) -> Result<ServerConfig, CredentialsError> {
        let own = self.own.clone().ok_or(CredentialsError::ServerWithout)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|_| CredentialsError::Configuration)?;
        let builder = match &self.trust {
            None => builder.with_no_client_auth(),
            Some(trust) => builder.with_client_cert_verifier(Arc::new(trust.clients()?)),
        };
        Ok(builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own))))
    }

    pub(crate) fn client(&self) -> Result<ClientConfig, CredentialsError> {
        let trust = self.trust.as_ref().ok_or(CredentialsError::TrustNothing)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|_| CredentialsError::Configuration)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust.servers()?));
        Ok(match self.own.clone() {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
        })
    }
}

/// What every server does, whoever configured it: each connection proves whose it is anew, and can be
/// told from every other by its exporter (RFC 9266, section 3).
pub(crate) fn harden_server(config: &mut ServerConfig) {
    config.require_ems = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(NoTickets);
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
}

/// What TLS 1.2 resumes by where there is any.
#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _plain: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _cipher: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// The same of a client.
pub(crate) fn harden_client(config: &mut ClientConfig) {
    config.require_ems = true;
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("shows", &self.own.is_some())
            .field("trusts", &self.trust.is_some())
            .finish()
    }
}
