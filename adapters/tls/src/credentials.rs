//! [`Credentials`].

use std::fmt;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};

use crate::credentials_error::CredentialsError;
use crate::trusted_certificates::{TrustedCertificates, public_key};

/// The certificate that this endpoint presents, if any, and the certificates that it trusts.
///
/// | endpoint | [`with_certificate`](Self::with_certificate) | [`with_trust`](Self::with_trust) |
/// |---|---|---|
/// | server | required | if given, each client must present a trusted certificate |
/// | client | only if the server demands one | required |
///
/// ```
/// use countersign_tls::Credentials;
///
/// # let key = rcgen::KeyPair::generate()?;
/// # let own = rcgen::CertificateParams::new(vec!["server.example".into()])?.self_signed(&key)?;
/// # let (chain, key, clients) = (own.pem(), key.serialize_pem(), own.pem());
/// // PEM, for example std::fs::read("server.crt")?
/// let credentials = Credentials::new()
///     .with_certificate(chain.as_bytes(), key.as_bytes())?
///     .with_trust(clients.as_bytes())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Credentials {
    certificate: Option<Arc<CertifiedKey>>,
    trusted: Option<TrustedCertificates>,
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Parses the certificates in `pem`, of which there must be at least one.
fn parse_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|_| CredentialsError::Certificate)?;
    if certificates.is_empty() { Err(CredentialsError::NoCertificate) } else { Ok(certificates) }
}

impl Credentials {
    /// Empty credentials: no certificate to present, and none to trust.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the certificate to present. `chain` is PEM: the endpoint's certificate first, then the
    /// intermediate certificates up to a CA. `key` is the private key in PEM: RSA, ECDSA or Ed25519.
    ///
    /// # Errors
    /// [`CredentialsError::NoCertificate`], [`Certificate`](CredentialsError::Certificate),
    /// [`Key`](CredentialsError::Key), or [`Mismatch`](CredentialsError::Mismatch) if the key is not
    /// that of the first certificate.
    pub fn with_certificate(mut self, chain: &[u8], key: &[u8]) -> Result<Self, CredentialsError> {
        let chain = parse_certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CredentialsError::Key)?;
        let key = ring::sign::any_supported_type(&key).map_err(|_| CredentialsError::Key)?;
        let certified = public_key(&chain[0]).ok_or(CredentialsError::Certificate)?;
        // Not CertifiedKey::keys_match, which cannot parse certificates without extensions.
        if key.public_key().is_some_and(|own| own.as_ref() != certified.as_ref()) {
            return Err(CredentialsError::Mismatch);
        }
        self.certificate = Some(Arc::new(CertifiedKey::new(chain, key)));
        Ok(self)
    }

    /// Sets the certificates to trust: one or more in PEM.
    ///
    /// Each is trusted as a pin: a peer may present this very certificate. It is compared byte for
    /// byte, and its names and dates are not checked; the peer must still prove that it holds the
    /// private key. A CA's certificate is also a trust anchor: the peer may present a certificate that
    /// the CA signed, whose names, dates and key usage are checked.
    ///
    /// A server with trusted certificates demands a certificate of each client.
    ///
    /// # Errors
    /// [`CredentialsError::NoCertificate`] or [`CredentialsError::Certificate`].
    pub fn with_trust(mut self, pem: &[u8]) -> Result<Self, CredentialsError> {
        self.trusted = Some(TrustedCertificates::new(parse_certificates(pem)?)?);
        Ok(self)
    }

    pub(crate) fn server_config(&self) -> Result<ServerConfig, CredentialsError> {
        let certificate =
            self.certificate.clone().ok_or(CredentialsError::MissingServerCertificate)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|_| CredentialsError::Configuration)?;
        let builder = match &self.trusted {
            None => builder.with_no_client_auth(),
            Some(trusted) => {
                builder.with_client_cert_verifier(Arc::new(trusted.client_verifier()?))
            }
        };
        Ok(builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certificate))))
    }

    pub(crate) fn client_config(&self) -> Result<ClientConfig, CredentialsError> {
        let trusted = self.trusted.as_ref().ok_or(CredentialsError::MissingTrust)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|_| CredentialsError::Configuration)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trusted.server_verifier()?));
        Ok(match self.certificate.clone() {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certificate)))
            }
        })
    }
}

/// Prints which of the two are set, and no key.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("has_certificate", &self.certificate.is_some())
            .field("has_trust", &self.trusted.is_some())
            .finish()
    }
}
