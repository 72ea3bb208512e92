//! countersign for blocking programs: a [`Server`] with a thread for each connection, a [`Client`] that
//! connects, sends and receives, and a [`Runner`] that runs any service on one connection after the
//! other.

mod client;
mod rouse;
mod runner;
mod server;

pub use client::Client;
pub use runner::{Runner, Stopper};
pub use server::Server;
