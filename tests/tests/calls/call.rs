//! The calls of a run, and how they are generated.

use std::time::Duration;

use countersign::{CloseReason, Remaining};
use countersign_tests::bytes;
use proptest::prelude::*;
use proptest::sample::select;

#[derive(Clone, Debug)]
pub(crate) enum Call {
    PollEvent,
    ProvideKey(Answer),
    Send(Vec<u8>),
    SendChunk(Vec<u8>, Remaining),
    /// Reserves and fills space, but does not commit it.
    SendWith(usize, Remaining),
    OutboxFinish,
    Consume,
    Finish,
    Abort(CloseReason),
    /// Reads that many of the peer's bytes, and reports that many more as received.
    Read(usize, usize),
    /// Takes the receive space without reading.
    Space,
    /// Reports bytes as received without reading.
    Received(usize),
    Eof,
    /// Advances the clock and handles timeouts.
    Timeout(Duration),
    PollTransmit,
    Transmitted(usize),
    /// Makes the receive and the send pool grant or refuse leases.
    Exhausted(bool, bool),
    /// Binds the session to the peer's TLS channel, or to another.
    Bind(bool),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Right,
    RightSecond,
    Wrong,
    OtherPurpose,
    KeyRejection,
}

pub(crate) fn call() -> impl Strategy<Value = Call> {
    use Answer::{OtherPurpose, Right, RightSecond, Wrong};
    let answer = prop_oneof![
        6 => Just(Right),
        2 => Just(RightSecond),
        1 => select(&[Wrong, OtherPurpose, Answer::KeyRejection][..]),
    ];
    let remaining = || {
        prop_oneof![
            Just(Remaining::End),
            Just(Remaining::Unknown),
            (0..99_u64).prop_map(Remaining::Bytes)
        ]
    };
    let many = || prop_oneof![8 => 0..100_usize, 1 => Just(usize::MAX)];
    let extra = prop_oneof![12 => Just(0), 1 => many()];
    let micros = prop_oneof![8 => 0..1_000_u64, 2 => 0..3_000_000_u64, 1 => 0..40_000_000_u64];
    let reason = select(&[CloseReason::Shutdown, CloseReason::Protocol, CloseReason::Timeout][..]);
    prop_oneof![
        30 => Just(Call::PollEvent),
        8 => answer.prop_map(Call::ProvideKey),
        6 => bytes(70).prop_map(Call::Send),
        4 => (bytes(70), remaining()).prop_map(|(chunk, then)| Call::SendChunk(chunk, then)),
        2 => (0..70_usize, remaining()).prop_map(|(len, then)| Call::SendWith(len, then)),
        1 => Just(Call::OutboxFinish),
        12 => Just(Call::Consume),
        1 => Just(Call::Finish),
        1 => reason.prop_map(Call::Abort),
        24 => (many(), extra).prop_map(|(n, extra)| Call::Read(n, extra)),
        4 => Just(Call::Space),
        2 => many().prop_map(Call::Received),
        1 => Just(Call::Eof),
        8 => micros.prop_map(|micros| Call::Timeout(Duration::from_micros(micros))),
        8 => Just(Call::PollTransmit),
        8 => many().prop_map(Call::Transmitted),
        4 => any::<[bool; 2]>().prop_map(|[receive, send]| Call::Exhausted(receive, send)),
        2 => prop_oneof![4 => Just(true), 1 => Just(false)].prop_map(Call::Bind),
    ]
}
