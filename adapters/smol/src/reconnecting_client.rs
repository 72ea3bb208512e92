//! A client that connects again.

use std::pin::Pin;

use async_io::Timer;
use countersign_driver::Backoff;
use countersign_host::{Attempt, CallError, Connector, Reconnection};
use futures_lite::future;

use crate::Connection;

/// A client that connects when a call needs a connection, and again after it was lost.
///
/// Attempts that fail are repeated after a delay of the [`Backoff`], which a call that succeeds resets; a
/// call gives up when the timeout of the connector's options passes while there is no connection, and returns
/// [`CallError::Connect`] or why the last attempt failed. Without a timeout it tries for ever, also with a
/// wrong key. Failed attempts are logged. The hook runs after each connect, to log in or to subscribe.
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
#[derive(Debug)]
pub struct ReconnectingClient(Reconnection<Connection, Hook>);

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
        Self(Reconnection::new(connector, backoff, Box::new(hook)))
    }

    /// Sends a message and returns the next one of the server: [`Connection::request`]. After a timeout the
    /// connection is closed, so that a late reply is not taken for that of the next request.
    ///
    /// # Errors
    /// As [`Connection::request`]; those of the last attempt to connect.
    pub async fn request(&mut self, message: &[u8]) -> Result<Vec<u8>, CallError> {
        self.0.begin_call();
        let result = self.connected().await?.request(message).await;
        self.0.note_request(result)
    }

    /// Sends a message: [`Connection::send`].
    ///
    /// # Errors
    /// As [`Connection::send`]; those of the last attempt to connect.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), CallError> {
        self.0.begin_call();
        let result = self.connected().await?.send(message).await;
        self.0.note(result)
    }

    /// The next message of the server. Connects again when the connection fails or the server finishes;
    /// messages that the server sent meanwhile are lost, and of ours those that were still on their way.
    ///
    /// # Errors
    /// [`CallError::TimedOut`], [`CallError::MessageTooLong`]; those of the last attempt to connect.
    pub async fn recv(&mut self) -> Result<Vec<u8>, CallError> {
        self.0.begin_call();
        loop {
            let received = self.connected().await?.recv().await;
            if let Some(result) = self.0.note_recv(received) {
                return result;
            }
        }
    }

    /// The connection; made if there is none.
    async fn connected(&mut self) -> Result<&Connection, CallError> {
        while let Some(attempt) = self.0.next_attempt()? {
            match attempt {
                Attempt::WaitUntil(at) => {
                    Timer::at(at).await;
                }
                Attempt::Connect(give_up) => {
                    let (connector, hook) = self.0.connector_and_hook();
                    let connected = async {
                        let connection = Connection::connect(connector).await?;
                        hook(&connection).await?;
                        Ok(connection)
                    };
                    let timed_out = async {
                        give_up.map_or_else(Timer::never, Timer::at).await;
                        Err(CallError::TimedOut)
                    };
                    let connected = future::or(connected, timed_out).await;
                    self.0.note_attempt(connected)?;
                }
            }
        }
        self.0.connection().ok_or(CallError::TimedOut)
    }
}
