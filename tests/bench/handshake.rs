//! What handshakes cost to compute, both ends of one together: from two buffers to two sessions that are
//! established, over no wire at all. Beside each (`…_hashes`), the HMACs and hashes alone that the two
//! ends cannot do without, by the same crates: what the one is more than the other is the state machines'.
//!
//! `cargo bench -p countersign-tests --bench handshake`
#![allow(clippy::unwrap_used)]

mod common;

use std::hint::black_box;

use common::{End, NOW, SECRET, Way, buffers};
use countersign::Protocol;
use divan::Bencher;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

fn main() {
    // Of what is as short as this, divan's own choice is too few for a ratio of medians.
    divan::Divan::default().sample_count(1000).sample_size(8).config_with_args().main();
}

fn handshake(bencher: Bencher<'_, '_>, way: &Way) {
    // Where they are made they stay, as those of a driver do.
    bencher.with_inputs(|| (Some(buffers(512)), None)).bench_local_refs(|(buffers, ends)| {
        if let Some(buffers) = buffers.take() {
            way.establish(ends.insert(way.begin(buffers)));
        }
    });
}

#[divan::bench]
fn challenge(bencher: Bencher<'_, '_>) {
    handshake(bencher, &Way::challenge());
}

#[divan::bench]
fn multiprocessing_strict(bencher: Bencher<'_, '_>) {
    handshake(bencher, &Way::strict());
}

#[divan::bench]
fn multiprocessing_compatible(bencher: Bencher<'_, '_>) {
    handshake(bencher, &Way::compatible());
}

#[divan::bench]
fn mutual(bencher: Bencher<'_, '_>) {
    handshake(bencher, &Way::mutual());
}

/// HMAC over SHA-256, the key absorbed: so each of these is one key schedule, of two blocks.
type Keyed = Hmac<Sha256>;

fn keyed(key: &[u8]) -> Keyed {
    Keyed::new_from_slice(key).unwrap()
}

/// Two blocks more, as long as `parts` are no more than 55 bytes together.
fn hmac(keyed: &Keyed, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed.clone();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// The responses to `messages`, each made by one end and made again by the other. A key is absorbed when
/// it is loaded, and never for a handshake.
fn responses(bencher: Bencher<'_, '_>, messages: &[&[u8]]) {
    let keys = [keyed(SECRET), keyed(SECRET)];
    bencher.bench_local(|| {
        for message in messages {
            for key in &keys {
                black_box(hmac(key, &[black_box(message)]));
            }
        }
    });
}

/// docs/PROTOCOL.md, "challenge": the client's response, and the same for the server to compare.
#[divan::bench]
fn challenge_hashes(bencher: Bencher<'_, '_>) {
    responses(bencher, &[&[7; 32]]);
}

/// docs/PROTOCOL.md, "multiprocessing": the same both ways, each over `{sha256}` and 40 bytes.
#[divan::bench]
fn multiprocessing_strict_hashes(bencher: Bencher<'_, '_>) {
    responses(bencher, &[&[7; 48], &[8; 48]]);
}

#[divan::bench]
fn mutual_hashes(bencher: Bencher<'_, '_>) {
    let spoken = Spoken::new();
    let prk = hmac(&keyed(b"countersign/1"), &[SECRET]);
    let other = [5; 32];
    for derived in [client(&prk, &spoken.messages), server(&prk, &other, &spoken.messages)] {
        spoken.check(&derived);
    }

    bencher.bench_local(|| {
        let (prk, messages) = (black_box(&prk), black_box(&spoken.messages));
        black_box(client(prk, messages));
        black_box(server(prk, black_box(&other), messages));
    });
}

/// What was said in such a session.
struct Spoken {
    /// M1, M2 and M3.
    messages: [Vec<u8>; 3],
    /// The client's first frame, and the server's.
    frames: [Vec<u8>; 2],
    exporter: [u8; 32],
}

impl Spoken {
    fn new() -> Self {
        let way = Way::mutual();
        let [mut client, mut server] = way.begin(buffers(512));
        let say = |from: &mut End, to: &mut End| {
            let message = from.poll_transmit(NOW).to_vec();
            way.carry(from, to);
            message
        };
        let m1 = say(&mut server, &mut client);
        let m2 = say(&mut client, &mut server);
        let messages = [m1, m2, say(&mut server, &mut client)];
        way.events(&mut server);
        let exporter = *client.peer().unwrap().exporter.unwrap();
        let frames = [&mut client, &mut server].map(|end| {
            end.split().1.send(b"hi").unwrap();
            end.poll_transmit(NOW).to_vec()
        });
        Self { messages, frames, exporter }
    }

    /// They are the protocol's, or they would not have come out as they did there.
    fn check(&self, derived: &Derived) {
        assert_eq!(derived.proofs, [&self.messages[1], &self.messages[2]].map(|it| proof_of(it)));
        assert_eq!(derived.exporter, self.exporter);
        for (key, frame) in derived.traffic.iter().zip(&self.frames) {
            let (frame, tag) = frame.split_at(frame.len() - 16);
            assert_eq!(hmac(&keyed(key), &[&[0; 8], frame])[..16], *tag);
        }
    }
}

fn proof_of(message: &[u8]) -> [u8; 32] {
    message[message.len() - 32..].try_into().unwrap()
}

/// What an end of `mutual` has computed when it is established.
struct Derived {
    proofs: [[u8; 32]; 2],
    /// c2s and s2c.
    traffic: [[u8; 32]; 2],
    exporter: [u8; 32],
}

/// A key as a handshake uses it: docs/PROTOCOL.md, "Keys", of which the names are. One key schedule is
/// counted for each key at each end, since one that is absorbed can be used again, and each byte of the
/// transcript is hashed once at each end, since a hash can be finished and continued both. What is kept
/// of a secret from one handshake to the next is prk, as it says there. (What could be kept besides, of
/// each key and key id, is k0, kc and ks.)
struct Imported {
    k0: Keyed,
}

impl Imported {
    /// prk absorbed, k0, k0 absorbed.
    fn new(prk: &[u8; 32]) -> Self {
        let kid = b"default";
        let lengths = [1, kid.len() as u8];
        Self { k0: keyed(&hmac(&keyed(prk), &[b"import", &lengths, kid, &[1]])) }
    }

    /// kc or ks, that absorbed, the proof.
    fn proof(&self, derive: &[u8], label: &[u8], transcript: &Sha256) -> [u8; 32] {
        let key = keyed(&hmac(&self.k0, &[derive, &[1]]));
        hmac(&key, &[label, &transcript.clone().finalize()])
    }
}

/// What both ends do: the proof of one is made and that of the other is made to compare.
fn end(
    key: &Imported,
    hashed: &Sha256,
    client_proof: [u8; 32],
    [_, m2, m3]: &[Vec<u8>; 3],
) -> Derived {
    // SHA256(pre ‖ M1 ‖ M2 ‖ M3'), from where SHA256(pre ‖ M1 ‖ M2') ended.
    let hashed = hashed.clone().chain_update(proof_of(m2)).chain_update(&m3[..m3.len() - 32]);
    let server_proof = key.proof(b"server auth", b"server", &hashed);
    // th; its first half is the session id.
    let th = hashed.chain_update(proof_of(m3)).finalize();
    // master, and that absorbed.
    let master = keyed(&hmac(&key.k0, &[b"session", &th, &[1]]));
    // Each way: Expand(master, "c2s"), that absorbed, c2s. To absorb c2s is the first frame's.
    let traffic = [b"c2s", b"s2c"].map(|direction| {
        let way = keyed(&hmac(&master, &[direction, &[1]]));
        hmac(&way, &[b"key", &[1]])
    });
    let exporter = hmac(&master, &[b"exporter", &[1]]);
    Derived { proofs: [client_proof, server_proof], traffic, exporter }
}

/// SHA256(pre ‖ M1 ‖ M2'), not finished.
fn until_m2([m1, m2, _]: &[Vec<u8>; 3]) -> Sha256 {
    let pre = Sha256::new_with_prefix(b"countersign/1\0");
    pre.chain_update(m1).chain_update(&m2[..m2.len() - 32])
}

fn client(prk: &[u8; 32], messages: &[Vec<u8>; 3]) -> Derived {
    let key = Imported::new(prk);
    let hashed = until_m2(messages);
    let proof = key.proof(b"client auth", b"client", &hashed);
    end(&key, &hashed, proof, messages)
}

/// "What the server does": the client's proof is computed under two keys, whether there are two or not.
fn server(prk: &[u8; 32], other: &[u8; 32], messages: &[Vec<u8>; 3]) -> Derived {
    let hashed = until_m2(messages);
    let [(key, proof), _] = [prk, other].map(|prk| {
        let key = Imported::new(prk);
        let proof = key.proof(b"client auth", b"client", &hashed);
        (key, black_box(proof))
    });
    end(&key, &hashed, proof, messages)
}
