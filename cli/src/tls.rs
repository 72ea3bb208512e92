//! TLS as the options configure it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use countersign_host::{Address, ProtocolFactory, SessionFactory, key_file};
use countersign_tls::{Credentials, CredentialsError, TlsFactory};

use crate::args::{ClientTlsArgs, ServerTlsArgs};
use crate::hints::{credentials_hint, with_hint};
use crate::{Exit, Failed};

/// The maximum length of a private key file, in bytes.
const MAX_LEN: usize = 1 << 20;

fn usage(error: impl std::fmt::Display) -> Failed {
    Failed::new(Exit::Usage, error)
}

/// An error in the credentials that `source` names: files or an option.
fn bad_credentials(source: impl std::fmt::Display, error: &CredentialsError) -> Failed {
    let hint = credentials_hint(error);
    usage(with_hint(format!("{source}: {error}"), hint))
}

/// A server's factory of `sessions`, inside TLS if `args` configure it.
pub(crate) fn server(
    sessions: SessionFactory,
    args: &ServerTlsArgs,
) -> Result<Arc<dyn ProtocolFactory>, Failed> {
    if args.tls_cert.is_none() {
        return Ok(Arc::new(sessions));
    }
    let credentials = credentials(
        args.tls_cert.as_deref(),
        args.tls_key.as_deref(),
        args.tls_client_ca.as_deref(),
    )?;
    let sessions = TlsFactory::server(sessions, &credentials);
    Ok(Arc::new(sessions.map_err(|error| bad_credentials("TLS", &error))?))
}

/// A client's factory of `sessions` with the server at `address`, inside TLS if `args` configure it.
pub(crate) fn client(
    sessions: SessionFactory,
    args: &ClientTlsArgs,
    address: &Address,
) -> Result<Arc<dyn ProtocolFactory>, Failed> {
    if args.tls_ca.is_none() {
        return Ok(Arc::new(sessions));
    }
    let credentials =
        credentials(args.tls_cert.as_deref(), args.tls_key.as_deref(), args.tls_ca.as_deref())?;
    let name = match (&args.tls_name, address) {
        (Some(name), _) => name,
        (None, Address::Tcp { host, .. }) => host,
        (None, Address::Unix(_)) => "localhost",
    };
    let sessions = TlsFactory::client(sessions, &credentials, name);
    Ok(Arc::new(sessions.map_err(|error| bad_credentials(format!("--tls-name {name}"), &error))?))
}

fn credentials(
    certificate: Option<&Path>,
    key: Option<&Path>,
    trust: Option<&Path>,
) -> Result<Credentials, Failed> {
    let mut credentials = Credentials::new();
    if let (Some(path), Some(key)) = (certificate, key) {
        let chain = read(path)?;
        let secret = key_file::read_file(key, MAX_LEN).map_err(usage)?;
        credentials = credentials.with_certificate(&chain, &secret).map_err(|error| {
            bad_credentials(format!("{} and {}", path.display(), key.display()), &error)
        })?;
    }
    if let Some(path) = trust {
        credentials = credentials
            .with_trust(&read(path)?)
            .map_err(|error| bad_credentials(path.display(), &error))?;
    }
    Ok(credentials)
}

/// Reads a file of certificates, which are not secret.
fn read(path: &Path) -> Result<Vec<u8>, Failed> {
    fs::read(path).map_err(|error| usage(format!("{}: {error}", path.display())))
}
