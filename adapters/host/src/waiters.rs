//! The calls that wait on one connection.

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time;

use countersign::Instant;

use crate::keeper::{KeepAlive, keep_alive};

/// The calls that wait on one connection.
///
/// As the waker of the connection's protocol it wakes all of them. If there are none it has the
/// keep-alive thread poll the connection: a buffer that was granted, or a request of the handle, does not
/// wait for the next call.
///
/// Takes no lock of the connection, since another connection may wake it under its own.
#[derive(Default)]
pub(crate) struct Waiters {
    waiting: Mutex<Vec<(u64, Waker)>>,
    /// How many calls there were.
    calls: AtomicU64,
    /// Set when the connection is complete.
    connection: OnceLock<Weak<dyn KeepAlive>>,
    /// The keep-alive thread is about to poll.
    scheduled: AtomicBool,
}

impl Waiters {
    /// These are the waiters of `connection`.
    pub(crate) fn set_connection(&self, connection: Weak<dyn KeepAlive>) {
        // It is set once.
        let _ = self.connection.set(connection);
    }

    /// Wakes all calls; returns whether there are any.
    pub(crate) fn wake_all(&self) -> bool {
        let waiting = mem::take(&mut *self.lock());
        let any = !waiting.is_empty();
        wake(waiting);
        any
    }

    /// Has the keep-alive thread poll the connection soon.
    pub(crate) fn schedule(&self) {
        if self.connection.get().is_some() && !self.scheduled.swap(true, Ordering::SeqCst) {
            self.keep_alive_at(time::Instant::now());
        }
    }

    /// Reports that the keep-alive thread polls now.
    pub(crate) fn begin_keep_alive(&self) {
        self.scheduled.store(false, Ordering::SeqCst);
    }

    /// Has the keep-alive thread poll the connection at `at`.
    pub(crate) fn keep_alive_at(&self, at: time::Instant) {
        if let Some(connection) = self.connection.get() {
            keep_alive(connection.clone(), at);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Waker)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.wake_all() {
            self.schedule();
        }
    }
}

/// Without the lock: a waker may poll its call at once.
fn wake(waiting: Vec<(u64, Waker)>) {
    waiting.into_iter().for_each(|(_, waker)| waker.wake());
}

/// The waker of a transport: wakes the calls that wait. Without any, what the transport is ready for is left
/// for the next call.
pub(crate) struct WakeCalls(pub(crate) Arc<Waiters>);

impl Wake for WakeCalls {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake_all();
    }
}

/// A call on a connection, or several of one kind, one after the other.
pub struct Call {
    waiters: Arc<Waiters>,
    number: u64,
    give_up: Option<Instant>,
}

impl Call {
    /// A call that begins now and gives up at `give_up`.
    pub(crate) fn new(waiters: &Arc<Waiters>, give_up: Option<Instant>) -> Self {
        let number = waiters.calls.fetch_add(1, Ordering::Relaxed);
        Self { waiters: waiters.clone(), number, give_up }
    }

    pub(crate) const fn give_up(&self) -> Option<Instant> {
        self.give_up
    }

    /// From now on it is woken by `waker`, once.
    pub(crate) fn wait(&self, waker: &Waker) {
        let mut waiting = self.waiters.lock();
        let own = waiting.iter_mut().find(|(number, _)| *number == self.number);
        let previous = match own {
            Some((_, own)) if own.will_wake(waker) => None,
            Some((_, own)) => Some(mem::replace(own, waker.clone())),
            None => {
                waiting.push((self.number, waker.clone()));
                None
            }
        };
        drop(waiting);
        // After the lock is released: the last waker of a task may drop another call.
        drop(previous);
    }

    /// It waits no more.
    pub(crate) fn end(&self) {
        let mut waiting = self.waiters.lock();
        let own = waiting.iter().position(|&(number, _)| number == self.number);
        let own = own.map(|at| waiting.swap_remove(at));
        drop(waiting);
        drop(own);
    }

    /// Wakes all other calls.
    pub(crate) fn wake_others(&self) {
        let mut waiting = self.waiters.lock();
        let others = waiting.extract_if(.., |(number, _)| *number != self.number).collect();
        drop(waiting);
        wake(others);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("give_up", &self.give_up).finish_non_exhaustive()
    }
}
