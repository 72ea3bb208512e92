//! A server: listeners, connections, an orderly stop.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use countersign::Instant;
use countersign_host::{
    Accepted, Acceptor, AdmissionGuard, ConnectionEvent, Listener, Open, PeerAddr, ProtocolFactory,
    ServerContext, ServerHandle, ServerOptions, SharedKeys, Stream,
};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use tracing::{info, warn};

use crate::connections::Connections;

/// Events of one sleep.
const EVENTS: usize = 1024;
/// Connections accepted from one listener before the others have their turn.
const ACCEPTS: usize = 64;
/// For wakes; listeners count down from it.
const WAKE: Token = Token(usize::MAX);

/// A server on one thread.
pub struct Server<O: Open> {
    poll: Poll,
    listeners: Vec<Port>,
    connections: Connections<O::Service, AdmissionGuard>,
    front: ServerContext<O>,
}

struct Port {
    listener: Listener,
    acceptor: Acceptor,
    /// Its last accept did not find it empty.
    ready: bool,
}

impl<O: Open> Server<O> {
    /// A server on `listeners`; [`run`](Self::run) serves. `keys` may be an
    /// `Arc` of any [`Keys`](countersign_driver::Keys).
    ///
    /// # Errors
    /// The system's.
    pub fn new(
        listeners: Vec<Listener>,
        protocol: Arc<dyn ProtocolFactory>,
        keys: impl Into<SharedKeys>,
        open: O,
        options: ServerOptions,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let connections = Connections::new(poll.registry(), WAKE)?;
        let remote = ServerHandle::new(connections.queue().into());
        for (index, listener) in listeners.iter().enumerate() {
            let token = Token(WAKE.0 - 1 - index);
            poll.registry().register(
                &mut SourceFd(&listener.as_raw_fd()),
                token,
                Interest::READABLE,
            )?;
        }
        let listeners = listeners
            .into_iter()
            .map(|listener| Port { listener, acceptor: Acceptor::default(), ready: true })
            .collect();
        Ok(Self {
            poll,
            listeners,
            connections,
            front: ServerContext::new(protocol, keys, open, options, remote),
        })
    }

    /// What stops it.
    #[must_use]
    pub fn remote(&self) -> ServerHandle {
        self.front.remote().clone()
    }

    /// Serves until stopped.
    ///
    /// # Errors
    /// The system's, of the loop itself; no connection's error ends it.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut give_up: Option<Instant> = None;
        let mut keys = self.front.keys().follow();
        loop {
            let now = self.front.now();
            if keys.renew() {
                let revoked = self.connections.revoke(keys.keys(), now);
                info!(target: "countersign", "keys replaced: connections ended for want of their key: {revoked}");
            }
            // No connection is older than it is: its deadlines would be early.
            let now = if self.accept(now) { self.front.now() } else { now };
            let front = &self.front;
            let note = |notice: ConnectionEvent<'_>, guest: &mut AdmissionGuard| {
                front.note(notice, guest, now)
            };
            self.connections.run(keys.keys(), now, note);

            if self.front.remote().is_stopping() && give_up.is_none() {
                give_up = Some(now.saturating_add(self.front.options().stop_timeout));
                self.listeners.clear();
                self.connections.stop();
            }
            if let Some(at) = give_up
                && (self.connections.is_empty() || at <= now)
            {
                self.connections.abandon(note);
                return Ok(());
            }

            match self.poll.poll(&mut events, self.timeout(give_up)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                if self.connections.is_ours(event.token()) {
                    self.connections.ready(event);
                } else if let Some(port) = self.listeners.get_mut(WAKE.0 - 1 - event.token().0) {
                    port.ready = true;
                }
            }
        }
    }

    /// How long to sleep.
    fn timeout(&self, give_up: Option<Instant>) -> Option<Duration> {
        let now = self.front.now();
        let accept = self.listeners.iter().filter(|port| port.ready).map(|port| {
            let pause = port.acceptor.pause();
            pause.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
        });
        let give_up = give_up.map(|at| at.saturating_duration_since(now));
        accept.chain(give_up).chain(self.connections.timeout(now)).min()
    }

    /// Lets in who has come. Whether somebody has.
    fn accept(&mut self, now: Instant) -> bool {
        let mut accepted = false;
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS {
                let port = &mut self.listeners[index];
                if !port.ready {
                    break;
                }
                match port.acceptor.accept(&port.listener, now) {
                    Accepted::Connection(stream, origin) => {
                        accepted = true;
                        self.admit(stream, origin);
                    }
                    Accepted::Nothing => port.ready = false,
                    Accepted::Later(_) => break,
                }
            }
        }
        accepted
    }

    fn admit(&mut self, stream: Stream, origin: PeerAddr) {
        let front = &self.front;
        let now = front.now();
        let Some(guest) = front.admit(&stream, &origin, now) else { return };
        let inserted = self.connections.insert(stream, origin, guest, |wake, stream| {
            front.begin(stream, &origin, wake, now).ok_or(NotInserted(None))
        });
        if let Err(NotInserted(Some(error))) = inserted {
            warn!(target: "countersign", "cannot serve peer={origin}: {error}");
        }
    }
}

/// A connection was not taken; the system's error, unless it was turned away.
struct NotInserted(Option<io::Error>);

impl From<io::Error> for NotInserted {
    fn from(error: io::Error) -> Self {
        Self(Some(error))
    }
}
