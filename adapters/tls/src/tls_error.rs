//! [`TlsError`]: errors of TLS (RFC 8446, RFC 5246), and their form in the core's [`Error`].

use std::fmt;

use countersign::{ChannelError, ChannelErrorInfo, ChannelErrorKind, Error};
use rustls::{CertificateError, Error as Rustls};

/// Why TLS failed. A [`Tls`](crate::Tls) reports it as [`Error::Channel`]; [`TlsError::of`] recovers it.
///
/// ```
/// use countersign::Error;
/// use countersign_tls::TlsError;
///
/// let error = Error::from(TlsError::Expired); // as `poll_event` returns it
/// match TlsError::of(error) {
///     Some(TlsError::Expired) => println!("renew the certificate"),
///     Some(other) => println!("TLS: {other}"),
///     None => println!("not a TLS error: {error}"),
/// }
/// # assert_eq!(TlsError::of(error), Some(TlsError::Expired));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsError {
    /// The server demands a client certificate, and the client presented none.
    NoCertificate,
    /// The peer's certificate has expired, or is not valid yet.
    Expired,
    /// The peer's certificate is neither signed by a trusted CA nor pinned.
    Untrusted,
    /// The server's certificate is for another name.
    WrongName,
    /// The peer's certificate cannot be parsed or verified, or its key usage does not allow this use.
    Unusable,
    /// The two endpoints allow no common version or cipher suite.
    Incompatible,
    /// The peer ended TLS with this alert (RFC 8446, section 6).
    Alert(u8),
    /// The peer's bytes are not TLS, or were modified in transit.
    Broken,
    /// The keys of a TLS 1.2 connection have protected as many records as their cipher allows.
    KeysExhausted,
}

impl TlsError {
    /// The TLS error in `error`; `None` if TLS did not cause it.
    #[must_use]
    pub fn of(error: Error) -> Option<Self> {
        let Error::Channel(channel) = error else { return None };
        NON_ALERTS
            .into_iter()
            .find(|candidate| candidate.info() == channel.info())
            .or_else(|| (0..=u8::MAX).map(Self::Alert).find(|alert| alert.info() == channel.info()))
    }

    const fn info(self) -> &'static ChannelErrorInfo {
        match self {
            Self::NoCertificate => &NO_CERTIFICATE,
            Self::Expired => &EXPIRED,
            Self::Untrusted => &UNTRUSTED,
            Self::WrongName => &WRONG_NAME,
            Self::Unusable => &UNUSABLE,
            Self::Incompatible => &INCOMPATIBLE,
            Self::Alert(code) => alert(code),
            Self::Broken => &BROKEN,
            Self::KeysExhausted => &KEYS_EXHAUSTED,
        }
    }
}

impl From<TlsError> for Error {
    fn from(error: TlsError) -> Self {
        Self::Channel(ChannelError::new(error.info()))
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().message)
    }
}

impl std::error::Error for TlsError {}

/// Every error except the alerts.
const NON_ALERTS: [TlsError; 8] = [
    TlsError::NoCertificate,
    TlsError::Expired,
    TlsError::Untrusted,
    TlsError::WrongName,
    TlsError::Unusable,
    TlsError::Incompatible,
    TlsError::Broken,
    TlsError::KeysExhausted,
];

const fn describe(
    code: &'static str,
    kind: ChannelErrorKind,
    message: &'static str,
) -> ChannelErrorInfo {
    ChannelErrorInfo { code, message, kind }
}

static NO_CERTIFICATE: ChannelErrorInfo = describe(
    "tls-no-certificate",
    ChannelErrorKind::Authentication,
    "the client presented no certificate: configure one",
);
static EXPIRED: ChannelErrorInfo = describe(
    "tls-certificate-expired",
    ChannelErrorKind::Authentication,
    "the peer's certificate is not valid now: check both clocks, or renew the certificate",
);
static UNTRUSTED: ChannelErrorInfo = describe(
    "tls-certificate-untrusted",
    ChannelErrorKind::Authentication,
    "the peer's certificate is neither signed by a CA that is trusted here nor pinned: check which CA is trusted",
);
static WRONG_NAME: ChannelErrorInfo = describe(
    "tls-certificate-other-name",
    ChannelErrorKind::Authentication,
    "the server's certificate is for another name: check the expected name, or issue a certificate for it",
);
static UNUSABLE: ChannelErrorInfo = describe(
    "tls-certificate-unusable",
    ChannelErrorKind::Authentication,
    "the peer's certificate cannot be verified: pin that very certificate, or issue one with a supported version, key and usage",
);
static INCOMPATIBLE: ChannelErrorInfo = describe(
    "tls-nothing-in-common",
    ChannelErrorKind::Incompatible,
    "the peer allows no TLS that is allowed here: use TLS 1.3, or TLS 1.2 with the extended master secret",
);
static BROKEN: ChannelErrorInfo = describe(
    "tls-broken",
    ChannelErrorKind::Protocol,
    "the peer's bytes are not TLS, or were modified in transit: check that both ends use TLS",
);
static KEYS_EXHAUSTED: ChannelErrorInfo = describe(
    "tls-keys-used-up",
    ChannelErrorKind::Local,
    "this TLS 1.2 connection has protected as many records as its keys allow: connect again, or use TLS 1.3",
);

/// Defines the description of each alert (RFC 8446, section 6, and the registry of TLS alerts).
macro_rules! alerts {
    ($($code:literal $name:literal $kind:ident $remedy:literal;)*) => {
        const fn alert(code: u8) -> &'static ChannelErrorInfo {
            static UNKNOWN: ChannelErrorInfo = describe(
                "tls-alert",
                ChannelErrorKind::Closed,
                "the peer ended TLS with an unknown alert: see its log",
            );
            match code {
                $($code => {
                    static INFO: ChannelErrorInfo = describe(
                        "tls-alert",
                        ChannelErrorKind::$kind,
                        concat!("the peer ended TLS with alert ", $code, " (", $name, "): ", $remedy),
                    );
                    &INFO
                })*
                _ => &UNKNOWN,
            }
        }
    };
}

alerts! {
    0 "close_notify" Closed "see its log";
    10 "unexpected_message" Closed "see its log";
    20 "bad_record_mac" Closed "the stream was modified in transit";
    21 "decryption_failed" Closed "the stream was modified in transit";
    22 "record_overflow" Closed "see its log";
    30 "decompression_failure" Closed "see its log";
    40 "handshake_failure" Incompatible "it allows no TLS that is allowed here; its log may have the reason";
    41 "no_certificate" Closed "see its log";
    42 "bad_certificate" Rejected "it rejects our certificate; check which CA it trusts";
    43 "unsupported_certificate" Rejected "it rejects our certificate; check which CA it trusts";
    44 "certificate_revoked" Rejected "it rejects our certificate; check which CA it trusts";
    45 "certificate_expired" Rejected "it rejects our certificate; check both clocks";
    46 "certificate_unknown" Rejected "it rejects our certificate; check which CA it trusts";
    47 "illegal_parameter" Closed "see its log";
    48 "unknown_ca" Rejected "it does not trust the CA of our certificate; check which CA it trusts";
    49 "access_denied" Rejected "it rejects our certificate; see its log";
    50 "decode_error" Closed "check that it uses TLS";
    51 "decrypt_error" Rejected "it rejects our certificate; see its log";
    70 "protocol_version" Incompatible "it allows no TLS version that is allowed here";
    71 "insufficient_security" Incompatible "it allows no TLS that is allowed here";
    80 "internal_error" Closed "see its log";
    86 "inappropriate_fallback" Closed "see its log";
    90 "user_canceled" Closed "see its log";
    100 "no_renegotiation" Closed "see its log";
    109 "missing_extension" Closed "see its log";
    110 "unsupported_extension" Closed "see its log";
    112 "unrecognized_name" Closed "it does not know the server name that we ask for";
    113 "bad_certificate_status_response" Closed "see its log";
    115 "unknown_psk_identity" Closed "see its log";
    116 "certificate_required" Rejected "it requires a client certificate; configure one";
    120 "no_application_protocol" Closed "see its log";
}

/// The error that reports `error` of rustls.
pub(crate) fn tls_error(error: &Rustls) -> Error {
    Error::from(match error {
        Rustls::NoCertificatesPresented => TlsError::NoCertificate,
        Rustls::InvalidCertificate(error) => certificate_error(error),
        Rustls::UnsupportedNameType => TlsError::WrongName,
        Rustls::PeerIncompatible(_) => TlsError::Incompatible,
        Rustls::AlertReceived(alert) => TlsError::Alert(u8::from(*alert)),
        _ => TlsError::Broken,
    })
}

fn certificate_error(error: &CertificateError) -> TlsError {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => TlsError::Expired,
        // The signature of a CA that has a trusted CA's name, but another key.
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::Revoked => TlsError::Untrusted,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsError::WrongName
        }
        _ => TlsError::Unusable,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::*;

    /// The codes of all alerts of `kind`.
    fn alerts_of(kind: ChannelErrorKind) -> Vec<u8> {
        (0..=255).filter(|&code| TlsError::Alert(code).info().kind == kind).collect()
    }

    #[test]
    fn errors_survive_conversion_to_core_errors() {
        let alerts = (0..=255)
            .map(TlsError::Alert)
            .filter(|error| !error.to_string().contains("unknown alert"));
        for error in NON_ALERTS.into_iter().chain(alerts) {
            assert_eq!(TlsError::of(error.into()), Some(error));
        }
        assert_eq!(TlsError::of(Error::WrongKey), None);
    }

    #[test]
    fn every_error_has_its_own_code_and_message() {
        let codes: BTreeSet<_> = NON_ALERTS.iter().map(|error| error.info().code).collect();
        let messages: BTreeSet<_> = NON_ALERTS.iter().map(ToString::to_string).collect();
        assert_eq!((codes.len(), messages.len()), (NON_ALERTS.len(), NON_ALERTS.len()));
        assert!(codes.iter().all(|code| code.starts_with("tls-")));
    }

    #[test]
    fn only_certificate_alerts_are_rejections() {
        assert_eq!(alerts_of(ChannelErrorKind::Rejected), [42, 43, 44, 45, 46, 48, 49, 51, 116]);
        assert_eq!(alerts_of(ChannelErrorKind::Authentication), []);
    }

    #[test]
    fn only_peer_certificate_errors_are_authentication_failures() {
        let failures =
            NON_ALERTS.into_iter().filter(|&error| Error::from(error).is_authentication_failure());
        assert_eq!(failures.collect::<Vec<_>>(), NON_ALERTS[..5]);
        assert!(!Error::from(TlsError::Alert(48)).is_authentication_failure());
    }
}
