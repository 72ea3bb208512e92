//! Wake-ups of connections that share an event loop.

use std::collections::BTreeSet;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// The connections of one event loop that were woken, each by its key, and the waker of the loop.
pub struct WakeQueue {
    /// Each key once, however often its connection was woken.
    woken: Mutex<BTreeSet<usize>>,
    waker: Waker,
}

impl WakeQueue {
    /// An empty queue of the loop that `waker` wakes.
    #[must_use]
    pub fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self { woken: Mutex::default(), waker })
    }

    /// A waker of the connection `key`.
    #[must_use]
    pub fn waker(self: &Arc<Self>, key: usize) -> Waker {
        Arc::new(QueuedWaker { queue: self.clone(), key }).into()
    }

    /// Wakes the connection `key`.
    pub fn wake(&self, key: usize) {
        let mut woken = self.woken();
        let first = woken.is_empty();
        woken.insert(key);
        drop(woken);
        if first {
            self.wake_loop();
        }
    }

    /// Wakes the loop.
    pub fn wake_loop(&self) {
        self.waker.wake_by_ref();
    }

    /// Takes the keys of the connections that were woken since the last call.
    #[must_use]
    pub fn take(&self) -> BTreeSet<usize> {
        mem::take(&mut self.woken())
    }

    fn woken(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for WakeQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeQueue").field("woken", &self.woken().len()).finish_non_exhaustive()
    }
}

struct QueuedWaker {
    queue: Arc<WakeQueue>,
    key: usize,
}

impl Wake for QueuedWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.queue.wake(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Loop(AtomicUsize);

    impl Wake for Loop {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn connection_woken_repeatedly_is_queued_once() {
        let woken = Arc::new(Loop::default());
        let queue = WakeQueue::new(woken.clone().into());
        let wakers = [1, 2].map(|key| queue.waker(key));
        for _ in 0..100 {
            wakers.iter().for_each(Waker::wake_by_ref);
        }
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(queue.take(), BTreeSet::from([1, 2]));
        assert!(queue.take().is_empty());
    }
}
