//! A client that connects again after its connection is lost.

use std::fmt;
use std::thread;
use std::time::Instant;

use countersign_driver::Backoff;
use countersign_host::{CallError, Connector, Reconnection};

use crate::connection::Connection;

/// A client that connects again after its connection is lost.
///
/// Each call connects first if there is no connection, as often as it takes, with a [`Backoff`] between
/// attempts. A call during which the connection fails reports the error and is not repeated: the server
/// may have got the message. The next call connects.
///
/// [`ConnectionOptions::timeout`](countersign_host::ConnectionOptions::timeout) bounds each call: no
/// attempt to connect begins after it.
///
/// ```no_run
/// use countersign_std::{Backoff, Connector, Key, ReconnectingClient, SessionFactory};
///
/// let sessions = SessionFactory::mutual("client")?;
/// let key = Key::mutual(b"a key of 16 bytes or more")?;
/// let connector = Connector::new("127.0.0.1:9999", sessions, key)?;
/// let mut client = ReconnectingClient::new(connector, Backoff::default(), |connection| {
///     connection.send(b"subscribe") // after each connect
/// });
/// loop {
///     println!("{:?}", client.recv()?);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ReconnectingClient {
    reconnection: Reconnection,
    hook: Box<Hook>,
    connection: Option<Connection>,
}

type Hook = dyn FnMut(&Connection) -> Result<(), CallError> + Send;

impl ReconnectingClient {
    /// A client that is not connected yet. `hook` is called after each connect, to log in or subscribe;
    /// if it fails the attempt has failed.
    pub fn new(
        connector: Connector,
        backoff: Backoff,
        hook: impl FnMut(&Connection) -> Result<(), CallError> + Send + 'static,
    ) -> Self {
        let hook = Box::new(hook);
        Self { reconnection: Reconnection::new(connector, backoff), hook, connection: None }
    }

    /// Sends a message and receives its reply. After an error other than [`CallError::Busy`] the
    /// connection is given up: a late reply would be taken for that of the next request.
    ///
    /// # Errors
    /// As [`Connection::request`]; [`CallError::Connect`] and other errors of the last attempt to
    /// connect.
    pub fn request(&mut self, message: &[u8]) -> Result<Vec<u8>, CallError> {
        let give_up = self.reconnection.give_up();
        let result = self.connection(give_up)?.request(message);
        let kept = self.reconnection.note_request(&result);
        self.connection = self.connection.take().filter(|_| kept);
        result
    }

    /// Sends a message.
    ///
    /// # Errors
    /// As [`Connection::send`], and as [`request`](Self::request) of connecting.
    pub fn send(&mut self, message: &[u8]) -> Result<(), CallError> {
        let give_up = self.reconnection.give_up();
        let result = self.connection(give_up)?.send(message);
        self.note(result)
    }

    /// The next message. Connects again when the connection fails or the peer finishes: messages that
    /// the peer sent meanwhile are lost.
    ///
    /// # Errors
    /// [`CallError::TimedOut`], [`CallError::MessageTooLong`], and as [`request`](Self::request) of
    /// connecting.
    pub fn recv(&mut self) -> Result<Vec<u8>, CallError> {
        let give_up = self.reconnection.give_up();
        loop {
            let received = self.connection(give_up)?.recv();
            let result = received.and_then(|message| message.ok_or(CallError::PeerFinished));
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

    /// The connection; connects if there is none.
    fn connection(&mut self, give_up: Option<Instant>) -> Result<&Connection, CallError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect(give_up)?,
        };
        Ok(self.connection.insert(connection))
    }

    fn connect(&mut self, give_up: Option<Instant>) -> Result<Connection, CallError> {
        let mut last = None;
        loop {
            if let Some(at) = self.reconnection.retry_at() {
                let until = give_up.map_or(at, |give_up| at.min(give_up));
                thread::sleep(until.saturating_duration_since(Instant::now()));
                if until < at {
                    return Err(last.unwrap_or(CallError::TimedOut));
                }
            }
            let connected = Connection::connect(self.reconnection.connector());
            match connected.and_then(|it| (self.hook)(&it).map(|()| it)) {
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
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}
