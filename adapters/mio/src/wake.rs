//! Wakers for connections that live in an event loop.

use std::collections::BTreeSet;
use std::io;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

use mio::{Registry, Token};

/// The tokens of woken connections, and what rouses the loop to look at them.
pub(crate) struct Queue {
    /// Each once, however often it was woken.
    woken: Mutex<BTreeSet<Token>>,
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

    /// Those woken since the last call.
    pub(crate) fn take(&self) -> BTreeSet<Token> {
        mem::take(&mut self.woken.lock().unwrap_or_else(PoisonError::into_inner))
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
        woken.insert(self.token);
        drop(woken);
        if first {
            self.queue.rouse();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use mio::Poll;

    use super::*;

    #[test]
    fn who_is_woken_over_and_over_takes_one_place() {
        let poll = Poll::new().unwrap();
        let queue = Queue::new(poll.registry(), Token(9)).unwrap();
        let wakers = [Token(1), Token(2)].map(|token| queue.waker(token));
        for _ in 0..100 {
            wakers.iter().for_each(std::task::Waker::wake_by_ref);
        }
        assert_eq!(queue.take(), BTreeSet::from([Token(1), Token(2)]));
        assert!(queue.take().is_empty());
    }
}
