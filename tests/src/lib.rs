//! Test support of this workspace: endpoints driven over in-memory transports with chosen chunk
//! sizes, which record what they observe; honest peers; strategies for proptest; a simulated
//! network.

// This crate is used by tests only, where a panic reports a failure.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]

mod chunk_sizes;
mod endpoint;
mod honest_peer;
mod leased_buffer;
mod pipe;
mod protocol_io;
pub mod python;
mod session_spec;
pub mod sim;
mod strategies;

pub use chunk_sizes::ChunkSizes;
pub use endpoint::{Application, Endpoint, Observed, PeerInfo, drive_pair, drive_with};
pub use honest_peer::{Action, HonestPeer, PeerStream};
pub use leased_buffer::{LeasedBuffer, Pool, Pools};
pub use pipe::Pipe;
pub use protocol_io::{drain, receive};
pub use session_spec::{
    ANOTHER_SECRET, EXPORTER, FRAMINGS, FrameProtection, KEY_ID, KeySet, Policy, SECRET,
    SessionSpec, candidates, endpoint_name, peer_role,
};
pub use strategies::{
    actions, bytes, chunk_sizes, config, frame, framing, messages, multiprocessing, role,
    session_spec, tampered,
};
