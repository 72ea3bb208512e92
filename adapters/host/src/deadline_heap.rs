//! The deadlines of many connections.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use countersign::Instant;

/// The deadlines of many connections, each identified by a `T`.
///
/// A deadline moves with almost every message and seldom passes. So moving it later costs nothing: the
/// connection is reported at the earlier time, finds nothing to do, and is armed again.
#[derive(Debug)]
pub struct DeadlineHeap<T> {
    heap: BinaryHeap<Reverse<(Instant, T)>>,
}

impl<T: Ord + Copy> Default for DeadlineHeap<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new() }
    }
}

impl<T: Ord + Copy> DeadlineHeap<T> {
    /// Makes sure that the connection `id` is reported at `at` at the latest. `armed` is kept with the
    /// connection: the time that it is armed for, `None` at first.
    pub fn arm(&mut self, id: T, armed: &mut Option<Instant>, at: Option<Instant>) {
        if let Some(at) = at
            && armed.is_none_or(|armed| at < armed)
        {
            *armed = Some(at);
            self.heap.push(Reverse((at, id)));
        }
    }

    /// Removes the entries for which `keep(id, at)` returns false. Entries of connections that no longer
    /// exist otherwise stay until their time.
    pub fn retain(&mut self, mut keep: impl FnMut(T, Instant) -> bool) {
        self.heap.retain(|&Reverse((at, id))| keep(id, at));
    }

    /// How many entries there are, including obsolete ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// The earliest time of an entry.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Removes and returns an entry whose time has passed. It is obsolete unless the connection exists and
    /// its `armed` equals that time; the caller then sets `armed` to `None`.
    pub fn pop_due(&mut self, now: Instant) -> Option<(T, Instant)> {
        self.next().filter(|&at| at <= now)?;
        self.heap.pop().map(|Reverse((at, id))| (id, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_deadline_adds_an_entry() {
        let at = Instant::from_micros;
        let mut deadlines = DeadlineHeap::default();
        let mut armed = None;
        deadlines.arm(1, &mut armed, None);
        assert_eq!(deadlines.next(), None);
        deadlines.arm(1, &mut armed, Some(at(9)));
        deadlines.arm(1, &mut armed, Some(at(12)));
        deadlines.arm(1, &mut armed, Some(at(5)));
        assert_eq!(armed, Some(at(5)));
        assert_eq!(deadlines.pop_due(at(4)), None);
        assert_eq!(deadlines.pop_due(at(20)), Some((1, at(5))));
        assert_eq!(deadlines.pop_due(at(20)), Some((1, at(9))));
        assert_eq!(deadlines.pop_due(at(20)), None);
    }

    #[test]
    fn removed_entry_is_not_due() {
        let at = Instant::from_micros;
        let mut deadlines = DeadlineHeap::default();
        for id in 1..=3 {
            deadlines.arm(id, &mut None, Some(at(id)));
        }
        deadlines.retain(|id, time| (id, time) == (2, at(2)));
        assert_eq!((deadlines.len(), deadlines.pop_due(at(9))), (1, Some((2, at(2)))));
        assert!(deadlines.is_empty());
    }
}
