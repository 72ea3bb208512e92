//! The limit of open connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Limits how many connections are open at once. Clones share the count.
#[derive(Clone, Debug)]
pub struct ConnectionLimit(Arc<Count>);

#[derive(Debug)]
struct Count {
    open: AtomicUsize,
    max: usize,
}

impl ConnectionLimit {
    /// A limit of `max` open connections.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Count { open: AtomicUsize::new(0), max }))
    }

    /// Counts one more connection; `None` if the limit is reached.
    #[must_use]
    pub fn acquire(&self) -> Option<ConnectionPermit> {
        self.0
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < self.0.max).then_some(open + 1)
            })
            .ok()
            .map(|_| ConnectionPermit(self.0.clone()))
    }

    /// How many connections are counted.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }
}

/// Counts as one connection until it is dropped.
#[derive(Debug)]
pub struct ConnectionPermit(Arc<Count>);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_permit_can_be_acquired_again() {
        let limit = ConnectionLimit::new(2);
        let first = limit.acquire().unwrap();
        let _second = limit.acquire().unwrap();
        assert!(limit.acquire().is_none());
        assert_eq!(limit.open(), 2);
        drop(first);
        assert_eq!(limit.open(), 1);
        assert!(limit.acquire().is_some());
    }
}
