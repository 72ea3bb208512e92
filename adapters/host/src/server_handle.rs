//! A running server, from any thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::connection_handle::ConnectionHandle;
use crate::peer_addr::PeerAddr;

/// Stops a server and reaches its connections, from any thread. Clones are the same server.
#[derive(Clone, Debug)]
pub struct ServerHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stopping: AtomicBool,
    /// Wakes the loop that accepts.
    waker: Waker,
    /// Whether each connection waits in a thread or task of its own.
    tasks: bool,
    connections: Mutex<BTreeMap<u64, ConnectionHandle>>,
    next_id: AtomicU64,
}

impl ServerHandle {
    /// A handle of a server with one loop for all connections, which `waker` wakes.
    #[must_use]
    pub fn of_loop(waker: Waker) -> Self {
        Self::new(waker, false)
    }

    /// A handle of a server with a thread or task for each connection; `waker` wakes the one that
    /// accepts.
    #[must_use]
    pub fn of_tasks(waker: Waker) -> Self {
        Self::new(waker, true)
    }

    fn new(waker: Waker, tasks: bool) -> Self {
        Self(Arc::new(Shared {
            stopping: AtomicBool::new(false),
            waker,
            tasks,
            connections: Mutex::default(),
            next_id: AtomicU64::new(0),
        }))
    }

    /// Stops the server in order: it accepts no more, ends each connection when nothing is in progress
    /// on it, and then returns.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Whether it was told to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::SeqCst)
    }

    /// Reports that the [`SharedKeys`](crate::SharedKeys) were replaced: the server ends the connections
    /// whose key is gone now, rather than when something happens next.
    pub fn keys_changed(&self) {
        self.wake();
    }

    /// All connections whose handshake is over.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionHandle> {
        self.all().into_iter().filter(ConnectionHandle::is_open).collect()
    }

    /// The connections of the peer that is called `name`, the oldest first.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<ConnectionHandle> {
        self.all().into_iter().filter(|connection| connection.is_named(name)).collect()
    }

    /// Sends a message to all connections whose handshake is over. Returns how many took it; those whose
    /// peer reads too slowly did not.
    pub fn broadcast(&self, message: impl Into<Arc<[u8]>>) -> usize {
        let message = message.into();
        let send = |connection: &ConnectionHandle| connection.send(message.clone()).is_ok();
        self.connections().iter().filter(|connection| send(connection)).count()
    }

    fn wake(&self) {
        self.0.waker.wake_by_ref();
        if self.0.tasks {
            self.all().iter().for_each(ConnectionHandle::wake);
        }
    }

    /// Copied: a connection that is woken may take the lock at once.
    fn all(&self) -> Vec<ConnectionHandle> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, ConnectionHandle>> {
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection, until what is returned is dropped.
    pub(crate) fn register(
        &self,
        addr: PeerAddr,
        waker: Waker,
    ) -> (ConnectionHandle, Registration) {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let connection = ConnectionHandle::new(id, addr, waker);
        self.lock().insert(id, connection.clone());
        (connection, Registration { server: self.clone(), id })
    }
}

/// A connection's entry in its server.
#[derive(Debug)]
pub(crate) struct Registration {
    server: ServerHandle,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let removed = self.server.lock().remove(&self.id);
        if let Some(connection) = removed {
            connection.set_closed();
        }
    }
}

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
        let server = ServerHandle::of_loop(Waker::noop().clone());
        let (connection, registration) = server.register(PeerAddr::Unix, Waker::noop().clone());
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
        let (_, registration) = server.register(PeerAddr::Unix, ends.clone().into());
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
