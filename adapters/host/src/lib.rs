//! The layer that the adapters for operating systems share. They differ only in how they wait.
//!
//! **This crate is internal**: applications use an adapter (`countersign-mio`, `countersign-std`,
//! `countersign-smol`), which re-exports what its users need. The public items of this crate are those that
//! adapters use and re-export.
//!
//! * Sockets by [`Address`]; [`Listener`], [`Stream`].
//! * [`SessionFactory`] makes protocols with buffers from shared [`Pools`].
//! * [`Acceptor`] accepts the connections of a server. [`ServerContext`] admits them within
//!   [limits](ServerOptions) and logs what becomes of them; [`ServerHandle`] and [`ConnectionHandle`] reach
//!   them from any thread.
//! * [`MonitoredConnection`], [`ServedConnection`] and [`StoppableConnection`] call a service,
//!   [`CallConnection`] is driven by calls, from any threads or tasks as a [`SharedConnection`].
//! * With the feature `keyring`: [`Keyring`]s and [key files](key_file).

mod acceptor;
mod address;
mod call_connection;
mod call_error;
mod clock;
mod connection_handle;
mod connection_limit;
mod connector;
mod deadline_heap;
mod keep_alive;
mod key_list;
mod lease_holder;
mod listener;
mod log;
mod message_memory;
mod monitored_connection;
mod operation;
mod peer_addr;
mod peer_identity;
mod peer_limits;
mod pool;
mod principal;
mod process_id;
mod reconnection;
mod reflection_guard;
mod served_connection;
mod server_context;
mod server_handle;
mod service_factory;
mod session_factory;
mod shared_connection;
mod shared_keys;
mod shares;
mod shutdown_handle;
mod socket_file;
mod stoppable_connection;
mod stream;
mod waiters;
mod wake_queue;

#[cfg(feature = "keyring")]
pub mod key_file;
#[cfg(feature = "keyring")]
mod keyring;

pub use acceptor::{Accepted, Acceptor, Incoming};
pub use address::{Address, AddressError, ResolvedAddr};
pub use call_connection::{CallConnection, ConnectionOptions, OwnedChunk};
pub use call_error::CallError;
pub use clock::Clock;
pub use connection_handle::{ConnectionHandle, ConnectionWaker, HandleError, HandledService};
pub use connection_limit::{ConnectionLimit, ConnectionPermit};
pub use connector::Connector;
pub use deadline_heap::DeadlineHeap;
pub use keep_alive::{KeepAlive, keep_alive};
pub use key_list::KeyList;
#[cfg(feature = "keyring")]
pub use keyring::{Keyring, KeyringError};
pub use lease_holder::LeaseHolder;
pub use listener::Listener;
pub use log::{log_end, log_established, log_refused};
pub use message_memory::{MessageBytes, MessageMemory};
pub use monitored_connection::{ConnectionEnd, ConnectionEvent, MonitoredConnection, Step};
pub use operation::{Operation, Request, Sending};
pub use peer_addr::PeerAddr;
pub use peer_identity::PeerIdentity;
pub use peer_limits::{HandshakePermit, LimitExceeded, PeerLimitOptions, PeerLimits};
pub use pool::{Lease, Pool, PoolOptions, Pools};
pub use principal::Principal;
pub use process_id::process_id;
pub use reconnection::{Attempt, Reconnection};
pub use reflection_guard::OutstandingChallenges;
pub use served_connection::ServedConnection;
pub use server_context::{AdmissionGuard, ServerContext, ServerOptions};
pub use server_handle::ServerHandle;
pub use service_factory::{HandledStream, Messages, ServiceFactory, Streams};
pub use session_factory::{
    BoxedProtocol, MutualError, ProtocolFactory, SessionFactory, StartError,
};
pub use shared_connection::{CallTransport, SharedConnection};
pub use shared_keys::{KeysWatcher, SharedKeys};
pub use shutdown_handle::ShutdownHandle;
pub use stoppable_connection::StoppableConnection;
pub use stream::Stream;
pub use waiters::Call;
pub use wake_queue::WakeQueue;
