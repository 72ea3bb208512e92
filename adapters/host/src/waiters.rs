//! The calls that wait on one connection.

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time;

use countersign::Instant;

use crate::keep_alive::{KeepAlive, keep_alive};

/// The calls that wait on one connection.
///
/// As the waker of the connection's protocol it wakes all of them. If there are none it has the
/// keep-alive thread poll the connection: a buffer that was granted, or a request of the handle, does not
/// wait for the next call.
///
/// Takes no lock of the connection, since another connection may wake it under its own.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: Mutex<BTreeMap<u64, Waker>>,
    /// How many calls there were.
    calls: AtomicU64,
    /// Set when the connection is complete.
    pub(crate) connection: OnceLock<Weak<dyn KeepAlive>>,
    /// The keep-alive thread is about to poll.
    pub(crate) scheduled: AtomicBool,
}

impl Waiters {
    /// Wakes all calls; returns whether there are any.
    pub(crate) fn wake_all(&self) -> bool {
        let waiting = mem::take(&mut *self.lock());
        let any = !waiting.is_empty();
        // Without the lock: a waker may poll its call at once.
        waiting.into_values().for_each(Waker::wake);
        any
    }

    /// Has the keep-alive thread poll the connection soon.
    pub(crate) fn schedule(&self) {
        if self.connection.get().is_some() && !self.scheduled.swap(true, Ordering::SeqCst) {
            self.keep_alive_at(time::Instant::now());
        }
    }

    /// Has the keep-alive thread poll the connection at `at`.
    pub(crate) fn keep_alive_at(&self, at: time::Instant) {
        if let Some(connection) = self.connection.get() {
            keep_alive(connection.clone(), at);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        if !self.wake_all() {
            self.schedule();
        }
    }
}

/// The waker of a transport: wakes the calls that wait. Without any, what the transport is ready for is left
/// for the next call.
pub(crate) struct WakeCalls(pub(crate) Arc<Waiters>);

impl Wake for WakeCalls {
    fn wake(self: Arc<Self>) {
        self.0.wake_all();
    }
}

/// A call on a connection, or several of one kind, one after the other.
#[derive(Debug)]
pub struct Call {
    waiters: Arc<Waiters>,
    number: u64,
    pub(crate) give_up: Option<Instant>,
}

impl Call {
    /// A call that begins now and times out at `give_up`.
    pub(crate) fn new(waiters: &Arc<Waiters>, give_up: Option<Instant>) -> Self {
        let number = waiters.calls.fetch_add(1, Ordering::Relaxed);
        Self { waiters: waiters.clone(), number, give_up }
    }

    /// From now on it is woken by `waker`, once.
    pub(crate) fn wait(&self, waker: &Waker) {
        // Dropped after the lock is released: the last waker of a task may drop another call.
        let _previous = self.waiters.lock().insert(self.number, waker.clone());
    }

    /// It waits no more.
    pub(crate) fn end(&self) {
        let _own = self.waiters.lock().remove(&self.number);
    }

    /// Wakes all other calls.
    pub(crate) fn wake_others(&self) {
        let mut waiting = self.waiters.lock();
        let own = waiting.remove(&self.number);
        let others = mem::take(&mut *waiting);
        waiting.extend(own.map(|waker| (self.number, waker)));
        drop(waiting);
        others.into_values().for_each(Waker::wake);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end();
    }
}
