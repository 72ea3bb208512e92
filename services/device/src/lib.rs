//! The long connection of devices: a device registers with a server, asks it the time, and keeps
//! its heart beating (docs/PROTOCOL.md, "device").
//!
//! It runs on any [`Protocol`](crate::Protocol) whose framing has messages. [`DeviceClient`] and
//! [`DeviceServer`] are its two ends of one connection, [`Backoff`] is when to connect again. They are
//! pure as the rest of the crate is: parts of messages and moments go in, requests and responses come
//! out.
//!
//! ```
//! use crate::*;
//! use countersign::{Instant, Remaining};
//!
//! let now = Instant::EPOCH;
//! let app_id = "996da38d-a7be-4947-aa4c-f8208b5f4ade".parse()?;
//! let mut client = DeviceClient::new(app_id, "869858030720693".parse()?, now);
//! let mut server = DeviceServer::new(DEFAULT_INTERVAL, now);
//!
//! let mut said = Vec::new();
//! while let Some(request) = client.poll_request(now) {
//!     // Over a connection: into the outbox, and `handle_sent` once that has taken it.
//!     let mut buffer = [0; Request::MAX_LEN];
//!     let asked = server.handle_part(request.write(&mut buffer), Remaining::End, now);
//!     client.handle_sent(now);
//!     match asked {
//!         Some(Asked::Register { .. }) => server.accept(),
//!         Some(Asked::DateTime) => server.provide_time("2026-01-31 23:59:59".parse()?),
//!         _ => {}
//!     }
//!     let response = server.poll_response().expect("every request is answered");
//!     let mut buffer = [0; Response::MAX_LEN];
//!     client.handle_part(response.write(&mut buffer), Remaining::End, now);
//!     server.handle_sent(now);
//!     said.push((response.id(), response.code(), response.time()));
//! }
//! assert_eq!(said, [(0, 0, None), (2, 0, Some("2026-01-31 23:59:59".parse()?))]);
//! assert_eq!(client.poll_timeout(), Some(now.saturating_add(DEFAULT_INTERVAL)));
//! # Ok::<(), MessageError>(())
//! ```

#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

mod backoff;
mod client_service;
mod device_client;
mod device_server;
mod message;
mod reassembler;
#[cfg(feature = "std")]
mod registry;
#[cfg(feature = "std")]
mod server_service;
#[cfg(feature = "std")]
mod table;

use core::fmt;
use core::time::Duration;

pub use backoff::Backoff;
pub use client_service::Device;
pub use device_client::DeviceClient;
pub use device_server::{Asked, DeviceServer, Refusal};
pub use message::{AppId, Ask, DateTime, Imei, Kind, MessageError, Request, Response};
#[cfg(feature = "std")]
pub use registry::{DeviceEntry, Full, Place, Registry};
#[cfg(feature = "std")]
pub use server_service::{DeviceConnection, Devices};

/// How long after one heartbeat the next one is due, unless configured otherwise.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(3);

/// Why the device's conversation on one connection has failed. Final for that connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceError {
    /// The server sent what is no response.
    Malformed(MessageError),
    /// The server answered what nobody had asked.
    Unasked(Kind),
    /// The server answered with an error.
    Refused(Kind),
    /// The server did not answer in time.
    NoAnswer(Kind),
    /// The device was silent for three intervals.
    Silent,
}

impl DeviceError {
    /// One word for logs and metrics; it will not change.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed-response",
            Self::Unasked(_) => "unasked-response",
            Self::Refused(_) => "request-refused",
            Self::NoAnswer(_) => "no-answer",
            Self::Silent => "device-silent",
        }
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(
                f,
                "the server sent what is no response: {error}: check that it serves devices, and that both ends use the same scheme"
            ),
            Self::Unasked(kind) => {
                write!(f, "the server answered a request for {kind}, and nobody had asked")
            }
            Self::Refused(kind) => {
                write!(f, "the server refused a request for {kind}: look into its log")
            }
            Self::NoAnswer(kind) => write!(
                f,
                "the server did not answer a request for {kind} in time: it is gone, or the network is"
            ),
            Self::Silent => f.write_str(
                "the device was silent for three intervals: it is gone, or the network is, or its interval is longer than the server's",
            ),
        }
    }
}

impl core::error::Error for DeviceError {}

#[cfg(test)]
mod tests;
