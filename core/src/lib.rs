//! Mutual authentication by a shared key, then messages: a sans-IO protocol core.
//!
//! Two programs prove to each other that they hold the same key and then exchange messages. This
//! crate contains the protocol only: handshakes and framings as state machines that use no socket,
//! no clock, no random number generator and no allocator. The caller passes received bytes and the
//! current time in, and takes events and bytes to transmit out. An adapter crate, or a loop of your
//! own, moves the bytes.
//!
//! ```text
//!    transport            Session (a Protocol)                application
//!   ───────────┐   ┌───────────────────────────────┐   ┌─────────────────────
//!    read ─────┼──▶│ recv_space  handle_received   │   │
//!    eof ──────┼──▶│ handle_eof        poll_event ─┼──▶│ KeyNeeded, Chunk, …
//!    clock ────┼──▶│ handle_timeout    provide_key◀┼───│ keys
//!    timer ◀───┼───│ poll_timeout   split, consume◀┼──▶│ chunks, Outbox
//!    write ◀───┼───│ poll_transmit          finish◀┼───│
//!    shutdown ◀┼───│ wants_shutdown          abort◀┼───│
//!   ───────────┘   └───────────────────────────────┘   └─────────────────────
//! ```
//!
//! Start with [`Config`], which selects a [`Scheme`] (how the two ends authenticate) and a
//! [`Framing`] (how bytes become messages), and [`Session`], which implements [`Protocol`].
//!
//! # The drive loop
//!
//! Every driver, whether it blocks, polls or is asynchronous, runs the same steps in the same order.
//! Drivers differ only in how they wait. In this example two sessions run in one thread, and two
//! byte vectors are the transport.
//!
//! ```
//! use countersign::*;
//!
//! # #[derive(Default)]
//! # struct Pipe { bytes: Vec<u8>, shut: bool }
//! # impl Pipe {
//! #     fn write(&mut self, bytes: &[u8]) -> usize {
//! #         self.bytes.extend_from_slice(bytes);
//! #         bytes.len()
//! #     }
//! #     fn read(&mut self, space: &mut [u8]) -> usize {
//! #         let n = space.len().min(self.bytes.len());
//! #         space[..n].copy_from_slice(&self.bytes[..n]);
//! #         self.bytes.drain(..n);
//! #         n
//! #     }
//! # }
//! /// Runs the protocol until it needs the transport or the clock. Returns whether it made progress.
//! ///
//! /// `on_chunk` is called once with `None` when the session is established, and then once for each
//! /// received chunk.
//! fn pump(
//!     protocol: &mut dyn Protocol,
//!     key: &Key,
//!     on_chunk: &mut dyn FnMut(Option<&[u8]>, &mut Outbox<'_>),
//!     (input, output): (&mut Pipe, &mut Pipe),
//!     now: Instant,
//! ) -> Result<bool, Error> {
//!     let mut progress = false;
//!     protocol.handle_timeout(now);
//!     // 1. Handle events until there are none.
//!     let result = loop {
//!         let event = match protocol.poll_event(now) {
//!             Ok(Some(event)) => event,
//!             Ok(None) => break Ok(()),
//!             Err(error) => break Err(error), // bytes that are already queued still go out
//!         };
//!         progress = true;
//!         match event {
//!             Event::KeyNeeded => protocol.provide_key(Ok(Candidates::one(key)), now).unwrap(),
//!             Event::Established => on_chunk(None, &mut protocol.split().1),
//!             Event::Chunk { .. } => {
//!                 let (chunk, mut outbox) = protocol.split();
//!                 on_chunk(Some(chunk), &mut outbox);
//!                 // After a `SendError::Full`, keep the chunk and try again on `Event::Writable`.
//!                 protocol.consume(now);
//!             }
//!             Event::PeerFinished => protocol.finish(now),
//!             _ => {}
//!         }
//!     };
//!     // 2. Write.
//!     let n = output.write(protocol.poll_transmit(now));
//!     protocol.handle_transmitted(n, now);
//!     progress |= n > 0;
//!     // 3. Read.
//!     let space = protocol.recv_space();
//!     if !space.is_empty() {
//!         let n = input.read(space);
//!         protocol.handle_received(n, now);
//!         progress |= n > 0;
//!         if n == 0 && input.shut {
//!             input.shut = false;
//!             protocol.handle_eof(now);
//!             progress = true;
//!         }
//!     }
//!     // 4. Shut the write side once everything is sent.
//!     if protocol.wants_shutdown() {
//!         output.shut = true;
//!     }
//!     result.map(|()| progress)
//! }
//!
//! let key = Key::mutual(b"32 random bytes, the same on both ends").unwrap();
//! // Each process draws one id with `ProcessId::generate(&mut rng)`. Here one process plays two.
//! let config = |name: &str, process: u8| {
//!     let process_id = ProcessId::from_bytes(&[process; ProcessId::LEN]);
//!     Config::new(Scheme::Mutual(Mutual::new(name.parse().unwrap(), process_id)))
//! };
//! // Each session draws one nonce with `Nonce::generate(&mut rng)`.
//! let nonce = |byte| Nonce::from_bytes([byte; Nonce::LEN]);
//! let buffers = || Buffers { handshake: [0; 1024], receive: [0; 1024], send: [0; 1024] };
//! let now = Instant::EPOCH; // a real driver reads its clock before each `pump`
//! let mut server = Session::server(&config("server", 1), nonce(1), buffers(), now).unwrap();
//! let mut client = Session::client(&config("client", 2), nonce(2), buffers(), now).unwrap();
//!
//! let (mut to_server, mut to_client) = (Pipe::default(), Pipe::default());
//! let mut reply = Vec::new();
//! loop {
//!     let server_progress = pump(
//!         &mut server,
//!         &key,
//!         &mut |chunk, outbox| {
//!             if let Some(chunk) = chunk {
//!                 outbox.send(&chunk.to_ascii_uppercase()).unwrap();
//!             }
//!         },
//!         (&mut to_server, &mut to_client),
//!         now,
//!     )?;
//!     let client_progress = pump(
//!         &mut client,
//!         &key,
//!         &mut |chunk, outbox| match chunk {
//!             None => outbox.send(b"hello").unwrap(),
//!             Some(chunk) => {
//!                 reply.extend_from_slice(chunk);
//!                 outbox.finish();
//!             }
//!         },
//!         (&mut to_client, &mut to_server),
//!         now,
//!     )?;
//!     if !server_progress && !client_progress {
//!         break; // a real driver waits here: for readiness, a free buffer, or `poll_timeout`
//!     }
//! }
//! assert_eq!(reply, b"HELLO");
//! assert!(client.is_done() && server.is_done());
//! # Ok::<(), Error>(())
//! ```
//!
//! `examples/handshake.rs` is this loop as a program, `examples/blocking.rs` a client over a
//! `TcpStream`.
//!
//! # Memory
//!
//! A session allocates nothing. The caller passes three regions ([`Buffers`]), which are plain
//! arrays or, through [`Storage`], leases of shared buffers. Nothing grows with what a peer sends:
//! every length is checked before any of the announced bytes are kept.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `digests` | no | HMAC with md5, sha1, sha384, sha512, sha3-256 and sha3-384, beside sha256 |
//!
//! With every feature the crate is `no_std`, uses no allocator and contains no unsafe code.

#![no_std]
#![forbid(unsafe_code)]

mod config;
mod crypto;
mod error;
mod event;
mod framing;
mod handshake;
mod key_request;
mod lease_term;
mod name;
mod outbox;
mod peer;
mod process_id;
mod protocol;
mod recv_buffer;
mod role;
mod send_buffer;
mod session;
mod storage;
mod time;

pub use rand_core;

pub use config::{Config, Framing, Multiprocessing, Mutual, Scheme};
pub use crypto::key_schedule::Fingerprint;
pub use crypto::keys::{Candidate, Candidates, Key, Purpose};
pub use crypto::mac::{Digest, Mac, Tag};
pub use crypto::nonce::Nonce;
pub use error::{
    Alert, ChannelError, ChannelErrorInfo, ChannelErrorKind, CloseReason, ConfigError, Error,
    FrameError, IdentityError, KeyError, KeyRejection, SendError, TimedOut, Truncated,
};
pub use event::{Event, Remaining};
pub use key_request::{Challenge, KeyRequest};
pub use name::{KeyId, Name, NameError, Text};
pub use outbox::Outbox;
pub use peer::Peer;
pub use process_id::ProcessId;
pub use protocol::Protocol;
pub use role::Role;
pub use session::Session;
pub use storage::{Buffers, Storage};
pub use time::Instant;

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
