//! Drives a [`Protocol`](countersign::Protocol) over any [`Io`].

#![no_std]
#![forbid(unsafe_code)]

mod io;
mod service;
pub mod services;
mod turn;

pub use io::Io;
pub use service::{Chunk, Flow, Keys, Service};
pub use turn::{Connection, Failure, Progress, Wait};
