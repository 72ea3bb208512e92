use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::Pace;

/// `cases` of each property, or as many as the environment says in `PROPTEST_CASES`.
#[must_use]
pub fn config(cases: u32) -> ProptestConfig {
    let asked = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { cases };
    ProptestConfig { cases, failure_persistence: None, ..asked }
}

/// `body` behind its length.
#[must_use]
pub fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// Any bytes, so many at most.
pub fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=max)
}

/// A few messages: empty, short, longer than buffers.
pub fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let message = prop_oneof![
        1 => Just(Vec::new()),
        3 => bytes(20),
        2 => vec(any::<u8>(), 50..=70),
        2 => vec(any::<u8>(), 100..=700),
    ];
    vec(message, 0..6)
}

/// Any way to cut a stream.
pub fn pace() -> impl Strategy<Value = Pace> {
    let piece = prop_oneof![2 => Just(0), 4 => Just(1), 4 => 2..8_usize, 4 => 8..90_usize];
    (vec(piece, 0..12), 1..60_usize).prop_map(|(mut pieces, last)| {
        pieces.push(last);
        Pace::pieces(pieces)
    })
}

/// `stream` as an attacker might leave it: whole, with bits flipped, cut, with bytes put in, left
/// out, or put at its end.
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
