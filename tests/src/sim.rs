//! Simulation of many connections in virtual time, over a network that delays, splits, joins,
//! resets, freezes and truncates. The seed of a run determines it completely.
//!
//! A connection is polled as an adapter polls it, and only for an event in which it has declared
//! interest. A connection that declares too little interest, or does not wake another, stalls, and
//! the run fails.

mod clients;
mod connection;
mod network;
mod rng;
mod simulation;

pub use clients::{ClientService, HostileClient};
pub use connection::ConnectionEnd;
pub use rng::Rng;
pub use simulation::{Outcome, ServedConnection, Setup, Simulation};
