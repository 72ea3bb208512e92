//! countersign for programs without an operating system: over [`embedded_io`] and
//! [`embedded_io_async`], with any clock and any executor. `no_std`; allocates nothing.
//!
//! A [`Protocol`] in the caller's memory, usually a [`Session`] over arrays, runs over a link, in one of
//! two ways:
//!
//! * A link's `run` runs a [`StreamService`] until its connection is over. A [`MessageService`] over two
//!   [`SliceBuffer`]s makes one of a [`Service`], which takes whole messages.
//! * A [`Client`] has `send`, `recv`, `request`, `flush`, `finish` and `close`.
//!
//! [`blocking`] and [`asynchronous`] have both; the README has a program for each.
//!
//! # Requirements on the transport
//!
//! | | blocking | async |
//! |---|---|---|
//! | traits | `Read`, `Write`, `ReadReady` and `WriteReady` of one object | `Read` and `Write` of two halves |
//! | waits by | the caller's `wait` function: sleep, `wfi`, poll | the executor |
//! | heartbeats and deadlines | at each return of `wait` | by a [`DelayNs`](embedded_hal_async::delay::DelayNs) |
//! | between calls | no progress | no progress |
//! | a faulty transport | `read` or `write` blocks although it was ready: deadlines are late | `read` or `write` loses bytes when its future is dropped: they are lost |
//!
//! The blocking traits need readiness, because a `read` that blocks until the peer sends would hold up
//! heartbeats and deadlines, and two ends that each wait for the other would wait forever. A UART has its
//! readiness in a flag register, a socket has `poll`. For a transport without readiness a wrapper may
//! return `Ok(true)`. Then deadlines and heartbeats are late while the transport blocks, and the
//! application has to send and receive in the order that the peer expects.
//!
//! A `read` of 0 bytes is the end of the stream. A serial line has none: a line that was cut is noticed
//! by the missing heartbeats, or by the deadline of a message that has begun. The traits cannot shut one
//! direction of a transport: a link does it by the function of `with_shut`. Without one, a framing in
//! which messages end with the stream does not end before the transport is dropped, and each end waits
//! up to 1 s for the end of the other's stream.
//!
//! # Time and randomness
//!
//! The caller provides both. A clock is any `Fn() -> Instant` that never goes back, for example one that
//! counts from reset. A session takes a nonce when it is made (docs/PROTOCOL.md, "Randomness").

#![no_std]
#![forbid(unsafe_code)]

/// Compiles the programs of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

pub mod asynchronous;
pub mod blocking;
mod client;

pub use client::Client;
pub use countersign::{
    Alert, Buffers, Candidates, CloseReason, Config, Digest, Error, Event, Framing, Instant, Key,
    KeyId, KeyRejection, KeyRequest, Multiprocessing, Mutual, Name, Nonce, Outbox, Peer, ProcessId,
    Protocol, Remaining, Scheme, SendError, Session, Storage, TimedOut, Truncated,
};
pub use countersign_driver::{
    Backoff, BufferError, Chunk, Connection, ConnectionError, Context, Driver, Failure, Flow,
    Interest, Io, Keys, MessageBuffer, MessageService, NoKeys, Progress, QueueError, Reassembler,
    Service, ServiceConnection, ServiceError, SliceBuffer, StreamService, services,
};
