//! Devices that stay connected (docs/PROTOCOL.md, "device"): their own service, and with the feature
//! `std` that of their server.

mod client;
#[cfg(feature = "std")]
mod registry;
#[cfg(feature = "std")]
mod server;
#[cfg(feature = "std")]
mod table;

pub use client::Device;
#[cfg(feature = "std")]
pub use registry::{DeviceEntry, Full, Place, Registry};
#[cfg(feature = "std")]
pub use server::{DeviceConnection, Devices};
