//! A server: listeners, connections, an orderly stop.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign::Instant;
use countersign_drive::{
    Attempt, Clock, Failure, Gate, Listener, Open, Origin, Permit, Protocol, SharedKeys,
    SourceOptions, Sources, Stream, log_end, log_established, log_refused,
};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use tracing::{info, warn};

use crate::connections::{Connections, Ended, Notice};
use crate::wake::Queue;

/// Events of one sleep.
const EVENTS: usize = 1024;
/// Connections accepted from one listener before the others have their turn.
const ACCEPTS: usize = 64;
/// How long to leave a listener alone when the system has no descriptor or memory left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// For wakes; listeners count down from it.
const WAKE: Token = Token(usize::MAX);

/// What a server is made of, beside its listeners and its service.
#[derive(Clone)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Connections at once; one more is closed as soon as it is accepted. Servers in several
    /// threads may share a clone.
    pub gate: Gate,
    /// What one address may cost before it has authenticated. May be shared, if the clock is.
    pub sources: Sources,
    /// What the server counts time by.
    pub clock: Clock,
    /// How long what is under way may take after a [`Remote::stop`].
    pub stop_timeout: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            gate: Gate::new(10_000),
            sources: Sources::new(SourceOptions::default()),
            clock: Clock::start(),
            stop_timeout: Duration::from_secs(10),
        }
    }
}

/// A server on one thread.
pub struct Server<O: Open> {
    poll: Poll,
    listeners: Vec<Port>,
    connections: Connections<O::Service, Held>,
    protocol: Arc<dyn Protocol>,
    keys: SharedKeys,
    open: O,
    options: ServerOptions,
    stopping: Arc<AtomicBool>,
}

struct Port {
    listener: Listener,
    /// Its last accept did not find it empty.
    ready: bool,
    /// Not to be tried before.
    pause: Option<Instant>,
    /// The log has it that accepting fails.
    warned: bool,
}

/// Speaks to a [`Server`] that runs, from any thread.
#[derive(Clone)]
pub struct Remote {
    stopping: Arc<AtomicBool>,
    queue: Arc<Queue>,
}

impl Remote {
    /// Its [`SharedKeys`] were replaced: the server looks now, and ends the connections that were
    /// authenticated by a key that is gone. Without this it looks when next something happens.
    pub fn keys_changed(&self) {
        self.queue.rouse();
    }

    /// No more connections are accepted; those there are end once nothing is under way on them,
    /// and [`Server::run`] returns.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.queue.rouse();
    }
}

impl<O: Open> Server<O> {
    /// A server on `listeners`; [`run`](Self::run) serves. `keys` may be an
    /// `Arc` of any [`Keys`](countersign_drive::Keys).
    ///
    /// # Errors
    /// The system's.
    pub fn new(
        listeners: Vec<Listener>,
        protocol: Arc<dyn Protocol>,
        keys: impl Into<SharedKeys>,
        open: O,
        options: ServerOptions,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let connections = Connections::new(poll.registry(), WAKE)?;
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
            .map(|listener| Port { listener, ready: true, pause: None, warned: false })
            .collect();
        Ok(Self {
            poll,
            listeners,
            connections,
            protocol,
            keys: keys.into(),
            open,
            options,
            stopping: Arc::default(),
        })
    }

    /// What stops it.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote { stopping: self.stopping.clone(), queue: self.connections.queue() }
    }

    /// Serves until stopped.
    ///
    /// # Errors
    /// The system's, of the loop itself; no connection's error ends it.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut give_up: Option<Instant> = None;
        let mut generation = self.keys.generation();
        let mut keys = self.keys.current();
        loop {
            let now = self.options.clock.now();
            if self.keys.generation() != generation {
                // In this order: keys that are replaced in between are looked at twice.
                generation = self.keys.generation();
                keys = self.keys.current();
                let revoked = self.connections.revoke(&*keys, now);
                info!(target: "countersign", "keys replaced: connections ended for want of their key: {revoked}");
            }
            self.accept(now);
            let name = self.protocol.name();
            let note = |notice: Notice<'_>, held: &mut Held| match notice {
                Notice::Established { origin, peer } => {
                    held.attempt = None;
                    log_established(&origin, name, &peer);
                }
                Notice::Ended(Ended { origin, established, how }) => {
                    log_end(&origin, name, established, &how);
                    if let (Some(attempt), Err(Failure::Protocol(error))) =
                        (held.attempt.take(), &how)
                        && error.is_refusal()
                    {
                        attempt.failed(now);
                    }
                }
            };
            self.connections.run(&*keys, now, note);

            if self.stopping.load(Ordering::Acquire) && give_up.is_none() {
                give_up = Some(now.saturating_add(self.options.stop_timeout));
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
        let now = self.options.clock.now();
        let accept =
            self.listeners.iter().filter(|port| port.ready).map(|port| {
                port.pause.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
            });
        let give_up = give_up.map(|at| at.saturating_duration_since(now));
        accept.chain(give_up).chain(self.connections.timeout(now)).min()
    }

    fn accept(&mut self, now: Instant) {
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS {
                let port = &mut self.listeners[index];
                if !port.ready || port.pause.is_some_and(|until| now < until) {
                    break;
                }
                port.pause = None;
                match port.listener.accept() {
                    Ok((stream, origin)) => {
                        port.warned = false;
                        self.admit(stream, origin, now);
                    }
                    Err(error) => match error.kind() {
                        io::ErrorKind::WouldBlock => port.ready = false,
                        // The connection was gone before we took it.
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                        // No descriptor or memory, most likely. The connection stays in the
                        // system's queue, and no further edge will tell of it.
                        _ => {
                            port.pause = Some(now.saturating_add(ACCEPT_PAUSE));
                            if !std::mem::replace(&mut port.warned, true) {
                                warn!(target: "countersign", "cannot accept, trying on: {error}: if files are short, raise `ulimit -n` or allow fewer connections");
                            }
                        }
                    },
                }
            }
        }
    }

    fn admit(&mut self, stream: Stream, origin: Origin, now: Instant) {
        let protocol = &*self.protocol;
        let turn_away = |stream: &Stream, reason| {
            // A new socket has room for a word; if not, it closes without one.
            let _ = stream.write(protocol.busy());
            log_refused(&origin, protocol.name(), reason);
        };
        let attempt = match self.options.sources.begin(&origin, now) {
            Ok(attempt) => attempt,
            Err(limited) => {
                turn_away(&stream, limited.code());
                return;
            }
        };
        let Some(permit) = self.options.gate.enter() else {
            turn_away(&stream, "overload");
            return;
        };
        let held = Held { attempt: Some(attempt), _permit: permit };
        let open = &self.open;
        let inserted = self.connections.insert(stream, origin, held, |wake, stream| match protocol
            .server(wake, now)
        {
            Ok(machine) => Ok((machine, open.open(&origin, wake.clone()))),
            Err(error) => {
                turn_away(stream, error.code());
                Err(NotInserted(None))
            }
        });
        if let Err(NotInserted(Some(error))) = inserted {
            warn!(target: "countersign", "cannot serve peer={origin}: {error}");
        }
    }
}

/// What a connection holds besides itself.
struct Held {
    /// Until it is established.
    attempt: Option<Attempt>,
    _permit: Permit,
}

/// A connection was not taken; the system's error, unless it was turned away.
struct NotInserted(Option<io::Error>);

impl From<io::Error> for NotInserted {
    fn from(error: io::Error) -> Self {
        Self(Some(error))
    }
}
