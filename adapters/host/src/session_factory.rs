//! Makes the protocols of new connections.

use std::borrow::Cow;
use std::fmt;
use std::process;

use countersign::{
    Config, ConfigError, Instant, Mutual, NameError, Nonce, Protocol, Role, Scheme, Session,
};
use getrandom::SysRng;

use crate::lease_holder::LeaseHolder;
use crate::pool::{PoolOptions, Pools};
use crate::process_id::process_id;
use crate::reflection_guard::{OutstandingChallenges, ReflectionGuard};

/// A protocol of any type.
pub type BoxedProtocol = Box<dyn Protocol + Send>;

/// Makes the protocol of each connection: a session, perhaps inside TLS.
pub trait ProtocolFactory: Send + Sync {
    /// The client side of a connection. `holder` leases its buffers, and is woken when one that it waits
    /// for is available.
    ///
    /// # Errors
    /// Every [`StartError`].
    fn client(&self, holder: &LeaseHolder, now: Instant) -> Result<BoxedProtocol, StartError>;

    /// The server side of a connection; `holder` as in [`client`](Self::client).
    ///
    /// # Errors
    /// Every [`StartError`]. On [`ConfigError::Busy`] the server is overloaded: send
    /// [`busy`](Self::busy) and close.
    fn server(&self, holder: &LeaseHolder, now: Instant) -> Result<BoxedProtocol, StartError>;

    /// The bytes to send to a client before it is rejected for overload: an alert, where the scheme has one.
    fn busy(&self) -> &[u8] {
        &[]
    }

    /// The name of the scheme in log lines.
    fn name(&self) -> &str;
}

/// Why the protocol of a connection cannot be made.
#[derive(Clone, Copy, Debug)]
pub enum StartError {
    /// The configuration is invalid, or there is no buffer.
    Config(ConfigError),
    /// The random number generator of the system failed.
    Random(getrandom::Error),
    /// The outer protocol, such as TLS, cannot be made.
    Channel,
}

impl StartError {
    /// One word for logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config(ConfigError::Busy) => "overload",
            Self::Config(_) | Self::Channel => "misconfigured",
            Self::Random(_) => "no-randomness",
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Random(error) => {
                write!(f, "the random number generator of the system failed: {error}")
            }
            Self::Channel => {
                f.write_str("the TLS connection cannot be made: check its configuration")
            }
        }
    }
}

impl std::error::Error for StartError {}

/// Why sessions of the scheme `mutual` cannot be made.
#[derive(Clone, Copy, Debug)]
pub enum MutualError {
    /// The name is invalid.
    Name(NameError),
    /// The random number generator of the system failed.
    Random(getrandom::Error),
}

impl fmt::Display for MutualError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::Random(error) => StartError::Random(*error).fmt(f),
        }
    }
}

impl std::error::Error for MutualError {}

/// Makes sessions of one configuration, with buffers from shared pools.
///
/// ```
/// use countersign::{Config, Digest, Scheme};
/// use countersign_host::{Pools, SessionFactory};
///
/// let mutual = SessionFactory::mutual("server")?;
/// let config = Config::new(Scheme::Challenge { digest: Digest::Sha256 });
/// let challenge = SessionFactory::new(config, Pools::default());
/// # let _ = (mutual, challenge);
/// # Ok::<(), countersign_host::MutualError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SessionFactory {
    config: Config,
    pools: Pools,
    outstanding: OutstandingChallenges,
    /// The operating system's id of the process that made `config`.
    process: u32,
}

impl SessionFactory {
    /// Makes sessions with `config` and buffers from `pools`.
    #[must_use]
    pub fn new(config: Config, pools: Pools) -> Self {
        let outstanding = OutstandingChallenges::of_this_process();
        Self { config, pools, outstanding, process: process::id() }
    }

    /// Makes sessions of the scheme `mutual` with the name `name`, the process id of this process, and pools
    /// of the default sizes. A client is refused by a server of the same name; several clients may have one
    /// name.
    ///
    /// # Errors
    /// `name` is not a [`Name`](countersign::Name), or the system has no randomness.
    pub fn mutual(name: &str) -> Result<Self, MutualError> {
        let name = name.parse().map_err(MutualError::Name)?;
        let mutual = Mutual::new(name, process_id().map_err(MutualError::Random)?);
        let config = Config::new(Scheme::Mutual(mutual));
        let pools = Pools::new(&PoolOptions::for_config(&config));
        Ok(Self::new(config, pools))
    }

    /// Makes sessions for use inside TLS: see [`Config::with_channel_binding`].
    #[must_use]
    pub fn with_channel_binding(mut self) -> Self {
        self.config = self.config.with_channel_binding();
        self
    }

    /// Uses `outstanding` instead of the challenges of this process, for tests that run both ends in one
    /// process.
    #[must_use]
    pub fn with_outstanding(mut self, outstanding: OutstandingChallenges) -> Self {
        self.outstanding = outstanding;
        self
    }

    /// The configuration, with a new process id after a fork.
    fn config(&self) -> Result<Cow<'_, Config>, StartError> {
        if process::id() == self.process {
            return Ok(Cow::Borrowed(&self.config));
        }
        let process_id = process_id().map_err(StartError::Random)?;
        Ok(Cow::Owned(self.config.clone().with_process_id(process_id)))
    }

    fn begin(
        &self,
        role: Role,
        holder: &LeaseHolder,
        now: Instant,
    ) -> Result<BoxedProtocol, StartError> {
        let make = match role {
            Role::Client => Session::client,
            Role::Server => Session::server,
        };
        let config = self.config()?;
        let nonce = Nonce::generate(&mut SysRng).map_err(StartError::Random)?;
        let buffers = self.pools.buffers(holder);
        let session = make(&config, nonce, buffers, now).map_err(StartError::Config)?;
        Ok(match config.scheme() {
            Scheme::Multiprocessing(_) => {
                Box::new(ReflectionGuard::new(session, self.outstanding.clone()))
            }
            _ => Box::new(session),
        })
    }
}

impl ProtocolFactory for SessionFactory {
    fn client(&self, holder: &LeaseHolder, now: Instant) -> Result<BoxedProtocol, StartError> {
        self.begin(Role::Client, holder, now)
    }

    fn server(&self, holder: &LeaseHolder, now: Instant) -> Result<BoxedProtocol, StartError> {
        self.begin(Role::Server, holder, now)
    }

    fn busy(&self) -> &[u8] {
        self.config.busy()
    }

    fn name(&self) -> &str {
        self.config.scheme().name()
    }
}
