//! A server with a thread for each connection.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use countersign_driver::{Service, StreamService};
use countersign_host::{
    AcceptResult, Acceptor, Address, AdmissionGuard, ConnectionHandle, Listener, Messages,
    PeerAddr, ProtocolFactory, ServedConnection, ServerContext, ServerHandle, ServerOptions,
    ServiceFactory, SharedKeys, Step, Stream, Streams,
};
use tracing::warn;

use crate::connection::Connection;
use crate::wakeup::Wakeup;

/// A server with a thread for each connection, so that a service may take its time.
///
/// There are at most as many threads as [`ServerOptions::connection_limit`] allows connections, and each
/// connection has two files open.
///
/// ```no_run
/// use countersign_std::{Context, Key, Server, Service, ServiceError, SessionFactory};
///
/// struct Echo;
///
/// impl Service for Echo {
///     fn on_message(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), ServiceError> {
///         Ok(cx.send(message)?)
///     }
/// }
///
/// let key = Key::mutual(b"a key of 16 bytes or more")?;
/// let mut server = Server::bind("127.0.0.1:9999", SessionFactory::mutual("server")?, key)?;
/// let handle = server.handle(); // stops the server, from any thread
/// server.run(|_connection| Echo);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Without a service, the application accepts connections and calls them:
///
/// ```no_run
/// use std::thread;
///
/// use countersign_std::{CallError, Connection, Key, Server, SessionFactory};
///
/// fn serve(connection: &Connection) -> Result<(), CallError> {
///     while let Some(message) = connection.recv()? {
///         connection.send(&message)?;
///     }
///     connection.finish()
/// }
///
/// let key = Key::mutual(b"a key of 16 bytes or more")?;
/// let mut server = Server::bind("127.0.0.1:9999", SessionFactory::mutual("server")?, key)?;
/// while let Some(connection) = server.accept() {
///     thread::spawn(move || serve(&connection));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    ports: Ports,
    context: Arc<ServerContext>,
}

/// The listeners of a server.
struct Ports {
    listeners: Vec<(Listener, Acceptor)>,
    /// The listener that is tried first.
    next: usize,
    wakeup: Arc<Wakeup>,
    /// For the next connection.
    spare: Option<Wakeup>,
}

/// A connection that was admitted.
struct Accepted {
    stream: Stream,
    addr: PeerAddr,
    guard: AdmissionGuard,
    wakeup: Wakeup,
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
        let wakeup = Arc::new(Wakeup::new()?);
        let handle = ServerHandle::of_tasks(wakeup.clone().into());
        let context = Arc::new(ServerContext::new(factory, keys.into(), options, handle));
        let listeners = listeners.into_iter().map(|it| (it, Acceptor::default())).collect();
        Ok(Self { ports: Ports { listeners, next: 0, wakeup, spare: None }, context })
    }

    /// Stops the server and reaches its connections, from any thread.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.context.handle().clone()
    }

    /// Where it listens, with the port that the system chose for port 0; empty once it was stopped.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addresses(&self) -> io::Result<Vec<Address>> {
        self.ports.listeners.iter().map(|(listener, _)| listener.address()).collect()
    }

    /// The next connection; `None` when the server was told to stop. Waits.
    ///
    /// The handshake runs in the first call on the connection, which also reports that it failed: a
    /// client that is silent holds up its own connection alone. A server that is told to stop
    /// [finishes](Connection::finish) each connection when no message is in progress on it.
    pub fn accept(&mut self) -> Option<Connection> {
        loop {
            let Accepted { stream, addr, guard, wakeup } = self.ports.accept(&self.context)?;
            let accepted = Connection::accepted(&self.context, stream, addr, guard, wakeup);
            if accepted.is_some() {
                return accepted;
            }
        }
    }

    /// Serves with a [`Service`] that `create` makes for each connection, until the server is stopped and
    /// the last connection has ended. A call of a service that does not return is waited for.
    pub fn run<S: Service + Send>(&mut self, create: impl Fn(ConnectionHandle) -> S + Send + Sync) {
        let memory = self.context.options().message_memory.clone();
        self.run_with(&Messages::new(create, memory));
    }

    /// As [`run`](Self::run), with a [`StreamService`].
    pub fn run_streams<S: StreamService + Send>(
        &mut self,
        create: impl Fn(ConnectionHandle) -> S + Send + Sync,
    ) {
        self.run_with(&Streams(create));
    }

    /// As [`run`](Self::run), with what `services` makes.
    pub fn run_with<F: ServiceFactory>(&mut self, services: &F) {
        let Self { ports, context } = self;
        thread::scope(|scope| {
            while let Some(accepted) = ports.accept(context) {
                let addr = accepted.addr;
                let named = thread::Builder::new().name(addr.to_string());
                let serve = || serve_guarded(context.clone(), services, accepted);
                if let Err(error) = named.spawn_scoped(scope, serve) {
                    warn!(target: "countersign", "cannot serve peer={addr}: {error}");
                }
            }
        });
    }
}

impl Ports {
    /// The next connection that is admitted; `None` when the server was told to stop. Waits.
    fn accept(&mut self, context: &ServerContext) -> Option<Accepted> {
        while !context.handle().is_stopping() {
            if let Some(accepted) = self.try_accept(context) {
                return Some(accepted);
            }
            let paused = self.listeners.iter().filter_map(|(_, acceptor)| acceptor.pause()).min();
            let open = self.listeners.iter().filter(|(_, acceptor)| acceptor.pause().is_none());
            self.wakeup.wait_for_any(open.map(|(listener, _)| listener), paused, context.now());
        }
        // A connection that will not be served is not to wait.
        self.listeners.clear();
        None
    }

    /// A connection of the listeners in rotation, if one waits.
    fn try_accept(&mut self, context: &ServerContext) -> Option<Accepted> {
        let count = self.listeners.len();
        for index in (self.next..count).chain(0..self.next.min(count)) {
            let (listener, acceptor) = &mut self.listeners[index];
            let now = context.now();
            // First: a connection that is accepted and cannot be served is lost; one that waits is not.
            let wakeup = match self.spare.take().map_or_else(Wakeup::new, Ok) {
                Ok(wakeup) => wakeup,
                Err(error) => {
                    acceptor.pause_for(&error, now);
                    continue;
                }
            };
            if let AcceptResult::Connection(stream, addr) = acceptor.accept(listener, now) {
                self.next = index + 1;
                if let Some(guard) = context.admit(&stream, addr, now) {
                    return Some(Accepted { stream, addr, guard, wakeup });
                }
            }
            self.spare = Some(wakeup);
        }
        None
    }
}

/// Serves one connection. A service that panics, even when it is dropped, does not end the server.
fn serve_guarded<F: ServiceFactory>(context: Arc<ServerContext>, services: &F, it: Accepted) {
    let addr = it.addr;
    if catch_unwind(AssertUnwindSafe(|| serve(context, services, it))).is_err() {
        warn!(target: "countersign", "ended peer={addr}: its service panicked");
    }
}

/// Serves one connection to its end.
fn serve<F: ServiceFactory>(context: Arc<ServerContext>, services: &F, accepted: Accepted) {
    let Accepted { stream, addr, guard, wakeup } = accepted;
    let (clock, wakeup) = (context.options().clock, Arc::new(wakeup));
    let begun = {
        let waker = wakeup.clone().into();
        ServedConnection::begin(context, services, &stream, addr, guard, &waker)
    };
    let Some(mut connection) = begun else { return };
    // Dropped before the connection: its files are closed when it counts no more.
    let (stream, wakeup) = (stream, wakeup);
    loop {
        match connection.poll(&mut &stream) {
            Step::Yield => {}
            Step::Wait(interest) => {
                if wakeup.wait(Some(&stream), interest, clock.now()) {
                    connection.wake();
                }
            }
            Step::Closed => return,
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("context", &self.context).finish_non_exhaustive()
    }
}
