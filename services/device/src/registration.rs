//! A connection's entry in the registry.

use std::time::SystemTime;

use crate::app_id::AppId;
use crate::imei::Imei;
use crate::registry::Registry;

/// The registration of a device by one connection.
///
/// When it is dropped, the device counts as disconnected, unless another connection has registered it
/// meanwhile.
#[derive(Debug)]
pub struct Registration {
    registry: Registry,
    imei: Imei,
    generation: u64,
}

impl Registration {
    pub(crate) const fn new(registry: Registry, imei: Imei, generation: u64) -> Self {
        Self { registry, imei, generation }
    }

    /// Whether no other connection has registered the device since.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.registry.update(self.imei, self.generation, |_| ()).is_some()
    }

    /// Records that the device has registered again on the same connection.
    pub fn renew(&self, app_id: AppId, now: SystemTime) {
        self.registry.update(self.imei, self.generation, |entry| {
            (entry.app_id, entry.registered_at) = (app_id, now);
            entry.registrations = entry.registrations.saturating_add(1);
        });
    }

    /// Records a heartbeat.
    pub fn record_heartbeat(&self, now: SystemTime) {
        self.registry.update(self.imei, self.generation, |entry| entry.last_heartbeat = Some(now));
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.disconnect(self.imei, self.generation);
    }
}
