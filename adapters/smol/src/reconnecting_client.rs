//! A client that connects again.

use std::fmt;
use std::pin::Pin;

use async_io::Timer;
use countersign_driver::Backoff;
use countersign_host::{CallError, Connector, Reconnection};
use futures_lite::future;

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
    reconnection: Reconnection,
    hook: Box<Hook>,
    connection: Option<Connection>,
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
        Self { reconnection: Reconnection::new(connector, backoff), hook, connection: None }
    }

    /// Sends a message and returns the next one of the server: [`Connection::request`]. After a timeout the
    /// connection is closed, so that a late reply is not taken for that of the next request.
    ///
    /// # Errors
    /// As [`Connection::request`]; those of the last attempt to connect.
    pub async fn request(&mut self, message: &[u8]) -> Result<Vec<u8>, CallError> {
        let result = self.connected().await?.request(message).await;
        let kept = self.reconnection.note_request(&result);
        self.connection = self.connection.take().filter(|_| kept);
        result
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
            let result = self.note(result);
            if self.connection.is_some() {
                return result;
            }
        }
    }

    /// Takes note of how a call ended.
    fn note<T>(&mut self, result: Result<T, CallError>) -> Result<T, CallError> {
        let kept = self.reconnection.note(&result);
        self.connection = self.connection.take().filter(|_| kept);
        result
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
        let give_up = self.reconnection.give_up();
        let mut last = None;
        loop {
            if let Some(at) = self.reconnection.retry_at() {
                let until = give_up.map_or(at, |give_up| at.min(give_up));
                Timer::at(until).await;
                if until < at {
                    return Err(last.unwrap_or(CallError::TimedOut));
                }
            }
            let attempt = async {
                let connection = Connection::connect(self.reconnection.connector()).await?;
                (self.hook)(&connection).await?;
                Ok(connection)
            };
            let timed_out = async {
                give_up.map_or_else(Timer::never, Timer::at).await;
                Err(CallError::TimedOut)
            };
            match future::or(attempt, timed_out).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(self.reconnection.note_failed_attempt(error)?),
            }
        }
    }
}

impl fmt::Debug for ReconnectingClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReconnectingClient")
            .field("reconnection", &self.reconnection)
            .field("connected", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}
