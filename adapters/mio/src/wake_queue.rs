//! The wake-ups of an event loop.

use std::io;
use std::sync::Arc;
use std::task::Wake;

use countersign_host::WakeQueue;
use mio::{Registry, Token};

/// A queue of wake-ups that ends the sleep of a `mio::Poll` by an event with `token`.
pub(crate) fn wake_queue(registry: &Registry, token: Token) -> io::Result<Arc<WakeQueue>> {
    let waker = Arc::new(LoopWaker(mio::Waker::new(registry, token)?));
    Ok(WakeQueue::new(waker.into()))
}

struct LoopWaker(mio::Waker);

impl Wake for LoopWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // This fails only when the kernel has no memory for one more event; then the loop is awake.
        let _ = self.0.wake();
    }
}
