//! What the options of the command line can do about an error of the libraries, whose own messages name
//! no options.

use std::fmt::Display;
use std::io;

use countersign::{Alert, Error, IdentityError, KeyError, KeyRejection, TimedOut, Truncated};
use countersign_host::KeyringError;
use countersign_host::key_file::SecretError;
use countersign_tls::{CredentialsError, TlsError};

const KEYGEN: &str = "`countersign keygen --out FILE` makes one";
const CERTS: &str = "`countersign certs DIR` makes certificates and keys that fit";
const SAME_SCHEME: &str =
    "see --scheme of both ends, --tls-ca of the client and --tls-cert of the server";
const SAME_TLS: &str = "countersign supports TLS 1.3, and TLS 1.2 with the extended master secret";

/// The hint for an error of a session or of TLS, if an option or a command helps.
pub(crate) fn hint(error: &Error) -> Option<&'static str> {
    if let Some(error) = TlsError::of(*error) {
        return tls_hint(error);
    }
    match error {
        Error::WrongKey => Some("see --key-file, --kid and --digest"),
        Error::Identity(IdentityError::WrongServer) => {
            Some("see --expect-server of the client and --name of the server")
        }
        Error::Identity(IdentityError::UnexpectedServer) => Some("see --expect-server"),
        Error::Identity(IdentityError::SameName) => Some("see --name"),
        Error::Identity(IdentityError::NameNotAllowed) => Some("see `names` in --keyring"),
        Error::Incompatible => Some("see --digest and --compatible"),
        Error::Alert(Alert::Refused) => Some("see --key-file, --kid, --name and --expect-server"),
        Error::Refused(KeyRejection::Unknown) => Some(
            "the client's keys have none for this server: give --kid, or a key with roles = [\"client\"]",
        ),
        Error::Refused(KeyRejection::OutOfDate) => {
            Some("see `not_before` and `not_after` in --keyring, or give --kid")
        }
        Error::Refused(KeyRejection::WrongRole) => {
            Some("give --kid, or a key with roles = [\"client\"]")
        }
        Error::Malformed | Error::Truncated(Truncated::Handshake) => Some(SAME_SCHEME),
        Error::TimedOut(TimedOut::Handshake) | Error::Alert(Alert::TimedOut) => {
            Some("see --handshake-timeout")
        }
        Error::FrameTooLong { .. } => Some("see --max-frame and --scheme"),
        _ => None,
    }
}

fn tls_hint(error: TlsError) -> Option<&'static str> {
    match error {
        TlsError::NoCertificate => Some(
            "give the client --tls-cert and --tls-key; `countersign certs DIR` makes both files",
        ),
        TlsError::Expired => Some("`countersign certs DIR` makes new certificates"),
        TlsError::Untrusted => Some(
            "check --tls-ca and --tls-client-ca; `countersign certs DIR` makes certificates and keys that fit",
        ),
        TlsError::WrongName => Some(
            "give --tls-name, or issue the certificate with `countersign certs --name NAME DIR`",
        ),
        TlsError::Unusable => Some(
            "give that certificate itself as --tls-ca or --tls-client-ca to pin it; `countersign certs DIR` makes certificates that can be verified",
        ),
        // The alerts about our certificate: RFC 8446, section 6.2.
        TlsError::Alert(42..=46 | 48 | 49 | 51 | 116) => Some(
            "check --tls-cert, and the CA that the peer trusts; `countersign certs DIR` makes certificates and keys that fit",
        ),
        // handshake_failure, protocol_version, insufficient_security.
        TlsError::Alert(40 | 70 | 71) | TlsError::Incompatible => Some(SAME_TLS),
        TlsError::Broken => Some("see --tls-ca of the client and --tls-cert of the server"),
        _ => None,
    }
}

/// The hint for a connection that could not be made.
pub(crate) fn connect_hint(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            Some("is the server running, and is this its address?")
        }
        io::ErrorKind::TimedOut => Some("is the address right, and does a firewall permit it?"),
        _ => None,
    }
}

/// The hint for a secret that no key can be made from.
pub(crate) fn key_hint(error: &KeyError) -> Option<&'static str> {
    matches!(error, KeyError::Empty | KeyError::TooShort).then_some(KEYGEN)
}

/// The hint for a key file.
pub(crate) fn secret_hint(error: &SecretError) -> Option<&'static str> {
    matches!(error, SecretError::Empty(_)).then_some(KEYGEN)
}

/// The hint for a keyring.
pub(crate) fn keyring_hint(error: &KeyringError) -> Option<&'static str> {
    match error {
        KeyringError::File(error) => secret_hint(error),
        KeyringError::Mistake { what, .. } if what.starts_with("secret: ") => {
            Some("`countersign keygen` prints a secret")
        }
        KeyringError::Mistake { .. } => Some("`countersign serve --help` describes the file"),
    }
}

/// The hint for certificates and private keys in PEM files.
pub(crate) fn credentials_hint(error: &CredentialsError) -> Option<&'static str> {
    match error {
        CredentialsError::NoCertificate
        | CredentialsError::Certificate
        | CredentialsError::Key
        | CredentialsError::MissingServerCertificate => Some(CERTS),
        CredentialsError::Mismatch => Some("see --tls-cert and --tls-key"),
        CredentialsError::MissingTrust => Some("give --tls-ca"),
        CredentialsError::Name => Some("see --tls-name"),
        _ => None,
    }
}

/// One line: the message of `error`, then the hint.
pub(crate) fn with_hint(error: impl Display, hint: Option<&str>) -> String {
    match hint {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_the_options_that_help() {
        for (error, options) in [
            (Error::Identity(IdentityError::WrongServer), &["--expect-server", "--name"][..]),
            (Error::Incompatible, &["--digest", "--compatible"]),
            (Error::Refused(KeyRejection::Unknown), &["--kid"]),
            (Error::FrameTooLong { len: 1 << 30 }, &["--max-frame"]),
            (TlsError::NoCertificate.into(), &["--tls-cert", "--tls-key", "countersign certs"]),
            (TlsError::Expired.into(), &["countersign certs"]),
            (TlsError::Untrusted.into(), &["--tls-ca", "--tls-client-ca", "countersign certs"]),
            (TlsError::WrongName.into(), &["--tls-name", "countersign certs --name"]),
            (TlsError::Unusable.into(), &["--tls-ca", "countersign certs"]),
            (TlsError::Alert(48).into(), &["--tls-cert", "countersign certs"]),
            (TlsError::Alert(116).into(), &["--tls-cert", "countersign certs"]),
            (TlsError::Alert(40).into(), &["TLS 1.3"]),
        ] {
            let hint = hint(&error).unwrap();
            assert!(options.iter().all(|option| hint.contains(option)), "{error}: {hint}");
        }
        assert_eq!(hint(&Error::Transport), None);
        for error in [KeyError::Empty, KeyError::TooShort] {
            assert!(key_hint(&error).unwrap().contains("countersign keygen"));
        }
        assert_eq!(key_hint(&KeyError::TooLong), None);
    }

    #[test]
    fn hint_follows_its_message_on_the_same_line() {
        let error = Error::Incompatible;
        let line = with_hint(error, hint(&error));
        assert!(line.starts_with(&format!("{error}; ")) && !line.contains('\n'), "{line}");
        assert_eq!(with_hint(Error::Transport, None), Error::Transport.to_string());
    }
}
