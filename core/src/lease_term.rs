//! [`LeaseTerm`]: for how long a lease is used freely.

use crate::storage::Storage;
use crate::time::Instant;

/// For how long a lease is used freely. After that the buffer takes nothing more than completes what it
/// has, until the lease is returned.
///
/// Otherwise a peer that always completes one frame with the beginning of the next, or that always leaves
/// a byte unread, would hold a lease for ever.
///
/// Kept small: every idle session has two. The end of the term is counted in units of 2^20 µs (about a
/// second), so it may come that much late.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseTerm(u32);

/// The end of no term.
const NO_TERM: u32 = u32::MAX;
/// The end of a term that is over.
const OVER: u32 = 0;

/// The units of time that `at` is after the epoch.
fn units(at: Instant) -> u32 {
    u32::try_from(at.as_micros() >> 20).unwrap_or(NO_TERM)
}

impl LeaseTerm {
    /// No lease is held.
    pub(crate) const NONE: Self = Self(NO_TERM);

    /// Begins the term, unless it has begun.
    #[inline]
    pub(crate) fn begin(&mut self, end: impl FnOnce() -> Instant) {
        if self.0 == NO_TERM {
            self.0 = units(end()).saturating_add(1);
        }
    }

    /// Ends the term if its time has passed or others wait.
    pub(crate) fn check(&mut self, now: Instant, storage: &(impl Storage + ?Sized)) {
        if self.0 != NO_TERM && (self.0 <= units(now) || storage.contended()) {
            self.0 = OVER;
        }
    }

    pub(crate) fn is_over(self) -> bool {
        self.0 == OVER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn term_ends_after_its_time_and_within_a_unit() {
        let at = |micros: u64| Instant::from_micros(micros);
        for end in [0, 1, 30_000_000, (7 << 20) - 1, 7 << 20] {
            let mut term = LeaseTerm::NONE;
            term.check(at(u64::MAX), &[0_u8; 0]);
            assert!(!term.is_over(), "it has not begun");
            term.begin(|| at(end));
            term.begin(|| at(0));
            term.check(at(end), &[0_u8; 0]);
            assert!(!term.is_over());
            term.check(at(end + (1 << 20)), &[0_u8; 0]);
            assert!(term.is_over());
        }
        let mut term = LeaseTerm::NONE;
        term.begin(|| at(u64::MAX));
        term.check(at(u64::MAX), &[0_u8; 0]);
        assert!(!term.is_over(), "a term that ends too late to be counted has no end");
    }
}
