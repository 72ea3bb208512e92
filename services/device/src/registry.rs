//! Which devices there are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::SystemTime;

use crate::{AppId, Imei};
use countersign::Name;

use super::table;
use countersign_host::PeerAddr;

/// The devices of a server, by IMEI: those that are connected, and those that were. All connections
/// share it.
///
/// It remembers a stated number of devices. For one more, the one that has been gone for longest is
/// forgotten; when all are connected, one more is refused. A connection holds one device, so strangers
/// who make up IMEIs can have those forgotten that are gone, and refused only as many as they
/// have connections.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    devices: BTreeMap<Imei, Record>,
    /// Those that are not connected, in the order in which they went.
    gone: BTreeMap<u64, Imei>,
    /// Counts registrations and departures.
    moments: u64,
}

struct Record {
    presence: Presence,
    app_id: AppId,
    origin: PeerAddr,
    name: Option<Name>,
    since: SystemTime,
    heartbeat: Option<SystemTime>,
    times: u64,
}

enum Presence {
    /// `generation`: which of its connections it is.
    Connected { generation: u64, wake: Waker },
    /// When it went, among all that did.
    Gone(u64),
}

/// What a registry knows of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceEntry {
    /// The device.
    pub imei: Imei,
    /// The application that it last registered with.
    pub app_id: AppId,
    /// Where it last connected from.
    pub origin: PeerAddr,
    /// What it is called, in schemes that have names.
    pub name: Option<Name>,
    /// Whether it is connected.
    pub connected: bool,
    /// When it last registered.
    pub since: SystemTime,
    /// When its heart last beat, since it first registered.
    pub heartbeat: Option<SystemTime>,
    /// How often it has registered.
    pub times: u64,
}

/// All devices that can be remembered are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("as many devices are connected as are remembered: allow more")
    }
}

impl std::error::Error for Full {}

impl Registry {
    /// A registry that remembers at most `max` devices.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Shared { max, state: Mutex::default() }))
    }

    /// No code runs under the lock that could leave the state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers the device of a connection from `origin`, of a peer called `name`. Another
    /// connection of the same device is taken over from: its `wake` is woken, and its [`Place`] is no
    /// longer current. The connection keeps the place as long as it lives.
    ///
    /// # Errors
    /// [`Full`].
    pub fn register(
        &self,
        (imei, app_id): (Imei, AppId),
        (origin, name): (PeerAddr, Option<Name>),
        wake: &Waker,
        now: SystemTime,
    ) -> Result<Place, Full> {
        let mut state = self.state();
        let (times, heartbeat) = match state.devices.get(&imei) {
            Some(known) => (known.times, known.heartbeat),
            None if state.devices.len() < self.0.max => (0, None),
            None => {
                let (_, longest_gone) = state.gone.pop_first().ok_or(Full)?;
                state.devices.remove(&longest_gone);
                (0, None)
            }
        };
        let generation = state.next();
        let presence = Presence::Connected { generation, wake: wake.clone() };
        let times = times.saturating_add(1);
        let record = Record { presence, app_id, origin, name, since: now, heartbeat, times };
        let before = state.devices.insert(imei, record).map(|before| before.presence);
        if let Some(Presence::Gone(order)) = before {
            state.gone.remove(&order);
        }
        drop(state);
        if let Some(Presence::Connected { wake, .. }) = before {
            wake.wake();
        }
        Ok(Place { registry: self.clone(), imei, generation })
    }

    /// Every device, by IMEI.
    #[must_use]
    pub fn list(&self) -> Vec<DeviceEntry> {
        let entry = |(imei, record): (&Imei, &Record)| DeviceEntry {
            imei: *imei,
            app_id: record.app_id,
            origin: record.origin,
            name: record.name,
            connected: matches!(record.presence, Presence::Connected { .. }),
            since: record.since,
            heartbeat: record.heartbeat,
            times: record.times,
        };
        self.state().devices.iter().map(entry).collect()
    }

    /// Every device, a line each under a heading, times in local time.
    #[must_use]
    pub fn table(&self) -> String {
        table::table(&self.list())
    }

    /// Every device, as one line that is an array of JSON objects, times in UTC.
    #[must_use]
    pub fn json(&self) -> String {
        table::json(&self.list())
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("max", &self.0.max).finish_non_exhaustive()
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.moments += 1;
        self.moments
    }

    /// The device, if it is still that connection's.
    fn current(&mut self, imei: Imei, generation: u64) -> Option<&mut Record> {
        let current = |record: &&mut Record| match &record.presence {
            Presence::Connected { generation: current, .. } => *current == generation,
            Presence::Gone(_) => false,
        };
        self.devices.get_mut(&imei).filter(current)
    }
}

/// A connection's place in a [`Registry`], given up when it is dropped: unless another connection has
/// taken it over, the device is gone then.
#[derive(Debug)]
pub struct Place {
    registry: Registry,
    imei: Imei,
    generation: u64,
}

impl Place {
    /// Whether the device is still this connection's.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.registry.state().current(self.imei, self.generation).is_some()
    }

    /// The device has registered again on the same connection.
    pub fn register_again(&self, app_id: AppId, now: SystemTime) {
        if let Some(record) = self.registry.state().current(self.imei, self.generation) {
            (record.app_id, record.since) = (app_id, now);
            record.times = record.times.saturating_add(1);
        }
    }

    /// The device's heart has beaten.
    pub fn beat(&self, now: SystemTime) {
        if let Some(record) = self.registry.state().current(self.imei, self.generation) {
            record.heartbeat = Some(now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.registry.state();
        let order = state.next();
        if let Some(record) = state.current(self.imei, self.generation) {
            record.presence = Presence::Gone(order);
            state.gone.insert(order, self.imei);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn imei(number: u64) -> Imei {
        format!("{number:015}").parse().unwrap()
    }

    fn app_id() -> AppId {
        "996da38d-a7be-4947-aa4c-f8208b5f4ade".parse().unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn enter(registry: &Registry, number: u64, woken: &Arc<Woken>) -> Result<Place, Full> {
        let wake = woken.clone().into();
        registry.register((imei(number), app_id()), (PeerAddr::Unix, None), &wake, at(number))
    }

    /// Number, connected, times.
    fn list(registry: &Registry) -> Vec<(u64, bool, u64)> {
        let entry = |it: DeviceEntry| (it.imei.as_str().parse().unwrap(), it.connected, it.times);
        registry.list().into_iter().map(entry).collect()
    }

    #[test]
    fn who_registers_is_listed_and_who_goes_stays_listed_as_gone() {
        let (registry, woken) = (Registry::new(9), Arc::default());
        let place = enter(&registry, 2, &woken).unwrap();
        let other = enter(&registry, 1, &woken).unwrap();
        place.beat(at(50));
        place.register_again(app_id(), at(60));
        assert_eq!(list(&registry), [(1, true, 1), (2, true, 2)]);
        let entry = &registry.list()[1];
        assert_eq!((entry.since, entry.heartbeat), (at(60), Some(at(50))));
        drop(place);
        assert_eq!(list(&registry), [(1, true, 1), (2, false, 2)]);
        let place = enter(&registry, 2, &woken).unwrap();
        assert_eq!(list(&registry), [(1, true, 1), (2, true, 3)]);
        assert!(place.is_current() && other.is_current());
        assert_eq!(registry.list()[1].heartbeat, Some(at(50)));
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_second_connection_takes_over_and_the_first_one_going_changes_nothing() {
        let registry = Registry::new(1);
        let (first, second) = (Arc::default(), Arc::default());
        let old = enter(&registry, 1, &first).unwrap();
        let new = enter(&registry, 1, &second).unwrap();
        assert_eq!(first.0.load(Ordering::Relaxed), 1);
        assert_eq!(second.0.load(Ordering::Relaxed), 0);
        assert!(!old.is_current() && new.is_current());
        old.beat(at(99));
        old.register_again(app_id(), at(99));
        assert_eq!((registry.list()[0].heartbeat, registry.list()[0].since), (None, at(1)));
        drop(old);
        assert!(new.is_current());
        assert_eq!(list(&registry), [(1, true, 2)]);
        drop(new);
        assert_eq!(list(&registry), [(1, false, 2)]);
    }

    #[test]
    fn those_gone_for_longest_are_forgotten_and_those_connected_never() {
        let (registry, woken) = (Registry::new(3), Arc::default());
        let mut places: Vec<_> = (1..=3).map(|n| enter(&registry, n, &woken).unwrap()).collect();
        assert_eq!(enter(&registry, 4, &woken).unwrap_err(), Full);
        // Of one that it knows, it takes another registration.
        drop(enter(&registry, 1, &woken).unwrap());
        drop(places.remove(1));
        assert_eq!(list(&registry), [(1, false, 2), (2, false, 1), (3, true, 1)]);
        // The first came back, so the second is gone for longest.
        let back = enter(&registry, 1, &woken).unwrap();
        let fourth = enter(&registry, 4, &woken).unwrap();
        assert_eq!(list(&registry), [(1, true, 3), (3, true, 1), (4, true, 1)]);
        assert_eq!(enter(&registry, 5, &woken).unwrap_err(), Full);
        assert!(back.is_current() && fourth.is_current());
        // A flood leaves no more than that.
        drop(places);
        for number in 100..200 {
            drop(enter(&registry, number, &woken));
        }
        assert_eq!(list(&registry).len(), 3);
        let state = registry.state();
        assert_eq!((state.devices.len(), state.gone.len()), (3, 1));
    }
}
