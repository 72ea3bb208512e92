//! countersign for programs without an operating system: over [`embedded_io`] and
//! [`embedded_io_async`], with whatever clock and executor there is. Nothing is allocated.
//!
//! A [`Protocol`](countersign::Protocol) in the caller's memory, usually a
//! [`Session`](countersign::Session) over static arrays, is driven by the same turn as in every other
//! adapter ([`Connection`](countersign_driver::Connection)), in one of two ways:
//!
//! * a link's `run` runs a [`Service`](countersign_driver::Service) until its connection is over;
//! * a `Client` has `send`, `recv` and `finish`, for programs that call rather than are called.
//!
//! Both are in [`asynchronous`] and in [`blocking`], and differ there in how they wait alone.
//!
//! # What the transport has to be
//!
//! | | blocking | async |
//! |---|---|---|
//! | traits | `Read`, `Write`, `ReadReady` and `WriteReady`, of one object | `Read` and `Write`, of two halves |
//! | between calls | nothing happens | nothing happens |
//! | while it waits | the caller's `pause`: sleep, `wfi`, poll | the executor |
//! | heartbeats and deadlines | at each return of `pause` | by a [`DelayNs`](embedded_hal_async::delay::DelayNs) |
//! | a transport that breaks the rule | whose `read` or `write` blocks in spite of its readiness holds up every deadline | whose unfinished `read` or `write` loses bytes when it is dropped loses them here |
//!
//! The blocking traits alone, without readiness, are not enough: a `read` that blocks until the peer
//! speaks keeps heartbeats from leaving and deadlines from passing, and two ends that each wait for
//! the other would wait for ever. A UART has its readiness in a flag register, a socket has `poll`.
//! For a transport that cannot tell, a wrapper may answer `Ok(true)`: then either end may only do
//! what the other awaits, and there are no deadlines and no heartbeats while it blocks.
//!
//! A transport's end of stream is a `read` of 0 bytes. A serial line has none; there a line that was cut
//! is noticed by the silence, in schemes with heartbeats, or by the end of a wait for something that
//! has begun. These traits cannot shut one direction of a transport: give a link the means by
//! `with_shut`. Without, framings whose messages end with the stream do not end before the transport
//! is dropped, and each end waits up to 1 s for the other's end of stream.
//!
//! # Time and randomness
//!
//! Both are the caller's. A clock is any `Fn() -> Instant`, counting from reset, say; it must not go
//! back. A session's nonce is drawn before it is made (docs/PROTOCOL.md, "Randomness").

#![no_std]
#![forbid(unsafe_code)]

pub mod asynchronous;
pub mod blocking;
mod client;

pub use client::{ClientError, Message};
