//! Keepalive (docs/PROTOCOL.md, "sealed"): when to send a PING, and when the peer is dead.

use core::time::Duration;

use crate::time::Instant;

/// The time beyond two heartbeats for which a peer may be silent.
const GRACE: Duration = Duration::from_secs(5);

/// The heartbeat of a session, the same for both ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keepalive {
    /// 0 for none.
    heartbeat_ms: u32,
}

impl Keepalive {
    pub(crate) const fn new(heartbeat_ms: u32) -> Self {
        Self { heartbeat_ms }
    }

    fn heartbeat(self) -> Option<Duration> {
        (self.heartbeat_ms > 0).then(|| Duration::from_millis(self.heartbeat_ms.into()))
    }

    /// When to send a PING if nothing is transmitted after `now`.
    pub(crate) fn ping_at(self, now: Instant) -> Option<Instant> {
        self.heartbeat().map(|heartbeat| now.saturating_add(heartbeat))
    }

    /// When the peer times out if nothing is received after `now`.
    pub(crate) fn peer_timeout_at(self, now: Instant) -> Option<Instant> {
        self.heartbeat().map(|heartbeat| now.saturating_add(heartbeat * 2 + GRACE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_times_out_after_two_heartbeats_and_5_s() {
        let now = Instant::from_micros(7);
        let live = Keepalive::new(1_000);
        assert_eq!(live.ping_at(now), Some(Instant::from_micros(1_000_007)));
        assert_eq!(live.peer_timeout_at(now), Some(Instant::from_micros(7_000_007)));
        assert_eq!(Keepalive::new(0).ping_at(now), None);
        assert_eq!(Keepalive::new(0).peer_timeout_at(now), None);
    }
}
