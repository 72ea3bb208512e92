//! The server's services.

use std::time::Duration;

use countersign_host::{ConnectionHandle, HandledStream, ServiceFactory};

use crate::device_connection::DeviceConnection;
use crate::registry::Registry;

/// Serves devices: makes the service of each connection. Pass it to `run_with` of a server.
///
/// ```
/// use countersign_device::{DEFAULT_INTERVAL, Devices, Registry};
///
/// let registry = Registry::new(10_000);
/// let devices = Devices::new(registry.clone(), DEFAULT_INTERVAL);
/// # let _ = devices;
/// // server.run_with(&devices), and from any thread:
/// println!("{}", registry.table());
/// ```
#[derive(Clone, Debug)]
pub struct Devices {
    registry: Registry,
    interval: Duration,
}

impl Devices {
    /// Registers devices with `registry`, and ends the connection of a device that was silent for three
    /// times `interval`.
    #[must_use]
    pub fn new(registry: Registry, interval: Duration) -> Self {
        Self { registry, interval }
    }

    pub(crate) const fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) const fn interval(&self) -> Duration {
        self.interval
    }
}

impl ServiceFactory for Devices {
    type Service = HandledStream<DeviceConnection>;

    fn create(&self, handle: ConnectionHandle) -> Self::Service {
        let service = DeviceConnection::new(self.clone(), handle.addr(), handle.waker());
        HandledStream::new(service, handle)
    }
}
