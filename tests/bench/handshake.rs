//! The computing time of handshakes, client and server together, without any transport: from
//! buffers to two established sessions. For comparison, `…_hashes` computes only the HMACs and
//! hashes that the handshake needs, by the same crates: the difference is the cost of the protocol
//! code.
//!
//! `cargo bench -p countersign-tests --bench handshake`
#![allow(clippy::unwrap_used)]

mod pair_config;

use std::hint::black_box;

use countersign::Protocol;
use divan::Bencher;
use hmac::{Hmac, KeyInit, Mac};
use pair_config::{Endpoint, NOW, PairConfig, SECRET, buffers};
use sha2::{Digest, Sha256};

fn main() {
    // divan's defaults take too few samples of such short functions for a ratio of medians.
    divan::Divan::default().sample_count(1000).sample_size(8).config_with_args().main();
}

fn handshake(bencher: Bencher<'_, '_>, config: &PairConfig) {
    // The sessions are not moved after they are made, as in a driver.
    bencher.with_inputs(|| (Some(buffers(512)), None)).bench_local_refs(|(buffers, pair)| {
        if let Some(buffers) = buffers.take() {
            config.establish(pair.insert(config.new_pair(buffers)));
        }
    });
}

#[divan::bench]
fn challenge(bencher: Bencher<'_, '_>) {
    handshake(bencher, &PairConfig::challenge());
}

#[divan::bench]
fn multiprocessing_strict(bencher: Bencher<'_, '_>) {
    handshake(bencher, &PairConfig::multiprocessing_strict());
}

#[divan::bench]
fn multiprocessing_compatible(bencher: Bencher<'_, '_>) {
    handshake(bencher, &PairConfig::multiprocessing_compatible());
}

#[divan::bench]
fn mutual(bencher: Bencher<'_, '_>) {
    handshake(bencher, &PairConfig::mutual());
}

/// HMAC-SHA256 with the key absorbed, which takes two blocks: one key setup.
type KeyedHmac = Hmac<Sha256>;

fn keyed(key: &[u8]) -> KeyedHmac {
    KeyedHmac::new_from_slice(key).unwrap()
}

/// Takes two more blocks if `inputs` are at most 55 bytes in all.
fn hmac(keyed: &KeyedHmac, inputs: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed.clone();
    inputs.iter().for_each(|input| mac.update(input));
    mac.finalize().into_bytes().into()
}

/// The responses to `messages`, each computed by one endpoint to send and by the other to compare.
/// Keys are absorbed when they are loaded, not for each handshake.
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

/// The client's response, and the server's copy (docs/PROTOCOL.md, "challenge").
#[divan::bench]
fn challenge_hashes(bencher: Bencher<'_, '_>) {
    responses(bencher, &[&[7; 32]]);
}

/// Responses in both directions, each over `{sha256}` and 40 bytes (docs/PROTOCOL.md,
/// "multiprocessing").
#[divan::bench]
fn multiprocessing_strict_hashes(bencher: Bencher<'_, '_>) {
    responses(bencher, &[&[7; 48], &[8; 48]]);
}

#[divan::bench]
fn mutual_hashes(bencher: Bencher<'_, '_>) {
    let recorded = RecordedSession::new();
    let prk = hmac(&keyed(b"countersign/1"), &[SECRET]);
    let other = [5; 32];
    for derived in [client(&prk, &recorded.messages), server(&prk, &other, &recorded.messages)] {
        recorded.check(&derived);
    }

    bencher.bench_local(|| {
        let (prk, messages) = (black_box(&prk), black_box(&recorded.messages));
        black_box(client(prk, messages));
        black_box(server(prk, black_box(&other), messages));
    });
}

/// The messages and first frames of a session.
struct RecordedSession {
    /// M1, M2 and M3.
    messages: [Vec<u8>; 3],
    /// The first frames of the client and of the server.
    frames: [Vec<u8>; 2],
    exporter: [u8; 32],
}

impl RecordedSession {
    fn new() -> Self {
        let config = PairConfig::mutual();
        let [mut client, mut server] = config.new_pair(buffers(512));
        let send = |from: &mut Endpoint, to: &mut Endpoint| {
            let message = from.poll_transmit(NOW).to_vec();
            config.transfer(from, to);
            message
        };
        let m1 = send(&mut server, &mut client);
        let m2 = send(&mut client, &mut server);
        let messages = [m1, m2, send(&mut server, &mut client)];
        config.handle_events(&mut server);
        let exporter = *client.peer().unwrap().exporter.unwrap();
        let frames = [&mut client, &mut server].map(|endpoint| {
            endpoint.split().1.send(b"hi").unwrap();
            endpoint.poll_transmit(NOW).to_vec()
        });
        Self { messages, frames, exporter }
    }

    /// Asserts that `derived` contains the proofs, keys and exporter of this session.
    fn check(&self, derived: &Derived) {
        assert_eq!(
            derived.proofs,
            [&self.messages[1], &self.messages[2]].map(|message| proof_of(message))
        );
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

/// What an endpoint of `mutual` computes during its handshake.
struct Derived {
    proofs: [[u8; 32]; 2],
    /// The keys c2s and s2c.
    traffic: [[u8; 32]; 2],
    exporter: [u8; 32],
}

/// An imported key. The names are those of docs/PROTOCOL.md, "Keys".
///
/// This is the least work that the protocol needs: each endpoint absorbs each key once, since an
/// absorbed key can be used again, and hashes each byte of the transcript once, since a hash can be
/// both finished and continued. Of a secret, prk is kept from one handshake to the next. (An
/// implementation could also keep k0, kc and ks for each key and key id.)
struct ImportedKey {
    k0: KeyedHmac,
}

impl ImportedKey {
    /// Absorbs prk, derives k0, and absorbs it.
    fn new(prk: &[u8; 32]) -> Self {
        let kid = b"default";
        let lengths = [1, kid.len() as u8];
        Self { k0: keyed(&hmac(&keyed(prk), &[b"import", &lengths, kid, &[1]])) }
    }

    /// Derives kc or ks, absorbs it, and computes the proof.
    fn proof(&self, derive: &[u8], label: &[u8], hash: &Sha256) -> [u8; 32] {
        let key = keyed(&hmac(&self.k0, &[derive, &[1]]));
        hmac(&key, &[label, &hash.clone().finalize()])
    }
}

/// The work of either endpoint after the client's proof: the server's proof, to send or to compare,
/// and the keys of the session.
fn finish_handshake(
    key: &ImportedKey,
    hash: &Sha256,
    client_proof: [u8; 32],
    [_, m2, m3]: &[Vec<u8>; 3],
) -> Derived {
    // SHA256(pre ‖ M1 ‖ M2 ‖ M3'), continued from SHA256(pre ‖ M1 ‖ M2').
    let hash = hash.clone().chain_update(proof_of(m2)).chain_update(&m3[..m3.len() - 32]);
    let server_proof = key.proof(b"server auth", b"server", &hash);
    // The first half of th is the session id.
    let th = hash.chain_update(proof_of(m3)).finalize();
    // Derives master, and absorbs it.
    let master = keyed(&hmac(&key.k0, &[b"session", &th, &[1]]));
    // For each direction: Expand(master, "c2s"), absorbed, gives c2s. Absorbing c2s is part of the
    // first frame.
    let traffic = [b"c2s", b"s2c"].map(|direction| {
        let expanded = keyed(&hmac(&master, &[direction, &[1]]));
        hmac(&expanded, &[b"key", &[1]])
    });
    let exporter = hmac(&master, &[b"exporter", &[1]]);
    Derived { proofs: [client_proof, server_proof], traffic, exporter }
}

/// SHA256(pre ‖ M1 ‖ M2'), not finished.
fn hash_until_m2([m1, m2, _]: &[Vec<u8>; 3]) -> Sha256 {
    let pre = Sha256::new_with_prefix(b"countersign/1\0");
    pre.chain_update(m1).chain_update(&m2[..m2.len() - 32])
}

fn client(prk: &[u8; 32], messages: &[Vec<u8>; 3]) -> Derived {
    let key = ImportedKey::new(prk);
    let hash = hash_until_m2(messages);
    let proof = key.proof(b"client auth", b"client", &hash);
    finish_handshake(&key, &hash, proof, messages)
}

/// The server computes the client's proof under two keys, even if it has only one
/// (docs/PROTOCOL.md, "What the server does").
fn server(prk: &[u8; 32], other: &[u8; 32], messages: &[Vec<u8>; 3]) -> Derived {
    let hash = hash_until_m2(messages);
    let [(key, proof), _] = [prk, other].map(|prk| {
        let key = ImportedKey::new(prk);
        let proof = key.proof(b"client auth", b"client", &hash);
        (key, black_box(proof))
    });
    finish_handshake(&key, &hash, proof, messages)
}
