//! A server with a task for each connection.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_executor::Executor;
use async_io::{Async, Timer};
use countersign_driver::{Service, StreamService};
use countersign_host::{
    AcceptResult, Acceptor, Address, AdmissionGuard, ConnectionHandle, Listener, Messages,
    PeerAddr, ProtocolFactory, ServedConnection, ServerContext, ServerHandle, ServerOptions,
    ServiceFactory, SharedKeys, Stream, Streams,
};
use futures_lite::future::yield_now;
use tracing::warn;

use crate::connection::Connection;
use crate::connection_task::drive;
use crate::notify::Notify;
use crate::socket::Socket;
use crate::transport::Transport;

/// Connections accepted from one listener before other tasks get their turn.
const ACCEPTS: usize = 64;
/// How long to leave a listener alone that the system cannot wait for.
const PAUSE: Duration = Duration::from_millis(100);

/// A server with a task for each connection, on any executor.
///
/// ```no_run
/// use countersign_smol::{Key, Server, SessionFactory, services::Upper};
///
/// let key = Key::mutual(b"a secret of at least 16 bytes")?;
/// let server = Server::bind("127.0.0.1:9999", SessionFactory::mutual("server")?, key)?;
/// let handle = server.handle(); // stops the server, from any thread
/// smol::block_on(server.run(|_connection| Upper));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Without a service, [`accept`](Self::accept) returns one [`Connection`] after the other:
///
/// ```no_run
/// # async fn run(mut server: countersign_smol::Server) {
/// let executor = smol::Executor::new();
/// executor.run(async {
///     while let Some(connection) = server.accept().await {
///         let serve = async move {
///             while let Some(message) = connection.recv().await? {
///                 connection.send(&message).await?;
///             }
///             connection.finish().await
///         };
///         executor.spawn(serve).detach();
///     }
/// }).await;
/// # }
/// ```
pub struct Server {
    ports: Vec<Port>,
    context: Arc<ServerContext>,
    notify: Notify,
}

/// A listener of a server.
struct Port {
    listener: Async<Listener>,
    acceptor: Acceptor,
    /// The listener is left alone until this fires.
    pause: Option<Timer>,
}

/// A connection that was admitted.
struct Admitted {
    socket: Socket,
    addr: PeerAddr,
    guard: AdmissionGuard,
}

impl Server {
    /// A server at `address` (`host:port`, `[v6]:port`, `unix:/path`), with the default limits. `keys` is
    /// a [`Key`](countersign::Key) or an `Arc` of any [`Keys`](countersign_driver::Keys).
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if `address` is none, and those of the system.
    pub fn bind(
        address: &str,
        factory: impl ProtocolFactory + 'static,
        keys: impl Into<SharedKeys>,
    ) -> io::Result<Self> {
        let address: Address =
            address.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Self::new(address.listen(1)?, Arc::new(factory), keys, ServerOptions::default())
    }

    /// A server on `listeners`.
    ///
    /// # Errors
    /// The system's.
    pub fn new(
        listeners: Vec<Listener>,
        factory: Arc<dyn ProtocolFactory>,
        keys: impl Into<SharedKeys>,
        options: ServerOptions,
    ) -> io::Result<Self> {
        let notify = Notify::default();
        let handle = ServerHandle::of_tasks(notify.waker());
        let context = Arc::new(ServerContext::new(factory, keys.into(), options, handle));
        let ports = listeners.into_iter().map(Port::new).collect::<io::Result<_>>()?;
        Ok(Self { ports, context, notify })
    }

    /// Stops the server and reaches its connections, from any thread.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.context.handle().clone()
    }

    /// Where it listens, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addresses(&self) -> io::Result<Vec<Address>> {
        self.ports.iter().map(|port| port.listener.get_ref().address()).collect()
    }

    /// Serves until it is stopped, with a [`Service`] that `create` makes for each connection.
    ///
    /// Returns when the last connection has ended or was abandoned. The tasks of the connections run
    /// within this future, one at a time, on the executor that polls it; dropping it closes the listeners
    /// and all connections at once, after calling [`on_closed`](Service::on_closed) of each service. To
    /// use several threads, run a server in each, on [listeners](Address::listen) that share an address;
    /// the servers may share a [`ConnectionLimit`](countersign_host::ConnectionLimit),
    /// [`PeerLimits`](countersign_host::PeerLimits), keys and pools.
    ///
    /// A service that panics ends only its own connection.
    pub async fn run<S: Service + Send>(
        self,
        create: impl Fn(ConnectionHandle) -> S + Send + Sync,
    ) {
        let memory = self.context.options().message_memory.clone();
        self.run_with(Messages::new(create, memory)).await;
    }

    /// As [`run`](Self::run), with a [`StreamService`].
    pub async fn run_streams<S: StreamService + Send>(
        self,
        create: impl Fn(ConnectionHandle) -> S + Send + Sync,
    ) {
        self.run_with(Streams(create)).await;
    }

    /// As [`run`](Self::run), with what `services` makes.
    pub async fn run_with<F: ServiceFactory>(self, services: F) {
        let Self { mut ports, context, notify } = self;
        let executor = Executor::new();
        let accepting = poll_fn(|cx| {
            notify.listen(cx);
            if context.handle().is_stopping() {
                return Poll::Ready(());
            }
            for port in &mut ports {
                for accepted in 0.. {
                    if accepted == ACCEPTS {
                        cx.waker().wake_by_ref();
                        break;
                    }
                    match port.poll_accept(&context, cx) {
                        Poll::Ready(Some(admitted)) => {
                            admitted.serve(&services, &context, &executor);
                        }
                        Poll::Ready(None) => {}
                        Poll::Pending => break,
                    }
                }
            }
            Poll::Pending
        });
        executor.run(accepting).await;
        // Clients that connect now are refused, rather than left waiting.
        drop(ports);
        while !executor.is_empty() {
            executor.tick().await;
            yield_now().await;
        }
    }

    /// The next connection; `None`: the server was told to stop. It then listens no more, and calls on
    /// connections that were accepted end them in order, as soon as nothing is in progress on them.
    ///
    /// The handshake runs in the calls on the connection, so a client that is silent holds up no other.
    /// Dropping the future loses no connection.
    pub async fn accept(&mut self) -> Option<Connection> {
        let Self { ports, context, notify } = self;
        poll_fn(|cx| {
            notify.listen(cx);
            if context.handle().is_stopping() {
                ports.clear();
                return Poll::Ready(None);
            }
            for _ in 0..ACCEPTS {
                let mut pending = true;
                for at in 0..ports.len() {
                    let Poll::Ready(admitted) = ports[at].poll_accept(context, cx) else {
                        continue;
                    };
                    pending = false;
                    if let Some(connection) = admitted.and_then(|it| it.connection(context)) {
                        // The other listeners come first next time.
                        ports.rotate_left(at + 1);
                        return Poll::Ready(Some(connection));
                    }
                }
                if pending {
                    return Poll::Pending;
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }
}

impl Port {
    fn new(listener: Listener) -> io::Result<Self> {
        let listener = Async::new_nonblocking(listener)?;
        Ok(Self { listener, acceptor: Acceptor::default(), pause: None })
    }

    /// Accepts a connection; ready with `None` if it was rejected.
    fn poll_accept(
        &mut self,
        context: &ServerContext,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Admitted>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(Pin::new(pause).poll(cx));
                self.pause = None;
            }
            let now = context.now();
            match self.acceptor.accept(self.listener.get_ref(), now) {
                AcceptResult::Connection(stream, addr) => {
                    let admitted = context.admit(&stream, addr, now);
                    return Poll::Ready(
                        admitted.and_then(|guard| Admitted::new(stream, addr, guard)),
                    );
                }
                AcceptResult::Empty => {
                    if ready!(self.listener.poll_readable(cx)).is_err() {
                        self.pause = Some(Timer::after(PAUSE));
                    }
                }
                AcceptResult::Paused(until) => {
                    self.pause = Some(Timer::after(until.saturating_duration_since(now)));
                }
            }
        }
    }
}

impl Admitted {
    fn new(stream: Stream, addr: PeerAddr, guard: AdmissionGuard) -> Option<Self> {
        match Socket::new(stream) {
            Ok(socket) => Some(Self { socket, addr, guard }),
            Err(error) => {
                warn!(target: "countersign", "cannot serve peer={addr}: {error}");
                None
            }
        }
    }

    fn connection(self, context: &Arc<ServerContext>) -> Option<Connection> {
        Connection::accepted(context, self.socket, self.addr, self.guard)
    }

    /// Starts the task of a connection.
    fn serve<'a, F: ServiceFactory + 'a>(
        self,
        services: &F,
        context: &Arc<ServerContext>,
        executor: &Executor<'a>,
    ) {
        let Self { socket, addr, guard } = self;
        let (context, notify) = (context.clone(), Notify::default());
        let clock = context.options().clock;
        let (stream, waker) = (socket.get_ref(), notify.waker());
        let begun = ServedConnection::<F>::begin(context, services, stream, addr, guard, &waker);
        let Some(mut connection) = begun else { return };
        let transport = Transport::new(socket).with_acknowledge(Socket::acknowledge);
        // Without an async block around it, which would hold the task twice.
        let task = drive(transport, notify, clock, move |io, woken| connection.poll(io, woken));
        executor.spawn(task).detach();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("context", &self.context).finish_non_exhaustive()
    }
}
