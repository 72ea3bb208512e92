//! What every server does with a connection, however it waits for it.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use countersign::Instant;
use tracing::warn;

use crate::clock::Clock;
use crate::connection_limit::{ConnectionLimit, ConnectionPermit};
use crate::log::{log_end, log_established, log_refused};
use crate::monitored_connection::{ConnectionEvent, Ended, MonitoredConnection, Next};
use crate::net::{Listener, PeerAddr, Stream};
use crate::peer_limits::{HandshakePermit, PeerLimitOptions, PeerLimits};
use crate::session_factory::{BoxedProtocol, Open, ProtocolFactory, StartError};
use crate::shared_keys::{KeysWatcher, SharedKeys};
use countersign_driver::Io;
use countersign_driver::{Failure, Wait};

/// How long to leave a listener alone when the system has no descriptor or memory left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a server is made of, beside its listeners and its service.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Connections at once; one more is closed as soon as it is accepted. Servers in several
    /// threads may share a clone.
    pub gate: ConnectionLimit,
    /// What one address may cost before it has authenticated. May be shared, if the clock is.
    pub sources: PeerLimits,
    /// What the server counts time by.
    pub clock: Clock,
    /// How long what is under way may take once the server is told to stop.
    pub stop_timeout: Duration,
}

impl Default for ServerOptions {
    /// 10,000 connections, and 10 s to stop.
    fn default() -> Self {
        Self {
            gate: ConnectionLimit::new(10_000),
            sources: PeerLimits::new(PeerLimitOptions::default()),
            clock: Clock::start(),
            stop_timeout: Duration::from_secs(10),
        }
    }
}

/// Lets connections in, makes what runs on them, and writes what is to be known of them.
pub struct ServerContext<O> {
    protocol: Arc<dyn ProtocolFactory>,
    keys: SharedKeys,
    open: O,
    options: ServerOptions,
    remote: ServerHandle,
}

/// What a server holds for a connection as long as its socket is open.
#[derive(Debug)]
pub struct AdmissionGuard {
    /// Until it is established.
    attempt: Option<HandshakePermit>,
    _permit: ConnectionPermit,
}

impl<O: Open> ServerContext<O> {
    /// The front of a server that speaks `protocol`, runs what `open` makes, and does as `remote`
    /// says.
    pub fn new(
        protocol: Arc<dyn ProtocolFactory>,
        keys: impl Into<SharedKeys>,
        open: O,
        options: ServerOptions,
        remote: ServerHandle,
    ) -> Self {
        Self { protocol, keys: keys.into(), open, options, remote }
    }

    /// Who answers key requests.
    pub fn keys(&self) -> &SharedKeys {
        &self.keys
    }

    /// How the server was configured.
    pub fn options(&self) -> &ServerOptions {
        &self.options
    }

    /// What speaks to the server.
    pub fn remote(&self) -> &ServerHandle {
        &self.remote
    }

    /// Now, by the server's clock.
    pub fn now(&self) -> Instant {
        self.options.clock.now()
    }

    /// Lets a connection in that was accepted, or turns it away with a word and a line in the log.
    pub fn admit(
        &self,
        stream: &Stream,
        origin: &PeerAddr,
        now: Instant,
    ) -> Option<AdmissionGuard> {
        let attempt = match self.options.sources.begin(origin, now) {
            Ok(attempt) => attempt,
            Err(limited) => {
                self.reject(stream, origin, limited.code());
                return None;
            }
        };
        let Some(permit) = self.options.gate.enter() else {
            self.reject(stream, origin, "overload");
            return None;
        };
        Some(AdmissionGuard { attempt: Some(attempt), _permit: permit })
    }

    /// The machine and the service of a connection that was let in; `None` if it cannot begin, or
    /// making them panicked, and it was turned away.
    pub fn begin(
        &self,
        stream: &Stream,
        origin: &PeerAddr,
        wake: &Waker,
        now: Instant,
    ) -> Option<(BoxedProtocol, O::Service)> {
        // Nothing that a panic may have left half done is used again: a machine and a service.
        let begun = catch_unwind(AssertUnwindSafe(|| {
            let machine = self.protocol.server(wake, now)?;
            Ok((machine, self.open.open(origin, wake.clone())))
        }));
        let reason = match begun {
            Ok(Ok(begun)) => return Some(begun),
            Ok(Err(error)) => StartError::code(&error),
            Err(_) => "panicked",
        };
        self.reject(stream, origin, reason);
        None
    }

    fn reject(&self, stream: &Stream, origin: &PeerAddr, reason: &str) {
        // A new socket has room for a word; if not, it closes without one.
        let _ = stream.write(self.protocol.busy());
        log_refused(origin, self.protocol.name(), reason);
    }

    /// Takes note of what there is to tell of a connection.
    pub fn note(&self, notice: ConnectionEvent<'_>, guest: &mut AdmissionGuard, now: Instant) {
        let name = self.protocol.name();
        match notice {
            ConnectionEvent::Established { origin, peer } => {
                guest.attempt = None;
                log_established(&origin, name, &peer);
            }
            ConnectionEvent::Ended(Ended { origin, established, how }) => {
                log_end(&origin, name, established, &how);
                if let (Some(attempt), Err(Failure::Protocol(error))) = (guest.attempt.take(), &how)
                    && error.is_authentication_failure()
                {
                    attempt.failed(now);
                }
            }
        }
    }
}

/// A connection of a server's that has its own thread or task to drive it.
pub struct ServedConnection<F, O: Open>
where
    F: Deref<Target = ServerContext<O>>,
{
    front: F,
    connection: MonitoredConnection<O::Service>,
    guest: AdmissionGuard,
    keys: KeysWatcher,
    /// By which the remote knows it.
    number: u64,
    /// When it is given up, once the server is told to stop.
    give_up: Option<Instant>,
}

impl<F: Deref<Target = ServerContext<O>>, O: Open> ServedConnection<F, O> {
    /// A connection that was [let in](ServerContext::admit); `None` if it cannot begin. Whenever `wake` is
    /// woken, it is to be told by [`woken`](Self::woken).
    pub fn begin(
        front: F,
        stream: &Stream,
        origin: PeerAddr,
        guest: AdmissionGuard,
        wake: &Waker,
    ) -> Option<Self> {
        let (machine, service) = front.begin(stream, &origin, wake, front.now())?;
        let connection = MonitoredConnection::new(machine, service, origin);
        let (keys, number) = (front.keys.follow(), front.remote.enter(wake.clone()));
        Some(Self { front, connection, guest, keys, number, give_up: None })
    }

    /// Its waker was woken: the next turn tells the service.
    pub fn woken(&mut self) {
        self.connection.connection_mut().wake();
    }

    /// Takes a turn, and says when the next one is.
    pub fn turn<I: Io<Error = io::Error>>(&mut self, io: &mut I) -> Next {
        let Self { front, connection, guest, keys, give_up, .. } = self;
        let now = front.now();
        let note = |notice: ConnectionEvent<'_>| front.note(notice, guest, now);
        if keys.renew() {
            connection.connection_mut().revoke(keys.keys(), now);
        }
        if give_up.is_none() && front.remote.is_stopping() {
            *give_up = Some(now.saturating_add(front.options.stop_timeout));
            connection.connection_mut().stop();
        }
        if give_up.is_some_and(|at| at <= now) {
            connection.abandon(note);
            return Next::Over;
        }
        match connection.turn(io, keys.keys(), now, note) {
            Next::Wait(wait) => {
                let until = wait.until.into_iter().chain(*give_up).min();
                Next::Wait(Wait { until, ..wait })
            }
            next => next,
        }
    }
}

impl<F: Deref<Target = ServerContext<O>>, O: Open> Drop for ServedConnection<F, O> {
    /// A connection that has not ended is abandoned.
    fn drop(&mut self) {
        let Self { front, connection, guest, number, .. } = self;
        front.remote.leave(*number);
        let now = front.now();
        if !connection.has_ended() {
            connection.abandon(|notice| front.note(notice, guest, now));
        }
    }
}

/// Speaks to a server that runs, from any thread.
#[derive(Clone, Debug)]
pub struct ServerHandle(Arc<Told>);

#[derive(Debug)]
struct Told {
    stopping: AtomicBool,
    wake: Waker,
    /// Those of connections that have a thread or task of their own.
    connections: Mutex<BTreeMap<u64, Waker>>,
    entered: AtomicU64,
}

impl ServerHandle {
    /// What speaks to the server whose loop `wake` rouses.
    #[must_use]
    pub fn new(wake: Waker) -> Self {
        let (stopping, connections) = (AtomicBool::new(false), Mutex::default());
        Self(Arc::new(Told { stopping, wake, connections, entered: AtomicU64::new(0) }))
    }

    /// No more connections are accepted; those there are end once nothing is under way on them, and
    /// then the server does.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
        self.rouse();
    }

    /// Whether it was told to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::SeqCst)
    }

    /// Its [`SharedKeys`] were replaced: the server looks now, and ends the connections that were
    /// authenticated by a key that is gone. Without this it looks when next something happens.
    pub fn keys_changed(&self) {
        self.rouse();
    }

    fn rouse(&self) {
        self.0.wake.wake_by_ref();
        // Not with the lock held: whoever is woken may take it at once.
        let connections: Vec<Waker> = self.connections().values().cloned().collect();
        connections.into_iter().for_each(Waker::wake);
    }

    fn connections(&self) -> MutexGuard<'_, BTreeMap<u64, Waker>> {
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, wake: Waker) -> u64 {
        let number = self.0.entered.fetch_add(1, Ordering::Relaxed);
        self.connections().insert(number, wake);
        number
    }

    fn leave(&self, number: u64) {
        self.connections().remove(&number);
    }
}

/// Accepts from one listener, through shortages of the system.
#[derive(Debug, Default)]
pub struct Acceptor {
    /// The listener is not to be tried before.
    pause: Option<Instant>,
    /// The log has it that accepting fails.
    warned: bool,
}

/// What an attempt to accept came to.
#[derive(Debug)]
pub enum Accepted {
    /// A connection.
    Connection(Stream, PeerAddr),
    /// None waits.
    Nothing,
    /// The system is short of something: connections wait in its queue, and no further event will
    /// tell of them. Try again then.
    Later(Instant),
}

impl Acceptor {
    /// When to try again, if the listener is being left alone.
    #[must_use]
    pub fn pause(&self) -> Option<Instant> {
        self.pause
    }

    /// The next connection.
    pub fn accept(&mut self, listener: &Listener, now: Instant) -> Accepted {
        if let Some(until) = self.pause.filter(|until| now < *until) {
            return Accepted::Later(until);
        }
        self.pause = None;
        loop {
            let error = match listener.accept() {
                Ok((stream, origin)) => {
                    self.warned = false;
                    return Accepted::Connection(stream, origin);
                }
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::WouldBlock => return Accepted::Nothing,
                // The connection was gone before we took it.
                ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                // No descriptor or memory, most likely.
                _ => return Accepted::Later(self.put_off(&error, now)),
            }
        }
    }

    /// Leaves the listener alone for a while, since the system is short of what another connection
    /// would need; returns until when. Connections that were not accepted wait, and lose nothing.
    pub fn put_off(&mut self, error: &io::Error, now: Instant) -> Instant {
        if !std::mem::replace(&mut self.warned, true) {
            warn!(target: "countersign", "cannot accept, trying on: {error}: if files are short, raise `ulimit -n` or allow fewer connections");
        }
        let until = now.saturating_add(ACCEPT_PAUSE);
        self.pause = Some(until);
        until
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::task::Wake;
    use std::thread;

    use super::*;

    /// A connection that ends as soon as it is woken, on the thread that wakes it.
    struct Leaving(ServerHandle, AtomicU64);

    impl Wake for Leaving {
        fn wake(self: Arc<Self>) {
            self.0.leave(self.1.load(Ordering::Relaxed));
        }
    }

    #[test]
    fn who_is_woken_may_leave_at_once() {
        let remote = ServerHandle::new(Waker::noop().clone());
        let leaving = Arc::new(Leaving(remote.clone(), AtomicU64::new(0)));
        leaving.1.store(remote.enter(leaving.clone().into()), Ordering::Relaxed);
        let (done, is_done) = channel();
        let stopping = remote.clone();
        thread::spawn(move || {
            stopping.stop();
            done.send(()).unwrap();
        });
        is_done.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(remote.connections().is_empty());
    }
}
