//! Whoever has the wire, or is the peer, and means no good: in memory, byte by byte.
#![allow(clippy::unwrap_used, clippy::panic)]

#[allow(dead_code)]
#[path = "../common/mod.rs"]
mod common;

mod bytes;
mod flow;
mod middle;
mod resumption;
mod versions;
