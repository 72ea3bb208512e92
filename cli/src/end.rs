//! A client's end, as its options have it.

use std::sync::Arc;

use countersign::{Config, Name};
use countersign_driver::Keys;
use countersign_host::{Address, PoolOptions, Pools, ProtocolFactory, SessionFactory};

use crate::args::{ClientTlsArgs, ProtocolArgs};
use crate::secret::{self, Missing};
use crate::{Failed, say, tls};

pub(crate) struct ClientEnd {
    pub(crate) protocol: Arc<dyn ProtocolFactory>,
    pub(crate) keys: Arc<dyn Keys + Send + Sync>,
    /// What is spoken, inside TLS or not.
    pub(crate) config: Config,
    pub(crate) inside_tls: bool,
}

/// The end that speaks to the server at `address`. Says what is wrong with the key, if it will do all
/// the same.
pub(crate) fn client(
    args: &ProtocolArgs,
    tls: &ClientTlsArgs,
    address: &Address,
    expect_server: Option<Name>,
    buffers: &PoolOptions,
) -> Result<ClientEnd, Failed> {
    let found = secret::find(args, Missing::Fail)?;
    if let Some(warning) = &found.warning {
        say(&format!("warning: {warning}"));
    }
    let inside_tls = tls.tls_ca.is_some();
    let config = args.config("client", inside_tls, |mutual| match expect_server {
        Some(name) => mutual.with_expected_server(name),
        None => mutual,
    })?;
    let sessions = SessionFactory::new(config.clone(), Pools::new(buffers));
    let protocol = tls::client(sessions, tls, address)?;
    Ok(ClientEnd { protocol, keys: found.keys, config, inside_tls })
}
