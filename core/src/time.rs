//! Time, as passed in by the caller.

use core::num::NonZeroU64;
use core::time::Duration;

/// A point in time: microseconds since an epoch that the caller chooses.
///
/// The core never reads a clock. A host counts from the start of the process, a microcontroller
/// from reset, a simulation from zero. All times passed to one session use the same monotonic clock.
/// The latest instant is `u64::MAX - 1` microseconds after the epoch; sums saturate there.
///
/// ```
/// use std::time::Duration;
///
/// use countersign::Instant;
///
/// let start = std::time::Instant::now();
/// let now = || Instant::EPOCH.saturating_add(start.elapsed());
/// let deadline = now().saturating_add(Duration::from_secs(5));
/// assert!(deadline.saturating_duration_since(now()) <= Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(
    /// Microseconds since the epoch plus 1, so that an `Option<Instant>` is no larger.
    NonZeroU64,
);

impl Instant {
    /// The epoch of the caller.
    pub const EPOCH: Self = Self(NonZeroU64::MIN);

    /// The instant `micros` microseconds after the epoch.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(micros))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0.get() - 1
    }

    /// The instant `by` later, rounded down to whole microseconds.
    #[must_use]
    pub fn saturating_add(self, by: Duration) -> Self {
        self.saturating_add_micros(u64::try_from(by.as_micros()).unwrap_or(u64::MAX))
    }

    pub(crate) const fn saturating_add_micros(self, by: u64) -> Self {
        Self(self.0.saturating_add(by))
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.get().saturating_sub(earlier.0.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_saturate_in_the_far_future() {
        let last = Instant::from_micros(u64::MAX);
        assert_eq!((last.as_micros(), last), (u64::MAX - 1, Instant::from_micros(u64::MAX - 1)));
        assert_eq!(last.saturating_add(Duration::from_micros(1)), last);
        assert_eq!(Instant::EPOCH.saturating_add(Duration::MAX), last);
        for micros in [0, 1, u64::MAX - 1] {
            assert_eq!(Instant::from_micros(micros).as_micros(), micros);
        }
        assert_eq!(Instant::from_micros(0), Instant::EPOCH);
        let since = |later, earlier| {
            Instant::from_micros(later).saturating_duration_since(Instant::from_micros(earlier))
        };
        assert_eq!((since(7, 5), since(5, 7)), (Duration::from_micros(2), Duration::ZERO));
        // A session stores several deadlines.
        assert_eq!(size_of::<Option<Instant>>(), size_of::<u64>());
    }
}
