//! Wakes a task that waits for several things.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use atomic_waker::AtomicWaker;

/// Wakes the task that listens, and remembers that it did. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notify(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    notified: AtomicBool,
    listener: AtomicWaker,
}

impl Notify {
    /// A waker that notifies.
    pub(crate) fn waker(&self) -> Waker {
        self.0.clone().into()
    }

    /// Whether it was notified since the last call. From now on a notification wakes the task of `cx`.
    pub(crate) fn listen(&self, cx: &Context<'_>) -> bool {
        // Registered first: a notification in between is reported twice rather than never.
        self.0.listener.register(cx.waker());
        self.0.notified.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notified.store(true, Ordering::SeqCst);
        self.listener.wake();
    }
}
