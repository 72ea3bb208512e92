//! countersign for blocking programs: a thread for each connection, no runtime.
//!
//! * [`Server`] runs a [`Service`] in a thread for each connection, or [accepts](Server::accept)
//!   connections for the application to call.
//! * [`Connection`] sends and receives; [`ReconnectingClient`] reconnects.
//! * [`Runner`] runs any service as a client.
//!
//! A server:
//!
//! ```no_run
//! use countersign_std::{Context, Key, Server, Service, ServiceError, SessionFactory};
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
//!     let key = Key::mutual(b"a key of 16 bytes or more")?;
//!     let mut server = Server::bind("127.0.0.1:9999", SessionFactory::mutual("server")?, key)?;
//!     server.run(|_connection| Shout);
//!     Ok(())
//! }
//! ```
//!
//! And its client, in another process:
//!
//! ```no_run
//! use countersign_std::{Connection, Connector, Key, SessionFactory};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let key = Key::mutual(b"a key of 16 bytes or more")?;
//!     let sessions = SessionFactory::mutual("client")?;
//!     let connection = Connection::connect(&Connector::new("127.0.0.1:9999", sessions, key)?)?;
//!     let reply = connection.request(b"hello")?;
//!     println!("{}", String::from_utf8_lossy(&reply)); // HELLO
//!     Ok(connection.finish()?)
//! }
//! ```
//!
//! A process does not talk to itself: the scheme `mutual` refuses a peer with its own process id. Tests
//! that play both ends give each its own, by [`SessionFactory::new`].

/// The programs of the README are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod connection;
mod reconnecting_client;
mod runner;
mod server;
mod socket;
mod wakeup;

pub use countersign::{
    CloseReason, Config, ConfigError, Digest, Error, Framing, Instant, Key, KeyError, KeyId,
    Multiprocessing, Mutual, Name, NameError, Outbox, Peer, ProcessId, Remaining, Scheme,
    SendError,
};
pub use countersign_driver::{
    Backoff, Chunk, Context, Flow, Keys, NoKeys, QueueError, Service, ServiceError, StreamService,
    services,
};
pub use countersign_host::{
    Address, AddressError, CallError, ConnectionHandle, ConnectionLimit, ConnectionOptions,
    Connector, HandleError, KeyList, Listener, MessageMemory, Messages, MutualError, OwnedChunk,
    PeerAddr, PeerIdentity, PeerLimitOptions, PeerLimits, PoolOptions, Pools, ProtocolFactory,
    ServerHandle, ServerOptions, ServiceFactory, SessionFactory, SharedKeys, ShutdownHandle,
    StartError, Stream, Streams, process_id,
};
#[cfg(feature = "keyring")]
pub use countersign_host::{Keyring, KeyringError, key_file};

pub use connection::{Connection, RecvHalf, SendHalf};
pub use reconnecting_client::ReconnectingClient;
pub use runner::Runner;
pub use server::Server;
