//! A connection for blocking programs.

use std::io::{self, Read, Write};
use std::sync::Arc;

use countersign::Peer;
use countersign_host::{
    AdmissionGuard, CallConnection, CallError, ConnectionHandle, Connector, OwnedChunk, PeerAddr,
    Request, Sending, ServerContext, SharedConnection, Stream,
};

use crate::socket::{Socket, call};
use crate::wakeup::Wakeup;

/// A connection, of a client or [accepted](crate::Server::accept) by a server.
///
/// All methods take `&self`: one thread may send while another receives. Reading never waits for writing.
/// A connection stays alive while no call is made on it: its heartbeats are sent by a thread that all
/// connections of the process share. Dropping it closes the socket; [`finish`](Self::finish) first, so
/// that the peer knows that nothing is missing.
///
/// For code that takes byte streams, `&Connection` is [`Read`] and [`Write`].
///
/// ```no_run
/// use countersign_std::{Connection, Connector, Key, SessionFactory};
///
/// let sessions = SessionFactory::mutual("client")?;
/// let key = Key::mutual(b"a key of 16 bytes or more")?;
/// let connection = Connection::connect(&Connector::new("127.0.0.1:9999", sessions, key)?)?;
/// println!("{:?}", connection.peer(|peer| peer.name.map(str::to_owned))?);
/// println!("{:?}", connection.request(b"hello")?);
/// connection.finish()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Connection(Arc<SharedConnection<Socket>>);

/// Sends on a connection: see [`Connection::split`].
#[derive(Debug)]
pub struct SendHalf(Connection);

/// Receives on a connection: see [`Connection::split`].
#[derive(Debug)]
pub struct RecvHalf(Connection);

impl Connection {
    /// Connects, and returns when the handshake is over. In a handshake that proves nothing to the client
    /// (scheme `challenge`) it is over when the client has answered: a server that refuses it then closes
    /// the connection, which the next call reports.
    ///
    /// # Errors
    /// [`CallError::Connect`], [`CallError::Start`], [`CallError::Io`], [`CallError::Protocol`], and
    /// [`CallError::TimedOut`] if the handshake exceeds
    /// [`ConnectionOptions::timeout`](countersign_host::ConnectionOptions::timeout).
    pub fn connect(connector: &Connector) -> Result<Self, CallError> {
        let timeout = connector.options().connect_timeout;
        let stream = connector.address().connect(timeout).map_err(CallError::Connect)?;
        let socket = Socket::new(stream, Wakeup::new().map_err(CallError::Io)?);
        let connection = Self(SharedConnection::begin(socket, connector)?);
        call(&connection.0, |it: &mut CallConnection, _| it.established())?;
        Ok(connection)
    }

    /// A connection that a server has accepted and admitted; `None` if it cannot begin.
    pub(crate) fn accepted(
        context: &Arc<ServerContext>,
        stream: Stream,
        addr: PeerAddr,
        guard: AdmissionGuard,
        wakeup: Wakeup,
    ) -> Option<Self> {
        let socket = Socket::new(stream, wakeup);
        SharedConnection::accepted(context, socket, Socket::stream, addr, guard).map(Self)
    }

    /// Calls `look` with the peer, and returns its result. Waits for the handshake. `look` must not call
    /// the connection.
    ///
    /// # Errors
    /// The handshake failed: [`CallError::Io`], [`CallError::Protocol`], [`CallError::TimedOut`].
    pub fn peer<T>(&self, look: impl FnOnce(Peer<'_>) -> T) -> Result<T, CallError> {
        let mut look = Some(look);
        call(&self.0, |it: &mut CallConnection, _| it.look_at_peer(&mut look))
    }

    /// The handle of a connection that a server has accepted: its address, its peer, and closing
    /// it from any thread.
    #[must_use]
    pub fn handle(&self) -> Option<ConnectionHandle> {
        self.0.handle()
    }

    /// Sends a message, and returns when all of it has left this process. In a raw byte stream an empty
    /// message is nothing.
    ///
    /// # Errors
    /// [`CallError::Io`], [`CallError::Protocol`], [`CallError::Send`]. After [`CallError::TimedOut`] a
    /// part of the message is still queued: do not send it again, since later calls, also
    /// [`recv`](Self::recv), send the rest. [`CallError::Busy`]: an earlier message was still queued, and
    /// nothing of this one was.
    pub fn send(&self, message: &[u8]) -> Result<(), CallError> {
        call(&self.0, Sending::message(message))
    }

    /// No more messages from this side. Those of the peer can still be received. Idempotent.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn finish(&self) -> Result<(), CallError> {
        call(&self.0, Sending::finish())
    }

    /// The next message. In a raw byte stream: the bytes that have arrived. `None`: the peer sends no
    /// more.
    ///
    /// # Errors
    /// [`CallError::Io`], [`CallError::Protocol`]. After [`CallError::TimedOut`] the connection is as it
    /// was; what has arrived of a message is kept for the next call. [`CallError::MessageTooLong`]:
    /// take the message by [`recv_chunk`](Self::recv_chunk).
    pub fn recv(&self) -> Result<Option<Vec<u8>>, CallError> {
        call(&self.0, CallConnection::recv)
    }

    /// The next chunk of a message. In a raw byte stream: the bytes that have arrived. `None`: the peer
    /// sends no more.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), without [`CallError::MessageTooLong`].
    pub fn recv_chunk(&self) -> Result<Option<OwnedChunk>, CallError> {
        call(&self.0, CallConnection::recv_chunk)
    }

    /// Sends a message and receives the next one. One thread at a time: a reply has no number by which
    /// it could be matched with its request.
    ///
    /// # Errors
    /// As [`send`](Self::send) and [`recv`](Self::recv), and [`CallError::PeerFinished`].
    pub fn request(&self, message: &[u8]) -> Result<Vec<u8>, CallError> {
        call(&self.0, Request::new(message))
    }

    /// Two owned halves, for two threads. The connection is closed when both are dropped.
    #[must_use]
    pub fn split(self) -> (SendHalf, RecvHalf) {
        (SendHalf(Self(self.0.clone())), RecvHalf(self))
    }
}

impl SendHalf {
    /// As [`Connection::send`].
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn send(&self, message: &[u8]) -> Result<(), CallError> {
        self.0.send(message)
    }

    /// As [`Connection::finish`].
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn finish(&self) -> Result<(), CallError> {
        self.0.finish()
    }
}

impl RecvHalf {
    /// As [`Connection::recv`].
    ///
    /// # Errors
    /// As [`Connection::recv`].
    pub fn recv(&self) -> Result<Option<Vec<u8>>, CallError> {
        self.0.recv()
    }

    /// As [`Connection::recv_chunk`].
    ///
    /// # Errors
    /// As [`Connection::recv_chunk`].
    pub fn recv_chunk(&self) -> Result<Option<OwnedChunk>, CallError> {
        self.0.recv_chunk()
    }
}

/// Bytes of the peer's messages, without their bounds; 0 at the end. [`Connection::recv`] returns the rest
/// of a message that was read in part. Errors contain the [`CallError`].
impl Read for &Connection {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(call(&self.0, |it: &mut CallConnection, now| it.read(into, now))?)
    }
}

/// Each write is a message, and has left this process when the call returns. Errors contain the
/// [`CallError`].
impl Write for &Connection {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.send(from)?;
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
