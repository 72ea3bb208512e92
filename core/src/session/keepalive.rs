//! Whether the peer is still there (docs/PROTOCOL.md, "Keepalive").

use core::time::Duration;

use crate::time::Instant;

/// How much longer than two heartbeats a peer may be silent.
const GRACE: Duration = Duration::from_secs(5);

/// The heartbeat of a session: that of both its ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keepalive {
    /// 0: none.
    heartbeat_ms: u32,
}

impl Keepalive {
    pub(crate) const fn new(heartbeat_ms: u32) -> Self {
        Self { heartbeat_ms }
    }

    fn heartbeat(self) -> Option<Duration> {
        (self.heartbeat_ms > 0).then(|| Duration::from_millis(self.heartbeat_ms.into()))
    }

    /// When to send a PING if nothing is sent after `now`.
    pub(crate) fn ping_at(self, now: Instant) -> Option<Instant> {
        self.heartbeat().map(|heartbeat| now.saturating_add(heartbeat))
    }

    /// When to give the peer up if nothing is heard of it after `now`.
    pub(crate) fn give_up_at(self, now: Instant) -> Option<Instant> {
        self.heartbeat().map(|heartbeat| now.saturating_add(heartbeat * 2 + GRACE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_two_heartbeats_and_five_seconds() {
        let now = Instant::from_micros(7);
        let live = Keepalive::new(1_000);
        assert_eq!(live.ping_at(now), Some(Instant::from_micros(1_000_007)));
        assert_eq!(live.give_up_at(now), Some(Instant::from_micros(7_000_007)));
        assert_eq!(Keepalive::new(0).ping_at(now), None);
        assert_eq!(Keepalive::new(0).give_up_at(now), None);
    }
}
