//! countersign for blocking programs: a [`Client`] that connects, sends and receives, and a [`Runner`]
//! that runs any service on one connection after the other.

mod client;
mod rouse;
mod runner;

pub use client::{Client, ClientError, ClientOptions};
pub use runner::{Runner, Stopper};
