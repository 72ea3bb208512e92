//! The list of devices.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::SystemTime;

use countersign::Name;
use countersign_host::PeerAddr;

use crate::app_id::AppId;
use crate::device_entry::DeviceEntry;
use crate::imei::Imei;
use crate::registration::Registration;
use crate::table;

/// The devices of a server, by IMEI: connected and disconnected ones. Clones share the list, which all
/// connections use.
///
/// It keeps a fixed number of devices. A new device replaces the one that has been disconnected for
/// longest; if all are connected, it is refused. A connection holds one device. So a peer that invents
/// IMEIs can evict disconnected devices, but can have others refused only by holding as many connections
/// as the registry has entries.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    devices: BTreeMap<Imei, Record>,
    /// Disconnected devices, in the order in which they disconnected.
    disconnected: BTreeMap<u64, Imei>,
    /// Counts registrations and disconnections.
    sequence: u64,
}

struct Record {
    presence: Presence,
    entry: DeviceEntry,
}

enum Presence {
    /// `generation` identifies the connection.
    Connected { generation: u64, waker: Waker },
    /// The key in [`State::disconnected`].
    Disconnected(u64),
}

/// A device cannot register: the registry is full, and all of its devices are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistryFull;

impl fmt::Display for RegistryFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the registry is full and all of its devices are connected: raise its limit")
    }
}

impl std::error::Error for RegistryFull {}

impl Registry {
    /// A registry of at most `max` devices.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Shared { max, state: Mutex::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that runs under the lock can leave the state inconsistent.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers the device of a connection from `addr` with a peer called `name`.
    ///
    /// If another connection has registered the same device, its [`Registration`] is no longer current and
    /// its waker is woken. `waker` is woken when that happens to this one. Keep the returned value as long
    /// as the connection is open.
    ///
    /// # Errors
    /// [`RegistryFull`].
    pub fn register(
        &self,
        (imei, app_id): (Imei, AppId),
        (addr, name): (PeerAddr, Option<Name>),
        waker: &Waker,
        now: SystemTime,
    ) -> Result<Registration, RegistryFull> {
        let mut state = self.state();
        let (registrations, last_heartbeat) = match state.devices.get(&imei) {
            Some(Record { entry, .. }) => (entry.registrations, entry.last_heartbeat),
            None if state.devices.len() < self.0.max => (0, None),
            None => {
                let (_, oldest) = state.disconnected.pop_first().ok_or(RegistryFull)?;
                state.devices.remove(&oldest);
                (0, None)
            }
        };
        let generation = state.next_sequence();
        let entry = DeviceEntry {
            imei,
            app_id,
            addr,
            name,
            connected: true,
            registered_at: now,
            last_heartbeat,
            registrations: registrations.saturating_add(1),
        };
        let presence = Presence::Connected { generation, waker: waker.clone() };
        let previous = state.devices.insert(imei, Record { presence, entry });
        let previous = previous.map(|record| record.presence);
        if let Some(Presence::Disconnected(sequence)) = previous {
            state.disconnected.remove(&sequence);
        }
        drop(state);
        if let Some(Presence::Connected { waker, .. }) = previous {
            waker.wake();
        }
        Ok(Registration::new(self.clone(), imei, generation))
    }

    /// Calls `update` with the entry of a device, if `generation` is its current registration.
    pub(crate) fn update<T>(
        &self,
        imei: Imei,
        generation: u64,
        update: impl FnOnce(&mut DeviceEntry) -> T,
    ) -> Option<T> {
        self.state().current(imei, generation).map(|record| update(&mut record.entry))
    }

    /// Marks a device as disconnected, if `generation` is its current registration.
    pub(crate) fn disconnect(&self, imei: Imei, generation: u64) {
        let mut state = self.state();
        let sequence = state.next_sequence();
        if let Some(record) = state.current(imei, generation) {
            record.presence = Presence::Disconnected(sequence);
            record.entry.connected = false;
            state.disconnected.insert(sequence, imei);
        }
    }

    /// All devices, ordered by IMEI.
    #[must_use]
    pub fn list(&self) -> Vec<DeviceEntry> {
        self.state().devices.values().map(|record| record.entry.clone()).collect()
    }

    /// A table of all devices: a heading, then a line for each device, with times in local time.
    #[must_use]
    pub fn table(&self) -> String {
        table::table(&self.list())
    }

    /// All devices as one line of JSON: an array of objects, with times in UTC.
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
    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// The record of a device, if `generation` is its current registration.
    fn current(&mut self, imei: Imei, generation: u64) -> Option<&mut Record> {
        let current = |record: &&mut Record| match &record.presence {
            Presence::Connected { generation: current, .. } => *current == generation,
            Presence::Disconnected(_) => false,
        };
        self.devices.get_mut(&imei).filter(current)
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

    fn register(
        registry: &Registry,
        number: u64,
        woken: &Arc<Woken>,
    ) -> Result<Registration, RegistryFull> {
        let waker = woken.clone().into();
        registry.register((imei(number), app_id()), (PeerAddr::Unix, None), &waker, at(number))
    }

    /// IMEI as a number, connected, registrations.
    fn list(registry: &Registry) -> Vec<(u64, bool, u64)> {
        let entry =
            |it: DeviceEntry| (it.imei.as_str().parse().unwrap(), it.connected, it.registrations);
        registry.list().into_iter().map(entry).collect()
    }

    #[test]
    fn disconnected_device_stays_listed() {
        let (registry, woken) = (Registry::new(9), Arc::default());
        let first = register(&registry, 2, &woken).unwrap();
        let other = register(&registry, 1, &woken).unwrap();
        first.record_heartbeat(at(50));
        first.renew(app_id(), at(60));
        assert_eq!(list(&registry), [(1, true, 1), (2, true, 2)]);
        let entry = &registry.list()[1];
        assert_eq!((entry.registered_at, entry.last_heartbeat), (at(60), Some(at(50))));
        drop(first);
        assert_eq!(list(&registry), [(1, true, 1), (2, false, 2)]);
        let first = register(&registry, 2, &woken).unwrap();
        assert_eq!(list(&registry), [(1, true, 1), (2, true, 3)]);
        assert!(first.is_current() && other.is_current());
        assert_eq!(registry.list()[1].last_heartbeat, Some(at(50)));
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn second_connection_takes_the_registration_over() {
        let registry = Registry::new(1);
        let (first, second) = (Arc::default(), Arc::default());
        let old = register(&registry, 1, &first).unwrap();
        let new = register(&registry, 1, &second).unwrap();
        assert_eq!(first.0.load(Ordering::Relaxed), 1);
        assert_eq!(second.0.load(Ordering::Relaxed), 0);
        assert!(!old.is_current() && new.is_current());
        old.record_heartbeat(at(99));
        old.renew(app_id(), at(99));
        assert_eq!(
            (registry.list()[0].last_heartbeat, registry.list()[0].registered_at),
            (None, at(1))
        );
        drop(old);
        assert!(new.is_current());
        assert_eq!(list(&registry), [(1, true, 2)]);
        drop(new);
        assert_eq!(list(&registry), [(1, false, 2)]);
    }

    #[test]
    fn device_disconnected_longest_is_evicted_first() {
        let (registry, woken) = (Registry::new(3), Arc::default());
        let mut registrations: Vec<_> =
            (1..=3).map(|n| register(&registry, n, &woken).unwrap()).collect();
        assert_eq!(register(&registry, 4, &woken).unwrap_err(), RegistryFull);
        // A known device may register again.
        drop(register(&registry, 1, &woken).unwrap());
        drop(registrations.remove(1));
        assert_eq!(list(&registry), [(1, false, 2), (2, false, 1), (3, true, 1)]);
        // The first device reconnects, so the second has been disconnected for longest.
        let back = register(&registry, 1, &woken).unwrap();
        let fourth = register(&registry, 4, &woken).unwrap();
        assert_eq!(list(&registry), [(1, true, 3), (3, true, 1), (4, true, 1)]);
        assert_eq!(register(&registry, 5, &woken).unwrap_err(), RegistryFull);
        assert!(back.is_current() && fourth.is_current());
        // A flood of registrations does not exceed the limit.
        drop(registrations);
        for number in 100..200 {
            drop(register(&registry, number, &woken));
        }
        assert_eq!(list(&registry).len(), 3);
        let state = registry.state();
        assert_eq!((state.devices.len(), state.disconnected.len()), (3, 1));
    }
}
