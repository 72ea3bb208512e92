//! What the tests of this project share: ends that are driven over wires in memory, in pieces that
//! a test chooses, and that write down what they saw.

// All of this runs inside tests, where to panic is to report.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]

mod end;
pub mod python;
mod region;
pub mod sim;
mod speech;
mod strategies;
mod wire;

pub use end::{App, End, Met, Seen, converse, listen};
pub use region::{Pool, Pools, Region};
pub use speech::{
    ANOTHER_SECRET, Cover, EXPORTER, FRAMINGS, Honest, KID, Policy, Ring, SECRET, Say, Speech,
    Stream, answer, drain, hear, name, other,
};
pub use strategies::{
    bytes, config, frame, framing, messages, multiprocessing, pace, role, says, speech, tampered,
};
pub use wire::{Pace, Wire};
