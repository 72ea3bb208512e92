//! Instruction counts of framings and handshakes, measured by valgrind. The count is the same in
//! each run of the same program, whatever the load of the computer, so that small regressions show.
//!
//! `cargo bench -p countersign-tests --bench instructions` compares the counts with
//! `instructions.txt` in this directory, and fails if they differ. With `-- --renew` it rewrites that
//! file. With `-- --output-format=default` gungraun prints its own report, and compares with the last
//! run. The benchmark needs valgrind, and gungraun-runner of the version that Cargo.lock has for
//! gungraun.
//!
//! valgrind has no SHA instructions, so that SHA-256 runs in software: 3,400 instructions a block,
//! which hide everything else. Benchmarks that hash are therefore in a group of their own,
//! `hashing`.
#![allow(clippy::unwrap_used)]
// For the code that gungraun's macros generate.
#![allow(missing_docs, unreachable_pub, unused_qualifications)]

mod instruction_baseline;
mod pair_config;

use std::env;
use std::hint::black_box;
use std::process::ExitCode;

use countersign::{Buffers, Framing, Protocol};
use gungraun::{library_benchmark, library_benchmark_group};
use pair_config::{Endpoint, NOW, PairConfig, buffers, established_pair};

/// Messages in each benchmark.
const MESSAGES: usize = 16;
/// Length of each message in bytes. How longer ones are copied depends on the processor.
const LEN: usize = 64;
/// Length of the buffers in bytes: room for all messages.
const BUFFER: usize = 2 * MESSAGES * LEN;

fn main() -> ExitCode {
    // `instruction_baseline` starts this program again as gungraun's front end, and gungraun-runner
    // starts it once for each benchmark.
    let is_gungraun = |arg: &String| arg == "--gungraun-run" || arg.starts_with("--output-format");
    let args: Vec<_> = env::args().collect();
    if args.iter().any(is_gungraun) {
        gungraun_main::run();
        return ExitCode::SUCCESS;
    }
    instruction_baseline::compare(&args)
}

mod gungraun_main {
    use super::{hashing, plain};
    use gungraun::{Callgrind, LibraryBenchmarkConfig, main};

    main!(
        // Instructions only, without a simulation of caches.
        config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["cache-sim=no"])),
        library_benchmark_groups = [plain, hashing]
    );

    pub(super) fn run() {
        main();
    }
}

library_benchmark_group!(name = plain, benchmarks = [write, read, read_together, begin, heartbeat]);
library_benchmark_group!(
    name = hashing,
    benchmarks = [sealed_write, sealed_read, sealed_heartbeat, handshake]
);

/// An established pair, and what the client has sent, in chunks as the server will receive them.
struct Ready {
    config: PairConfig,
    pair: [Endpoint; 2],
    chunks: Vec<Vec<u8>>,
}

fn ready(config: PairConfig) -> Ready {
    let pair = established_pair(&config, BUFFER);
    Ready { config, pair, chunks: Vec::new() }
}

/// One chunk for each message.
fn separate_chunks(config: PairConfig) -> Ready {
    let mut ready = ready(config);
    let client = &mut ready.pair[0];
    for _ in 0..MESSAGES {
        client.split().1.send(&[7; LEN]).unwrap();
        let frame = client.poll_transmit(NOW).to_vec();
        client.handle_transmitted(frame.len(), NOW);
        ready.chunks.push(frame);
    }
    ready
}

/// All messages in one chunk.
fn single_chunk(config: PairConfig) -> Ready {
    let mut ready = separate_chunks(config);
    ready.chunks = vec![ready.chunks.concat()];
    ready
}

fn send_all(mut ready: Ready) -> Ready {
    let client = &mut ready.pair[0];
    for _ in 0..MESSAGES {
        client.split().1.send(black_box(&[7; LEN])).unwrap();
        let n = black_box(client.poll_transmit(NOW)).len();
        client.handle_transmitted(n, NOW);
    }
    ready
}

fn receive_all(mut ready: Ready) -> Ready {
    let server = &mut ready.pair[1];
    let mut consumed = 0;
    for chunk in &ready.chunks {
        server.recv_space()[..chunk.len()].copy_from_slice(chunk);
        server.handle_received(chunk.len(), NOW);
        consumed += ready.config.handle_events(server);
    }
    assert_eq!(consumed, MESSAGES * LEN);
    ready
}

/// The client's heartbeat, which is due, and the server's answer.
fn exchange_heartbeats(mut ready: Ready) -> Ready {
    let [client, server] = &mut ready.pair;
    let due = client.poll_timeout().unwrap();
    client.handle_timeout(due);
    ready.config.transfer(client, server);
    ready.config.transfer(server, client);
    ready
}

#[library_benchmark(setup = ready)]
#[bench::raw(PairConfig::none(Framing::Raw))]
#[bench::u32(PairConfig::none(Framing::U32))]
#[bench::multiprocessing(PairConfig::none(Framing::Multiprocessing))]
#[bench::untagged(PairConfig::untagged())]
fn write(ready: Ready) -> Ready {
    send_all(ready)
}

#[library_benchmark(setup = separate_chunks)]
#[bench::raw(PairConfig::none(Framing::Raw))]
#[bench::u32(PairConfig::none(Framing::U32))]
#[bench::multiprocessing(PairConfig::none(Framing::Multiprocessing))]
#[bench::untagged(PairConfig::untagged())]
fn read(ready: Ready) -> Ready {
    receive_all(ready)
}

#[library_benchmark(setup = single_chunk)]
#[bench::raw(PairConfig::none(Framing::Raw))]
#[bench::u32(PairConfig::none(Framing::U32))]
#[bench::multiprocessing(PairConfig::none(Framing::Multiprocessing))]
#[bench::untagged(PairConfig::untagged())]
fn read_together(ready: Ready) -> Ready {
    receive_all(ready)
}

#[library_benchmark(setup = ready)]
#[bench::untagged(PairConfig::untagged())]
fn heartbeat(ready: Ready) -> Ready {
    exchange_heartbeats(ready)
}

#[library_benchmark(setup = ready)]
#[bench::sealed(PairConfig::mutual())]
fn sealed_write(ready: Ready) -> Ready {
    send_all(ready)
}

#[library_benchmark(setup = separate_chunks)]
#[bench::sealed(PairConfig::mutual())]
fn sealed_read(ready: Ready) -> Ready {
    receive_all(ready)
}

#[library_benchmark(setup = ready)]
#[bench::sealed(PairConfig::mutual())]
fn sealed_heartbeat(ready: Ready) -> Ready {
    exchange_heartbeats(ready)
}

/// The configuration and the buffers of a pair.
type Unstarted = (PairConfig, [Buffers<Box<[u8]>>; 2]);

fn unstarted(config: PairConfig) -> Unstarted {
    // The hashes detect the processor's features on first use, which is not to be counted.
    established_pair(&config, BUFFER);
    (config, buffers(BUFFER))
}

// Makes two sessions.
#[library_benchmark(setup = unstarted)]
#[bench::none(PairConfig::none(Framing::U32))]
#[bench::challenge(PairConfig::challenge())]
#[bench::multiprocessing(PairConfig::multiprocessing_strict())]
#[bench::mutual(PairConfig::mutual())]
fn begin((config, buffers): Unstarted) -> (PairConfig, [Endpoint; 2]) {
    let pair = config.new_pair(buffers);
    (config, pair)
}

// Makes two sessions, and runs their handshake.
#[library_benchmark(setup = unstarted)]
#[bench::challenge(PairConfig::challenge())]
#[bench::multiprocessing_strict(PairConfig::multiprocessing_strict())]
#[bench::multiprocessing_compatible(PairConfig::multiprocessing_compatible())]
#[bench::mutual(PairConfig::mutual())]
#[bench::mutual_bound(PairConfig::untagged())]
fn handshake((config, buffers): Unstarted) -> (PairConfig, [Endpoint; 2]) {
    let mut pair = config.new_pair(buffers);
    config.establish(&mut pair);
    (config, pair)
}
