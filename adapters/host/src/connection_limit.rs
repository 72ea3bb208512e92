//! How many connections there may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts connections and turns away those beyond a maximum. Clones count together.
#[derive(Clone, Debug)]
pub struct ConnectionLimit(Arc<Count>);

#[derive(Debug)]
struct Count {
    open: AtomicUsize,
    max: usize,
}

impl ConnectionLimit {
    /// A gate for at most `max` connections at once.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Count { open: AtomicUsize::new(0), max }))
    }

    /// Lets one in; `None` if there are as many as there may be.
    #[must_use]
    pub fn enter(&self) -> Option<ConnectionPermit> {
        self.0
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < self.0.max).then_some(open + 1)
            })
            .ok()
            .map(|_| ConnectionPermit(self.0.clone()))
    }

    /// How many are in.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }
}

/// The place of one connection, given back on drop.
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
    fn a_place_given_back_is_a_place() {
        let gate = ConnectionLimit::new(2);
        let first = gate.enter().unwrap();
        let _second = gate.enter().unwrap();
        assert!(gate.enter().is_none());
        assert_eq!(gate.open(), 2);
        drop(first);
        assert_eq!(gate.open(), 1);
        assert!(gate.enter().is_some());
    }
}
