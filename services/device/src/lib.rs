//! The long-lived connections of devices: a device registers with a server, requests the time and sends
//! heartbeats (docs/PROTOCOL.md, section "device").
//!
//! The protocol runs over any scheme whose framing has messages.
//!
//! | type | what it is |
//! |---|---|
//! | [`DeviceClient`], [`DeviceServer`] | the two sides of one connection, without I/O or clock |
//! | [`Device`] | a [`StreamService`](countersign_driver::StreamService) for the device's side |
//! | [`Backoff`] | when a device reconnects |
//! | `Devices`, `Registry` | the server's services, and the list of devices (feature `std`) |
//!
//! Without the feature `std` this crate is `no_std` and allocates nothing.
//!
//! ```
//! use countersign::{Instant, Remaining};
//! use countersign_device::*;
//!
//! let now = Instant::EPOCH;
//! let app_id = "996da38d-a7be-4947-aa4c-f8208b5f4ade".parse()?;
//! let mut client = DeviceClient::new(app_id, "869858030720693".parse()?, now);
//! let mut server = DeviceServer::new(DEFAULT_INTERVAL, now);
//!
//! let mut responses = Vec::new();
//! while let Some(request) = client.poll_request(now) {
//!     // Over a connection: send the request, and call `handle_sent` once the outbox has taken it.
//!     let mut buffer = [0; Request::MAX_LEN];
//!     let event = server.handle_chunk(request.write(&mut buffer), Remaining::End, now);
//!     client.handle_sent(now);
//!     match event {
//!         Some(DeviceEvent::Register { .. }) => server.accept(),
//!         Some(DeviceEvent::DateTime) => server.provide_time("2026-01-31 23:59:59".parse()?),
//!         _ => {}
//!     }
//!     let response = server.poll_response().expect("every request has a response");
//!     let mut buffer = [0; Response::MAX_LEN];
//!     client.handle_chunk(response.write(&mut buffer), Remaining::End, now);
//!     server.handle_sent(now);
//!     responses.push((response.id(), response.code(), response.time()));
//! }
//! assert_eq!(responses, [(0, 0, None), (2, 0, Some("2026-01-31 23:59:59".parse()?))]);
//! assert_eq!(client.poll_timeout(), Some(now.saturating_add(DEFAULT_INTERVAL)));
//! # Ok::<(), MessageError>(())
//! ```

#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![forbid(unsafe_code)]

/// The programs of the README are compiled as tests.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;

mod app_id;
mod date_time;
mod device;
mod device_client;
#[cfg(feature = "std")]
mod device_connection;
#[cfg(feature = "std")]
mod device_entry;
mod device_error;
mod device_server;
#[cfg(feature = "std")]
mod devices;
mod imei;
mod kind;
mod message_error;
mod message_prefix;
#[cfg(feature = "std")]
mod registration;
#[cfg(feature = "std")]
mod registry;
mod request;
mod response;
#[cfg(feature = "std")]
mod table;
mod text;

use core::time::Duration;

pub use app_id::AppId;
pub use countersign_driver::Backoff;
pub use date_time::DateTime;
pub use device::Device;
pub use device_client::DeviceClient;
#[cfg(feature = "std")]
pub use device_connection::DeviceConnection;
#[cfg(feature = "std")]
pub use device_entry::DeviceEntry;
pub use device_error::DeviceError;
pub use device_server::{DeviceEvent, DeviceServer, Rejection};
#[cfg(feature = "std")]
pub use devices::Devices;
pub use imei::Imei;
pub use kind::Kind;
pub use message_error::MessageError;
#[cfg(feature = "std")]
pub use registration::Registration;
#[cfg(feature = "std")]
pub use registry::{Registry, RegistryFull};
pub use request::{Request, RequestBody};
pub use response::Response;

/// Time from one heartbeat to the next, unless configured otherwise.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
