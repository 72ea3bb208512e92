//! countersign for tasks on any executor, over any futures-io stream.
//!
//! [`Connection`] sends and receives; [`MessageStream`] is one as a stream and a sink. Neither needs an
//! executor or a timer of its own: a thread that all connections of the process share keeps the time. Servers
//! and sockets are those of the crate of a runtime, `countersign-smol`.
//!
//! A client over a stream that is connected already:
//!
//! ```
//! use countersign_futures::{CallError, Connection, Connector};
//! use futures_io::{AsyncRead, AsyncWrite};
//!
//! async fn ask<T>(stream: T, connector: &Connector) -> Result<Vec<u8>, CallError>
//! where
//!     T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
//! {
//!     let connection = Connection::over(stream, connector).await?;
//!     let reply = connection.request(b"hello").await?;
//!     connection.finish().await?;
//!     Ok(reply)
//! }
//! ```

/// The programs of the README are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod connection;
mod message_stream;
mod transport;

pub use countersign::{
    CloseReason, Digest, Error, Key, KeyError, KeyId, Name, NameError, Peer, Remaining, SendError,
};
pub use countersign_driver::Keys;
pub use countersign_host::{
    Address, AddressError, CallError, ConnectionHandle, ConnectionOptions, Connector, HandleError,
    KeyList, MutualError, OwnedChunk, PeerAddr, ProtocolFactory, SessionFactory, StartError,
};

pub use connection::{Connect, Connection, RecvHalf, SendHalf};
pub use message_stream::MessageStream;
pub use transport::{PolledTransport, Transport};
