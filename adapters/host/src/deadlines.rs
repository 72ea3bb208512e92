//! Which of many connections is due next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use countersign::Instant;

/// The deadlines of many connections, each named by a `T`.
///
/// A connection's deadline moves with almost every message and seldom passes, so moving it later
/// costs nothing here: the connection is reported at the earlier moment, finds nothing to do, and
/// is armed again.
#[derive(Debug)]
pub struct Deadlines<T> {
    heap: BinaryHeap<Reverse<(Instant, T)>>,
}

impl<T: Ord + Copy> Default for Deadlines<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new() }
    }
}

impl<T: Ord + Copy> Deadlines<T> {
    /// Sees to it that `who` is reported by `at`. `armed` belongs to the connection: the moment it
    /// is armed for, `None` at first.
    pub fn arm(&mut self, who: T, armed: &mut Option<Instant>, at: Option<Instant>) {
        if let Some(at) = at
            && armed.is_none_or(|armed| at < armed)
        {
            *armed = Some(at);
            self.heap.push(Reverse((at, who)));
        }
    }

    /// Forgets those whom `keep`, told who was armed and for when, does not want. What was armed for
    /// somebody who is gone is kept until that moment, unless it is forgotten.
    pub fn retain(&mut self, mut keep: impl FnMut(T, Instant) -> bool) {
        self.heap.retain(|&Reverse((at, who))| keep(who, at));
    }

    /// How many moments are kept, those included that count no more.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// The next moment at which someone may be due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Someone who was armed for a moment that has passed, and that moment. It counts only if the
    /// connection is still there and armed for just that moment, which its `armed` must then
    /// forget.
    pub fn pop_due(&mut self, now: Instant) -> Option<(T, Instant)> {
        self.next().filter(|&at| at <= now)?;
        self.heap.pop().map(|Reverse((at, who))| (who, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_deadline_is_a_new_one() {
        let at = Instant::from_micros;
        let mut deadlines = Deadlines::default();
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
    fn what_is_not_retained_is_not_due() {
        let at = Instant::from_micros;
        let mut deadlines = Deadlines::default();
        for who in 1..=3 {
            deadlines.arm(who, &mut None, Some(at(who)));
        }
        deadlines.retain(|who, moment| (who, moment) == (2, at(2)));
        assert_eq!((deadlines.len(), deadlines.pop_due(at(9))), (1, Some((2, at(2)))));
        assert!(deadlines.is_empty());
    }
}
