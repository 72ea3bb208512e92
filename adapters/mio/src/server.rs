//! A server: listeners, connections, an orderly stop.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use countersign::Instant;
use countersign_driver::{Service, StreamService};
use countersign_host::{
    Accepted, Acceptor, Address, AdmissionGuard, ConnectionEvent, ConnectionHandle,
    ConnectionWaker, Incoming, Listener, Messages, ProtocolFactory, ServerContext, ServerHandle,
    ServerOptions, ServiceFactory, SharedKeys, Streams, WakeQueue,
};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use tracing::{info, warn};

use crate::connections::Connections;
use crate::wake_queue::wake_queue;

/// Events of one sleep.
const EVENTS: usize = 1024;
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
#[derive(Debug)]
pub struct Server {
    poll: Poll,
    /// Opened with the server: clients may take all descriptors before it runs.
    registry: Arc<Registry>,
    wakes: Arc<WakeQueue>,
    acceptor: Acceptor,
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
        let poll = Poll::new()?;
        let registry = Arc::new(poll.registry().try_clone()?);
        let wakes = wake_queue(&registry, WAKE)?;
        for (index, listener) in listeners.iter().enumerate() {
            let (fd, token) = (listener.as_raw_fd(), Token(WAKE.0 - 1 - index));
            registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        }
        let handle = ServerHandle::of_loop(wakes.clone());
        let context = ServerContext::new(factory, keys.into(), options, handle);
        Ok(Self { poll, registry, wakes, acceptor: Acceptor::new(listeners, context) })
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
    /// # Errors
    /// The system's, of the loop itself. Errors of a connection end only that connection.
    pub fn run<S: Service + Send>(
        &mut self,
        create: impl Fn(ConnectionHandle) -> S + Send + Sync,
    ) -> io::Result<()> {
        let memory = self.acceptor.context().options().message_memory.clone();
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
            Connections::with_wakes(self.registry.clone(), WAKE, self.wakes.clone());
        let mut events = Events::with_capacity(EVENTS);
        let mut give_up: Option<Instant> = None;
        let context = self.acceptor.context().clone();
        let mut keys = context.keys().watch();
        loop {
            let wake_at = loop {
                match self.acceptor.poll(|| Ok(())) {
                    Incoming::Connection(Accepted { stream, addr, guard, .. }) => {
                        let inserted =
                            connections.insert_with(stream, guard, |token, it, guard| {
                                let waker = ConnectionWaker::Queued(token.0);
                                // No error: it was rejected, and that was logged.
                                context.begin(services, it, addr, guard, waker).ok_or(None)
                            });
                        if let Err(Some::<io::Error>(error)) = inserted {
                            warn!(target: "countersign", "cannot serve peer={addr}: {error}");
                        }
                    }
                    Incoming::Yield => break Some(context.now()),
                    Incoming::Wait(until) => break until,
                    Incoming::Stopped if give_up.is_some() => break give_up,
                    Incoming::Stopped => {
                        let timeout = context.options().stop_timeout;
                        give_up = Some(context.now().saturating_add(timeout));
                        connections.stop();
                    }
                }
            };
            // After accepting: no connection begins later than this.
            let now = context.now();
            if keys.refresh() {
                let revoked = connections.revoke(keys.keys(), now);
                info!(target: "countersign", "keys replaced: ended {revoked} connections whose key was removed");
            }
            let record = |event: ConnectionEvent<'_>, guard: &mut AdmissionGuard| {
                context.record(event, guard, now);
            };
            connections.run(keys.keys(), now, record);
            if give_up.is_some_and(|at| connections.is_empty() || at <= now) {
                connections.abandon(record);
                return Ok(());
            }

            let now = context.now();
            let wake = wake_at.map(|at| at.saturating_duration_since(now));
            let timeout = wake.into_iter().chain(connections.timeout(now)).min();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                if connections.is_ours(event.token()) {
                    connections.handle_event(event);
                } else {
                    self.acceptor.set_ready(WAKE.0 - 1 - event.token().0);
                }
            }
        }
    }
}
