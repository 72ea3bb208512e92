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
}
