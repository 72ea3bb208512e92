//! The kinds of records, and the records that an attacker without the key makes.

use crate::world::{Endpoint, Side};

const M1: u8 = 1;
const M2: u8 = 2;
const M3: u8 = 3;
const ALERT: u8 = 0x7f;

/// Offset of the `kid` in an M2: after N, type, version and suite.
const M2_KID: usize = 7;
/// Offset of the name in an M3: after N and type.
const M3_NAME: usize = 5;

const PROOF_LEN: usize = 32;
const ANY_PROCESS_ID: [u8; 16] = [b'z'; 16];
const MAX_FRAME: [u8; 4] = 1000_u32.to_be_bytes();

fn record(body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

fn hello(suites: &[u8], nonce: &[u8]) -> Vec<u8> {
    record(&[&[M1], b"CSGN", &[1, 1, suites.len() as u8], suites, nonce])
}

/// Returns the records that an attacker makes without any input, with their descriptions.
pub(crate) fn from_nothing() -> Vec<(Vec<u8>, String)> {
    let mut own = vec![(hello(&[1], &[b'z'; 32]), "an M1 of the attacker".to_owned())];
    own.extend((1..=5).map(|code| (record(&[&[ALERT, code]]), format!("a forged alert {code}"))));
    own
}

/// Returns the records that an attacker makes from one: with a changed field and the old proof, and
/// another message with that proof.
pub(crate) fn from_record(from: &[u8]) -> Vec<(Vec<u8>, &'static str)> {
    let proof = &from[from.len().saturating_sub(PROOF_LEN)..];
    match kind(from) {
        M1 => vec![(hello(&[1, 2], proof), "with one more suite")],
        M2 => {
            let mut renamed = from.to_vec();
            renamed[M2_KID + 1 + usize::from(from[M2_KID]) + 1] = b'z';
            let m3 = record(&[&[M3, 1, b'z'], &ANY_PROCESS_ID, &MAX_FRAME, &[0; 4], proof]);
            vec![(renamed, "under another name"), (m3, "made into an M3")]
        }
        M3 => {
            let mut renamed = from.to_vec();
            renamed[M3_NAME + 1] = b'z';
            let m2 = [&[M2, 1, 1, 1, b'k', 1, b'z', 0][..], &ANY_PROCESS_ID, &MAX_FRAME, &[0; 32]];
            let m2 = record(&[&m2.concat(), proof]);
            vec![(renamed, "under another name"), (m2, "made into an M2")]
        }
        0 if from.len() > 5 => {
            let mut other = from.to_vec();
            other[5] ^= 0xff;
            vec![(other, "with another payload")]
        }
        _ => Vec::new(),
    }
}

fn kind(record: &[u8]) -> u8 {
    record.get(4).copied().unwrap_or(u8::MAX)
}

/// Returns the M2 that a client sent, or that a server answered with M3, which is the `first`
/// record delivered to it.
pub(crate) fn m2(side: Side, sent: &[Vec<u8>], first: Option<&[u8]>) -> Option<Vec<u8>> {
    let find = |wanted| sent.iter().find(|record| is_handshake(record) && kind(record) == wanted);
    match side {
        Side::Client => find(M2).cloned(),
        Side::Server => find(M3).and(first).map(<[u8]>::to_vec),
    }
}

/// Whether it is a handshake message rather than a frame: some types have the same numbers.
fn is_handshake(record: &[u8]) -> bool {
    record.len() > 40
}

pub(crate) fn describe(record: &[u8], endpoint: &Endpoint) -> String {
    let what = match (is_handshake(record), kind(record)) {
        (true, M1) => "M1",
        (true, M2) => "M2",
        (true, M3) => "M3",
        (false, 0) => "message",
        (false, 5) => "CLOSE",
        (false, ALERT) => "alert",
        _ => panic!("unknown record: {record:?}"),
    };
    format!("the {what} of {endpoint}")
}
