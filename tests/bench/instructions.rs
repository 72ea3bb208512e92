//! How many instructions framings and state machines take, counted by valgrind: the same number in each
//! run of the same program, whatever else the machine does, so a few more are noticed.
//!
//! `cargo bench -p countersign-tests --bench instructions` compares with `instructions.txt` beside this
//! and fails if they differ; with `-- --renew` it writes that file anew; with
//! `-- --output-format=default` gungraun itself shows what it has, and compares with the last run. It
//! takes valgrind, and gungraun-runner of the very version that gungraun has in Cargo.lock.
//!
//! valgrind has no SHA instructions: what hashes does so in software here, 3,400 instructions a block, and
//! little else of it can be seen. So those are a group of their own, `hashing`.
#![allow(clippy::unwrap_used)]
// What the macros make.
#![allow(missing_docs, unreachable_pub, unused_qualifications)]

mod baseline;
mod common;

use std::env;
use std::hint::black_box;
use std::process::ExitCode;

use common::{End, NOW, Way, buffers, established};
use countersign::{Buffers, Framing, Protocol};
use gungraun::{library_benchmark, library_benchmark_group};

/// How many messages are written or taken.
const MESSAGES: usize = 16;
/// The length of each, in bytes. Longer ones are copied in ways that depend on the machine.
const LEN: usize = 64;
/// The length of the buffers, in bytes: room for all of them.
const BUFFER: usize = 2 * MESSAGES * LEN;

fn main() -> ExitCode {
    // The runner, which `baseline` starts by starting this program again, starts it for each benchmark.
    let counts = |arg: &String| arg == "--gungraun-run" || arg.starts_with("--output-format");
    let args: Vec<_> = env::args().collect();
    if args.iter().any(counts) {
        counted::run();
        return ExitCode::SUCCESS;
    }
    baseline::compare(&args)
}

mod counted {
    use super::{hashing, plain};
    use gungraun::{Callgrind, LibraryBenchmarkConfig, main};

    main!(
        // Without what it knows of caches.
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

/// Two ends that are established, and what the client wrote, as it is to come in.
struct Ready {
    way: Way,
    ends: [End; 2],
    chunks: Vec<Vec<u8>>,
}

fn ready(way: Way) -> Ready {
    let ends = established(&way, BUFFER);
    Ready { way, ends, chunks: Vec::new() }
}

/// Each message by itself.
fn apart(way: Way) -> Ready {
    let mut ready = ready(way);
    let client = &mut ready.ends[0];
    for _ in 0..MESSAGES {
        client.split().1.send(&[7; LEN]).unwrap();
        let frame = client.poll_transmit(NOW).to_vec();
        client.handle_transmitted(frame.len(), NOW);
        ready.chunks.push(frame);
    }
    ready
}

/// All at once.
fn together(way: Way) -> Ready {
    let mut ready = apart(way);
    ready.chunks = vec![ready.chunks.concat()];
    ready
}

fn send_all(mut ready: Ready) -> Ready {
    let client = &mut ready.ends[0];
    for _ in 0..MESSAGES {
        client.split().1.send(black_box(&[7; LEN])).unwrap();
        let n = black_box(client.poll_transmit(NOW)).len();
        client.handle_transmitted(n, NOW);
    }
    ready
}

fn take_all(mut ready: Ready) -> Ready {
    let server = &mut ready.ends[1];
    let mut taken = 0;
    for chunk in &ready.chunks {
        server.recv_space()[..chunk.len()].copy_from_slice(chunk);
        server.handle_received(chunk.len(), NOW);
        taken += ready.way.events(server);
    }
    assert_eq!(taken, MESSAGES * LEN);
    ready
}

/// The client's heartbeat is due; the server answers it.
fn beat(mut ready: Ready) -> Ready {
    let [client, server] = &mut ready.ends;
    let due = client.poll_timeout().unwrap();
    client.handle_timeout(due);
    ready.way.carry(client, server);
    ready.way.carry(server, client);
    ready
}

#[library_benchmark(setup = ready)]
#[bench::raw(Way::none(Framing::Raw))]
#[bench::u32(Way::none(Framing::U32))]
#[bench::multiprocessing(Way::none(Framing::Multiprocessing))]
#[bench::untagged(Way::untagged())]
fn write(ready: Ready) -> Ready {
    send_all(ready)
}

#[library_benchmark(setup = apart)]
#[bench::raw(Way::none(Framing::Raw))]
#[bench::u32(Way::none(Framing::U32))]
#[bench::multiprocessing(Way::none(Framing::Multiprocessing))]
#[bench::untagged(Way::untagged())]
fn read(ready: Ready) -> Ready {
    take_all(ready)
}

#[library_benchmark(setup = together)]
#[bench::raw(Way::none(Framing::Raw))]
#[bench::u32(Way::none(Framing::U32))]
#[bench::multiprocessing(Way::none(Framing::Multiprocessing))]
#[bench::untagged(Way::untagged())]
fn read_together(ready: Ready) -> Ready {
    take_all(ready)
}

#[library_benchmark(setup = ready)]
#[bench::untagged(Way::untagged())]
fn heartbeat(ready: Ready) -> Ready {
    beat(ready)
}

#[library_benchmark(setup = ready)]
#[bench::sealed(Way::mutual())]
fn sealed_write(ready: Ready) -> Ready {
    send_all(ready)
}

#[library_benchmark(setup = apart)]
#[bench::sealed(Way::mutual())]
fn sealed_read(ready: Ready) -> Ready {
    take_all(ready)
}

#[library_benchmark(setup = ready)]
#[bench::sealed(Way::mutual())]
fn sealed_heartbeat(ready: Ready) -> Ready {
    beat(ready)
}

/// What two sessions are made of.
type Parts = (Way, [Buffers<Box<[u8]>>; 2]);

fn parts(way: Way) -> Parts {
    // What is found out about the processor once is found out.
    established(&way, BUFFER);
    (way, buffers(BUFFER))
}

// Two sessions that have said nothing yet.
#[library_benchmark(setup = parts)]
#[bench::none(Way::none(Framing::U32))]
#[bench::challenge(Way::challenge())]
#[bench::multiprocessing(Way::strict())]
#[bench::mutual(Way::mutual())]
fn begin((way, buffers): Parts) -> (Way, [End; 2]) {
    let ends = way.begin(buffers);
    (way, ends)
}

// Two sessions, until they are established.
#[library_benchmark(setup = parts)]
#[bench::challenge(Way::challenge())]
#[bench::multiprocessing_strict(Way::strict())]
#[bench::multiprocessing_compatible(Way::compatible())]
#[bench::mutual(Way::mutual())]
#[bench::mutual_bound(Way::untagged())]
fn handshake((way, buffers): Parts) -> (Way, [End; 2]) {
    let mut ends = way.begin(buffers);
    way.establish(&mut ends);
    (way, ends)
}
