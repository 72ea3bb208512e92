//! A server with a thread for each connection.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use countersign_driver::{Service, StreamService};
use countersign_host::{
    Accepted, Acceptor, Address, ConnectionHandle, Incoming, Listener, Messages, ProtocolFactory,
    ServedConnection, ServerContext, ServerHandle, ServerOptions, ServiceFactory, SharedKeys,
    Streams,
};
use tracing::warn;

use crate::connection::Connection;
use crate::runner::drive;
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
#[derive(Debug)]
pub struct Server {
    acceptor: Acceptor,
    /// Wakes the thread that accepts.
    wakeup: Arc<Wakeup>,
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
        let wakeup = Arc::new(Wakeup::new()?);
        let handle = ServerHandle::of_tasks(wakeup.clone().into());
        let context = ServerContext::new(factory, keys.into(), options, handle);
        Ok(Self { acceptor: Acceptor::new(listeners, context), wakeup })
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

    /// Waits for the next connection. Returns `None` when the server stops.
    ///
    /// The handshake runs in the first call on the connection, which also reports that it failed: a
    /// silent client delays only its own connection. A server that stops
    /// [finishes](Connection::finish) each connection when no message is in progress on it.
    pub fn accept(&mut self) -> Option<Connection> {
        loop {
            let Accepted { stream, addr, guard, prepared } = self.accept_next()?;
            let context = self.acceptor.context();
            let accepted = Connection::accepted(context, stream, addr, guard, prepared);
            if accepted.is_some() {
                return accepted;
            }
        }
    }

    /// Serves with a [`Service`] that `create` makes for each connection, until the server is stopped and
    /// the last connection has ended. A call of a service that does not return is waited for.
    pub fn run<S: Service + Send>(&mut self, create: impl Fn(ConnectionHandle) -> S + Send + Sync) {
        let memory = self.acceptor.context().options().message_memory.clone();
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
        let context = self.acceptor.context().clone();
        thread::scope(|scope| {
            while let Some(accepted) = self.accept_next() {
                let addr = accepted.addr;
                let serve = || serve(context.clone(), services, accepted);
                // A service that panics, even when it is dropped, does not end the server.
                let guarded = move || {
                    if catch_unwind(AssertUnwindSafe(serve)).is_err() {
                        warn!(target: "countersign", "ended peer={addr}: its service panicked");
                    }
                };
                let named = thread::Builder::new().name(addr.to_string());
                if let Err(error) = named.spawn_scoped(scope, guarded) {
                    warn!(target: "countersign", "cannot serve peer={addr}: {error}");
                }
            }
        });
    }

    /// The next connection that is admitted; `None` when the server was told to stop. Waits.
    fn accept_next(&mut self) -> Option<Accepted<Wakeup>> {
        let Self { acceptor, wakeup } = self;
        loop {
            match acceptor.poll(Wakeup::new) {
                Incoming::Connection(accepted) => return Some(accepted),
                Incoming::Yield => {}
                Incoming::Wait(until) => {
                    wakeup.wait_for_any(acceptor.empty(), until, acceptor.context().now());
                    acceptor.set_all_ready();
                }
                Incoming::Stopped => return None,
            }
        }
    }
}

/// Serves one connection to its end.
fn serve<F: ServiceFactory>(context: Arc<ServerContext>, services: &F, accepted: Accepted<Wakeup>) {
    let Accepted { stream, addr, guard, prepared } = accepted;
    let (clock, wakeup) = (context.options().clock, Arc::new(prepared));
    let waker = wakeup.clone().into();
    let begun = ServedConnection::begin(context, services, &stream, addr, guard, &waker);
    let Some(mut connection) = begun else { return };
    // Dropped before the connection: its files are closed when it counts no more.
    drop(waker);
    let (stream, wakeup) = (stream, wakeup);
    drive(&stream, &wakeup, clock, |woken| connection.poll(&mut &stream, woken));
}
