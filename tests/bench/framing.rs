//! What it costs to write messages as frames, and to take them from a stream: every framing, as a
//! session does it, and beside `u32` tokio-util's `LengthDelimitedCodec`, which does the same. Beside
//! `sealed`, in which each frame has a tag, what its tag alone costs by the crates that we use
//! (`tag_by_hmac`) and by ring (`tag_by_ring`), the key absorbed beforehand; `untagged` is `sealed`
//! without.
//!
//! `cargo bench -p countersign-tests --bench framing`
#![allow(clippy::unwrap_used)]

mod common;

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use common::{NOW, Way, established};
use countersign::{Framing, Protocol};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

/// Lengths of messages, in bytes.
const LENS: [usize; 2] = [64, 16 << 10];
/// What is taken or written at a time, in bytes.
const BATCH: usize = 64 << 10;
/// The receive buffer, in bytes: the longest message, and what is around it.
const BUFFER: usize = (16 << 10) + 64;

fn main() {
    divan::main();
}

fn counted<'a, 'b>(bencher: Bencher<'a, 'b>, len: usize) -> Bencher<'a, 'b> {
    bencher.counter(BytesCount::new(BATCH)).counter(ItemsCount::new(BATCH / len))
}

/// How many messages are written before what they became is thrown away: as many as fit the buffer of
/// every framing.
fn at_once(len: usize) -> usize {
    if len > BUFFER / 2 { 1 } else { BATCH / 8 / len }
}

/// Writes messages, and throws away what they became.
fn write(bencher: Bencher<'_, '_>, len: usize, way: &Way) {
    let [mut client, _] = established(way, BUFFER);
    let message = vec![7; len];
    counted(bencher, len).bench_local(|| {
        for _ in 0..BATCH / len / at_once(len) {
            for _ in 0..at_once(len) {
                client.split().1.send(black_box(&message)).unwrap();
            }
            while let n @ 1.. = black_box(client.poll_transmit(NOW)).len() {
                client.handle_transmitted(n, NOW);
            }
        }
    });
}

/// Takes messages, of whose bytes as many come at once as fit, or `most`.
fn read(bencher: Bencher<'_, '_>, len: usize, way: &Way, most: usize) {
    let [mut client, mut server] = established(way, BUFFER);
    let message = vec![7; len];
    let mut inputs = || {
        let mut bytes = Vec::new();
        for _ in 0..BATCH / len {
            client.split().1.send(&message).unwrap();
            while let made @ [_, ..] = client.poll_transmit(NOW) {
                bytes.extend_from_slice(made);
                let n = made.len();
                client.handle_transmitted(n, NOW);
            }
        }
        bytes
    };
    let mut take = |bytes: &[u8]| {
        let (mut left, mut taken) = (bytes, 0);
        while !left.is_empty() {
            let space = server.recv_space();
            let n = left.len().min(space.len()).min(most);
            assert!(n > 0, "bytes are left over");
            space[..n].copy_from_slice(&left[..n]);
            server.handle_received(n, NOW);
            left = &left[n..];
            taken += way.events(&mut server);
        }
        assert_eq!(taken, BATCH);
    };
    let bencher = counted(bencher, len);
    if way.is_tagged() {
        // Frames with tags are each a session's next: they are made as they are wanted.
        bencher.with_inputs(inputs).bench_local_values(|bytes| {
            take(&bytes);
            bytes
        });
    } else {
        let bytes = inputs();
        bencher.bench_local(|| take(black_box(&bytes)));
    }
}

/// Makes the tags of frames: `tag` is given what it is made of.
fn tags<T>(bencher: Bencher<'_, '_>, len: usize, mut tag: impl FnMut(&[u8; 8], &[u8]) -> T) {
    let header = 5;
    let frame = vec![7; header + len];
    counted(bencher, len).bench_local(|| {
        for seq in 0..(BATCH / len) as u64 {
            black_box(tag(&black_box(seq).to_be_bytes(), black_box(&frame)));
        }
    });
}

/// The benchmarks `write` and `read` of one framing. A raw stream has no messages to tell apart: what
/// is sent at once comes at once.
macro_rules! framing {
    ($name:ident, $way:expr, $most:expr) => {
        mod $name {
            use super::*;

            #[divan::bench(args = LENS)]
            fn write(bencher: Bencher<'_, '_>, len: usize) {
                super::write(bencher, len, &$way);
            }

            #[divan::bench(args = LENS)]
            fn read(bencher: Bencher<'_, '_>, len: usize) {
                let most: fn(usize) -> usize = $most;
                super::read(bencher, len, &$way, most(len));
            }
        }
    };
}

framing!(raw, Way::none(Framing::Raw), |len| len);
framing!(u32, Way::none(Framing::U32), |_| usize::MAX);
framing!(multiprocessing, Way::none(Framing::Multiprocessing), |_| usize::MAX);
framing!(sealed, Way::mutual(), |_| usize::MAX);
framing!(untagged, Way::untagged(), |_| usize::MAX);

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
        counted(bencher, len).bench_local(|| {
            for _ in 0..BATCH / len / at_once(len) {
                for _ in 0..at_once(len) {
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
        counted(bencher, len).bench_local(|| {
            let (mut left, mut taken) = (&frames[..], 0);
            while !left.is_empty() {
                // As a framed transport reads: what fits into so much more.
                let n = left.len().min(BUFFER);
                read.extend_from_slice(&left[..n]);
                left = &left[n..];
                while let Some(frame) = codec.decode(&mut read).unwrap() {
                    taken += black_box(frame).len();
                }
            }
            assert_eq!(taken, BATCH);
        });
    }
}
