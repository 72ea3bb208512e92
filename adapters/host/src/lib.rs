//! What every adapter of [`countersign`] shares, so that adapters differ only in how they wait.
//!
//! * [`Service`]: an application, written once, run by any adapter.
//! * [`Connection`]: a [`Protocol`](countersign::Protocol) and a service, driven turn by turn over
//!   any [`Io`].
//! * [`Keys`]: who answers key requests.
//! * [`services`] to try a connection with, and that of a [`device`].
//! * with the feature `std`: [`Pools`] of buffers that connections share, [`SessionFactory`] that make
//!   machines with them, the [`ConnectionLimit`] and the [`PeerLimits`] that bound connections, [`Deadlines`],
//!   sockets by [`Address`], a [`Mailbox`] for callers who would rather not be called, the service of
//!   the server of [`device`]s, and the log lines.
//! * with the feature `keys`: secrets from files, [`keys`].
//!
//! Without features the crate is `no_std` and allocates nothing.

mod client;
mod clock;
mod connection_limit;
mod deadlines;
mod key_list;
mod log;
mod mailbox;
mod monitored_connection;
mod net;
mod peer_limits;
mod pool;
mod process_id;
mod reflection_guard;
mod server;
mod session_factory;
mod shared_keys;

#[cfg(feature = "keyring")]
pub mod key_file;
#[cfg(feature = "keyring")]
mod keyring;

pub use client::{Caller, ClientError, ClientOptions, Post};
pub use clock::Clock;
pub use connection_limit::{ConnectionLimit, ConnectionPermit};
pub use deadlines::Deadlines;
pub use key_list::KeyList;
#[cfg(feature = "keyring")]
pub use keyring::{Keyring, KeyringError};
pub use log::{log_end, log_established, log_refused};
pub use mailbox::{Mailbox, Received};
pub use monitored_connection::{ConnectionEvent, Ended, MonitoredConnection, Next};
pub use net::{Address, AddressError, Listener, PeerAddr, ResolvedAddr, Stream};
pub use peer_limits::{HandshakePermit, LimitExceeded, PeerLimitOptions, PeerLimits};
pub use pool::{Lease, Pool, PoolOptions, Pools};
pub use process_id::process_id;
pub use reflection_guard::OutstandingChallenges;
pub use server::{
    Accepted, Acceptor, AdmissionGuard, ServedConnection, ServerContext, ServerHandle,
    ServerOptions,
};
pub use session_factory::{BoxedProtocol, Open, ProtocolFactory, SessionFactory, StartError};
pub use shared_keys::{KeysWatcher, SharedKeys};
