//! When to reconnect.

use core::time::Duration;

/// Capped exponential backoff with full jitter: after `n` failures in a row the next attempt waits
/// for a time that is drawn uniformly from 0 to the lesser of the cap and base · 2ⁿ.
///
/// So many clients that lose their server at the same time do not reconnect at the same time. The caller
/// passes random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    limit: Duration,
}

impl Backoff {
    /// The base of devices, unless configured otherwise.
    pub const DEFAULT_BASE: Duration = Duration::from_millis(500);
    /// The cap of devices, unless configured otherwise.
    pub const DEFAULT_CAP: Duration = Duration::from_secs(60);

    /// A backoff without failures. A base above the cap counts as the cap.
    #[must_use]
    pub fn new(base: Duration, cap: Duration) -> Self {
        let base = base.min(cap);
        Self { base, cap, limit: base }
    }

    /// The upper bound of the next [`delay`](Self::delay).
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// How long to wait after a failed attempt or the end of a connection, in whole microseconds.
    /// `random` is uniformly distributed.
    pub fn delay(&mut self, random: u64) -> Duration {
        let longest = u64::try_from(self.limit.as_micros()).unwrap_or(u64::MAX);
        self.limit = self.limit.saturating_mul(2).min(self.cap);
        // `random` as a fraction of 2⁶⁴, times the number of possible delays.
        let drawn = (u128::from(random) * (u128::from(longest) + 1)) >> u64::BITS;
        Duration::from_micros(drawn as u64)
    }

    /// Resets the failures, after something has succeeded that shows that the connection works.
    ///
    /// For devices that is a heartbeat, not a registration: a server may close right after that, and two
    /// devices with one IMEI would take over from each other without any delay.
    pub fn reset(&mut self) {
        self.limit = self.base;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Self::DEFAULT_BASE, Self::DEFAULT_CAP)
    }
}
