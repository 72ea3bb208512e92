//! Stops a thread or task that runs a service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

/// Stops the thread or task that returned it, from any thread. Clones stop the same one.
#[derive(Clone, Debug)]
pub struct ShutdownHandle {
    stopping: Arc<AtomicBool>,
    waker: Waker,
}

impl ShutdownHandle {
    /// A handle of a thread or task that `waker` wakes.
    #[must_use]
    pub fn new(waker: Waker) -> Self {
        Self { stopping: Arc::default(), waker }
    }

    /// Ends the connection in order, as soon as nothing is in progress on it: what the peer has begun to
    /// send is read and answered first. What returned the handle documents its time limit.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.waker.wake_by_ref();
    }

    /// Whether [`stop`](Self::stop) was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}
