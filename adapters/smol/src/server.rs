//! A server with a task for each connection.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_executor::Executor;
use async_io::Async;
use countersign_driver::{Service, StreamService};
use countersign_futures::{Connect, Transport};
use countersign_host::{
    Accepted, Acceptor, Address, AdmissionGuard, ConnectionHandle, Incoming, Listener, Messages,
    PeerAddr, ProtocolFactory, ServedConnection, ServerContext, ServerHandle, ServerOptions,
    ServiceFactory, SharedConnection, SharedKeys, Streams,
};
use futures_lite::future::yield_now;
use tracing::warn;

use crate::Connection;
use crate::connection_task::drive;
use crate::deadline::Deadline;
use crate::notify::Notify;
use crate::socket::Socket;

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
#[derive(Debug)]
pub struct Server {
    acceptor: Acceptor<Async<Listener>>,
    /// Wakes the task that accepts.
    notify: Arc<Notify>,
    /// When a pause of the acceptor ends.
    resume: Deadline,
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
        let listeners = address.parse::<Address>()?.listen(1)?;
        Self::new(listeners, Arc::new(factory), keys, ServerOptions::default())
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
        let notify = Arc::<Notify>::default();
        let handle = ServerHandle::of_tasks(notify.clone().into());
        let context = ServerContext::new(factory, keys.into(), options, handle);
        let listeners =
            listeners.into_iter().map(Async::new_nonblocking).collect::<io::Result<_>>()?;
        Ok(Self { acceptor: Acceptor::new(listeners, context), notify, resume: Deadline::new() })
    }

    /// Stops the server and reaches its connections, from any thread.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.acceptor.context().handle().clone()
    }

    /// Where it listens, with the port that the system chose for port 0; empty once it was stopped.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addresses(&self) -> io::Result<Vec<Address>> {
        self.acceptor.local_addresses()
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
        let memory = self.acceptor.context().options().message_memory.clone();
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
    pub async fn run_with<F: ServiceFactory>(mut self, services: F) {
        let executor = Executor::new();
        let context = self.acceptor.context().clone();
        let accepting = poll_fn(|cx| {
            while let Some((socket, addr, guard)) = ready!(self.poll_accept(cx)) {
                let (notify, clock) = (Arc::<Notify>::default(), context.options().clock);
                let (stream, waker) = (socket.get_ref(), notify.clone().into());
                let context = context.clone();
                let begun =
                    ServedConnection::begin(context, &services, stream, addr, guard, &waker);
                let Some(mut connection) = begun else { continue };
                // Without an async block around it, which would hold the task twice.
                let task = drive(transport(socket), notify, clock, move |io, woken| {
                    connection.poll(io, woken)
                });
                executor.spawn(task).detach();
            }
            Poll::Ready(())
        });
        executor.run(accepting).await;
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
        loop {
            let (socket, addr, guard) = poll_fn(|cx| self.poll_accept(cx)).await?;
            let (context, transport) = (self.acceptor.context(), transport(socket));
            let shared = SharedConnection::accepted(
                context,
                transport,
                |it| it.get_ref().get_ref(),
                addr,
                guard,
            );
            if let Some(shared) = shared {
                return Some(Connection::from(shared));
            }
        }
    }

    /// The next connection that is admitted; `None` when the server was told to stop.
    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(Socket, PeerAddr, AdmissionGuard)>> {
        let Self { acceptor, notify, resume } = self;
        notify.listen(cx);
        loop {
            match acceptor.poll(|| Ok(())) {
                Incoming::Connection(Accepted { stream, addr, guard, .. }) => {
                    match Socket::new(stream) {
                        Ok(socket) => return Poll::Ready(Some((socket, addr, guard))),
                        Err(error) => {
                            warn!(target: "countersign", "cannot serve peer={addr}: {error}");
                        }
                    }
                }
                Incoming::Yield => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Incoming::Wait(until) => {
                    let resumed = resume.poll(until, acceptor.context().now(), cx);
                    let readable = acceptor.poll_ready(|listener| listener.poll_readable(cx));
                    if resumed.is_pending() && readable.is_pending() {
                        return Poll::Pending;
                    }
                }
                Incoming::Stopped => return Poll::Ready(None),
            }
        }
    }
}

fn transport(socket: Socket) -> Transport<Socket> {
    Transport::new(socket).with_acknowledge(Socket::acknowledge)
}
