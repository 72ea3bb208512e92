//! Whose certificates are trusted: those that a CA signed, and those that are known themselves.
//!
//! webpki refuses certificates without extensions (X.509 v1) and CAs that show themselves. A pin needs
//! neither: the certificate is one that somebody has looked at, and all that is left to prove is that
//! the peer has its key.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved,
    RootCertStore, SignatureScheme,
};
use webpki::RawPublicKeyEntity;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::BasicConstraints;

use crate::credentials::{CredentialsError, provider};

/// The key in `certificate`, of whatever version; `None` if it is no certificate.
pub(crate) fn public_key(
    certificate: &CertificateDer<'_>,
) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let key = certificate.tbs_certificate().subject_public_key_info().to_der().ok()?;
    Some(key.into())
}

/// Whether `certificate` says of itself that it may sign others; `None` if it is no certificate.
/// One without extensions does not, whoever it is.
fn is_ca(certificate: &CertificateDer<'_>) -> Option<bool> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let constraints = certificate.tbs_certificate().get_extension::<BasicConstraints>().ok()?;
    Some(constraints.is_some_and(|(_, constraints)| constraints.ca))
}

/// Certificates that are trusted.
#[derive(Clone)]
pub(crate) struct Trust {
    pins: Arc<[CertificateDer<'static>]>,
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
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

    /// Verifies clients.
    pub(crate) fn clients(&self) -> Result<TrustedClients, CredentialsError> {
        let chains = if self.roots.is_empty() {
            None
        } else {
            let builder =
                WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider());
            Some(builder.build().map_err(|_| CredentialsError::Configuration)?)
        };
        Ok(TrustedClients { trust: self.clone(), chains })
    }

    /// Verifies servers.
    pub(crate) fn servers(&self) -> Result<TrustedServers, CredentialsError> {
        let chains = if self.roots.is_empty() {
            None
        } else {
            let builder =
                WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider());
            Some(builder.build().map_err(|_| CredentialsError::Configuration)?)
        };
        Ok(TrustedServers { trust: self.clone(), chains })
    }

    fn pins(&self, certificate: &CertificateDer<'_>) -> bool {
        self.pins.iter().any(|pin| pin.as_ref() == certificate.as_ref())
    }

    fn verify_tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.pins(certificate) {
            return verify_tls12_signature(message, certificate, signature, &self.algorithms);
        }
        let key = public_key(certificate).ok_or(CertificateError::BadEncoding)?;
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
        let scheme = |(scheme, _): &&(SignatureScheme, _)| *scheme == signature.scheme;
        let (_, algorithms) = self
            .algorithms
            .mapping
            .iter()
            .find(scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        // In TLS 1.2 a scheme does not say which curve it is on.
        let verified = algorithms.iter().any(|&algorithm| {
            key.verify_signature(algorithm, message, signature.signature()).is_ok()
        });
        if verified {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }

    fn verify_tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.pins(certificate) {
            return verify_tls13_signature(message, certificate, signature, &self.algorithms);
        }
        let key = public_key(certificate).ok_or(CertificateError::BadEncoding)?;
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("certificates", &self.pins.len())
            .field("roots", &self.roots.len())
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct TrustedServers {
    trust: Trust,
    chains: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for TrustedServers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.trust.pins(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let chains = self.chains.as_ref().ok_or(CertificateError::UnknownIssuer)?;
        chains.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.verify_tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.verify_tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

#[derive(Debug)]
pub(crate) struct TrustedClients {
    trust: Trust,
    chains: Option<Arc<dyn ClientCertVerifier>>,
}

impl ClientCertVerifier for TrustedClients {
    /// None: a client that shows what is pinned would take them for what is wanted.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.trust.pins(end_entity) {
            return Ok(ClientCertVerified::assertion());
        }
        let chains = self.chains.as_ref().ok_or(CertificateError::UnknownIssuer)?;
        chains.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.verify_tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.verify_tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}
