//! A running server, from any thread.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::connection_handle::{ConnectionHandle, ConnectionWaker};
use crate::peer_addr::PeerAddr;
use crate::wake_queue::WakeQueue;

/// Stops a server and reaches its connections, from any thread. Clones are the same server.
#[derive(Clone, Debug)]
pub struct ServerHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stopping: AtomicBool,
    waker: ServerWaker,
    connections: Mutex<BTreeSet<ById>>,
    next_id: AtomicU64,
}

/// How a server is woken.
#[derive(Debug)]
enum ServerWaker {
    /// By its loop, which polls all connections.
    Loop(Arc<WakeQueue>),
    /// By the waker of the task that accepts. Each connection has its own thread or task.
    Tasks(Waker),
}

impl ServerHandle {
    /// A handle of a server with one loop for all connections, which takes their wake-ups from `queue`.
    #[must_use]
    pub fn of_loop(queue: Arc<WakeQueue>) -> Self {
        Self::new(ServerWaker::Loop(queue))
    }

    /// A handle of a server with a thread or task for each connection; `waker` wakes the one that
    /// accepts.
    #[must_use]
    pub fn of_tasks(waker: Waker) -> Self {
        Self::new(ServerWaker::Tasks(waker))
    }

    fn new(waker: ServerWaker) -> Self {
        Self(Arc::new(Shared {
            stopping: AtomicBool::new(false),
            waker,
            connections: Mutex::default(),
            next_id: AtomicU64::new(0),
        }))
    }

    /// Stops the server in order: it accepts no more, ends each connection when nothing is in progress
    /// on it, and then returns.
    pub fn stop(&self) {
        self.0.stopping.store(true, SeqCst);
        self.wake();
    }

    /// Whether it was told to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(SeqCst)
    }

    /// Reports that the [`SharedKeys`](crate::SharedKeys) were replaced: the server ends the connections
    /// whose key is gone now, rather than when something happens next.
    pub fn keys_changed(&self) {
        self.wake();
    }

    /// All connections whose handshake is over, the oldest first; during `on_open` the connection itself is
    /// one of them.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionHandle> {
        self.all().into_iter().filter(ConnectionHandle::is_open).collect()
    }

    /// The connections of the peer that is called `name`, the oldest first.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<ConnectionHandle> {
        self.all().into_iter().filter(|connection| connection.is_named(name)).collect()
    }

    /// Sends a message to all connections whose handshake is over, also to the one whose service calls this.
    /// Returns how many accepted it. A connection whose peer reads too slowly does not.
    pub fn broadcast(&self, message: impl AsRef<[u8]>) -> usize {
        let message: Arc<[u8]> = message.as_ref().into();
        let send = |connection: &ConnectionHandle| connection.send_shared(message.clone()).is_ok();
        self.connections().iter().filter(|connection| send(connection)).count()
    }

    fn wake(&self) {
        match &self.0.waker {
            ServerWaker::Loop(queue) => queue.wake_loop(),
            ServerWaker::Tasks(waker) => {
                waker.wake_by_ref();
                self.all().iter().for_each(ConnectionHandle::wake);
            }
        }
    }

    /// Wakes the connection with this key in the queue of the loop.
    pub(crate) fn wake_connection(&self, key: usize) {
        if let ServerWaker::Loop(queue) = &self.0.waker {
            queue.wake(key);
        }
    }

    /// Copied: a connection that is woken may take the lock at once.
    fn all(&self) -> Vec<ConnectionHandle> {
        self.lock().iter().map(|ById(connection)| connection.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<ById>> {
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection, until what is returned is dropped.
    pub(crate) fn register(&self, addr: PeerAddr, waker: ConnectionWaker) -> Registration {
        let id = self.0.next_id.fetch_add(1, Relaxed);
        let connection = ConnectionHandle::new(id, addr, self.clone(), waker);
        self.lock().insert(ById(connection.clone()));
        Registration(ById(connection))
    }
}

/// A connection's entry in its server.
#[derive(Debug)]
pub(crate) struct Registration(ById);

impl Registration {
    pub(crate) fn handle(&self) -> &ConnectionHandle {
        &self.0.0
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let connection = self.handle();
        connection.server().lock().remove(&self.0);
        connection.set_over();
    }
}

/// A connection in the order of ids, so that the oldest is the first.
#[derive(Debug)]
struct ById(ConnectionHandle);

impl Ord for ById {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.id().cmp(&other.0.id())
    }
}

impl PartialOrd for ById {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id() == other.0.id()
    }
}

impl Eq for ById {}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::mpsc::channel;
    use std::task::Wake;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::connection_handle::HandleError;

    /// A connection that ends as soon as it is woken, on the thread that wakes it.
    #[derive(Default)]
    struct EndsWhenWoken(OnceLock<Mutex<Option<Registration>>>);

    impl Wake for EndsWhenWoken {
        fn wake(self: Arc<Self>) {
            if let Some(registration) = self.0.get() {
                drop(registration.lock().unwrap().take());
            }
        }
    }

    #[test]
    fn dropped_registration_closes_the_handle() {
        let server = ServerHandle::of_tasks(Waker::noop().clone());
        let registration = server.register(PeerAddr::Unix, Waker::noop().into());
        let connection = registration.handle().clone();
        connection.enable_messages(10);
        connection.send(&b"message"[..]).unwrap();
        assert_eq!(server.all().len(), 1);
        drop(registration);
        assert!(server.all().is_empty());
        assert_eq!(connection.send(&b"late"[..]), Err(HandleError::Closed));
    }

    #[test]
    fn connection_may_end_while_it_is_woken() {
        let server = ServerHandle::of_tasks(Waker::noop().clone());
        let ends = Arc::new(EndsWhenWoken::default());
        let waker = Waker::from(ends.clone());
        let registration = server.register(PeerAddr::Unix, (&waker).into());
        assert!(ends.0.set(Mutex::new(Some(registration))).is_ok());
        let (done, is_done) = channel();
        let stopping = server.clone();
        thread::spawn(move || {
            stopping.stop();
            done.send(()).unwrap();
        });
        is_done.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(server.all().is_empty());
    }
}
