//! The time to write messages as frames, and to read them from a stream, for each framing of a
//! session.
//!
//! * `codec` is tokio-util's `LengthDelimitedCodec`, which does the same as `u32`.
//! * `sealed` has a tag on each frame, and `untagged` is the same without tags. `tag_by_hmac` and
//!   `tag_by_ring` compute the tags alone, by the crates that the core uses and by ring. The key is
//!   absorbed beforehand.
//!
//! `cargo bench -p countersign-tests --bench framing`
#![allow(clippy::unwrap_used)]

mod pair_config;

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use countersign::{Framing, Protocol};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use hmac::{Hmac, KeyInit, Mac};
use pair_config::{NOW, PairConfig, established_pair};
use sha2::Sha256;
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

/// Lengths of messages, in bytes.
const LENS: [usize; 2] = [64, 16 << 10];
/// Bytes of messages in one iteration.
const BATCH: usize = 64 << 10;
/// Length of a buffer in bytes: the longest message and its framing.
const BUFFER: usize = (16 << 10) + 64;

fn main() {
    divan::main();
}

/// Sets the number of bytes and messages in one iteration.
fn with_counters<'a, 'b>(bencher: Bencher<'a, 'b>, len: usize) -> Bencher<'a, 'b> {
    bencher.counter(BytesCount::new(BATCH)).counter(ItemsCount::new(BATCH / len))
}

/// The number of messages to write before the output is discarded: as many as fit into the buffer
/// with every framing.
fn messages_per_write(len: usize) -> usize {
    if len > BUFFER / 2 { 1 } else { BATCH / 8 / len }
}

/// Writes messages, and discards the frames.
fn write(bencher: Bencher<'_, '_>, len: usize, config: &PairConfig) {
    let [mut client, _] = established_pair(config, BUFFER);
    let message = vec![7; len];
    with_counters(bencher, len).bench_local(|| {
        for _ in 0..BATCH / len / messages_per_write(len) {
            for _ in 0..messages_per_write(len) {
                client.split().1.send(black_box(&message)).unwrap();
            }
            while let n @ 1.. = black_box(client.poll_transmit(NOW)).len() {
                client.handle_transmitted(n, NOW);
            }
        }
    });
}

/// Reads messages, in chunks of at most `max_chunk` bytes or as many as the buffer takes.
fn read(bencher: Bencher<'_, '_>, len: usize, config: &PairConfig, max_chunk: usize) {
    let [mut client, mut server] = established_pair(config, BUFFER);
    let message = vec![7; len];
    let mut inputs = || {
        let mut bytes = Vec::new();
        for _ in 0..BATCH / len {
            client.split().1.send(&message).unwrap();
            while let frames @ [_, ..] = client.poll_transmit(NOW) {
                bytes.extend_from_slice(frames);
                let n = frames.len();
                client.handle_transmitted(n, NOW);
            }
        }
        bytes
    };
    let mut receive = |bytes: &[u8]| {
        let (mut unread, mut consumed) = (bytes, 0);
        while !unread.is_empty() {
            let space = server.recv_space();
            let n = unread.len().min(space.len()).min(max_chunk);
            assert!(n > 0, "the session does not read all bytes");
            space[..n].copy_from_slice(&unread[..n]);
            server.handle_received(n, NOW);
            unread = &unread[n..];
            consumed += config.handle_events(&mut server);
        }
        assert_eq!(consumed, BATCH);
    };
    let bencher = with_counters(bencher, len);
    if config.is_tagged() {
        // A tagged frame is valid only once, as the next of its session, so each iteration needs
        // new ones.
        bencher.with_inputs(inputs).bench_local_values(|bytes| {
            receive(&bytes);
            bytes
        });
    } else {
        let bytes = inputs();
        bencher.bench_local(|| receive(black_box(&bytes)));
    }
}

/// Computes the tags of frames by `tag`, whose arguments are the sequence number and the frame.
fn tags<T>(bencher: Bencher<'_, '_>, len: usize, mut tag: impl FnMut(&[u8; 8], &[u8]) -> T) {
    let header = 5;
    let frame = vec![7; header + len];
    with_counters(bencher, len).bench_local(|| {
        for seq in 0..(BATCH / len) as u64 {
            black_box(tag(&black_box(seq).to_be_bytes(), black_box(&frame)));
        }
    });
}

/// The benchmarks `write` and `read` of one framing. `$max_chunk` is the most bytes of one read,
/// given the length of a message: a raw stream has no message boundaries, so its chunks are the
/// messages.
macro_rules! framing {
    ($name:ident, $config:expr, $max_chunk:expr) => {
        mod $name {
            use super::*;

            #[divan::bench(args = LENS)]
            fn write(bencher: Bencher<'_, '_>, len: usize) {
                super::write(bencher, len, &$config);
            }

            #[divan::bench(args = LENS)]
            fn read(bencher: Bencher<'_, '_>, len: usize) {
                let max_chunk: fn(usize) -> usize = $max_chunk;
                super::read(bencher, len, &$config, max_chunk(len));
            }
        }
    };
}

framing!(raw, PairConfig::none(Framing::Raw), |len| len);
framing!(u32, PairConfig::none(Framing::U32), |_| usize::MAX);
framing!(multiprocessing, PairConfig::none(Framing::Multiprocessing), |_| usize::MAX);
framing!(sealed, PairConfig::mutual(), |_| usize::MAX);
framing!(untagged, PairConfig::untagged(), |_| usize::MAX);

#[divan::bench(args = LENS)]
fn tag_by_hmac(bencher: Bencher<'_, '_>, len: usize) {
    let keyed = Hmac::<Sha256>::new_from_slice(&[3; 32]).unwrap();
    tags(bencher, len, |seq, frame| {
        let mac = keyed.clone().chain_update(seq).chain_update(frame);
        mac.finalize().into_bytes()
    });
}

#[divan::bench(args = LENS)]
fn tag_by_ring(bencher: Bencher<'_, '_>, len: usize) {
    let keyed = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[3; 32]);
    tags(bencher, len, |seq, frame| {
        let mut context = ring::hmac::Context::with_key(&keyed);
        context.update(seq);
        context.update(frame);
        context.sign()
    });
}

mod codec {
    use super::*;

    #[divan::bench(args = LENS)]
    fn write(bencher: Bencher<'_, '_>, len: usize) {
        let mut codec = LengthDelimitedCodec::new();
        let message = Bytes::from(vec![7; len]);
        let mut out = BytesMut::with_capacity(2 * BATCH);
        with_counters(bencher, len).bench_local(|| {
            for _ in 0..BATCH / len / messages_per_write(len) {
                for _ in 0..messages_per_write(len) {
                    codec.encode(black_box(message.clone()), &mut out).unwrap();
                }
                black_box(&out[..]);
                out.clear();
            }
        });
    }

    #[divan::bench(args = LENS)]
    fn read(bencher: Bencher<'_, '_>, len: usize) {
        let mut codec = LengthDelimitedCodec::new();
        let message = Bytes::from(vec![7; len]);
        let mut frames = BytesMut::new();
        for _ in 0..BATCH / len {
            codec.encode(message.clone(), &mut frames).unwrap();
        }
        let mut read = BytesMut::with_capacity(BUFFER);
        with_counters(bencher, len).bench_local(|| {
            let (mut unread, mut consumed) = (&frames[..], 0);
            while !unread.is_empty() {
                // As tokio-util's FramedRead, which reads into the spare capacity of its buffer.
                let n = unread.len().min(BUFFER);
                read.extend_from_slice(&unread[..n]);
                unread = &unread[n..];
                while let Some(frame) = codec.decode(&mut read).unwrap() {
                    consumed += black_box(frame).len();
                }
            }
            assert_eq!(consumed, BATCH);
        });
    }
}
