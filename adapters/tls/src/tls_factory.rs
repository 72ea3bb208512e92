//! SessionFactory inside TLS, for adapters.

use std::sync::Arc;
use std::task::Waker;

use countersign::Instant;
use countersign_host::{BoxedProtocol, ProtocolFactory, SessionFactory, StartError};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use crate::credentials::{Credentials, CredentialsError, harden_client, harden_server};
use crate::tls::Tls;

/// SessionFactory of one configuration, each inside a TLS connection, to which those of the scheme `mutual`
/// are bound.
#[derive(Clone, Debug)]
pub struct TlsFactory {
    inner: SessionFactory,
    side: Side,
    name: String,
}

#[derive(Clone, Debug)]
enum Side {
    Client(Arc<ClientConfig>, ServerName<'static>),
    Server(Arc<ServerConfig>),
}

impl TlsFactory {
    /// Those of a server that shows, and asks of its clients, what `credentials` say.
    ///
    /// # Errors
    /// What `credentials` lack.
    pub fn server(
        sessions: SessionFactory,
        credentials: &Credentials,
    ) -> Result<Self, CredentialsError> {
        Ok(Self::with_server_config(sessions, credentials.server()?))
    }

    /// Those of a client, with servers of this name: a DNS name or an address.
    ///
    /// # Errors
    /// What `credentials` lack, or that `name` is none.
    pub fn client(
        sessions: SessionFactory,
        credentials: &Credentials,
        name: &str,
    ) -> Result<Self, CredentialsError> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| CredentialsError::Name)?;
        Ok(Self::with_client_config(sessions, credentials.client()?, name))
    }

    /// Those of a server whose TLS is configured elsewhere; but without resumption and early data, and
    /// in TLS 1.2 with the extended master secret.
    #[must_use]
    pub fn with_server_config(sessions: SessionFactory, mut config: ServerConfig) -> Self {
        harden_server(&mut config);
        Self::new(sessions, Side::Server(Arc::new(config)))
    }

    /// The same of a client.
    #[must_use]
    pub fn with_client_config(
        sessions: SessionFactory,
        mut config: ClientConfig,
        name: ServerName<'static>,
    ) -> Self {
        harden_client(&mut config);
        Self::new(sessions, Side::Client(Arc::new(config), name))
    }

    fn new(sessions: SessionFactory, side: Side) -> Self {
        let inner = sessions.with_channel_binding();
        let name = format!("tls+{}", inner.name());
        Self { inner, side, name }
    }
}

impl ProtocolFactory for TlsFactory {
    fn client(&self, wake: &Waker, now: Instant) -> Result<BoxedProtocol, StartError> {
        match &self.side {
            Side::Client(config, name) => {
                let inner = self.inner.client(wake, now)?;
                Ok(Box::new(Tls::client(config.clone(), name.clone(), inner)?))
            }
            Side::Server(_) => Err(StartError::Channel),
        }
    }

    fn server(&self, wake: &Waker, now: Instant) -> Result<BoxedProtocol, StartError> {
        match &self.side {
            Side::Server(config) => {
                let inner = self.inner.server(wake, now)?;
                Ok(Box::new(Tls::server(config.clone(), inner)?))
            }
            Side::Client(..) => Err(StartError::Channel),
        }
    }

    fn name(&self) -> &str {
        &self.name
    }
}
