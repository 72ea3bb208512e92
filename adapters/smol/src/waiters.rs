//! The calls that wait on one connection.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// The calls that wait on one connection. Its waker wakes all of them: the call that polled the transport
/// last may have been dropped when the transport is ready, and another call has to go on then.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    waiting: BTreeMap<u64, Waker>,
}

impl Waiters {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let waiting = mem::take(&mut self.state().waiting);
        waiting.into_values().for_each(Waker::wake);
    }
}

/// A call that may wait, until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiter {
    waiters: Arc<Waiters>,
    number: u64,
}

impl Waiter {
    pub(crate) fn new(waiters: &Arc<Waiters>) -> Self {
        let mut state = waiters.state();
        state.next += 1;
        Self { waiters: waiters.clone(), number: state.next }
    }

    /// Waits with `waker`, until it is woken.
    pub(crate) fn wait(&self, waker: &Waker) {
        // Dropped after the lock is released: the last waker of a task may drop another waiter.
        let _previous = self.waiters.state().waiting.insert(self.number, waker.clone());
    }

    /// Wakes all others.
    pub(crate) fn wake_others(&self) {
        let mut state = self.waiters.state();
        let own = state.waiting.remove(&self.number);
        let others = mem::take(&mut state.waiting);
        state.waiting.extend(own.map(|waker| (self.number, waker)));
        drop(state);
        others.into_values().for_each(Waker::wake);
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let _waker = self.waiters.state().waiting.remove(&self.number);
    }
}
