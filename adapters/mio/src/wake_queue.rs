//! Wakers of connections that share an event loop.

use std::collections::BTreeSet;
use std::io;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

use mio::{Registry, Token};

/// The tokens of woken connections, and the waker of the loop that handles them.
#[derive(Debug)]
pub(crate) struct WakeQueue {
    /// Each token once, however often its connection was woken.
    woken: Mutex<BTreeSet<Token>>,
    waker: mio::Waker,
}

impl WakeQueue {
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { woken: Mutex::default(), waker: mio::Waker::new(registry, token)? }))
    }

    pub(crate) fn waker(self: &Arc<Self>, token: Token) -> std::task::Waker {
        Arc::new(ConnectionWaker { queue: self.clone(), token }).into()
    }

    /// Wakes the loop.
    pub(crate) fn wake_loop(&self) {
        // This fails only when the kernel has no memory for one more event; then the loop is awake.
        let _ = self.waker.wake();
    }

    /// Takes the tokens of the connections that were woken since the last call.
    pub(crate) fn take(&self) -> BTreeSet<Token> {
        mem::take(&mut self.woken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Wake for WakeQueue {
    fn wake(self: Arc<Self>) {
        self.wake_loop();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_loop();
    }
}

struct ConnectionWaker {
    queue: Arc<WakeQueue>,
    token: Token,
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut woken = self.queue.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let first = woken.is_empty();
        woken.insert(self.token);
        drop(woken);
        if first {
            self.queue.wake_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use mio::Poll;

    use super::*;

    #[test]
    fn connection_woken_repeatedly_is_queued_once() {
        let poll = Poll::new().unwrap();
        let queue = WakeQueue::new(poll.registry(), Token(9)).unwrap();
        let wakers = [Token(1), Token(2)].map(|token| queue.waker(token));
        for _ in 0..100 {
            wakers.iter().for_each(std::task::Waker::wake_by_ref);
        }
        assert_eq!(queue.take(), BTreeSet::from([Token(1), Token(2)]));
        assert!(queue.take().is_empty());
    }
}
