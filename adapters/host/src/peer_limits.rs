//! Limits of unauthenticated peers, for each address.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign::Instant;

use crate::peer_addr::PeerAddr;

/// Addresses with records. If more misbehave at once, only the limits of all connections together apply to
/// the others.
const MAX_ADDRESSES: usize = 16_384;
/// Time between searches for records that can be removed.
const SWEEP: Duration = Duration::from_secs(1);

/// The limits of one address. An IPv6 network of 64 bits counts as one address, since a single host can
/// usually choose among all of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerLimitOptions {
    /// Handshakes in progress at once.
    pub handshakes: u32,
    /// Failed authentications before further handshakes are refused.
    pub failures: u32,
    /// The time after which one failure expires.
    pub failure_expiry: Duration,
    /// Whether peers on this machine are limited too. They share one address, and so one limit.
    pub local: bool,
}

impl Default for PeerLimitOptions {
    /// 1024 handshakes, and 256 failures of which ten expire each second: more than an office or a load
    /// balancer behind one address needs, and too few to guess secrets or to fill a server.
    fn default() -> Self {
        Self {
            handshakes: 1024,
            failures: 256,
            failure_expiry: Duration::from_millis(100),
            local: false,
        }
    }
}

/// Which limit an address has exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitExceeded {
    /// Too many handshakes are in progress.
    Handshakes,
    /// Too many authentications have failed.
    Failures,
}

impl LimitExceeded {
    /// One word for logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Handshakes => "too-many-handshakes",
            Self::Failures => "too-many-failures",
        }
    }
}

/// Counts handshakes and failed authentications of each address. Clones share the counts.
#[derive(Clone)]
pub struct PeerLimits(Arc<Shared>);

struct Shared {
    options: PeerLimitOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    records: HashMap<AddressKey, Record>,
    swept: Option<Instant>,
}

/// The part of an address that limits apply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum AddressKey {
    V4([u8; 4]),
    V6([u8; 8]),
    Unix,
}

#[derive(Debug)]
struct Record {
    handshakes: u32,
    /// When the last of its failures expires, with [`PeerLimitOptions::failure_expiry`] for each.
    clear_at: Instant,
}

impl AddressKey {
    /// `None` for a peer on this machine, unless those are limited.
    fn of(addr: &PeerAddr, local: bool) -> Option<Self> {
        match addr {
            PeerAddr::Unix => local.then_some(Self::Unix),
            PeerAddr::Tcp(address) => match address.ip().to_canonical() {
                ip if ip.is_loopback() && !local => None,
                IpAddr::V4(ip) => Some(Self::V4(ip.octets())),
                IpAddr::V6(ip) => ip.octets().first_chunk().copied().map(Self::V6),
            },
        }
    }
}

impl PeerLimits {
    /// Limits without any records.
    #[must_use]
    pub fn new(options: PeerLimitOptions) -> Self {
        Self(Arc::new(Shared { options, state: Mutex::default() }))
    }

    /// Counts a handshake of a connection from `addr`.
    ///
    /// # Errors
    /// The limit that is exceeded.
    pub fn begin(&self, addr: &PeerAddr, now: Instant) -> Result<HandshakePermit, LimitExceeded> {
        let shared = &self.0;
        let Some(key) = AddressKey::of(addr, shared.options.local) else {
            return Ok(HandshakePermit(None));
        };
        let mut state = shared.state();
        if !state.records.contains_key(&key) {
            state.sweep(now);
            if state.records.len() >= MAX_ADDRESSES {
                return Ok(HandshakePermit(None));
            }
        }
        let record = state.records.entry(key).or_insert(Record { handshakes: 0, clear_at: now });
        if record.failures_left(&shared.options, now) == 0 {
            return Err(LimitExceeded::Failures);
        }
        if record.handshakes >= shared.options.handshakes {
            return Err(LimitExceeded::Handshakes);
        }
        record.handshakes += 1;
        Ok(HandshakePermit(Some(Box::new((shared.clone(), key)))))
    }
}

impl fmt::Debug for PeerLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerLimits").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Removes records without handshakes and failures, if there is no room for more.
    fn sweep(&mut self, now: Instant) {
        let due = self.swept.is_none_or(|at| at.saturating_add(SWEEP) <= now);
        if self.records.len() >= MAX_ADDRESSES && due {
            self.swept = Some(now);
            self.records.retain(|_, record| record.handshakes > 0 || record.clear_at > now);
        }
    }
}

impl Record {
    /// How many more failures are allowed.
    fn failures_left(&self, options: &PeerLimitOptions, now: Instant) -> u32 {
        let left = self.clear_at.saturating_duration_since(now).as_micros();
        let failures = left.div_ceil(options.failure_expiry.as_micros().max(1));
        options.failures.saturating_sub(u32::try_from(failures).unwrap_or(u32::MAX))
    }
}

/// A handshake in progress, counted until this is dropped. Boxed, since most connections are past it. The
/// default counts as none.
#[derive(Debug, Default)]
#[must_use]
pub struct HandshakePermit(Option<Box<(Arc<Shared>, AddressKey)>>);

impl HandshakePermit {
    /// Counts a failed authentication. A lost connection or a timeout is not one.
    pub fn failed(self, now: Instant) {
        if let Some((shared, key)) = self.0.as_deref()
            && let Some(record) = shared.state().records.get_mut(key)
        {
            record.clear_at =
                record.clear_at.max(now).saturating_add(shared.options.failure_expiry);
        }
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        if let Some((shared, key)) = self.0.as_deref()
            && let Some(record) = shared.state().records.get_mut(key)
        {
            record.handshakes = record.handshakes.saturating_sub(1);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerLimits").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(handshakes: u32, failures: u32) -> PeerLimitOptions {
        PeerLimitOptions {
            handshakes,
            failures,
            failure_expiry: Duration::from_secs(1),
            local: false,
        }
    }

    fn from(address: &str) -> PeerAddr {
        PeerAddr::Tcp(address.parse().unwrap())
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn handshakes_are_limited_for_each_address() {
        let limits = PeerLimits::new(options(2, 9));
        let now = at(0);
        let first = limits.begin(&from("192.0.2.1:1"), now).unwrap();
        let _second = limits.begin(&from("192.0.2.1:2"), now).unwrap();
        assert_eq!(limits.begin(&from("192.0.2.1:3"), now).unwrap_err(), LimitExceeded::Handshakes);
        let _other = limits.begin(&from("192.0.2.2:1"), now).unwrap();
        drop(first);
        assert!(limits.begin(&from("192.0.2.1:3"), now).is_ok());
    }

    #[test]
    fn ipv6_network_of_64_bits_counts_as_one_address() {
        let limits = PeerLimits::new(options(1, 9));
        let now = at(0);
        let _first = limits.begin(&from("[2001:db8:0:1::1]:1"), now).unwrap();
        assert!(limits.begin(&from("[2001:db8:0:1:ffff::2]:1"), now).is_err());
        assert!(limits.begin(&from("[2001:db8:0:2::1]:1"), now).is_ok());
        let _mapped = limits.begin(&from("[::ffff:192.0.2.1]:1"), now).unwrap();
        assert!(limits.begin(&from("192.0.2.1:1"), now).is_err());
    }

    #[test]
    fn failures_expire_one_by_one() {
        let limits = PeerLimits::new(options(9, 3));
        let addr = from("192.0.2.1:1");
        for _ in 0..3 {
            limits.begin(&addr, at(0)).unwrap().failed(at(0));
        }
        assert_eq!(limits.begin(&addr, at(0)).unwrap_err(), LimitExceeded::Failures);
        assert!(limits.begin(&from("192.0.2.2:1"), at(0)).is_ok());
        limits.begin(&addr, at(1)).unwrap().failed(at(1));
        assert_eq!(limits.begin(&addr, at(1)).unwrap_err(), LimitExceeded::Failures);
        // A handshake that ends otherwise is not a failure.
        drop(limits.begin(&addr, at(2)).unwrap());
        assert!(limits.begin(&addr, at(2)).is_ok());
        for _ in 0..3 {
            limits.begin(&addr, at(9)).unwrap().failed(at(9));
        }
        assert!(limits.begin(&addr, at(9)).is_err());
    }

    #[test]
    fn local_peers_are_limited_only_on_request() {
        for addr in [from("127.0.0.1:1"), from("127.9.9.9:1"), from("[::1]:1"), PeerAddr::Unix] {
            let limits = PeerLimits::new(options(1, 1));
            let _one = limits.begin(&addr, at(0)).unwrap();
            assert!(limits.begin(&addr, at(0)).is_ok());
            let limits = PeerLimits::new(PeerLimitOptions { local: true, ..options(1, 1) });
            let _one = limits.begin(&addr, at(0)).unwrap();
            assert!(limits.begin(&addr, at(0)).is_err());
        }
    }

    #[test]
    fn full_records_are_swept_and_refuse_no_address() {
        let limits = PeerLimits::new(options(1, 1));
        let addr = |n: usize| {
            let [a, b, c, d] = (n as u32).to_be_bytes();
            from(&format!("{}.{b}.{c}.{d}:1", a + 1))
        };
        for n in 0..MAX_ADDRESSES {
            limits.begin(&addr(n), at(0)).unwrap().failed(at(0));
        }
        // All records are in use, so one more address has none.
        let _one = limits.begin(&addr(MAX_ADDRESSES), at(0)).unwrap();
        assert!(limits.begin(&addr(MAX_ADDRESSES), at(0)).is_ok());
        // Later all failures have expired.
        let _one = limits.begin(&addr(MAX_ADDRESSES), at(5)).unwrap();
        assert!(limits.begin(&addr(MAX_ADDRESSES), at(5)).is_err());
        assert_eq!(limits.0.state().records.len(), 1);
    }
}
