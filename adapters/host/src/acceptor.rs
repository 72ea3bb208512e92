//! Accepts the connections of a server.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use countersign::Instant;
use rustix::io::Errno;
use tracing::warn;

use crate::address::Address;
use crate::listener::Listener;
use crate::peer_addr::PeerAddr;
use crate::server_context::{AdmissionGuard, ServerContext};
use crate::stream::Stream;

/// Connections accepted before other work gets its turn.
const BATCH: usize = 64;
/// How long to pause when the system has no descriptor or memory left.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts the connections of a server, from its listeners in turn, until the server stops.
///
/// The adapter calls [`poll`](Self::poll), and waits for the listeners when that says so. An `L` is a
/// listener as the adapter waits for it.
#[derive(Debug)]
pub struct Acceptor<L = Listener> {
    ports: Vec<Port<L>>,
    /// The port that was tried last.
    last: usize,
    /// Connections accepted since other work had its turn.
    accepted: usize,
    context: Arc<ServerContext>,
}

/// A listener. No connection is accepted from it while it is empty, and during a pause.
#[derive(Debug)]
struct Port<L> {
    listener: L,
    /// It may have a connection: since the adapter found it readable it was not found empty.
    ready: bool,
    /// No connections are accepted until this instant.
    pause: Option<Instant>,
    /// The shortage was logged.
    warned: bool,
}

/// What [`Acceptor::poll`] came to.
#[derive(Debug)]
pub enum Incoming<R> {
    /// A connection was admitted. There may be more.
    Connection(Accepted<R>),
    /// Many connections were accepted: poll again after other work had its turn.
    Yield,
    /// All listeners are empty or pause: wait for one to be readable, or until this instant. During a pause
    /// connections are in the queue of a listener, for which there may be no further event.
    Wait(Option<Instant>),
    /// The server was told to stop. The listeners are closed.
    Stopped,
}

/// A connection that was accepted and [admitted](ServerContext::admit).
#[derive(Debug)]
pub struct Accepted<R> {
    /// Its socket.
    pub stream: Stream,
    /// Where it comes from.
    pub addr: PeerAddr,
    /// What the server holds for it.
    pub guard: AdmissionGuard,
    /// What the adapter prepared for it.
    pub prepared: R,
}

impl<L: AsRef<Listener>> Acceptor<L> {
    /// Accepts from `listeners` what `context` admits.
    #[must_use]
    pub fn new(listeners: Vec<L>, context: ServerContext) -> Self {
        let port = |listener| Port { listener, ready: true, pause: None, warned: false };
        let ports = listeners.into_iter().map(port).collect();
        Self { ports, last: 0, accepted: 0, context: Arc::new(context) }
    }

    /// The context of the server.
    #[must_use]
    pub const fn context(&self) -> &Arc<ServerContext> {
        &self.context
    }

    /// Where the server listens; empty once it was stopped.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn local_addresses(&self) -> io::Result<Vec<Address>> {
        self.ports.iter().map(|port| port.listener.as_ref().address()).collect()
    }

    /// Accepts the next connection, after `prepare` has made what is needed to serve it: a connection that
    /// is accepted and cannot be served is lost, one that waits is not.
    ///
    /// Pauses a listener for 100 ms when `prepare` fails, or when the system has no descriptor or memory
    /// left.
    pub fn poll<R>(&mut self, mut prepare: impl FnMut() -> io::Result<R>) -> Incoming<R> {
        if self.context.handle().is_stopping() {
            // A connection that will not be served is refused, rather than left waiting.
            self.ports.clear();
            return Incoming::Stopped;
        }
        let now = self.context.now();
        let mut tried = 0;
        while tried < self.ports.len() {
            if self.accepted == BATCH {
                self.accepted = 0;
                // While one listener is never empty the adapter does not wait for the others.
                self.set_all_ready();
                return Incoming::Yield;
            }
            self.last = (self.last + 1) % self.ports.len();
            tried += 1;
            if let Some((stream, addr, prepared)) = self.ports[self.last].accept(&mut prepare, now)
            {
                self.accepted += 1;
                tried = 0;
                if let Some(guard) = self.context.admit(&stream, addr, now) {
                    return Incoming::Connection(Accepted { stream, addr, guard, prepared });
                }
            }
        }
        self.accepted = 0;
        Incoming::Wait(self.ports.iter().filter_map(|port| port.pause).min())
    }

    /// The listeners that were found empty.
    pub fn empty(&self) -> impl Iterator<Item = &L> {
        self.ports.iter().filter(|port| !port.ready).map(|port| &port.listener)
    }

    /// Reports that the listener with this index is readable.
    pub fn set_ready(&mut self, index: usize) {
        if let Some(port) = self.ports.get_mut(index) {
            port.ready = true;
        }
    }

    /// Reports that any listener may be readable.
    pub fn set_all_ready(&mut self) {
        self.ports.iter_mut().for_each(|port| port.ready = true);
    }

    /// Asks `poll_readable` of each listener that was found empty. Ready: call [`poll`](Self::poll) again.
    pub fn poll_ready(
        &mut self,
        mut poll_readable: impl FnMut(&L) -> Poll<io::Result<()>>,
    ) -> Poll<()> {
        let now = self.context.now();
        let mut polled = Poll::Pending;
        for port in self.ports.iter_mut().filter(|port| !port.ready) {
            if let Poll::Ready(result) = poll_readable(&port.listener) {
                polled = Poll::Ready(());
                port.ready = true;
                if let Err(error) = result {
                    port.pause_for(&error, now);
                }
            }
        }
        polled
    }
}

/// Whether a connection has failed before it was accepted, so that the next one may be accepted: Linux
/// reports its pending network errors. Other errors are most likely those of a system without descriptors
/// or memory.
fn is_of_connection(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| {
        matches!(
            errno,
            Errno::INTR
                | Errno::CONNABORTED
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::PERM
        )
    })
}

impl<L: AsRef<Listener>> Port<L> {
    fn accept<R>(
        &mut self,
        prepare: impl FnOnce() -> io::Result<R>,
        now: Instant,
    ) -> Option<(Stream, PeerAddr, R)> {
        if !self.ready || self.pause.is_some_and(|until| now < until) {
            return None;
        }
        self.pause = None;
        let prepared = prepare().map_err(|error| self.pause_for(&error, now)).ok()?;
        let mut failed = 0;
        loop {
            let error = match self.listener.as_ref().accept() {
                Ok((stream, addr)) => {
                    self.warned = false;
                    return Some((stream, addr, prepared));
                }
                Err(error) => error,
            };
            if error.kind() == ErrorKind::WouldBlock {
                self.ready = false;
                return None;
            }
            failed += 1;
            // A bound, in case that the error is one of the listener after all.
            if !is_of_connection(&error) || failed == BATCH {
                self.pause_for(&error, now);
                return None;
            }
        }
    }

    fn pause_for(&mut self, error: &io::Error, now: Instant) {
        if !std::mem::replace(&mut self.warned, true) {
            warn!(target: "countersign", "cannot accept connections, retrying: {error}: raise the limit of open files (`ulimit -n`), or allow fewer connections");
        }
        self.pause = Some(now.saturating_add(PAUSE));
    }
}
