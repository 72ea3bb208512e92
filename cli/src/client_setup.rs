//! What a client needs before it connects, from its options.

use std::sync::Arc;

use countersign::{Config, Name};
use countersign_driver::Keys;
use countersign_host::{Address, PoolOptions, Pools, ProtocolFactory, SessionFactory};

use crate::args::{ClientTlsArgs, ProtocolArgs};
use crate::loaded_keys::{self, IfMissing};
use crate::{Failed, say, tls};

/// The protocol and keys of a client.
pub(crate) struct ClientSetup {
    pub(crate) factory: Arc<dyn ProtocolFactory>,
    pub(crate) keys: Arc<dyn Keys + Send + Sync>,
    /// The configuration of the session, inside TLS or not.
    pub(crate) config: Config,
    pub(crate) inside_tls: bool,
}

/// The setup of a client of the server at `address`. Prints a warning if the key is weak.
pub(crate) fn client_setup(
    args: &ProtocolArgs,
    tls: &ClientTlsArgs,
    address: &Address,
    expect_server: Option<Name>,
    buffers: &PoolOptions,
) -> Result<ClientSetup, Failed> {
    let loaded = loaded_keys::load(args, IfMissing::Fail)?;
    if let Some(warning) = &loaded.warning {
        say(&format!("warning: {warning}"));
    }
    let inside_tls = tls.tls_ca.is_some();
    let config = args.config("client", inside_tls, |mutual| match expect_server {
        Some(name) => mutual.with_expected_server(name),
        None => mutual,
    })?;
    let sessions = SessionFactory::new(config.clone(), Pools::new(buffers));
    let factory = tls::client(sessions, tls, address)?;
    Ok(ClientSetup { factory, keys: loaded.keys, config, inside_tls })
}
