//! [`CredentialsError`].

use std::fmt;

/// Why credentials cannot be used. The message of each error says how to correct it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The PEM text contains no certificate.
    NoCertificate,
    /// A certificate cannot be parsed.
    Certificate,
    /// The PEM text contains no private key, or none of a supported type.
    Key,
    /// The private key does not belong to the certificate.
    Mismatch,
    /// A server was configured without a certificate.
    MissingServerCertificate,
    /// A client was configured without a certificate to trust.
    MissingTrust,
    /// The server's name is neither a DNS name nor an IP address.
    Name,
    /// rustls refused the configuration.
    Configuration,
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => {
                "there is no certificate in it: give one or more in PEM, or make them with `countersign certs`"
            }
            Self::Certificate => {
                "it contains an invalid certificate: make another with `countersign certs`"
            }
            Self::Key => {
                "there is no supported private key in it: give an RSA, ECDSA or Ed25519 key in PEM, or make one with `countersign certs`"
            }
            Self::Mismatch => {
                "the private key does not match the certificate: give the two that belong together"
            }
            Self::MissingServerCertificate => {
                "a server needs a certificate and its key: give both, or make them with `countersign certs`"
            }
            Self::MissingTrust => {
                "a client needs a CA's or the server's certificate to trust: give one"
            }
            Self::Name => {
                "the server's name is neither a DNS name nor an IP address: give another"
            }
            Self::Configuration => "rustls refused the TLS configuration: report this as a bug",
        })
    }
}

impl std::error::Error for CredentialsError {}
