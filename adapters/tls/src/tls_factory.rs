//! [`TlsFactory`].

use std::sync::Arc;

use countersign::Instant;
use countersign_host::{BoxedProtocol, LeaseHolder, ProtocolFactory, SessionFactory, StartError};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use crate::credentials::Credentials;
use crate::credentials_error::CredentialsError;
use crate::hardening::{harden_client, harden_server};
use crate::tls::Tls;

/// Makes a [`Tls`] around a session for each connection: a [`SessionFactory`] inside TLS.
///
/// Pass it to an adapter in place of the [`SessionFactory`]. Sessions of the scheme `mutual` are
/// bound to their TLS connection (RFC 9266). A factory serves one role: the other one's method
/// returns [`StartError::Channel`].
///
/// ```
/// use countersign::{Config, Instant, Protocol, Scheme};
/// use countersign_host::{LeaseHolder, PoolOptions, Pools, ProtocolFactory, SessionFactory};
/// use countersign_tls::{Credentials, TlsFactory};
///
/// # let key = rcgen::KeyPair::generate()?;
/// # let own = rcgen::CertificateParams::new(vec!["server.example".into()])?.self_signed(&key)?;
/// # let (chain, key) = (own.pem(), key.serialize_pem());
/// let sessions = SessionFactory::new(Config::new(Scheme::None), Pools::new(&PoolOptions::default()));
/// let credentials = Credentials::new().with_certificate(chain.as_bytes(), key.as_bytes())?;
/// let factory = TlsFactory::server(sessions, &credentials)?;
/// assert_eq!(factory.name(), "tls+none");
///
/// // An adapter does this for each accepted connection:
/// let protocol = factory.server(&LeaseHolder::default(), Instant::EPOCH)?;
/// assert!(protocol.wants_read());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TlsFactory {
    sessions: SessionFactory,
    role: TlsRole,
    name: String,
}

#[derive(Clone, Debug)]
enum TlsRole {
    Client(Arc<ClientConfig>, ServerName<'static>),
    Server(Arc<ServerConfig>),
}

impl TlsFactory {
    /// A factory for a server with `credentials`.
    ///
    /// # Errors
    /// [`CredentialsError::MissingServerCertificate`], or
    /// [`Configuration`](CredentialsError::Configuration) if rustls refuses the credentials.
    pub fn server(
        sessions: SessionFactory,
        credentials: &Credentials,
    ) -> Result<Self, CredentialsError> {
        Ok(Self::with_server_config(sessions, credentials.server_config()?))
    }

    /// A factory for a client of the server `name`, which is a DNS name or an IP address, without a
    /// port. The server's certificate must be for this name, unless it is pinned.
    ///
    /// # Errors
    /// [`CredentialsError::MissingTrust`], [`Name`](CredentialsError::Name), or
    /// [`Configuration`](CredentialsError::Configuration) if rustls refuses the credentials.
    pub fn client(
        sessions: SessionFactory,
        credentials: &Credentials,
        name: &str,
    ) -> Result<Self, CredentialsError> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| CredentialsError::Name)?;
        Ok(Self::with_client_config(sessions, credentials.client_config()?, name))
    }

    /// A factory for a server with a rustls configuration of your own. Resumption and early data are
    /// switched off, and TLS 1.2 requires the extended master secret, whatever `config` says.
    #[must_use]
    pub fn with_server_config(sessions: SessionFactory, mut config: ServerConfig) -> Self {
        harden_server(&mut config);
        Self::new(sessions, TlsRole::Server(Arc::new(config)))
    }

    /// A factory for a client with a rustls configuration of your own. Resumption and early data are
    /// switched off, and TLS 1.2 requires the extended master secret, whatever `config` says.
    #[must_use]
    pub fn with_client_config(
        sessions: SessionFactory,
        mut config: ClientConfig,
        name: ServerName<'static>,
    ) -> Self {
        harden_client(&mut config);
        Self::new(sessions, TlsRole::Client(Arc::new(config), name))
    }

    fn new(sessions: SessionFactory, role: TlsRole) -> Self {
        let sessions = sessions.with_channel_binding();
        let name = format!("tls+{}", sessions.name());
        Self { sessions, role, name }
    }
}

impl ProtocolFactory for TlsFactory {
    fn client(&self, holder: &LeaseHolder, now: Instant) -> Result<BoxedProtocol, StartError> {
        match &self.role {
            TlsRole::Client(config, name) => {
                let session = self.sessions.client(holder, now)?;
                Ok(Box::new(Tls::client(config.clone(), name.clone(), session)?))
            }
            TlsRole::Server(_) => Err(StartError::Channel),
        }
    }

    fn server(&self, holder: &LeaseHolder, now: Instant) -> Result<BoxedProtocol, StartError> {
        match &self.role {
            TlsRole::Server(config) => {
                let session = self.sessions.server(holder, now)?;
                Ok(Box::new(Tls::server(config.clone(), session)?))
            }
            TlsRole::Client(..) => Err(StartError::Channel),
        }
    }

    fn name(&self) -> &str {
        &self.name
    }
}
