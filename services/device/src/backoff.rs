//! When to connect again.

use core::time::Duration;

/// Capped exponential backoff with full jitter: after `n` failures in a row the next attempt waits
/// for a time that is drawn uniformly from 0 to the lesser of the cap and base · 2ⁿ.
///
/// So a crowd that lost its server together does not come back together. Randomness is passed in.
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

    /// No failures yet. A base beyond the cap counts as the cap.
    #[must_use]
    pub fn new(base: Duration, cap: Duration) -> Self {
        let base = base.min(cap);
        Self { base, cap, limit: base }
    }

    /// The longest that the next [`delay`](Self::delay) can be.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// An attempt has failed, or a connection has ended: for how long to wait, in whole microseconds.
    /// `random`: any number, all of them equally likely.
    pub fn delay(&mut self, random: u64) -> Duration {
        let longest = u64::try_from(self.limit.as_micros()).unwrap_or(u64::MAX);
        self.limit = self.limit.saturating_mul(2).min(self.cap);
        // The number as a fraction of all there are.
        let drawn = (u128::from(random) * (u128::from(longest) + 1)) >> u64::BITS;
        Duration::from_micros(drawn as u64)
    }

    /// All is well: a heartbeat was answered with 0. A registration does not show it: a server may
    /// close right after it, and two devices of one IMEI would take over from each other without end.
    pub fn reset(&mut self) {
        self.limit = self.base;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Self::DEFAULT_BASE, Self::DEFAULT_CAP)
    }
}
