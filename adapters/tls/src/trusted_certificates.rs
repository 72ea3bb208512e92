//! [`TrustedCertificates`]: CA certificates, and pinned certificates.
//!
//! webpki refuses certificates without extensions (X.509 v1), and a CA's certificate as an end
//! entity. A pin needs neither check: the configuration contains the very certificate, so all that
//! the peer must prove is that it holds the private key.

mod client_verifier;
mod server_verifier;

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, RootCertStore, SignatureScheme,
};
use webpki::RawPublicKeyEntity;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::BasicConstraints;

use self::client_verifier::ClientVerifier;
use self::server_verifier::ServerVerifier;
use crate::credentials::provider;
use crate::credentials_error::CredentialsError;

/// The public key of an X.509 certificate of any version. `None` if it cannot be parsed.
pub(crate) fn public_key(
    certificate: &CertificateDer<'_>,
) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let key = certificate.tbs_certificate().subject_public_key_info().to_der().ok()?;
    Some(key.into())
}

/// Whether the basic constraints of `certificate` make it a CA's; without extensions it is none.
/// `None` if it cannot be parsed.
fn is_ca(certificate: &CertificateDer<'_>) -> Option<bool> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let constraints = certificate.tbs_certificate().get_extension::<BasicConstraints>().ok()?;
    Some(constraints.is_some_and(|(_, constraints)| constraints.ca))
}

/// Certificates that this endpoint trusts: each as a pin, and those of CAs as trust anchors too.
#[derive(Clone)]
pub(crate) struct TrustedCertificates {
    pins: Arc<[CertificateDer<'static>]>,
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl TrustedCertificates {
    pub(crate) fn new(
        certificates: Vec<CertificateDer<'static>>,
    ) -> Result<Self, CredentialsError> {
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            if is_ca(certificate).ok_or(CredentialsError::Certificate)? {
                let added = roots.add(certificate.clone());
                added.map_err(|_| CredentialsError::Certificate)?;
            }
        }
        let algorithms = provider().signature_verification_algorithms;
        Ok(Self { pins: certificates.into(), roots: Arc::new(roots), algorithms })
    }

    /// A verifier of client certificates.
    pub(crate) fn client_verifier(&self) -> Result<ClientVerifier, CredentialsError> {
        let mut webpki: Option<Arc<dyn ClientCertVerifier>> = None;
        if !self.roots.is_empty() {
            let builder =
                WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider());
            webpki = Some(builder.build().map_err(|_| CredentialsError::Configuration)?);
        }
        Ok(ClientVerifier::new(self.clone(), webpki))
    }

    /// A verifier of server certificates.
    pub(crate) fn server_verifier(&self) -> Result<ServerVerifier, CredentialsError> {
        let mut webpki = None;
        if !self.roots.is_empty() {
            let builder =
                WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider());
            webpki = Some(builder.build().map_err(|_| CredentialsError::Configuration)?);
        }
        Ok(ServerVerifier::new(self.clone(), webpki))
    }

    /// Whether `certificate` is pinned: equal to a trusted certificate in every byte.
    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        self.pins.iter().any(|pin| pin.as_ref() == certificate.as_ref())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.is_pinned(certificate) {
            return verify_tls12_signature(message, certificate, signature, &self.algorithms);
        }
        let key = public_key(certificate).ok_or(CertificateError::BadEncoding)?;
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
        let has_scheme = |(scheme, _): &&(SignatureScheme, _)| *scheme == signature.scheme;
        let (_, algorithms) = self
            .algorithms
            .mapping
            .iter()
            .find(has_scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        // In TLS 1.2 an ECDSA scheme does not name its curve, so there are several candidates.
        let verified = algorithms.iter().any(|&algorithm| {
            key.verify_signature(algorithm, message, signature.signature()).is_ok()
        });
        if verified {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.is_pinned(certificate) {
            return verify_tls13_signature(message, certificate, signature, &self.algorithms);
        }
        let key = public_key(certificate).ok_or(CertificateError::BadEncoding)?;
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }

    fn supported_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for TrustedCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustedCertificates")
            .field("pins", &self.pins.len())
            .field("roots", &self.roots.len())
            .finish_non_exhaustive()
    }
}
