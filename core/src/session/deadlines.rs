//! The deadlines of one session.

use crate::time::Instant;

/// The purpose of a deadline; the index into [`Deadlines`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// The peer completes a chunk that it has sent in part.
    Receive,
    /// The peer reads the queued bytes.
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
pub(crate) struct Deadlines([Instant; Deadline::ALL.len()]);

/// The value of a deadline that is not set.
const NEVER: Instant = Instant::from_micros(u64::MAX);

impl Default for Deadlines {
    fn default() -> Self {
        Self([NEVER; Deadline::ALL.len()])
    }
}

impl Deadlines {
    pub(crate) fn set(&mut self, deadline: Deadline, at: Instant) {
        self.0[deadline as usize] = at;
    }

    pub(crate) fn clear(&mut self, deadline: Deadline) {
        self.0[deadline as usize] = NEVER;
    }

    /// Sets the deadline, or clears it.
    pub(crate) fn set_or_clear(&mut self, deadline: Deadline, at: Option<Instant>) {
        self.0[deadline as usize] = at.unwrap_or(NEVER);
    }

    pub(crate) fn is_set(&self, deadline: Deadline) -> bool {
        self.0[deadline as usize] != NEVER
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().min().copied().filter(|at| *at != NEVER)
    }

    /// Clears and returns an expired deadline. Cleared first, so that a deadline fires only once.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Option<Deadline> {
        let due = Deadline::ALL
            .into_iter()
            .find(|&deadline| self.is_set(deadline) && self.0[deadline as usize] <= now)?;
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
        let mut deadlines = Deadlines::default();
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
    fn setting_a_timer_replaces_it_and_clearing_removes_it() {
        let mut deadlines = Deadlines::default();
        deadlines.set(Deadline::Peer, at(1));
        deadlines.set(Deadline::Peer, at(9));
        assert_eq!(deadlines.next(), Some(at(9)));
        assert!(deadlines.is_set(Deadline::Peer));
        deadlines.clear(Deadline::Peer);
        assert!(!deadlines.is_set(Deadline::Peer));
        assert_eq!(deadlines.take_expired(at(u64::MAX)), None);
    }
}
