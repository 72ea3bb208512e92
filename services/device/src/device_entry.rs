//! The registry's record of a device.

use std::time::SystemTime;

use countersign::Name;
use countersign_host::PeerAddr;

use crate::app_id::AppId;
use crate::imei::Imei;

/// A device in a [`Registry`](crate::Registry).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceEntry {
    /// The device.
    pub imei: Imei,
    /// The application of its last registration.
    pub app_id: AppId,
    /// The address of its last connection.
    pub addr: PeerAddr,
    /// Its name, in schemes with names.
    pub name: Option<Name>,
    /// Whether it is connected.
    pub connected: bool,
    /// When it last registered.
    pub registered_at: SystemTime,
    /// When its last heartbeat arrived; `None` before the first.
    pub last_heartbeat: Option<SystemTime>,
    /// How often it has registered.
    pub registrations: u64,
}
