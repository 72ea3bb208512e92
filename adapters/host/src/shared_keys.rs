//! Keys that are replaced while they are in use.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use countersign::Key;
use countersign_driver::Keys;

/// Keys that several servers share, and that can be replaced at any time. Clones share the keys.
///
/// After [`replace`](Self::replace), call [`ServerHandle::keys_changed`](crate::ServerHandle::keys_changed)
/// of each server, so that it ends the sessions of removed keys at once.
#[derive(Clone)]
pub struct SharedKeys(Arc<Shared>);

struct Shared {
    keys: RwLock<Arc<dyn Keys + Send + Sync>>,
    /// How often the keys were replaced.
    generation: AtomicU64,
}

impl SharedKeys {
    /// Shares `keys`.
    #[must_use]
    pub fn new(keys: Arc<dyn Keys + Send + Sync>) -> Self {
        Self(Arc::new(Shared { keys: RwLock::new(keys), generation: AtomicU64::new(0) }))
    }

    /// The current keys.
    #[must_use]
    pub fn current(&self) -> Arc<dyn Keys + Send + Sync> {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the keys. A [`KeysWatcher`] notices at its next refresh.
    pub fn replace(&self, keys: Arc<dyn Keys + Send + Sync>) {
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        self.0.generation.fetch_add(1, Ordering::Release);
    }

    /// How often the keys were replaced.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// A copy of the current keys that detects when they are replaced.
    #[must_use]
    pub fn watch(&self) -> KeysWatcher {
        let generation = self.generation();
        KeysWatcher { shared: self.clone(), generation, current: self.current() }
    }
}

/// The [`SharedKeys`] as of the last [`refresh`](Self::refresh).
#[derive(Clone)]
pub struct KeysWatcher {
    shared: SharedKeys,
    generation: u64,
    current: Arc<dyn Keys + Send + Sync>,
}

impl KeysWatcher {
    /// Takes the current keys; returns whether they were replaced since the last call.
    pub fn refresh(&mut self) -> bool {
        let generation = self.shared.generation();
        let replaced = generation != self.generation;
        if replaced {
            // In this order: a replacement in between is noticed again at the next refresh. In the other
            // order it would be missed.
            self.generation = generation;
            self.current = self.shared.current();
        }
        replaced
    }

    /// The keys as of the last refresh.
    #[must_use]
    pub fn keys(&self) -> &(dyn Keys + Send + Sync) {
        &*self.current
    }
}

impl<K: Keys + Send + Sync + 'static> From<Arc<K>> for SharedKeys {
    fn from(keys: Arc<K>) -> Self {
        Self::new(keys)
    }
}

impl fmt::Debug for SharedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedKeys").field("generation", &self.generation()).finish_non_exhaustive()
    }
}

impl From<Key> for SharedKeys {
    fn from(key: Key) -> Self {
        Self::new(Arc::new(key))
    }
}
