//! A client that connects again after its connection is lost.

use std::thread;
use std::time::Instant;

use countersign_driver::Backoff;
use countersign_host::{Attempt, CallError, Connector, Reconnection};

use crate::connection::Connection;

/// A client that connects again after its connection is lost.
///
/// Each call connects first if there is no connection, as often as it takes, with a [`Backoff`] between
/// attempts. A call during which the connection fails reports the error and is not repeated: the server
/// may have got the message. The next call connects.
///
/// [`ConnectionOptions::timeout`](countersign_host::ConnectionOptions::timeout) bounds each call: no
/// attempt to connect begins after it, and the call returns [`CallError::Connect`] or why the last attempt
/// failed. Without one a call tries for ever, also with a wrong key. Failed attempts are logged. A call that
/// succeeds resets the delay.
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
#[derive(Debug)]
pub struct ReconnectingClient(Reconnection<Connection, Hook>);

type Hook = dyn FnMut(&Connection) -> Result<(), CallError> + Send;

impl ReconnectingClient {
    /// A client that is not connected yet. `hook` is called after each connect, to log in or subscribe;
    /// if it fails the attempt has failed.
    pub fn new(
        connector: Connector,
        backoff: Backoff,
        hook: impl FnMut(&Connection) -> Result<(), CallError> + Send + 'static,
    ) -> Self {
        Self(Reconnection::new(connector, backoff, Box::new(hook)))
    }

    /// Sends a message and receives its reply. After an error other than [`CallError::Busy`] the
    /// connection is given up: a late reply would be taken for that of the next request.
    ///
    /// # Errors
    /// As [`Connection::request`]; [`CallError::Connect`] and other errors of the last attempt to
    /// connect.
    pub fn request(&mut self, message: &[u8]) -> Result<Vec<u8>, CallError> {
        self.0.begin_call();
        let result = self.connection()?.request(message);
        self.0.note_request(result)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// As [`Connection::send`], and as [`request`](Self::request) of connecting.
    pub fn send(&mut self, message: &[u8]) -> Result<(), CallError> {
        self.0.begin_call();
        let result = self.connection()?.send(message);
        self.0.note(result)
    }

    /// The next message. Connects again when the connection fails or the peer finishes: messages that
    /// the peer sent meanwhile are lost, and of ours those that were still on their way.
    ///
    /// # Errors
    /// [`CallError::TimedOut`], [`CallError::MessageTooLong`], and as [`request`](Self::request) of
    /// connecting.
    pub fn recv(&mut self) -> Result<Vec<u8>, CallError> {
        self.0.begin_call();
        loop {
            let received = self.connection()?.recv();
            if let Some(result) = self.0.note_recv(received) {
                return result;
            }
        }
    }

    /// The connection; connects if there is none.
    fn connection(&mut self) -> Result<&Connection, CallError> {
        while let Some(attempt) = self.0.next_attempt()? {
            match attempt {
                Attempt::WaitUntil(at) => {
                    thread::sleep(at.saturating_duration_since(Instant::now()));
                }
                Attempt::Connect(_) => {
                    let (connector, hook) = self.0.connector_and_hook();
                    let connected = Connection::connect(connector);
                    let connected = connected.and_then(|it| hook(&it).map(|()| it));
                    self.0.note_attempt(connected)?;
                }
            }
        }
        self.0.connection().ok_or(CallError::TimedOut)
    }
}
