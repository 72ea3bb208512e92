//! Keys that change while they are in use.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use countersign_driver::Keys;

/// Keys that any number of servers use, and that can be replaced under them.
#[derive(Clone)]
pub struct SharedKeys(Arc<Shared>);

struct Shared {
    keys: RwLock<Arc<dyn Keys + Send + Sync>>,
    /// How often they were replaced.
    generation: AtomicU64,
}

impl SharedKeys {
    /// `keys`, to be shared.
    #[must_use]
    pub fn new(keys: Arc<dyn Keys + Send + Sync>) -> Self {
        Self(Arc::new(Shared { keys: RwLock::new(keys), generation: AtomicU64::new(0) }))
    }

    /// The keys of now.
    #[must_use]
    pub fn current(&self) -> Arc<dyn Keys + Send + Sync> {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uses `keys` from now on. Who holds a generation from before learns by asking again.
    pub fn replace(&self, keys: Arc<dyn Keys + Send + Sync>) {
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        self.0.generation.fetch_add(1, Ordering::Release);
    }

    /// How often they were replaced.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// These keys, for somebody who has to know when they are replaced.
    #[must_use]
    pub fn follow(&self) -> KeysWatcher {
        let generation = self.generation();
        KeysWatcher { shared: self.clone(), generation, current: self.current() }
    }
}

/// [`SharedKeys`] as they were when they were last looked at.
#[derive(Clone)]
pub struct KeysWatcher {
    shared: SharedKeys,
    generation: u64,
    current: Arc<dyn Keys + Send + Sync>,
}

impl KeysWatcher {
    /// Looks whether the keys were replaced.
    pub fn renew(&mut self) -> bool {
        let generation = self.shared.generation();
        let renewed = generation != self.generation;
        if renewed {
            // In this order: keys that are replaced in between are looked at twice.
            self.generation = generation;
            self.current = self.shared.current();
        }
        renewed
    }

    /// The keys as they were then.
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
