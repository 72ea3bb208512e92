//! What one address may cost before it has authenticated.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign::Instant;

use crate::net::PeerAddr;

/// Addresses that are kept track of. With more than that misbehaving at once, the rest are bound
/// only by what bounds all connections together.
const MAX_SOURCES: usize = 16_384;
/// How often to look for addresses that can be forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// The limits of one address: of one IPv4 address, or one IPv6 network of 64 bits, which is what a
/// single household or host has to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerLimitOptions {
    /// Handshakes under way at once.
    pub handshakes: u32,
    /// Failed authentications in a row, before more are refused.
    pub failures: u32,
    /// How long until one more is allowed.
    pub forgive: Duration,
    /// Whether peers on this machine are limited too. All of them have one address, and so one
    /// limit.
    pub local: bool,
}

impl Default for PeerLimitOptions {
    /// 1024 handshakes, and 256 failures that are forgiven at ten a second: more than an office or
    /// a load balancer behind one address needs, and too few to guess with or to fill a server.
    fn default() -> Self {
        Self { handshakes: 1024, failures: 256, forgive: Duration::from_millis(100), local: false }
    }
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitExceeded {
    /// Too many handshakes of it are under way.
    Handshakes,
    /// Too many of its authentications have failed.
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

/// Keeps count of addresses. Clones count together.
#[derive(Clone)]
pub struct PeerLimits(Arc<Shared>);

struct Shared {
    options: PeerLimitOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sources: HashMap<Source, Count>,
    swept: Option<Instant>,
}

/// An address as far as it is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    V4([u8; 4]),
    V6([u8; 8]),
    Unix,
}

#[derive(Debug)]
struct Count {
    handshakes: u32,
    /// When the last of its failures is forgiven, with [`PeerLimitOptions::forgive`] for each.
    clear_at: Instant,
}

impl Source {
    /// `None` for a peer on this machine, unless those are limited.
    fn of(origin: &PeerAddr, local: bool) -> Option<Self> {
        match origin {
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
    /// No address has done anything yet.
    #[must_use]
    pub fn new(options: PeerLimitOptions) -> Self {
        Self(Arc::new(Shared { options, state: Mutex::default() }))
    }

    /// A connection from `origin` begins its handshake.
    ///
    /// # Errors
    /// Why it is not to.
    pub fn begin(&self, origin: &PeerAddr, now: Instant) -> Result<HandshakePermit, LimitExceeded> {
        let shared = &self.0;
        let Some(source) = Source::of(origin, shared.options.local) else {
            return Ok(HandshakePermit(None));
        };
        let mut state = shared.state();
        if !state.sources.contains_key(&source) {
            state.sweep(now);
            if state.sources.len() >= MAX_SOURCES {
                return Ok(HandshakePermit(None));
            }
        }
        let count = state.sources.entry(source).or_insert(Count { handshakes: 0, clear_at: now });
        if count.failures_left(&shared.options, now) == 0 {
            return Err(LimitExceeded::Failures);
        }
        if count.handshakes >= shared.options.handshakes {
            return Err(LimitExceeded::Handshakes);
        }
        count.handshakes += 1;
        Ok(HandshakePermit(Some((shared.clone(), source))))
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
    /// Forgets who has nothing on record.
    fn sweep(&mut self, now: Instant) {
        let due = self.swept.is_none_or(|at| at.saturating_add(SWEEP) <= now);
        if self.sources.len() >= MAX_SOURCES && due {
            self.swept = Some(now);
            self.sources.retain(|_, count| count.handshakes > 0 || count.clear_at > now);
        }
    }
}

impl Count {
    /// How many more failures are allowed.
    fn failures_left(&self, options: &PeerLimitOptions, now: Instant) -> u32 {
        let left = self.clear_at.saturating_duration_since(now).as_micros();
        let failures = left.div_ceil(options.forgive.as_micros().max(1));
        options.failures.saturating_sub(u32::try_from(failures).unwrap_or(u32::MAX))
    }
}

/// A handshake under way, counted until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct HandshakePermit(Option<(Arc<Shared>, Source)>);

impl HandshakePermit {
    /// The authentication failed: a wrong answer, not a broken line or a slow one.
    pub fn failed(self, now: Instant) {
        if let Some((shared, source)) = &self.0
            && let Some(count) = shared.state().sources.get_mut(source)
        {
            count.clear_at = count.clear_at.max(now).saturating_add(shared.options.forgive);
        }
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        if let Some((shared, source)) = self.0.take()
            && let Some(count) = shared.state().sources.get_mut(&source)
        {
            count.handshakes = count.handshakes.saturating_sub(1);
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
        PeerLimitOptions { handshakes, failures, forgive: Duration::from_secs(1), local: false }
    }

    fn from(address: &str) -> PeerAddr {
        PeerAddr::Tcp(address.parse().unwrap())
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn an_address_has_so_many_handshakes_at_once_and_others_have_their_own() {
        let sources = PeerLimits::new(options(2, 9));
        let now = at(0);
        let first = sources.begin(&from("192.0.2.1:1"), now).unwrap();
        let _second = sources.begin(&from("192.0.2.1:2"), now).unwrap();
        assert_eq!(
            sources.begin(&from("192.0.2.1:3"), now).unwrap_err(),
            LimitExceeded::Handshakes
        );
        let _other = sources.begin(&from("192.0.2.2:1"), now).unwrap();
        drop(first);
        assert!(sources.begin(&from("192.0.2.1:3"), now).is_ok());
    }

    #[test]
    fn a_network_of_64_bits_is_one_address_and_a_mapped_one_is_what_it_maps() {
        let sources = PeerLimits::new(options(1, 9));
        let now = at(0);
        let _first = sources.begin(&from("[2001:db8:0:1::1]:1"), now).unwrap();
        assert!(sources.begin(&from("[2001:db8:0:1:ffff::2]:1"), now).is_err());
        assert!(sources.begin(&from("[2001:db8:0:2::1]:1"), now).is_ok());
        let _mapped = sources.begin(&from("[::ffff:192.0.2.1]:1"), now).unwrap();
        assert!(sources.begin(&from("192.0.2.1:1"), now).is_err());
    }

    #[test]
    fn failures_are_counted_and_forgiven_one_by_one() {
        let sources = PeerLimits::new(options(9, 3));
        let origin = from("192.0.2.1:1");
        for _ in 0..3 {
            sources.begin(&origin, at(0)).unwrap().failed(at(0));
        }
        assert_eq!(sources.begin(&origin, at(0)).unwrap_err(), LimitExceeded::Failures);
        assert!(sources.begin(&from("192.0.2.2:1"), at(0)).is_ok());
        sources.begin(&origin, at(1)).unwrap().failed(at(1));
        assert_eq!(sources.begin(&origin, at(1)).unwrap_err(), LimitExceeded::Failures);
        // One that ends otherwise costs nothing.
        drop(sources.begin(&origin, at(2)).unwrap());
        assert!(sources.begin(&origin, at(2)).is_ok());
        for _ in 0..3 {
            sources.begin(&origin, at(9)).unwrap().failed(at(9));
        }
        assert!(sources.begin(&origin, at(9)).is_err());
    }

    #[test]
    fn peers_on_this_machine_are_limited_only_if_asked_for() {
        for origin in [from("127.0.0.1:1"), from("127.9.9.9:1"), from("[::1]:1"), PeerAddr::Unix] {
            let sources = PeerLimits::new(options(1, 1));
            let _one = sources.begin(&origin, at(0)).unwrap();
            assert!(sources.begin(&origin, at(0)).is_ok());
            let sources = PeerLimits::new(PeerLimitOptions { local: true, ..options(1, 1) });
            let _one = sources.begin(&origin, at(0)).unwrap();
            assert!(sources.begin(&origin, at(0)).is_err());
        }
    }

    #[test]
    fn who_has_nothing_on_record_makes_room_and_nobody_is_refused_for_want_of_it() {
        let sources = PeerLimits::new(options(1, 1));
        let origin = |n: usize| {
            let [a, b, c, d] = (n as u32).to_be_bytes();
            from(&format!("{}.{b}.{c}.{d}:1", a + 1))
        };
        for n in 0..MAX_SOURCES {
            sources.begin(&origin(n), at(0)).unwrap().failed(at(0));
        }
        // All are on record, so one more is not kept track of.
        let _one = sources.begin(&origin(MAX_SOURCES), at(0)).unwrap();
        assert!(sources.begin(&origin(MAX_SOURCES), at(0)).is_ok());
        // Later all are forgiven.
        let _one = sources.begin(&origin(MAX_SOURCES), at(5)).unwrap();
        assert!(sources.begin(&origin(MAX_SOURCES), at(5)).is_err());
        assert_eq!(sources.0.state().sources.len(), 1);
    }
}
