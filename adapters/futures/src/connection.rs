//! A connection that is used by calls.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use countersign::{Instant, Peer};
use countersign_driver::Keys;
use countersign_host::{
    Address, Call, CallConnection, CallError, CallTransport, ConnectionHandle, Connector,
    Operation, OwnedChunk, Request, Sending, SharedConnection, Step,
};
use futures_io::{AsyncRead, AsyncWrite};

use crate::message_stream::MessageStream;
use crate::transport::Transport;

/// A connection for tasks on any executor, over any transport: a client's, or one that a server has
/// accepted.
///
/// All methods take `&self`: one task may send while another receives, and several that send take turns.
/// Reading never waits for writing. Dropping the connection closes it at once; to end it in order,
/// [`finish`](Self::finish) and receive until `None`.
///
/// ```no_run
/// use countersign_futures::{Connect, Connection, Connector, Key, SessionFactory};
///
/// async fn ask<T: Connect>() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
///     let key = Key::mutual(b"a secret of at least 16 bytes")?;
///     let connector = Connector::new("127.0.0.1:9999", SessionFactory::mutual("client")?, key)?;
///     let connection = Connection::<T>::connect(&connector).await?;
///     Ok(connection.request(b"hello").await?)
/// }
/// ```
///
/// # While no call is made
///
/// The connection stays alive: a thread that all connections of the process share sends heartbeats,
/// enforces deadlines, and obeys the handle and a stop of the server. Everything else happens in calls.
///
/// # Cancellation
///
/// Any future of a connection can be dropped at any time. No received byte is lost, and no sent byte is
/// repeated or left out: what has arrived of a message is there for the next call that receives. The
/// connection takes a message of [`send`](Self::send) as a whole, in the first poll that finds no earlier
/// message queued, which is the very first poll unless another task sends. If the future is dropped before
/// that, nothing of the message is sent; if it is dropped later, all of it is, while other calls are
/// waiting. Dropping one call never stops another.
pub struct Connection<T> {
    pub(crate) shared: Arc<SharedConnection<Transport<T>>>,
}

/// A socket that clients connect.
pub trait Connect: AsyncRead + AsyncWrite + Unpin + Send + Sized + 'static {
    /// Connects: tries each of the host's addresses for at most `timeout`.
    ///
    /// # Errors
    /// The system's, of the last address tried, and [`io::ErrorKind::TimedOut`].
    fn connect(
        address: &Address,
        timeout: Duration,
    ) -> impl Future<Output = io::Result<Self>> + Send;

    /// Acknowledges received bytes at once: [`Io::acknowledge`](countersign_driver::Io::acknowledge).
    fn acknowledge(&self);
}

impl<T: AsyncRead + AsyncWrite + Unpin> CallTransport for Transport<T> {
    fn poll(
        &mut self,
        connection: &mut CallConnection,
        keys: &dyn Keys,
        now: Instant,
        waker: &Waker,
    ) -> Step {
        connection.poll(&mut self.polled(&mut Context::from_waker(waker)), keys, now)
    }
}

impl<T: Connect> Connection<T> {
    /// Connects to a server; returns when the handshake is over, as [`over`](Self::over) does.
    ///
    /// # Errors
    /// Every [`CallError`] but [`Send`](CallError::Send), [`Busy`](CallError::Busy) and those of
    /// receiving.
    pub async fn connect(connector: &Connector) -> Result<Self, CallError> {
        let timeout = connector.options().connect_timeout;
        let socket = T::connect(connector.address(), timeout).await.map_err(CallError::Connect)?;
        Self::open(Transport::new(socket).with_acknowledge(T::acknowledge), connector).await
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection<T> {
    /// A client's connection over `transport`, which is connected already: the address of `connector` is
    /// not used. Closing `transport` must shut its write side, as it does for the sockets of `async-net`, but
    /// not for a bare `async_io::Async`.
    ///
    /// Returns when the handshake is over. In a handshake that proves nothing to the client, that is when
    /// the client has answered: a server that refuses it then closes the connection, which the next call
    /// reports. Dropping the future drops `transport`.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), but [`Connect`](CallError::Connect).
    pub async fn over(transport: T, connector: &Connector) -> Result<Self, CallError> {
        Self::open(Transport::new(transport), connector).await
    }

    async fn open(transport: Transport<T>, connector: &Connector) -> Result<Self, CallError> {
        let connection = Self { shared: SharedConnection::begin(transport, connector)? };
        connection.call(|it: &mut CallConnection, _| it.established()).await?;
        Ok(connection)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    /// Calls `look` with the peer, after the handshake, and returns its result. `look` must not call the
    /// connection.
    ///
    /// # Errors
    /// [`CallError::Protocol`], [`CallError::Io`] and [`CallError::TimedOut`].
    pub async fn peer<R>(&self, look: impl FnOnce(Peer<'_>) -> R) -> Result<R, CallError> {
        let mut look = Some(look);
        self.call(|it: &mut CallConnection, _| it.look_at_peer(&mut look)).await
    }

    /// Sends a message; returns when all of it has left this process, also the buffers of the transport.
    /// In a byte stream an empty one is nothing.
    ///
    /// # Errors
    /// [`CallError::TimedOut`]: a part of the message is still queued, and is sent while other calls wait: do
    /// not send it again. [`CallError::Busy`]: an earlier message was still queued, and nothing of this one
    /// was. [`CallError::Send`], [`CallError::Protocol`], [`CallError::Io`].
    pub async fn send(&self, message: &[u8]) -> Result<(), CallError> {
        self.call(Sending::message(message)).await
    }

    /// Sends the end of our messages. Those of the peer can still be received. Idempotent.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn finish(&self) -> Result<(), CallError> {
        self.call(Sending::finish()).await
    }

    /// The next message; in a byte stream, what has arrived. `None`: the peer sends no more.
    ///
    /// # Errors
    /// [`CallError::MessageTooLong`]: nothing is lost, [`recv_chunk`](Self::recv_chunk) returns the message
    /// in chunks. [`CallError::TimedOut`]: what has arrived of a message is kept for the next call.
    /// [`CallError::Protocol`], [`CallError::Io`].
    pub async fn recv(&self) -> Result<Option<Vec<u8>>, CallError> {
        self.call(CallConnection::recv).await
    }

    /// The next chunk of a message; in a byte stream, what has arrived. `None`: the peer sends no more.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), but [`CallError::MessageTooLong`].
    pub async fn recv_chunk(&self) -> Result<Option<OwnedChunk>, CallError> {
        self.call(CallConnection::recv_chunk).await
    }

    /// Sends a message and returns the next one of the peer, which is received while ours is still leaving.
    ///
    /// # Errors
    /// As [`send`](Self::send) and [`recv`](Self::recv); [`CallError::PeerFinished`].
    pub async fn request(&self, message: &[u8]) -> Result<Vec<u8>, CallError> {
        self.call(Request::new(message)).await
    }

    async fn call<O: Operation>(&self, mut operation: O) -> Result<O::Output, CallError> {
        let call = self.shared.begin_call();
        poll_fn(|cx| self.poll(&call, cx, &mut operation)).await
    }

    /// Polls a call. What must outlast it is in the shared state when this returns.
    pub(crate) fn poll<O: Operation>(
        &self,
        call: &Call,
        cx: &Context<'_>,
        operation: &mut O,
    ) -> Poll<Result<O::Output, CallError>> {
        match self.shared.poll(call, cx.waker(), operation) {
            ControlFlow::Break(result) => Poll::Ready(result),
            ControlFlow::Continue(_) => Poll::Pending,
        }
    }
}

impl<T> Connection<T> {
    /// The handle of a connection that a server has accepted: its address, its peer, and closing
    /// it from any thread.
    #[must_use]
    pub fn handle(&self) -> Option<ConnectionHandle> {
        self.shared.handle()
    }

    /// The connection as a stream and a sink of messages.
    #[must_use]
    pub fn messages(&self) -> MessageStream<&Self> {
        MessageStream::new(self)
    }

    /// The connection in two owned halves, for two tasks. It is closed when both are dropped.
    #[must_use]
    pub fn split(self) -> (SendHalf<T>, RecvHalf<T>) {
        (SendHalf(Self { shared: self.shared.clone() }), RecvHalf(self))
    }
}

/// A connection that a server has accepted, on any runtime. The handshake is yet to come, in the calls.
impl<T> From<Arc<SharedConnection<Transport<T>>>> for Connection<T> {
    fn from(shared: Arc<SharedConnection<Transport<T>>>) -> Self {
        Self { shared }
    }
}

impl<T> fmt::Debug for Connection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("shared", &self.shared).finish()
    }
}

/// The half of a [`Connection`] that receives.
#[derive(Debug)]
pub struct RecvHalf<T>(Connection<T>);

impl<T: AsyncRead + AsyncWrite + Unpin> RecvHalf<T> {
    /// As [`Connection::recv`].
    ///
    /// # Errors
    /// As [`Connection::recv`].
    pub async fn recv(&self) -> Result<Option<Vec<u8>>, CallError> {
        self.0.recv().await
    }

    /// As [`Connection::recv_chunk`].
    ///
    /// # Errors
    /// As [`Connection::recv_chunk`].
    pub async fn recv_chunk(&self) -> Result<Option<OwnedChunk>, CallError> {
        self.0.recv_chunk().await
    }
}

/// The half of a [`Connection`] that sends.
#[derive(Debug)]
pub struct SendHalf<T>(Connection<T>);

impl<T: AsyncRead + AsyncWrite + Unpin> SendHalf<T> {
    /// As [`Connection::send`].
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub async fn send(&self, message: &[u8]) -> Result<(), CallError> {
        self.0.send(message).await
    }

    /// As [`Connection::finish`].
    ///
    /// # Errors
    /// As [`Connection::finish`].
    pub async fn finish(&self) -> Result<(), CallError> {
        self.0.finish().await
    }
}
