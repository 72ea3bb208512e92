//! Devices that stay connected (docs/PROTOCOL.md, "device"): the service of their server, and their
//! own.

mod client;
mod registry;
mod server;
mod table;

pub use client::Device;
pub use registry::{DeviceEntry, Full, Place, Registry};
pub use server::{DeviceConnection, Devices};
