//! Wakes a task that waits for several things.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake};

use atomic_waker::AtomicWaker;

/// Wakes the task that listens, and remembers that it did. A waker of an `Arc` of it notifies.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    notified: AtomicBool,
    listener: AtomicWaker,
}

impl Notify {
    /// Whether it was notified since the last call. From now on a notification wakes the task of `cx`.
    pub(crate) fn listen(&self, cx: &Context<'_>) -> bool {
        // Registered first: a notification in between is reported twice rather than never.
        self.listener.register(cx.waker());
        self.notified.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Notify {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notified.store(true, Ordering::SeqCst);
        self.listener.wake();
    }
}
