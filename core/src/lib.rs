//! One program proves to another that it holds the same key, and then they talk.
//!
//! This crate is the protocol alone: handshakes and framings as pure state machines that touch no
//! socket, no clock, no randomness and no allocator. Bytes and moments go in, bytes and
//! events come out; what moves the bytes is yours, or one of the adapters.
//!
//! ```text
//!    transport            Session (a Protocol)                application
//!   ───────────┐   ┌───────────────────────────────┐   ┌────────────────────
//!    read ─────┼──▶│ recv_space  handle_received   │   │
//!    eof ──────┼──▶│ handle_eof        poll_event ─┼──▶│ KeyNeeded, Message…
//!    clock ────┼──▶│ handle_timeout    provide_key◀┼───│ keys
//!    timer ◀───┼───│ poll_timeout   split, consume◀┼──▶│ parts, answers
//!    write ◀───┼───│ poll_transmit          finish◀┼───│
//!    shutdown ◀┼───│ wants_shutdown          abort◀┼───│
//!   ───────────┘   └───────────────────────────────┘   └────────────────────
//! ```
//!
//! # The drive loop
//!
//! Every driver, blocking, polling or asynchronous, takes the same turn, and only its waiting
//! differs. Here two ends are driven against each other, and their transport is a pair of arrays.
//!
//! ```
//! use countersign::*;
//!
//! # #[derive(Default)]
//! # struct Wire { bytes: Vec<u8>, shut: bool }
//! # impl Wire {
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
//! /// One turn. Returns whether anything moved; if not, it is time to wait. `answer` is called when
//! /// the handshake is over, with no part, and then with each part.
//! fn turn(
//!     machine: &mut dyn Protocol,
//!     key: &Key,
//!     answer: &mut dyn FnMut(Option<&[u8]>, &mut Outbox<'_>),
//!     (input, output): (&mut Wire, &mut Wire),
//!     now: Instant,
//! ) -> Result<bool, Error> {
//!     let mut moved = false;
//!     machine.handle_timeout(now);
//!     let ended = loop {
//!         let event = match machine.poll_event(now) {
//!             Ok(Some(event)) => event,
//!             Ok(None) => break Ok(()),
//!             Err(error) => break Err(error), // what was queued before still goes out
//!         };
//!         moved = true;
//!         match event {
//!             Event::KeyNeeded => machine.provide_key(Ok(Candidates::one(key)), now).unwrap(),
//!             Event::Established => answer(None, &mut machine.split().1),
//!             Event::Chunk { .. } => {
//!                 let (part, mut outbox) = machine.split();
//!                 answer(Some(part), &mut outbox);
//!                 machine.consume(now); // not before it is answered: Full says try again later
//!             }
//!             Event::PeerFinished => machine.finish(now),
//!             _ => {}
//!         }
//!     };
//!     let n = output.write(machine.poll_transmit(now));
//!     machine.handle_transmitted(n, now);
//!     moved |= n > 0;
//!     let space = machine.recv_space();
//!     if !space.is_empty() {
//!         let n = input.read(space);
//!         machine.handle_received(n, now);
//!         moved |= n > 0;
//!         if n == 0 && input.shut {
//!             input.shut = false;
//!             machine.handle_eof(now);
//!             moved = true;
//!         }
//!     }
//!     if machine.wants_shutdown() {
//!         output.shut = true;
//!     }
//!     ended.map(|()| moved)
//! }
//!
//! let key = Key::mutual(b"what both ends have and nobody else").unwrap();
//! // A process has one instance, ProcessId::generate(&mut rng); here two processes are played.
//! let config = |name: &str, process| {
//!     let instance = ProcessId::from_bytes(&[process; ProcessId::LEN]);
//!     Config::new(Scheme::Mutual(Mutual::new(name.parse().unwrap(), instance)))
//! };
//! let now = Instant::EPOCH; // a real driver asks its clock before each turn
//! let buffers = || Buffers { handshake: [0; 1024], receive: [0; 1024], send: [0; 1024] };
//! // A real nonce is Nonce::generate(&mut rng).
//! let nonce = |byte| Nonce::from_bytes([byte; Nonce::LEN]);
//! let mut server = Session::server(&config("server", 1), nonce(1), buffers(), now).unwrap();
//! let mut client = Session::client(&config("client", 2), nonce(2), buffers(), now).unwrap();
//!
//! let (mut up, mut down) = (Wire::default(), Wire::default());
//! let mut heard = Vec::new();
//! loop {
//!     let served = turn(
//!         &mut server,
//!         &key,
//!         &mut |part, outbox| {
//!             if let Some(part) = part {
//!                 outbox.send(&part.to_ascii_uppercase()).unwrap();
//!             }
//!         },
//!         (&mut up, &mut down),
//!         now,
//!     )?;
//!     let asked = turn(
//!         &mut client,
//!         &key,
//!         &mut |part, outbox| match part {
//!             None => outbox.send(b"hello").unwrap(),
//!             Some(part) => {
//!                 heard.extend_from_slice(part);
//!                 outbox.finish();
//!             }
//!         },
//!         (&mut down, &mut up),
//!         now,
//!     )?;
//!     if !served && !asked {
//!         break; // a real driver waits here: for bytes, room, or poll_timeout
//!     }
//! }
//! assert_eq!(heard, b"HELLO");
//! assert!(client.is_done() && server.is_done());
//! # Ok::<(), Error>(())
//! ```
//!
//! # Features
//!
//! `digests` (off by default) adds md5, sha1, sha384, sha512, sha3-256 and sha3-384 to sha256.
//! The crate is `no_std`, allocates nothing and contains no unsafe code, whatever the features.

#![no_std]
#![forbid(unsafe_code)]

mod config;
mod crypto;
mod error;
mod event;
mod framing;
mod handshake;
mod key_request;
mod name;
mod outbox;
mod peer;
mod process_id;
mod protocol;
mod recv_buffer;
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
pub use peer::{Peer, Role};
pub use process_id::ProcessId;
pub use protocol::Protocol;
pub use session::Session;
pub use storage::{Buffers, Storage};
pub use time::Instant;
