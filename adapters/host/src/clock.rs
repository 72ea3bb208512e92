//! The clock of the host.

use std::time;

use countersign::Instant;

/// A monotonic clock that counts [`Instant`]s from when it was started.
#[derive(Clone, Copy, Debug)]
pub struct Clock(time::Instant);

impl Clock {
    /// A clock whose [`Instant::EPOCH`] is now.
    #[must_use]
    pub fn start() -> Self {
        Self(time::Instant::now())
    }

    /// The time since it was started.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::EPOCH.saturating_add(self.0.elapsed())
    }
}
