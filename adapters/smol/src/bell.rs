//! What wakes a task that waits for other things too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use atomic_waker::AtomicWaker;

/// Wakes whichever task listens at the time, and remembers that it was rung. Clones are the same bell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bell(Arc<Rung>);

#[derive(Debug, Default)]
struct Rung {
    rung: AtomicBool,
    listener: AtomicWaker,
}

impl Bell {
    /// What rings it.
    pub(crate) fn waker(&self) -> Waker {
        self.0.clone().into()
    }

    /// Whether it was rung since the last call; if it is from now on, the task of `cx` is woken.
    pub(crate) fn listen(&self, cx: &Context<'_>) -> bool {
        // In this order: what is rung in between is heard twice rather than never.
        self.0.listener.register(cx.waker());
        self.0.rung.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Rung {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        self.listener.wake();
    }
}
