use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use countersign::{CloseReason, Digest, Framing, Role};

use crate::python::PYTHON_DIGESTS;
use crate::{Action, ChunkSizes, FRAMINGS, FrameProtection, Policy, SessionSpec};

/// Returns a configuration with `cases` cases, unless `PROPTEST_CASES` is set.
#[must_use]
pub fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { cases };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

/// Returns `body` preceded by its length as a `u32`.
#[must_use]
pub fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// Up to `max` arbitrary bytes.
pub fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=max)
}

/// A few messages: empty, short, and longer than the buffers.
pub fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let message = prop_oneof![
        1 => Just(Vec::new()),
        3 => bytes(20),
        2 => vec(any::<u8>(), 50..=70),
        2 => vec(any::<u8>(), 100..=700),
    ];
    vec(message, 0..6)
}

/// Any framing that can be combined with a scheme other than `mutual`.
pub fn framing() -> impl Strategy<Value = Framing> {
    select(&FRAMINGS[..])
}

/// Any variant of the scheme `multiprocessing`.
pub fn multiprocessing() -> impl Strategy<Value = SessionSpec> {
    let digest = || select(&PYTHON_DIGESTS[..]).prop_map(|(digest, _)| digest);
    let policy = prop_oneof![
        2 => digest().prop_map(Policy::Strict),
        1 => (digest(), digest()).prop_map(|(server, client)| Policy::Compatible(server, client)),
    ];
    (policy, framing()).prop_map(|(policy, framing)| SessionSpec::Multiprocessing(policy, framing))
}

/// Any scheme with any framing.
pub fn session_spec() -> impl Strategy<Value = SessionSpec> {
    prop_oneof![
        1 => framing().prop_map(SessionSpec::None),
        2 => (select(Digest::ALL), framing()).prop_map(|(digest, f)| SessionSpec::Challenge(digest, f)),
        3 => multiprocessing(),
        3 => select(&FrameProtection::ALL[..]).prop_map(SessionSpec::Mutual),
    ]
}

/// Any role.
pub fn role() -> impl Strategy<Value = Role> {
    select(&[Role::Client, Role::Server][..])
}

/// The actions of an honest peer. Its last message may be unfinished.
pub fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        2 => Just(Action::Message(Vec::new())),
        6 => bytes(20).prop_map(Action::Message),
        3 => vec(any::<u8>(), 50..=70).prop_map(Action::Message),
        3 => vec(any::<u8>(), 100..=700).prop_map(Action::Message),
        // The next message continues it.
        3 => vec(any::<u8>(), 0..=300).prop_map(Action::Chunk),
        3 => Just(Action::Ping),
    ];
    let reason = select(&[CloseReason::Shutdown, CloseReason::Protocol, CloseReason::Timeout][..]);
    let last = prop_oneof![
        4 => Just(vec![Action::Finish]),
        2 => Just(vec![Action::Finish, Action::Ping]),
        1 => Just(Vec::new()),
        1 => reason.prop_map(|reason| vec![Action::Close(reason)]),
    ];
    (vec(action, 0..8), last).prop_map(|(actions, last)| [actions, last].concat())
}

/// Any cycle of chunk sizes.
pub fn chunk_sizes() -> impl Strategy<Value = ChunkSizes> {
    let size = prop_oneof![2 => Just(0), 4 => Just(1), 4 => 2..8_usize, 4 => 8..90_usize];
    (vec(size, 0..12), 1..60_usize).prop_map(|(mut sizes, last)| {
        sizes.push(last);
        ChunkSizes::cycle(sizes)
    })
}

/// `stream` as an attacker might modify it: unchanged, with flipped bits, truncated, or with bytes
/// inserted, removed or appended.
pub fn tampered(stream: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let change = prop_oneof![
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        any::<Index>().prop_map(Change::Cut),
        (any::<Index>(), bytes(9)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<Index>(), 1..9_usize).prop_map(|(at, len)| Change::Remove(at, len)),
    ];
    vec(change, 0..3).prop_map(move |changes| {
        changes.iter().fold(stream.clone(), |stream, change| change.apply(stream))
    })
}

#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
}

impl Change {
    fn apply(&self, mut stream: Vec<u8>) -> Vec<u8> {
        let len = stream.len();
        match self {
            Self::Flip(at, bit) if len > 0 => stream[at.index(len)] ^= 1 << bit,
            Self::Flip(..) => {}
            Self::Cut(at) => stream.truncate(at.index(len + 1)),
            Self::Insert(at, bytes) => {
                let at = at.index(len + 1);
                stream.splice(at..at, bytes.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = at.index(len + 1);
                stream.drain(at..len.min(at + count));
            }
        }
        stream
    }
}
