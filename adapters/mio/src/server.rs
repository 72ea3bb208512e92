//! A server: listeners, connections, an orderly stop.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use countersign::Instant;
use countersign_driver::{Service, StreamService};
use countersign_host::{
    AcceptResult, Acceptor, Address, AdmissionGuard, ConnectionEvent, ConnectionHandle,
    ConnectionWaker, Listener, Messages, PeerAddr, ProtocolFactory, ServerContext, ServerHandle,
    ServerOptions, ServiceFactory, SharedKeys, Stream, Streams, WakeQueue,
};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use tracing::{info, warn};

use crate::connections::Connections;
use crate::wake_queue::wake_queue;

/// Events of one sleep.
const EVENTS: usize = 1024;
/// Connections accepted from one listener before others get their turn.
const ACCEPTS: usize = 64;
/// The token of wake-ups; listeners count down from it.
const WAKE: Token = Token(usize::MAX);

/// A server on one thread.
///
/// ```no_run
/// use countersign_mio::{Context, Key, Server, Service, ServiceError, SessionFactory};
///
/// struct Echo;
///
/// impl Service for Echo {
///     fn on_message(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), ServiceError> {
///         Ok(cx.send(message)?)
///     }
/// }
///
/// let key = Key::mutual(b"a secret of at least 16 bytes")?;
/// let mut server = Server::bind("127.0.0.1:9999", SessionFactory::mutual("server")?, key)?;
/// let handle = server.handle(); // stops the server, from any thread
/// server.run(|_connection| Echo)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    poll: Poll,
    wakes: Arc<WakeQueue>,
    listeners: Vec<Port>,
    context: ServerContext,
}

/// A listener of a server.
struct Port {
    listener: Listener,
    acceptor: Acceptor,
    /// The last accept did not find it empty.
    ready: bool,
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
        let poll = Poll::new()?;
        let wakes = wake_queue(poll.registry(), WAKE)?;
        for (index, listener) in listeners.iter().enumerate() {
            let source = listener.as_raw_fd();
            let token = Token(WAKE.0 - 1 - index);
            poll.registry().register(&mut SourceFd(&source), token, Interest::READABLE)?;
        }
        let listeners = listeners
            .into_iter()
            .map(|listener| Port { listener, acceptor: Acceptor::default(), ready: true })
            .collect();
        let handle = ServerHandle::of_loop(wakes.clone());
        let context = ServerContext::new(factory, keys.into(), options, handle);
        Ok(Self { poll, wakes, listeners, context })
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
        self.listeners.iter().map(|port| port.listener.address()).collect()
    }

    /// Serves until it is stopped, with a [`Service`] that `create` makes for each connection.
    ///
    /// # Errors
    /// The system's, of the loop itself. Errors of a connection end only that connection.
    pub fn run<S: Service + Send>(
        &mut self,
        create: impl Fn(ConnectionHandle) -> S + Send + Sync,
    ) -> io::Result<()> {
        let memory = self.context.options().message_memory.clone();
        self.run_with(&Messages::new(create, memory))
    }

    /// As [`run`](Self::run), with a [`StreamService`].
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_streams<S: StreamService + Send>(
        &mut self,
        create: impl Fn(ConnectionHandle) -> S + Send + Sync,
    ) -> io::Result<()> {
        self.run_with(&Streams(create))
    }

    /// As [`run`](Self::run), with what `services` makes.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_with<F: ServiceFactory>(&mut self, services: &F) -> io::Result<()> {
        let mut connections =
            Connections::with_wakes(self.poll.registry(), WAKE, self.wakes.clone())?;
        let mut events = Events::with_capacity(EVENTS);
        let mut give_up: Option<Instant> = None;
        let mut keys = self.context.keys().watch();
        loop {
            let now = self.context.now();
            if keys.refresh() {
                let revoked = connections.revoke(keys.keys(), now);
                info!(target: "countersign", "keys replaced: ended {revoked} connections whose key was removed");
            }
            // A connection that was accepted meanwhile is not older than it is.
            let accepted = self.accept(&mut connections, services, now);
            let now = if accepted { self.context.now() } else { now };
            let context = &self.context;
            let record = |event: ConnectionEvent<'_>, guard: &mut AdmissionGuard| {
                context.record(event, guard, now);
            };
            connections.run(keys.keys(), now, record);

            if context.handle().is_stopping() && give_up.is_none() {
                give_up = Some(now.saturating_add(context.options().stop_timeout));
                self.listeners.clear();
                connections.stop();
            }
            if give_up.is_some_and(|at| connections.is_empty() || at <= now) {
                connections.abandon(record);
                return Ok(());
            }

            let timeout = self.timeout(&connections, give_up);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                if connections.is_ours(event.token()) {
                    connections.handle_event(event);
                } else if let Some(port) = self.listeners.get_mut(WAKE.0 - 1 - event.token().0) {
                    port.ready = true;
                }
            }
        }
    }

    /// How long to sleep.
    fn timeout<S: StreamService>(
        &self,
        connections: &Connections<S, AdmissionGuard>,
        give_up: Option<Instant>,
    ) -> Option<Duration> {
        let now = self.context.now();
        let accept = self.listeners.iter().filter(|port| port.ready).map(|port| {
            let pause = port.acceptor.pause();
            pause.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
        });
        let give_up = give_up.map(|at| at.saturating_duration_since(now));
        accept.chain(give_up).chain(connections.timeout(now)).min()
    }

    /// Accepts the connections that wait. Returns whether there were any.
    fn accept<F: ServiceFactory>(
        &mut self,
        connections: &mut Connections<F::Service, AdmissionGuard>,
        services: &F,
        now: Instant,
    ) -> bool {
        let Self { listeners, context, .. } = self;
        let mut accepted = false;
        for port in listeners {
            for _ in 0..ACCEPTS {
                if !port.ready {
                    break;
                }
                match port.acceptor.accept(&port.listener, now) {
                    AcceptResult::Connection(stream, addr) => {
                        accepted = true;
                        admit(context, connections, services, stream, addr);
                    }
                    AcceptResult::Empty => port.ready = false,
                    AcceptResult::Paused(_) => break,
                }
            }
        }
        accepted
    }
}

/// Admits a connection and adds it.
fn admit<F: ServiceFactory>(
    context: &ServerContext,
    connections: &mut Connections<F::Service, AdmissionGuard>,
    services: &F,
    stream: Stream,
    addr: PeerAddr,
) {
    let Some(guard) = context.admit(&stream, addr, context.now()) else { return };
    let inserted = connections.insert_with(stream, guard, |token, stream, guard| {
        let waker = ConnectionWaker::Queued(token.0);
        context.begin(services, stream, addr, guard, waker).ok_or(NotInserted(None))
    });
    if let Err(NotInserted(Some(error))) = inserted {
        warn!(target: "countersign", "cannot serve peer={addr}: {error}");
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("context", &self.context).finish_non_exhaustive()
    }
}

/// A connection was not added: the error of the system, unless it was rejected.
struct NotInserted(Option<io::Error>);

impl From<io::Error> for NotInserted {
    fn from(error: io::Error) -> Self {
        Self(Some(error))
    }
}
