//! Stops a runner.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::wakeup::Wakeup;

/// Stops a [`Runner`](crate::Runner), from any thread. Clones stop the same one.
#[derive(Clone, Debug)]
pub struct ShutdownHandle {
    wakeup: Arc<Wakeup>,
    stopping: Arc<AtomicBool>,
}

impl ShutdownHandle {
    pub(crate) fn new(wakeup: Arc<Wakeup>) -> Self {
        Self { wakeup, stopping: Arc::default() }
    }

    /// Ends the connection in order once nothing is in progress on it, or after 3 s, and ends any sleep.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wakeup.notify();
    }

    /// Whether the runner was told to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}
