//! Time as the caller tells it.

use core::num::NonZeroU64;
use core::time::Duration;

/// A moment: microseconds since an epoch that the caller chose and keeps to.
///
/// The core never reads a clock. A host counts from the start of the process, a microcontroller
/// from reset, a simulation from zero. Sums saturate, so the far future stays the far future: it is
/// `u64::MAX - 1`, some 585,000 years. An `Option` of one is no larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(
    /// One more than the microseconds.
    NonZeroU64,
);

impl Instant {
    /// The caller's epoch itself.
    pub const EPOCH: Self = Self(NonZeroU64::MIN);

    /// The moment `micros` microseconds after the epoch.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(micros))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0.get() - 1
    }

    /// This moment and `by` more, in whole microseconds.
    #[must_use]
    pub fn saturating_add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.get().saturating_sub(earlier.0.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_far_future_stays_the_far_future() {
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
        // Connections have many.
        assert_eq!(size_of::<Option<Instant>>(), size_of::<u64>());
    }
}
