//! Records: what they are, and what an attacker without the key makes of them.

use crate::world::{Side, Spec};

const M1: u8 = 1;
const M2: u8 = 2;
const M3: u8 = 3;
const ALERT: u8 = 0x7f;

/// Where the kid is in an M2, and the name in an M3: behind N and type, there version and suite too.
const M2_KID: usize = 7;
const M3_NAME: usize = 5;

const PROOF_LEN: usize = 32;
const ANY_INSTANCE: [u8; 16] = [b'z'; 16];
const MAX_FRAME: [u8; 4] = 1000_u32.to_be_bytes();

fn record(body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

fn hello(suites: &[u8], nonce: &[u8]) -> Vec<u8> {
    record(&[&[M1], b"CSGN", &[1, 1, suites.len() as u8], suites, nonce])
}

/// What he makes without having seen anything.
pub(crate) fn from_nothing() -> Vec<(Vec<u8>, String)> {
    let mut own = vec![(hello(&[1], &[b'z'; 32]), "an M1 of the attacker".to_owned())];
    own.extend((1..=5).map(|code| (record(&[&[ALERT, code]]), format!("a forged alert {code}"))));
    own
}

/// What he makes of a record: changed fields under the old proof, and the proof in another message.
pub(crate) fn from_record(from: &[u8]) -> Vec<(Vec<u8>, &'static str)> {
    let proof = &from[from.len().saturating_sub(PROOF_LEN)..];
    match kind(from) {
        M1 => vec![(hello(&[1, 2], proof), "with one more suite")],
        M2 => {
            let mut renamed = from.to_vec();
            renamed[M2_KID + 1 + usize::from(from[M2_KID]) + 1] = b'z';
            let m3 = record(&[&[M3, 1, b'z'], &ANY_INSTANCE, &MAX_FRAME, &[0; 4], proof]);
            vec![(renamed, "under another name"), (m3, "made into an M3")]
        }
        M3 => {
            let mut renamed = from.to_vec();
            renamed[M3_NAME + 1] = b'z';
            let m2 = [&[M2, 1, 1, 1, b'k', 1, b'z', 0][..], &ANY_INSTANCE, &MAX_FRAME, &[0; 32]];
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

/// The M2 that a client sent, or that a server answered with M3: the first that it was given.
pub(crate) fn m2(side: Side, emitted: &[Vec<u8>], first: Option<&[u8]>) -> Option<Vec<u8>> {
    let sent =
        |wanted| emitted.iter().find(|record| is_handshake(record) && kind(record) == wanted);
    match side {
        Side::Client => sent(M2).cloned(),
        Side::Server => sent(M3).and(first).map(<[u8]>::to_vec),
    }
}

/// Whether it is no frame, of which some types have the same numbers.
fn is_handshake(record: &[u8]) -> bool {
    record.len() > 40
}

pub(crate) fn call(machine: &Spec) -> String {
    format!("{:?} {} #{}", machine.side, machine.name, machine.id)
}

pub(crate) fn describe(record: &[u8], machine: &Spec) -> String {
    let what = match (is_handshake(record), kind(record)) {
        (true, M1) => "M1",
        (true, M2) => "M2",
        (true, M3) => "M3",
        (false, 0) => "message",
        (false, 5) => "CLOSE",
        (false, ALERT) => "alert",
        _ => panic!("what is this? {record:?}"),
    };
    format!("the {what} of {}", call(machine))
}
