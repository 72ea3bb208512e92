//! A connection that is used by calls.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{self, Duration};

use async_io::Timer;
use countersign::{Instant, Peer};
use countersign_driver::Keys;
use countersign_host::{
    AdmissionGuard, CallConnection, CallError, Clock, ConnectionHandle, Connector, KeepAlive,
    OwnedChunk, PeerAddr, Sending, ServerContext, Step, keep_alive,
};
use futures_io::{AsyncRead, AsyncWrite};

use crate::deadline::Deadline;
use crate::message_stream::MessageStream;
use crate::recv_half::RecvHalf;
use crate::send_half::SendHalf;
use crate::socket::Socket;
use crate::transport::Transport;
use crate::waiters::{Waiter, Waiters};

/// Polls of the connection within one poll of a call; then other tasks get their turn.
const POLLS: usize = 4;
/// How soon bytes that could not leave are tried again when no call waits for it.
const RETRY: Duration = Duration::from_millis(250);

/// A connection for tasks on any executor, over any transport: a client's, or one that a
/// [`Server`](crate::Server) has accepted.
///
/// All methods take `&self`: one task may send while another receives, and several that send take turns.
/// Reading never waits for writing. Dropping the connection closes it at once; to end it in order,
/// [`finish`](Self::finish) and receive until `None`.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use countersign_smol::{Connection, Connector, Key, SessionFactory};
///
/// let key = Key::mutual(b"a secret of at least 16 bytes")?;
/// let connector = Connector::new("127.0.0.1:9999", SessionFactory::mutual("client")?, key)?;
/// let connection = Connection::connect(&connector).await?;
/// let reply = connection.request(b"hello").await?;
/// # Ok(())
/// # }
/// ```
///
/// # While no call is made
///
/// The connection stays alive: a thread that all connections of the process share sends heartbeats and
/// enforces deadlines. Everything else happens in calls.
///
/// # Cancellation
///
/// Any future of a connection can be dropped at any time. No received byte is lost, and no sent byte is
/// repeated or left out: what has arrived of a message is there for the next call that receives. The
/// connection takes a message of [`send`](Self::send) as a whole, in the first poll that finds no earlier
/// message queued, which is the very first poll unless another task sends. If the future is dropped before
/// that, nothing of the message is sent; if it is dropped later, all of it is, while other calls are
/// waiting. Dropping one call never stops another.
pub struct Connection<T = Socket> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    waiters: Arc<Waiters>,
    /// Wakes all waiters.
    waker: Waker,
    clock: Clock,
    keys: Arc<dyn Keys + Send + Sync>,
    timeout: Option<Duration>,
}

struct State<T> {
    connection: CallConnection,
    transport: Transport<T>,
    deadline: Deadline,
    /// The [changes](CallConnection::changes) that all waiters know.
    reported: u32,
}

/// What driving a connection came to.
struct Driven {
    /// What it waits for; [`Step::Yield`] if more can be done at once.
    step: Step,
    /// Something has happened that waiters do not know.
    changed: bool,
}

/// A call that waits, or several of one kind, one after the other.
#[derive(Debug)]
pub(crate) struct Call {
    waiter: Waiter,
    timer: Option<Timer>,
}

impl Connection {
    /// Connects to a server; returns when the handshake is over, as [`over`](Self::over) does.
    ///
    /// # Errors
    /// Every [`CallError`] but [`Send`](CallError::Send), [`Busy`](CallError::Busy) and those of
    /// receiving.
    pub async fn connect(connector: &Connector) -> Result<Self, CallError> {
        let timeout = connector.options().connect_timeout;
        let socket = Socket::connect(connector.address(), timeout).await;
        let transport = Transport::new(socket.map_err(CallError::Connect)?);
        Self::open(transport.with_acknowledge(Socket::acknowledge), connector).await
    }

    /// A connection that a server has accepted and admitted; `None` if it cannot begin. The handshake is
    /// yet to come.
    pub(crate) fn accepted(
        context: &Arc<ServerContext>,
        socket: Socket,
        addr: PeerAddr,
        guard: AdmissionGuard,
    ) -> Option<Self> {
        let (waiters, waker) = waiters();
        let stream = socket.get_ref();
        let connection = CallConnection::accepted(context.clone(), stream, addr, guard, &waker)?;
        let transport = Transport::new(socket).with_acknowledge(Socket::acknowledge);
        let state = Mutex::new(State::new(connection, transport));
        let (keys, clock) = (context.keys().current(), context.options().clock);
        let shared = Arc::new(Shared { state, waiters, waker, clock, keys, timeout: None });
        // The deadline of the handshake holds though no call is made.
        shared.keep_alive_from(time::Instant::now());
        Some(Self { shared })
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection<T> {
    /// A client's connection over `transport`, which is connected already: the address of `connector` is
    /// not used. Closing `transport` must shut its write side, as it does for [`Socket`] and the sockets of
    /// `async-net`, but not for a bare `async_io::Async`.
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
        let (clock, (waiters, waker)) = (Clock::start(), waiters());
        let connection = connector.begin(&waker, clock.now())?;
        let state = Mutex::new(State::new(connection, transport));
        let (keys, timeout) = (connector.keys().clone(), connector.options().timeout);
        let shared = Arc::new(Shared { state, waiters, waker, clock, keys, timeout });
        let connection = Self { shared };
        connection.call(|it, _| it.established()).await?;
        if let Some(at) = connection.shared.keep_alive() {
            connection.shared.keep_alive_from(at);
        }
        Ok(connection)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    /// Calls `look` with the peer, after the handshake.
    ///
    /// # Errors
    /// [`CallError::Protocol`], [`CallError::Io`] and [`CallError::TimedOut`].
    pub async fn peer<R>(&self, look: impl FnOnce(Peer<'_>) -> R) -> Result<R, CallError> {
        let mut look = Some(look);
        self.call(|connection, _| {
            if let Some(Err(error)) = connection.established() {
                return Some(Err(error));
            }
            let peer = connection.peer()?;
            Some(Ok(look.take()?(peer)))
        })
        .await
    }

    /// Sends a message; returns when all of it has left this process, also the buffers of the transport.
    /// In a byte stream an empty one is nothing.
    ///
    /// # Errors
    /// [`CallError::TimedOut`]: the message is still on its way, and leaves while other calls are waiting,
    /// so do not send it again. [`CallError::Busy`]: an earlier message was still on its way, and this one
    /// was not taken. [`CallError::Send`], [`CallError::Protocol`], [`CallError::Io`].
    pub async fn send(&self, message: &[u8]) -> Result<(), CallError> {
        self.transmit(Sending::message(message)).await
    }

    /// Sends the end of our messages. Those of the peer can still be received. Idempotent.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn finish(&self) -> Result<(), CallError> {
        self.transmit(Sending::finish()).await
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
        let (mut sending, mut sent) = (Sending::message(message), false);
        let reply = self.call(|connection, now| {
            if !sent {
                match connection.send(&mut sending) {
                    Some(Ok(())) => sent = true,
                    Some(Err(error)) => return Some(Err(error)),
                    None if sending.is_taken() => {}
                    None => return None,
                }
            }
            connection.recv(now)
        });
        match reply.await {
            Err(CallError::TimedOut) if !sending.is_taken() => Err(CallError::Busy),
            reply => reply?.ok_or(CallError::PeerFinished),
        }
    }

    async fn transmit(&self, mut sending: Sending<'_>) -> Result<(), CallError> {
        match self.call(|connection, _| connection.send(&mut sending)).await {
            Err(CallError::TimedOut) if !sending.is_taken() => Err(CallError::Busy),
            sent => sent,
        }
    }

    async fn call<R>(
        &self,
        mut attempt: impl FnMut(&mut CallConnection, Instant) -> Option<Result<R, CallError>>,
    ) -> Result<R, CallError> {
        let mut call = self.begin_call();
        poll_fn(|cx| self.poll(&mut call, cx, &mut attempt)).await
    }

    /// Drives the connection, and attempts the operation of `call` before and after. What must outlast the
    /// call is in the shared state when this returns.
    pub(crate) fn poll<R>(
        &self,
        call: &mut Call,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&mut CallConnection, Instant) -> Option<Result<R, CallError>>,
    ) -> Poll<Result<R, CallError>> {
        // Registered first, so that no wake-up is missed.
        call.waiter.wait(cx.waker());
        let mut result = None;
        let driven = self.shared.drive(&mut self.shared.state(), |connection, now| {
            if result.is_none() {
                result = attempt(connection, now);
            }
        });
        // Without the lock: tasks that are woken may poll at once.
        if driven.step == Step::Yield {
            // All of them: if this call is done, another one has to go on.
            self.shared.waker.wake_by_ref();
        } else if driven.changed {
            call.waiter.wake_others();
        }
        if let Some(result) = result {
            return Poll::Ready(result);
        }
        match &mut call.timer {
            Some(timer) => Pin::new(timer).poll(cx).map(|_| Err(CallError::TimedOut)),
            None => Poll::Pending,
        }
    }
}

impl<T> Connection<T> {
    /// The handle of a connection that a server has accepted; closing it or aborting it by the handle takes
    /// effect in the next call, or in one that is waiting.
    #[must_use]
    pub fn handle(&self) -> Option<ConnectionHandle> {
        self.shared.state().connection.handle().cloned()
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

    /// A call that begins now.
    pub(crate) fn begin_call(&self) -> Call {
        let Shared { waiters, timeout, .. } = &*self.shared;
        Call { waiter: Waiter::new(waiters), timer: timeout.map(Timer::after) }
    }
}

fn waiters() -> (Arc<Waiters>, Waker) {
    let waiters = Arc::<Waiters>::default();
    (waiters.clone(), waiters.into())
}

impl<T> State<T> {
    fn new(connection: CallConnection, transport: Transport<T>) -> Self {
        Self { connection, transport, deadline: Deadline::new(), reported: 0 }
    }
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Shared<T> {
    /// Polls the connection, with an `attempt` before, so that what it sends is written in the same poll,
    /// and after each poll. Then the transport and the deadline wake all waiters.
    fn drive(
        &self,
        state: &mut State<T>,
        mut attempt: impl FnMut(&mut CallConnection, Instant),
    ) -> Driven {
        let State { connection, transport, deadline, reported } = state;
        let cx = &mut Context::from_waker(&self.waker);
        attempt(connection, self.clock.now());
        for _ in 0..POLLS {
            let now = self.clock.now();
            let step = connection.poll(&mut transport.polled(cx), &*self.keys, now);
            attempt(connection, now);
            let settled = !connection.wants_poll()
                && match step {
                    Step::Yield => false,
                    Step::Wait(it) => deadline.poll(it.until, now, cx).is_pending(),
                    Step::Closed => true,
                };
            if settled {
                let changes = connection.changes();
                return Driven { step, changed: mem::replace(reported, changes) != changes };
            }
        }
        Driven { step: Step::Yield, changed: true }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Shared<T> {
    fn keep_alive_from(self: &Arc<Self>, at: time::Instant) {
        let this: Weak<Self> = Arc::downgrade(self);
        keep_alive(this, at);
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> KeepAlive for Shared<T> {
    fn keep_alive(&self) -> Option<time::Instant> {
        let driven = self.drive(&mut self.state(), |_, _| ());
        if driven.changed {
            self.waker.wake_by_ref();
        }
        let wait = match driven.step {
            Step::Closed => return None,
            Step::Yield => Duration::ZERO,
            Step::Wait(interest) => {
                let wait = interest.until?.saturating_duration_since(self.clock.now());
                if interest.write { wait.min(RETRY) } else { wait }
            }
        };
        time::Instant::now().checked_add(wait)
    }
}

impl<T> fmt::Debug for Connection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("timeout", &self.shared.timeout).finish_non_exhaustive()
    }
}
