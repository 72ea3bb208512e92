//! Where a client connects to, and with which identity.

use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use countersign::Instant;
use countersign_driver::Keys;

use crate::address::{Address, AddressError};
use crate::call_connection::{CallConnection, ConnectionOptions};
use crate::call_error::CallError;
use crate::session_factory::ProtocolFactory;

/// Where a client connects to, what it speaks, and its keys. Clones are cheap.
#[derive(Clone)]
pub struct Connector {
    address: Address,
    factory: Arc<dyn ProtocolFactory>,
    keys: Arc<dyn Keys + Send + Sync>,
    options: ConnectionOptions,
}

impl Connector {
    /// Connects to `address` (`host:port`, `[v6]:port`, `unix:/path`).
    ///
    /// # Errors
    /// `address` is not an address.
    pub fn new(
        address: &str,
        factory: impl ProtocolFactory + 'static,
        keys: impl Keys + Send + Sync + 'static,
    ) -> Result<Self, AddressError> {
        Ok(Self::of(address.parse()?, Arc::new(factory), Arc::new(keys)))
    }

    /// Connects to `address`, with what is shared already.
    #[must_use]
    pub fn of(
        address: Address,
        factory: Arc<dyn ProtocolFactory>,
        keys: Arc<dyn Keys + Send + Sync>,
    ) -> Self {
        Self { address, factory, keys, options: ConnectionOptions::default() }
    }

    /// With these limits.
    #[must_use]
    pub fn with_options(self, options: ConnectionOptions) -> Self {
        Self { options, ..self }
    }

    /// Where it connects to.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Its keys.
    #[must_use]
    pub fn keys(&self) -> &Arc<dyn Keys + Send + Sync> {
        &self.keys
    }

    /// Its limits.
    #[must_use]
    pub const fn options(&self) -> &ConnectionOptions {
        &self.options
    }

    /// Our end of a connection that was made. `waker` is woken when a buffer that it waits for is free.
    ///
    /// # Errors
    /// [`CallError::Start`].
    pub fn begin(&self, waker: &Waker, now: Instant) -> Result<CallConnection, CallError> {
        let protocol = self.factory.client(&waker.into(), now).map_err(CallError::Start)?;
        Ok(CallConnection::new(protocol, &self.options.message_memory))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("address", &self.address)
            .field("scheme", &self.factory.name())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
