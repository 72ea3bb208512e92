//! The deadlines of one session: its handshake, stalls in both directions, and keepalive.

use core::time::Duration;

use crate::time::Instant;

/// The purpose of a deadline; the index into [`Deadlines`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// A stall deadline: the peer completes a chunk that it has sent in part.
    Receive,
    /// A stall deadline: the peer reads the queued bytes.
    Send,
    /// This end sends a PING.
    Ping,
    /// The peer completes the handshake; later, the peer sends a frame (keepalive).
    Peer,
}

impl Deadline {
    const ALL: [Self; 4] = [Self::Receive, Self::Send, Self::Ping, Self::Peer];
}

/// One absolute deadline per [`Deadline`].
#[derive(Debug)]
pub(crate) struct Deadlines {
    at: [Instant; Deadline::ALL.len()],
    /// In microseconds.
    stall_timeout: u64,
}

/// The value of a deadline that is not set.
const NEVER: Instant = Instant::from_micros(u64::MAX);

impl Deadlines {
    pub(crate) fn new(stall_timeout: Duration) -> Self {
        let stall_timeout = u64::try_from(stall_timeout.as_micros()).unwrap_or(u64::MAX);
        Self { at: [NEVER; Deadline::ALL.len()], stall_timeout }
    }

    pub(crate) fn set(&mut self, deadline: Deadline, at: Instant) {
        self.at[deadline as usize] = at;
    }

    /// The stall timeout from `now`.
    pub(crate) fn stall_end(&self, now: Instant) -> Instant {
        now.saturating_add_micros(self.stall_timeout)
    }

    /// Sets a stall deadline: the peer has the stall timeout from `now`.
    pub(crate) fn start_stall(&mut self, deadline: Deadline, now: Instant) {
        self.set(deadline, self.stall_end(now));
    }

    pub(crate) fn clear(&mut self, deadline: Deadline) {
        self.at[deadline as usize] = NEVER;
    }

    pub(crate) fn clear_all(&mut self) {
        self.at = [NEVER; Deadline::ALL.len()];
    }

    /// Sets the deadline, or clears it.
    pub(crate) fn set_or_clear(&mut self, deadline: Deadline, at: Option<Instant>) {
        self.at[deadline as usize] = at.unwrap_or(NEVER);
    }

    pub(crate) fn is_set(&self, deadline: Deadline) -> bool {
        self.at[deadline as usize] != NEVER
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.at.iter().min().copied().filter(|at| *at != NEVER)
    }

    /// Clears and returns an expired deadline. Cleared first, so that a deadline fires only once.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Option<Deadline> {
        let due = Deadline::ALL
            .into_iter()
            .find(|&deadline| self.is_set(deadline) && self.at[deadline as usize] <= now)?;
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
        let mut deadlines = Deadlines::new(Duration::from_secs(30));
        assert_eq!(deadlines.next(), None);
        deadlines.set(Deadline::Send, at(7));
        deadlines.set(Deadline::Receive, at(5));
        assert_eq!(deadlines.next(), Some(at(5)));
        assert_eq!(deadlines.take_expired(at(4)), None);
        assert_eq!(deadlines.take_expired(at(5)), Some(Deadline::Receive));
        assert_eq!(deadlines.take_expired(at(5)), None);
        assert_eq!(deadlines.next(), Some(at(7)));
    }

    #[test]
    fn setting_a_deadline_replaces_it_and_clearing_removes_it() {
        let mut deadlines = Deadlines::new(Duration::from_secs(30));
        deadlines.set(Deadline::Peer, at(1));
        deadlines.set(Deadline::Peer, at(9));
        assert_eq!(deadlines.next(), Some(at(9)));
        assert!(deadlines.is_set(Deadline::Peer));
        deadlines.clear(Deadline::Peer);
        assert!(!deadlines.is_set(Deadline::Peer));
        assert_eq!(deadlines.take_expired(at(u64::MAX)), None);
    }

    #[test]
    fn stall_deadline_is_the_stall_timeout_from_now() {
        let mut deadlines = Deadlines::new(Duration::from_micros(30));
        deadlines.start_stall(Deadline::Send, at(7));
        assert_eq!(deadlines.next(), Some(at(37)));
        let mut deadlines = Deadlines::new(Duration::MAX);
        deadlines.start_stall(Deadline::Receive, at(7));
        assert_eq!(deadlines.next(), None, "too late to express");
        deadlines.set(Deadline::Ping, at(9));
        deadlines.clear_all();
        assert_eq!(deadlines.next(), None);
    }
}
