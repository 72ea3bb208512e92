//! A crowd of connections in virtual time, over a network that delays, splits, joins, resets,
//! falls silent and cuts off. A run is a seed: the same seed gives the same run.
//!
//! Connections are driven as an adapter drives them, and not one turn more: a connection is given a
//! turn only when something that it said it waits for has happened. Whoever forgets to say so, or
//! to wake another, stands still, and the run ends with someone unserved.

mod driven;
mod network;
mod peers;
mod rng;
mod world;

pub use driven::Ended;
pub use peers::{Script, Stranger};
pub use rng::Rng;
pub use world::{Outcome, ServedConnection, Setup, World};
