//! The deadlines of one session.

use crate::time::Instant;

/// The purpose of a deadline; the index into [`Timers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The peer completes a chunk that it has sent in part.
    Receive,
    /// The peer reads the queued bytes.
    Send,
    /// This end sends a PING.
    Ping,
    /// The peer completes the handshake; later, the peer sends a frame (keepalive).
    Peer,
}

impl Timer {
    const ALL: [Self; 4] = [Self::Receive, Self::Send, Self::Ping, Self::Peer];
}

/// One absolute deadline per [`Timer`].
#[derive(Debug)]
pub(crate) struct Timers([Instant; Timer::ALL.len()]);

/// The value of a timer that is not set.
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

    /// Sets the timer, or clears it.
    pub(crate) fn set_or_clear(&mut self, timer: Timer, at: Option<Instant>) {
        self.0[timer as usize] = at.unwrap_or(NEVER);
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize] != NEVER
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().min().copied().filter(|at| *at != NEVER)
    }

    /// Clears and returns an expired timer. Cleared first, so that a timer fires only once.
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
    fn earliest_deadline_expires_first_and_once() {
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
    fn setting_a_timer_replaces_it_and_clearing_removes_it() {
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
