//! Test support of this workspace: endpoints driven over in-memory transports with chosen chunk
//! sizes, which record what they observe; honest peers; strategies for proptest; a simulated
//! network.

// This crate is used by tests only, where a panic reports a failure.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]

mod endpoint;
mod honest_peer;
pub mod python;
mod region;
pub mod sim;
mod speech;
mod strategies;
mod transfer;
mod wire;

pub use endpoint::{Application, Endpoint, Met, Observed, drive_pair, drive_with};
pub use honest_peer::{Action, HonestPeer, PeerStream};
pub use region::{Pool, Pools, Region};
pub use speech::{
    ANOTHER_SECRET, Cover, EXPORTER, FRAMINGS, KID, Policy, Ring, SECRET, Speech, answer, name,
    other,
};
pub use strategies::{
    actions, bytes, config, frame, framing, messages, multiprocessing, pace, role, speech, tampered,
};
pub use transfer::{drain, receive};
pub use wire::{Pace, Wire};
