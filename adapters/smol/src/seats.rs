//! Those who wait for something to happen on one connection.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// Its waker wakes all of them: whoever polls the transport with it may be gone when there is something to
/// be had, and then it is another's.
#[derive(Debug, Default)]
pub(crate) struct Seats(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    seats: u64,
    waiting: BTreeMap<u64, Waker>,
}

impl Seats {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Seats {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let waiting = mem::take(&mut self.state().waiting);
        waiting.into_values().for_each(Waker::wake);
    }
}

/// The place of one who waits, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    number: u64,
}

impl Seat {
    pub(crate) fn new(seats: &Arc<Seats>) -> Self {
        let mut state = seats.state();
        state.seats += 1;
        Self { seats: seats.clone(), number: state.seats }
    }

    /// Waits with `waker`, until woken.
    pub(crate) fn wait(&self, waker: &Waker) {
        // Dropped when the lock is not held any more: with the last waker of a task may go another seat.
        let _before = self.seats.state().waiting.insert(self.number, waker.clone());
    }

    /// Wakes all others.
    pub(crate) fn wake_others(&self) {
        let mut state = self.seats.state();
        let own = state.waiting.remove(&self.number);
        let others = mem::take(&mut state.waiting);
        state.waiting.extend(own.map(|waker| (self.number, waker)));
        drop(state);
        others.into_values().for_each(Waker::wake);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _waker = self.seats.state().waiting.remove(&self.number);
    }
}
