//! Drives a [`Protocol`](countersign::Protocol) over any byte stream.
//!
//! A [`Driver`] pumps bytes between a protocol and an [`Io`], answers key requests by [`Keys`], and
//! returns the [events](countersign::Event) that concern the application. Two layers on top of it serve
//! two kinds of applications:
//!
//! * [`ServiceConnection`] calls a [`StreamService`] with chunks of bounded size;
//!   [`MessageService`] makes one of a [`Service`], which takes whole messages.
//! * [`Connection`] is polled by an owner who wants to send and receive; [`ResumableConnection`] lets
//!   the owner give up a call and repeat it.
//!
//! Adapters wait for readiness and time, and differ in nothing else. This crate is `no_std` and
//! allocates nothing.

#![no_std]
#![forbid(unsafe_code)]

/// The programs of the README are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod backoff;
mod chunk;
mod connection;
mod driver;
mod io;
mod keys;
mod message_buffer;
mod message_service;
mod queue_error;
mod reassembler;
mod resumable_connection;
mod send_queue;
mod service;
mod service_connection;
pub mod services;
mod stream_service;

pub use backoff::Backoff;
pub use chunk::Chunk;
pub use connection::{Connection, ConnectionError};
pub use driver::{Driver, Failure, Interest, Progress};
pub use io::Io;
pub use keys::{Keys, NoKeys};
pub use message_buffer::{BufferError, MessageBuffer, SliceBuffer};
pub use message_service::MessageService;
pub use queue_error::QueueError;
pub use reassembler::Reassembler;
pub use resumable_connection::{CallProgress, ConnectionResult, ResumableConnection};
pub use send_queue::{SendQueue, send_from};
pub use service::{Context, Service, ServiceError};
pub use service_connection::ServiceConnection;
pub use stream_service::{Flow, StreamService};
