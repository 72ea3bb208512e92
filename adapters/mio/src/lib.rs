//! countersign on a mio event loop: one thread, many connections.
//!
//! [`Server`] is a whole server: listeners, connections, an orderly stop. [`Connections`] drives
//! connections on the `mio::Poll` of the application, servers' and clients' alike.
//!
//! ```no_run
//! use countersign_mio::{Context, Key, Server, Service, ServiceError, SessionFactory};
//!
//! /// Answers every message in upper case.
//! struct Shout;
//!
//! impl Service for Shout {
//!     fn on_message(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), ServiceError> {
//!         Ok(cx.send(&message.to_ascii_uppercase())?)
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let key = Key::mutual(b"a secret of at least 16 bytes")?;
//!     let mut server = Server::bind("127.0.0.1:9999", SessionFactory::mutual("server")?, key)?;
//!     Ok(server.run(|_connection| Shout)?)
//! }
//! ```
//!
//! Readiness is edge-triggered: a connection that was not read dry stays in a queue and is polled again
//! before the loop sleeps, each in turn, so that no connection is served at the expense of another.

/// The programs of the README are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod connections;
mod server;
mod wake_queue;

pub use countersign::{
    CloseReason, Config, ConfigError, Digest, Error, Event, Framing, Instant, Key, KeyError, KeyId,
    Multiprocessing, Mutual, Name, NameError, Outbox, Peer, ProcessId, Remaining, Scheme,
    SendError,
};
pub use countersign_driver::{
    Chunk, Context, Failure, Flow, Keys, QueueError, Service, ServiceError, StreamService, services,
};
pub use countersign_host::{
    Address, AddressError, BoxedProtocol, Clock, ConnectionEnd, ConnectionEvent, ConnectionHandle,
    ConnectionLimit, HandleError, KeyList, Listener, MessageMemory, Messages, MutualError,
    PeerAddr, PeerIdentity, PeerLimitOptions, PeerLimits, PoolOptions, Pools, ProtocolFactory,
    ServerHandle, ServerOptions, ServiceFactory, SessionFactory, SharedKeys, StartError, Stream,
    Streams, process_id,
};
#[cfg(feature = "keyring")]
pub use countersign_host::{Keyring, KeyringError, key_file};

pub use connections::Connections;
pub use server::Server;
