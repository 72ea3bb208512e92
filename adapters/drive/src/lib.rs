//! What every adapter of [`countersign`] shares, so that adapters differ only in how they wait.
//!
//! * [`Service`]: an application, written once, run by any adapter.
//! * [`Connection`]: a [`Machine`](countersign::Machine) and a service, driven turn by turn over
//!   any [`Io`].
//! * [`Keys`]: who answers key requests.
//! * [`services`] to try a connection with, and that of a [`device`].
//! * with the feature `std`: [`Pools`] of buffers that connections share, [`Sessions`] that make
//!   machines with them, the [`Gate`] and the [`Sources`] that bound connections, [`Deadlines`],
//!   sockets by [`Address`], a [`Mailbox`] for callers who would rather not be called, the service of
//!   the server of [`device`]s, and the log lines.
//! * with the feature `keys`: secrets from files, [`keys`].
//!
//! Without features the crate is `no_std` and allocates nothing.

#![cfg_attr(not(feature = "std"), no_std)]

pub mod device;
mod io;
mod service;
pub mod services;
mod turn;

#[cfg(feature = "std")]
mod client;
#[cfg(feature = "std")]
mod clock;
#[cfg(feature = "std")]
mod deadlines;
#[cfg(feature = "std")]
mod gate;
#[cfg(feature = "std")]
mod log;
#[cfg(feature = "std")]
mod mailbox;
#[cfg(feature = "std")]
mod net;
#[cfg(feature = "std")]
mod pool;
#[cfg(feature = "std")]
mod process;
#[cfg(feature = "std")]
mod protocol;
#[cfg(feature = "std")]
mod reflection;
#[cfg(feature = "std")]
mod server;
#[cfg(feature = "std")]
mod shared_keys;
#[cfg(feature = "std")]
mod sources;
#[cfg(feature = "std")]
mod tracked;

#[cfg(feature = "keys")]
mod keyring;
#[cfg(feature = "keys")]
pub mod keys;

pub use io::Io;
pub use service::{Flow, Keys, Part, Service};
pub use turn::{Connection, Failure, Turn, Wait};

#[cfg(feature = "std")]
pub use client::{Caller, ClientError, ClientOptions, Post};
#[cfg(feature = "std")]
pub use clock::Clock;
#[cfg(feature = "std")]
pub use deadlines::Deadlines;
#[cfg(feature = "std")]
pub use gate::{Gate, Permit};
#[cfg(feature = "keys")]
pub use keyring::{Keyring, KeyringError};
#[cfg(feature = "std")]
pub use log::{log_end, log_established, log_refused};
#[cfg(feature = "std")]
pub use mailbox::{Mailbox, Received};
#[cfg(feature = "std")]
pub use net::{Address, AddressError, Listener, Origin, Stream, Target};
#[cfg(feature = "std")]
pub use pool::{Lease, Pool, PoolOptions, Pools};
#[cfg(feature = "std")]
pub use process::instance;
#[cfg(feature = "std")]
pub use protocol::{BoxedMachine, Open, Protocol, Sessions, StartError};
#[cfg(feature = "std")]
pub use reflection::Outstanding;
#[cfg(feature = "std")]
pub use server::{Accepted, Acceptor, Front, Guest, Remote, Served, ServerOptions};
#[cfg(feature = "std")]
pub use shared_keys::{Followed, SharedKeys};
#[cfg(feature = "std")]
pub use sources::{Attempt, Limited, SourceOptions, Sources};
#[cfg(feature = "std")]
pub use tracked::{Ended, Next, Notice, Tracked};
