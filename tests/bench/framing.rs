//! What it costs to take frames from a stream, and to write them: `u32` and sealed frames as a session
//! does it, and tokio-util's `LengthDelimitedCodec`, a peer that does the same for `u32`.
//!
//! `cargo bench -p countersign-tests --bench framing`
#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use countersign::{
    Buffers, Candidates, Config, Event, Instance, Instant, Key, Machine, Mutual, Nonce, Role,
    Scheme, Session,
};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

const NOW: Instant = Instant::EPOCH;
/// Lengths of messages, in bytes.
const LENS: [usize; 2] = [64, 16 << 10];
/// What is taken or written at a time, in bytes, or one message if that is more.
const BATCH: usize = 64 << 10;

fn main() {
    divan::main();
}

fn count(len: usize) -> usize {
    (BATCH / len).max(1)
}

type End = Session<Box<[u8]>>;

fn end(role: Role, config: &Config, nonce: u8) -> End {
    let buffer = |len: usize| vec![0; len].into_boxed_slice();
    let len = (16 << 10) + 64;
    let buffers =
        Buffers { handshake: buffer(1024), receive: buffer(len), send: buffer(2 * BATCH) };
    let make = match role {
        Role::Client => Session::client,
        Role::Server => Session::server,
    };
    make(config, Nonce::from_bytes([nonce; Nonce::LEN]), buffers, NOW).unwrap()
}

/// Has `to` take what `from` has to send.
fn carry(from: &mut End, to: &mut End) {
    loop {
        let bytes = from.poll_transmit(NOW);
        if bytes.is_empty() {
            return;
        }
        let space = to.recv_space();
        let n = bytes.len().min(space.len());
        space[..n].copy_from_slice(&bytes[..n]);
        to.handle_received(n, NOW);
        from.handle_transmitted(n, NOW);
        events(to);
    }
}

/// Deals with all there is, and returns how many bytes of messages there were.
fn events(end: &mut End) -> usize {
    let mut taken = 0;
    while let Some(event) = end.poll_event(NOW).unwrap() {
        match event {
            Event::KeyNeeded => {
                let key = Key::mutual(b"a key that is long enough for anyone").unwrap();
                end.provide_key(Ok(Candidates::one(&key)), NOW).unwrap();
            }
            Event::Message { .. } => {
                taken += black_box(end.split().0).len();
                end.consume(NOW);
            }
            _ => {}
        }
    }
    taken
}

/// Two ends that are established.
fn pair(scheme: fn(u8) -> Scheme) -> (End, End) {
    let mut client = end(Role::Client, &Config::new(scheme(1)), 1);
    let mut server = end(Role::Server, &Config::new(scheme(2)), 2);
    events(&mut client);
    events(&mut server);
    while client.peer().is_none() || server.peer().is_none() {
        carry(&mut server, &mut client);
        carry(&mut client, &mut server);
        // A handshake is over when its last byte has left.
        events(&mut server);
        events(&mut client);
    }
    (client, server)
}

fn none(_: u8) -> Scheme {
    Scheme::None
}

fn mutual(process: u8) -> Scheme {
    let instance = Instance::from_bytes(&[process; Instance::LEN]);
    Scheme::Mutual(Mutual::new(format!("end{process}").parse().unwrap(), instance))
}

/// Writes messages, and throws away what they became.
fn write(bencher: Bencher<'_, '_>, len: usize, scheme: fn(u8) -> Scheme) {
    let (mut client, _) = pair(scheme);
    let message = vec![7; len];
    let bencher =
        bencher.counter(BytesCount::new(count(len) * len)).counter(ItemsCount::new(count(len)));
    bencher.bench_local(|| {
        for _ in 0..count(len) {
            client.split().1.send(black_box(&message)).unwrap();
            while let n @ 1.. = black_box(client.poll_transmit(NOW)).len() {
                client.handle_transmitted(n, NOW);
            }
        }
    });
}

/// Takes messages, whose bytes come as they fit.
fn read(bencher: Bencher<'_, '_>, len: usize, scheme: fn(u8) -> Scheme) {
    let (mut client, mut server) = pair(scheme);
    let message = vec![7; len];
    let bencher =
        bencher.counter(BytesCount::new(count(len) * len)).counter(ItemsCount::new(count(len)));
    // Sealed frames are each a session's next: they are made as they are wanted.
    let inputs = || {
        let mut bytes = Vec::new();
        for _ in 0..count(len) {
            client.split().1.send(&message).unwrap();
            while let made @ [_, ..] = client.poll_transmit(NOW) {
                bytes.extend_from_slice(made);
                let n = made.len();
                client.handle_transmitted(n, NOW);
            }
        }
        bytes
    };
    bencher.with_inputs(inputs).bench_local_values(|bytes| {
        let (mut left, mut taken) = (&bytes[..], 0);
        while !left.is_empty() {
            let space = server.recv_space();
            let n = left.len().min(space.len());
            assert!(n > 0, "bytes are left over");
            space[..n].copy_from_slice(&left[..n]);
            server.handle_received(n, NOW);
            left = &left[n..];
            taken += events(&mut server);
        }
        assert_eq!(taken, count(len) * len);
    });
}

#[divan::bench(args = LENS)]
fn u32_write(bencher: Bencher<'_, '_>, len: usize) {
    write(bencher, len, none);
}

#[divan::bench(args = LENS)]
fn u32_read(bencher: Bencher<'_, '_>, len: usize) {
    read(bencher, len, none);
}

#[divan::bench(args = LENS)]
fn sealed_write(bencher: Bencher<'_, '_>, len: usize) {
    write(bencher, len, mutual);
}

#[divan::bench(args = LENS)]
fn sealed_read(bencher: Bencher<'_, '_>, len: usize) {
    read(bencher, len, mutual);
}

#[divan::bench(args = LENS)]
fn codec_write(bencher: Bencher<'_, '_>, len: usize) {
    let mut codec = LengthDelimitedCodec::new();
    let message = Bytes::from(vec![7; len]);
    let mut out = BytesMut::with_capacity(2 * BATCH);
    let bencher =
        bencher.counter(BytesCount::new(count(len) * len)).counter(ItemsCount::new(count(len)));
    bencher.bench_local(|| {
        for _ in 0..count(len) {
            codec.encode(black_box(message.clone()), &mut out).unwrap();
            black_box(&out[..]);
            out.clear();
        }
    });
}

#[divan::bench(args = LENS)]
fn codec_read(bencher: Bencher<'_, '_>, len: usize) {
    let mut codec = LengthDelimitedCodec::new();
    let message = Bytes::from(vec![7; len]);
    let mut frames = BytesMut::new();
    for _ in 0..count(len) {
        LengthDelimitedCodec::new().encode(message.clone(), &mut frames).unwrap();
    }
    let bencher =
        bencher.counter(BytesCount::new(count(len) * len)).counter(ItemsCount::new(count(len)));
    let mut read = BytesMut::with_capacity(16 << 10);
    bencher.bench_local(|| {
        let (mut left, mut taken) = (&frames[..], 0);
        while !left.is_empty() {
            // As a framed transport reads: what fits into 16 KiB more.
            let n = left.len().min((16 << 10) + 64);
            read.extend_from_slice(&left[..n]);
            left = &left[n..];
            while let Some(frame) = codec.decode(&mut read).unwrap() {
                taken += black_box(frame).len();
            }
        }
        assert_eq!(taken, count(len) * len);
    });
}
