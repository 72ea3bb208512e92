//! Wakers for connections that live in an event loop.

use std::io;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

use mio::{Registry, Token};

/// The tokens of woken connections, and what rouses the loop to look at them.
pub(crate) struct Queue {
    woken: Mutex<Vec<Token>>,
    waker: mio::Waker,
}

impl Queue {
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { woken: Mutex::default(), waker: mio::Waker::new(registry, token)? }))
    }

    pub(crate) fn waker(self: &Arc<Self>, token: Token) -> std::task::Waker {
        Arc::new(ConnectionWaker { queue: self.clone(), token }).into()
    }

    /// Rouses the loop.
    pub(crate) fn rouse(&self) {
        // It fails only when the system has no memory for one more event; then the loop is awake.
        let _ = self.waker.wake();
    }

    /// Those woken since the last call, in `into`, which must be empty.
    pub(crate) fn take(&self, into: &mut Vec<Token>) {
        mem::swap(into, &mut self.woken.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Wake for Queue {
    fn wake(self: Arc<Self>) {
        self.rouse();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rouse();
    }
}

struct ConnectionWaker {
    queue: Arc<Queue>,
    token: Token,
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut woken = self.queue.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let first = woken.is_empty();
        woken.push(self.token);
        drop(woken);
        if first {
            self.queue.rouse();
        }
    }
}
