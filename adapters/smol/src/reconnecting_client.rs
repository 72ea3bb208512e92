//! A client that connects again.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::pin::Pin;
use std::time::Instant;

use async_io::Timer;
use countersign::SendError;
use countersign_driver::Backoff;
use countersign_host::{CallError, Connector};
use futures_lite::future;
use tracing::warn;

use crate::connection::Connection;

/// A client that connects when a call needs a connection, and again after it was lost.
///
/// Attempts that fail are repeated after a delay of the [`Backoff`], which a call that succeeds resets; a
/// call gives up when the timeout of the connector's options passes while there is no connection. The hook
/// runs after each connect, to log in or to subscribe.
///
/// A call that fails reports it, and the next call connects anew: whether the server has seen the message
/// is not known, so it is not sent again.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use countersign_smol::{Backoff, Connector, Key, ReconnectingClient, SessionFactory};
///
/// let key = Key::mutual(b"a secret of at least 16 bytes")?;
/// let connector = Connector::new("127.0.0.1:9999", SessionFactory::mutual("client")?, key)?;
/// let mut client = ReconnectingClient::new(connector, Backoff::default(), |connection| {
///     Box::pin(connection.send(b"subscribe"))
/// });
/// loop {
///     println!("{:?}", client.recv().await?);
/// }
/// # }
/// ```
pub struct ReconnectingClient {
    connector: Connector,
    backoff: Backoff,
    hook: Box<Hook>,
    connection: Option<Connection>,
    /// When to connect, after a failure.
    retry_at: Option<Instant>,
}

/// What a hook of a [`ReconnectingClient`] returns.
pub type HookFuture<'a> = Pin<Box<dyn Future<Output = Result<(), CallError>> + Send + 'a>>;

type Hook = dyn FnMut(&Connection) -> HookFuture<'_> + Send;

impl ReconnectingClient {
    /// A client that is not connected yet. `hook` runs after each connect; if it fails, so has the attempt.
    pub fn new(
        connector: Connector,
        backoff: Backoff,
        hook: impl FnMut(&Connection) -> HookFuture<'_> + Send + 'static,
    ) -> Self {
        let hook = Box::new(hook);
        Self { connector, backoff, hook, connection: None, retry_at: None }
    }

    /// Sends a message and returns the next one of the server: [`Connection::request`]. After a timeout the
    /// connection is closed, so that a late reply is not taken for that of the next request.
    ///
    /// # Errors
    /// As [`Connection::request`]; those of the last attempt to connect.
    pub async fn request(&mut self, message: &[u8]) -> Result<Vec<u8>, CallError> {
        let result = self.connected().await?.request(message).await;
        if let Err(CallError::TimedOut | CallError::MessageTooLong) = result {
            self.disconnect();
        }
        self.note(result)
    }

    /// Sends a message: [`Connection::send`].
    ///
    /// # Errors
    /// As [`Connection::send`]; those of the last attempt to connect.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), CallError> {
        let result = self.connected().await?.send(message).await;
        self.note(result)
    }

    /// The next message of the server. Connects again when the connection fails or the server finishes;
    /// messages that the server sent meanwhile are lost.
    ///
    /// # Errors
    /// [`CallError::TimedOut`], [`CallError::MessageTooLong`]; those of the last attempt to connect.
    pub async fn recv(&mut self) -> Result<Vec<u8>, CallError> {
        loop {
            let result = self.connected().await?.recv().await;
            let result = result.and_then(|message| message.ok_or(CallError::PeerFinished));
            match self.note(result) {
                Err(error) if is_over(&error) => {}
                result => return result,
            }
        }
    }

    /// Acts on the result of a call.
    fn note<R>(&mut self, result: Result<R, CallError>) -> Result<R, CallError> {
        match &result {
            Ok(_) => self.backoff.reset(),
            Err(error) if is_over(error) => self.disconnect(),
            Err(_) => {}
        }
        result
    }

    /// Closes the connection; the next one is made after a delay.
    fn disconnect(&mut self) {
        self.connection = None;
        self.delay();
    }

    fn delay(&mut self) {
        // Each of these has other random keys.
        let random = RandomState::new().build_hasher().finish();
        self.retry_at = Instant::now().checked_add(self.backoff.delay(random));
    }

    /// The connection; made if there is none.
    async fn connected(&mut self) -> Result<&Connection, CallError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(self.connection.insert(connection))
    }

    async fn connect(&mut self) -> Result<Connection, CallError> {
        let timeout = self.connector.options().timeout;
        let give_up = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(at) = self.retry_at {
                if let Some(give_up) = give_up.filter(|give_up| *give_up < at) {
                    Timer::at(give_up).await;
                    return Err(CallError::TimedOut);
                }
                Timer::at(at).await;
            }
            let attempt = async {
                let connection = Connection::connect(&self.connector).await?;
                (self.hook)(&connection).await?;
                Ok(connection)
            };
            let timed_out = async {
                give_up.map_or_else(Timer::never, Timer::at).await;
                Err(CallError::TimedOut)
            };
            match future::or(attempt, timed_out).await {
                Ok(connection) => {
                    self.retry_at = None;
                    return Ok(connection);
                }
                // Our own configuration: another attempt would fail too.
                Err(error @ CallError::Start(_)) => return Err(error),
                Err(error) => {
                    self.delay();
                    if give_up.is_some_and(|give_up| give_up <= Instant::now()) {
                        return Err(error);
                    }
                    let address = self.connector.address();
                    warn!(target: "countersign", "cannot connect to {address}, retrying: {error}");
                }
            }
        }
    }
}

/// Whether a connection is of no more use after `error`.
const fn is_over(error: &CallError) -> bool {
    !matches!(
        error,
        CallError::TimedOut
            | CallError::Busy
            | CallError::MessageTooLong
            | CallError::Send(SendError::TooLong { .. })
    )
}

impl fmt::Debug for ReconnectingClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReconnectingClient")
            .field("connector", &self.connector)
            .field("connected", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}
