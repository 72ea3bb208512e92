//! The calls of a run, and how they are generated.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

#[derive(Clone, Debug)]
pub(crate) enum Call {
    /// Sends a chunk of that length; what follows it.
    Chunk(usize, Follows),
    /// The same, written in place.
    InPlace(usize, Follows),
    Transmit(usize),
    Poll,
    /// Makes the pool refuse leases, or grant them again.
    Exhausted(bool),
    /// Lets a heartbeat interval pass, in which the peer sends a PING.
    Heartbeat,
    Finish,
    Abort,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Follows {
    Nothing,
    /// The announced length, less this chunk.
    Outstanding,
    Bytes(u64),
    Unknown,
}

fn call() -> impl Strategy<Value = Call> {
    let len = || prop_oneof![4 => 0..12_usize, 2 => 40..70_usize, 1 => 0..200_usize];
    let follows = || {
        prop_oneof![
            4 => Just(Follows::Nothing),
            6 => Just(Follows::Outstanding),
            2 => (0..90_u64).prop_map(Follows::Bytes),
            1 => select(&[u64::MAX, u32::MAX as u64, i32::MAX as u64][..]).prop_map(Follows::Bytes),
            1 => Just(Follows::Unknown),
        ]
    };
    prop_oneof![
        12 => (len(), follows()).prop_map(|(len, follows)| Call::Chunk(len, follows)),
        6 => (len(), follows()).prop_map(|(len, follows)| Call::InPlace(len, follows)),
        10 => (0..90_usize).prop_map(Call::Transmit),
        8 => Just(Call::Poll),
        2 => any::<bool>().prop_map(Call::Exhausted),
        2 => Just(Call::Heartbeat),
    ]
}

/// Some calls, then perhaps the end, then some more calls.
pub(crate) fn calls() -> impl Strategy<Value = Vec<Call>> {
    let end = select(&[Call::Finish, Call::Abort][..]);
    (vec(call(), 0..80), vec(end, 0..3), vec(call(), 0..12))
        .prop_map(|(before, end, after)| [before, end, after].concat())
}
