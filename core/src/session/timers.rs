//! The deadlines of one session.

use crate::time::Instant;

/// What a deadline is for; the index into [`Timers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The peer owes the rest of a part.
    Receive,
    /// The peer owes us room: queued bytes have not left.
    Send,
    /// We owe the peer a sign of life.
    Ping,
    /// The peer owes us the end of the handshake, counted from construction, and once that is over
    /// signs of life.
    Peer,
}

impl Timer {
    const ALL: [Self; 4] = [Self::Receive, Self::Send, Self::Ping, Self::Peer];
}

/// Absolute deadlines, one per [`Timer`]. Setting one replaces it.
#[derive(Debug)]
pub(crate) struct Timers([Instant; Timer::ALL.len()]);

/// A deadline that does not come.
const NEVER: Instant = Instant::from_micros(u64::MAX);

impl Default for Timers {
    fn default() -> Self {
        Self([NEVER; Timer::ALL.len()])
    }
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = at;
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        self.0[timer as usize] = NEVER;
    }

    /// Replaces one, or clears it.
    pub(crate) fn put(&mut self, timer: Timer, at: Option<Instant>) {
        self.0[timer as usize] = at.unwrap_or(NEVER);
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize] != NEVER
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().min().copied().filter(|at| *at != NEVER)
    }

    /// Clears and returns one deadline that has passed, so that acting on it cannot see it again.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Option<Timer> {
        let due = Timer::ALL
            .into_iter()
            .find(|&timer| self.is_set(timer) && self.0[timer as usize] <= now)?;
        self.clear(due);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    #[test]
    fn the_earliest_deadline_comes_first_and_only_once() {
        let mut timers = Timers::default();
        assert_eq!(timers.next(), None);
        timers.set(Timer::Send, at(7));
        timers.set(Timer::Receive, at(5));
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.take_expired(at(4)), None);
        assert_eq!(timers.take_expired(at(5)), Some(Timer::Receive));
        assert_eq!(timers.take_expired(at(5)), None);
        assert_eq!(timers.next(), Some(at(7)));
    }

    #[test]
    fn setting_again_replaces_and_clearing_removes() {
        let mut timers = Timers::default();
        timers.set(Timer::Peer, at(1));
        timers.set(Timer::Peer, at(9));
        assert_eq!(timers.next(), Some(at(9)));
        assert!(timers.is_set(Timer::Peer));
        timers.clear(Timer::Peer);
        assert!(!timers.is_set(Timer::Peer));
        assert_eq!(timers.take_expired(at(u64::MAX)), None);
    }
}
