//! countersign on smol, and on any executor that polls futures.
//!
//! [`Server`] has a task for each connection, with a [`Service`], or returns connections by
//! [`accept`](Server::accept). [`Connection`] is for clients and accepted connections: it sends and receives.
//! [`ReconnectingClient`] connects again. [`ConnectionTask`] runs a service on one connection.
//!
//! ```no_run
//! use countersign_smol::{Context, Key, Server, Service, ServiceError, SessionFactory};
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
//!     let server = Server::bind("127.0.0.1:9999", SessionFactory::mutual("server")?, key)?;
//!     smol::block_on(server.run(|_connection| Shout));
//!     Ok(())
//! }
//! ```
//!
//! A client of it:
//!
//! ```no_run
//! use countersign_smol::{Connection, Connector, Key, SessionFactory};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let key = Key::mutual(b"a secret of at least 16 bytes")?;
//!     let connector = Connector::new("127.0.0.1:9999", SessionFactory::mutual("client")?, key)?;
//!     smol::block_on(async {
//!         let connection = Connection::connect(&connector).await?;
//!         let reply = connection.request(b"hello").await?;
//!         println!("{}", String::from_utf8_lossy(&reply));
//!         Ok(connection.finish().await?)
//!     })
//! }
//! ```
//!
//! [`ConnectionTask`] and [`futures::Connection`] run over any [`AsyncRead`](futures_io::AsyncRead) and
//! [`AsyncWrite`](futures_io::AsyncWrite), such as the sockets of `async-net`; [`Connection`] is over the
//! [`Socket`] of this crate. Timers are those of `async-io`, which runs a thread where no executor of smol does.

/// The programs of the README are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod connection_task;
mod deadline;
mod notify;
mod reconnecting_client;
mod server;
mod socket;

pub use countersign::{
    CloseReason, Config, ConfigError, Digest, Error, Framing, Instant, Key, KeyError, KeyId,
    Multiprocessing, Mutual, Name, NameError, Outbox, Peer, ProcessId, Protocol, Remaining, Scheme,
    SendError,
};
pub use countersign_driver::{
    Backoff, Chunk, Context, Failure, Flow, Keys, MessageService, QueueError, Service,
    ServiceError, StreamService, services,
};
pub use countersign_host::{
    Address, AddressError, BoxedProtocol, CallError, Clock, ConnectionHandle, ConnectionLimit,
    ConnectionOptions, Connector, HandleError, KeyList, Listener, MessageBytes, MessageMemory,
    Messages, MutualError, OwnedChunk, PeerAddr, PeerIdentity, PeerLimitOptions, PeerLimits,
    PoolOptions, Pools, ProtocolFactory, ServerHandle, ServerOptions, ServiceFactory,
    SessionFactory, SharedKeys, ShutdownHandle, StartError, Stream, Streams, process_id,
};
#[cfg(feature = "keyring")]
pub use countersign_host::{Keyring, KeyringError, key_file};

/// Connections over any futures-io stream; those of this crate are over its [`Socket`].
pub use countersign_futures as futures;
pub use countersign_futures::MessageStream;

/// A connection over a [`Socket`].
pub type Connection = futures::Connection<Socket>;
/// The half of a [`Connection`] that receives.
pub type RecvHalf = futures::RecvHalf<Socket>;
/// The half of a [`Connection`] that sends.
pub type SendHalf = futures::SendHalf<Socket>;

pub use connection_task::ConnectionTask;
pub use reconnecting_client::{HookFuture, ReconnectingClient};
pub use server::Server;
pub use socket::Socket;
