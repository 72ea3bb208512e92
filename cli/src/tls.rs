//! TLS on the command line.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use countersign_host::{Address, ProtocolFactory, SessionFactory, key_file};
use countersign_tls::{Credentials, TlsFactory};

use crate::args::{ClientTlsArgs, ServerTlsArgs};
use crate::{Exit, Failed};

/// The longest file to read, in bytes.
const MAX_LEN: usize = 1 << 20;

fn usage(error: impl std::fmt::Display) -> Failed {
    Failed::new(Exit::Usage, error)
}

/// `sessions`, inside TLS if `args` ask for it.
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
    Ok(Arc::new(TlsFactory::server(sessions, &credentials).map_err(usage)?))
}

/// `sessions` with the server at `address`, inside TLS if `args` ask for it.
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
    Ok(Arc::new(sessions.map_err(|error| usage(format!("--tls-name {name}: {error}")))?))
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
        credentials = credentials
            .with_certificate(&chain, &secret)
            .map_err(|error| usage(format!("{} and {}: {error}", path.display(), key.display())))?;
    }
    if let Some(path) = trust {
        credentials = credentials
            .with_trust(&read(path)?)
            .map_err(|error| usage(format!("{}: {error}", path.display())))?;
    }
    Ok(credentials)
}

/// The certificates in a file, which are no secret.
fn read(path: &Path) -> Result<Vec<u8>, Failed> {
    fs::read(path).map_err(|error| usage(format!("{}: {error}", path.display())))
}
