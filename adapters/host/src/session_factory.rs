//! What makes the machines and services of new connections.

use std::borrow::Cow;
use std::fmt;
use std::process;
use std::task::Waker;

use countersign::{Config, ConfigError, Instant, Nonce, Protocol, Role, Scheme, Session};
use getrandom::SysRng;

use crate::net::PeerAddr;
use crate::pool::Pools;
use crate::process_id::process_id;
use crate::reflection_guard::{OutstandingChallenges, ReflectionGuard};
use countersign_driver::Service;

/// A machine of any kind.
pub type BoxedProtocol = Box<dyn Protocol + Send>;

/// What two ends speak: makes a machine for each connection.
pub trait ProtocolFactory: Send + Sync {
    /// Our end of a connection that we made. `wake` is woken when a lease that the machine waits
    /// for is to be had.
    ///
    /// # Errors
    /// Every [`StartError`].
    fn client(&self, wake: &Waker, now: Instant) -> Result<BoxedProtocol, StartError>;

    /// Our end of a connection that we accepted.
    ///
    /// # Errors
    /// Every [`StartError`]; [`ConfigError::Busy`] is overload, and the connection is to be closed.
    fn server(&self, wake: &Waker, now: Instant) -> Result<BoxedProtocol, StartError>;

    /// What to send, before closing, to a client for which there is no room.
    fn busy(&self) -> &[u8] {
        &[]
    }

    /// Its name in log lines.
    fn name(&self) -> &str;
}

/// Why a connection cannot begin.
#[derive(Clone, Copy, Debug)]
pub enum StartError {
    /// The session cannot be made.
    Config(ConfigError),
    /// There is no randomness to be had, and so no handshake.
    Random(getrandom::Error),
    /// What the session is to be in cannot begin: TLS, say.
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
                write!(
                    f,
                    "the system gives no randomness, without which there is no handshake: {error}"
                )
            }
            Self::Channel => f.write_str(
                "the channel that the session is to be in cannot begin: look into its configuration",
            ),
        }
    }
}

impl std::error::Error for StartError {}

/// Plain sessions of one configuration, in buffers from shared pools.
#[derive(Clone, Debug)]
pub struct SessionFactory {
    config: Config,
    pools: Pools,
    outstanding: OutstandingChallenges,
    /// The process that `config` was made in.
    process: u32,
}

impl SessionFactory {
    /// SessionFactory that speak `config`.
    #[must_use]
    pub fn new(config: Config, pools: Pools) -> Self {
        let outstanding = OutstandingChallenges::of_this_process();
        Self { config, pools, outstanding, process: process::id() }
    }

    /// The same inside TLS: see [`Config::with_channel_binding`].
    #[must_use]
    pub fn with_channel_binding(mut self) -> Self {
        self.config = self.config.with_channel_binding();
        self
    }

    /// The same as those of another process, whose challenges are `outstanding`: for tests that play
    /// both ends.
    #[must_use]
    pub fn with_outstanding(mut self, outstanding: OutstandingChallenges) -> Self {
        self.outstanding = outstanding;
        self
    }

    /// The configuration of this process: another one than was configured if it was forked off.
    fn config(&self) -> Result<Cow<'_, Config>, StartError> {
        if process::id() == self.process {
            return Ok(Cow::Borrowed(&self.config));
        }
        let instance = process_id().map_err(StartError::Random)?;
        Ok(Cow::Owned(self.config.clone().with_process_id(instance)))
    }

    fn begin(&self, role: Role, wake: &Waker, now: Instant) -> Result<BoxedProtocol, StartError> {
        let make = match role {
            Role::Client => Session::client,
            Role::Server => Session::server,
        };
        let config = self.config()?;
        let nonce = Nonce::generate(&mut SysRng).map_err(StartError::Random)?;
        let buffers = self.pools.buffers(wake);
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
    fn client(&self, wake: &Waker, now: Instant) -> Result<BoxedProtocol, StartError> {
        self.begin(Role::Client, wake, now)
    }

    fn server(&self, wake: &Waker, now: Instant) -> Result<BoxedProtocol, StartError> {
        self.begin(Role::Server, wake, now)
    }

    fn busy(&self) -> &[u8] {
        self.config.busy()
    }

    fn name(&self) -> &str {
        self.config.scheme().name()
    }
}

/// Makes the service of each connection.
pub trait Open: Send + Sync {
    /// What it makes.
    type Service: Service + Send;

    /// A service for a connection from `origin`, whose handshake is yet to come. Waking `wake`,
    /// from any thread, has [`Service::on_wake`] called.
    fn open(&self, origin: &PeerAddr, wake: Waker) -> Self::Service;
}

/// Any function will do.
impl<S: Service + Send, F: Fn(&PeerAddr, Waker) -> S + Send + Sync> Open for F {
    type Service = S;

    fn open(&self, origin: &PeerAddr, wake: Waker) -> S {
        self(origin, wake)
    }
}
