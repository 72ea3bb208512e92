//! What rustls reports, as the core's errors.

use countersign::{BadTls, Error};
use rustls::{CertificateError, Error as Rustls};

/// Why TLS failed.
pub(crate) fn tls_error(error: &Rustls) -> Error {
    Error::Tls(match error {
        Rustls::NoCertificatesPresented => BadTls::NoCertificate,
        Rustls::InvalidCertificate(error) => bad_certificate(error),
        Rustls::UnsupportedNameType => BadTls::OtherName,
        Rustls::PeerIncompatible(_) => BadTls::NothingInCommon,
        Rustls::AlertReceived(alert) => BadTls::Alert(u8::from(*alert)),
        _ => BadTls::Broken,
    })
}

fn bad_certificate(error: &CertificateError) -> BadTls {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => BadTls::Expired,
        // A signature that does not verify is as good as none.
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::Revoked => BadTls::Untrusted,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            BadTls::OtherName
        }
        _ => BadTls::Unusable,
    }
}
