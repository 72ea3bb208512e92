//! Memory of `countersign serve` for each connection, idle and half-open, on each adapter and with each
//! scheme. Measured with 10,000 connections, or as many as the system permits.
//!
//! `cargo bench -p countersign-cli --bench memory`, or with `-- smol` for one adapter
#![allow(clippy::unwrap_used, clippy::panic)]

#[allow(dead_code, clippy::explicit_write, reason = "shared with tests, which need more of it")]
#[path = "../tests/common/common.rs"]
mod common;
#[path = "../tests/common/many_clients.rs"]
mod many_clients;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::{Server, TempDir, allow_files, countersign};
use countersign_tls::{Credentials, TlsFactory};
use many_clients::{Client, KEY, ManyClients, sessions};
use rustix::process::{Resource, getrlimit};

/// Connections outside TLS.
const HELD: u64 = 10_000;
/// Connections inside TLS, where handshakes take longer.
const HELD_IN_TLS: u64 = 2_000;
/// How often each number is measured.
const ROUNDS: usize = 3;
/// A reserve of files, threads and mappings for everything except connections.
const SPARE: u64 = 200;

const EXPLAINED: &str = "\
Memory of `countersign serve` for each connection, in bytes: the growth of the process, divided by the number
of connections. An idle connection is established and has had two requests and replies. A half-open one has
received the first message of the server and sends nothing. Medians of 3 rounds.
- files: descriptors of the server
- resident: pages of the process in memory
- stacks: resident stacks of threads; on std each connection has a thread
- reserved: address space, most of which is never used: stacks on std, otherwise 64 MiB for each new heap of
  the allocator
- tables: page tables in the kernel, not resident
Other memory of the kernel is not included: sockets, and the kernel stacks of threads, 16 KiB each on most
systems.";

/// An adapter, and the limited resources of each of its connections.
struct Adapter {
    name: &'static str,
    files: u64,
    threads: u64,
}

const ADAPTERS: [Adapter; 3] = [
    Adapter { name: "mio", files: 1, threads: 0 },
    Adapter { name: "smol", files: 1, threads: 0 },
    Adapter { name: "std", files: 2, threads: 1 },
];

/// Schemes, outside and inside TLS.
const SCHEMES: [(&str, bool); 6] = [
    ("none", false),
    ("challenge", false),
    ("multiprocessing", false),
    ("mutual", false),
    ("none", true),
    ("mutual", true),
];

/// The memory of a process, in bytes.
#[derive(Clone, Copy)]
struct Memory {
    resident: u64,
    /// The resident stacks of threads.
    stacks: u64,
    reserved: u64,
    /// Page tables in the kernel, not resident.
    tables: u64,
}

impl Memory {
    fn of(server: &Server) -> Self {
        let id = server.child.id();
        let pointers = stack_pointers(id);
        let (mut resident, mut stacks, mut on_stack) = (0, 0, false);
        // The sum is exact. VmRSS in /proc/PID/status may be off by 100 kB.
        for line in fs::read_to_string(format!("/proc/{id}/smaps")).unwrap().lines() {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap();
            if first == "Rss:" {
                let bytes = words.next().unwrap().parse::<u64>().unwrap() * 1024;
                resident += bytes;
                stacks += if on_stack { bytes } else { 0 };
            } else if let Some((from, to)) = first.split_once('-') {
                on_stack = pointers.range(hex(from)..hex(to)).next().is_some();
            }
        }
        Self {
            resident,
            stacks,
            reserved: server.status("VmSize:"),
            tables: server.status("VmPTE:"),
        }
    }

    /// The growth since `before`, for each of `count`.
    fn each(self, before: Self, count: u64) -> Self {
        let each = |it: fn(&Self) -> u64| it(&self).saturating_sub(it(&before)) / count;
        Self {
            resident: each(|it| it.resident),
            stacks: each(|it| it.stacks),
            reserved: each(|it| it.reserved),
            tables: each(|it| it.tables),
        }
    }
}

fn hex(number: &str) -> u64 {
    u64::from_str_radix(number.trim_start_matches("0x"), 16).unwrap()
}

/// The stack pointers of all threads that wait in the kernel.
fn stack_pointers(id: u32) -> BTreeSet<u64> {
    let threads = fs::read_dir(format!("/proc/{id}/task")).unwrap();
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("syscall")).ok())
        // The system call, six arguments, the stack pointer and the program counter.
        .filter_map(|call| call.split_whitespace().rev().nth(1).map(hex))
        .collect()
}

/// The number of connections that the system permits on `adapter`, and the limit that applies.
fn bound(adapter: &Adapter) -> (u64, String) {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let cgroup = cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let pids = format!("/sys/fs/cgroup{cgroup}/pids.max");
    [
        ("`ulimit -Hn`", getrlimit(Resource::Nofile).maximum, adapter.files),
        ("`ulimit -Hu`", getrlimit(Resource::Nproc).maximum, adapter.threads),
        ("kernel.threads-max", number("/proc/sys/kernel/threads-max"), adapter.threads),
        ("kernel.pid_max", number("/proc/sys/kernel/pid_max"), adapter.threads),
        (&pids, number(&pids), adapter.threads),
        // A stack, a signal stack and a guard page of each.
        ("vm.max_map_count", number("/proc/sys/vm/max_map_count"), 4 * adapter.threads),
    ]
    .into_iter()
    .filter_map(|(what, most, each)| {
        let fit = most?.saturating_sub(SPARE).checked_div(each)?;
        Some((fit, format!("{what} is {}, and each takes {each}", most?)))
    })
    .min()
    .unwrap_or((HELD, String::new()))
}

/// The credentials of clients for the server whose certificates are in `dir`.
fn credentials(dir: &TempDir) -> Credentials {
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    let credentials = Credentials::new().with_trust(&read("root.crt")).unwrap();
    credentials.with_certificate(&read("client.crt"), &read("client.key")).unwrap()
}

/// The memory for each of `count` connections made by `make`.
fn cost(
    adapter: &Adapter,
    (scheme, tls): (&str, bool),
    count: u64,
    make: impl FnOnce(&ManyClients, u64) -> Vec<Client>,
) -> Memory {
    let dir = TempDir::new();
    let most = (count + SPARE).to_string();
    let mut args = vec!["--listen", "127.0.0.1:0", "--adapter", adapter.name, "--scheme", scheme];
    args.extend(["--max-connections", &most, "--max-handshakes", &most]);
    // No connection may time out before all are made.
    args.extend(["--handshake-timeout", "3600", "--heartbeat", "3600"]);
    if tls {
        assert!(countersign(&dir).args(["certs", "."]).output().unwrap().status.success());
        args.extend(["--tls-cert", "server.crt", "--tls-key", "server.key"]);
        args.extend(["--tls-client-ca", "root.crt"]);
    }
    let server = Server::start(&dir, KEY, &args);
    let at = &server.at[0];
    let many = if tls {
        let sessions = TlsFactory::client(sessions(scheme), &credentials(&dir), "localhost");
        ManyClients::new(at, scheme, sessions.unwrap())
    } else {
        ManyClients::new(at, scheme, sessions(scheme))
    };
    // The first connection pays for one-time allocations.
    let mut first = many.connect(1);
    many.request(&mut first, "first of all");
    let before = Memory::of(&server);
    let clients = make(&many, count);
    many.request(&mut first, "and still");
    let after = Memory::of(&server);
    drop(clients);
    after.each(before, count)
}

fn idle(many: &ManyClients, count: u64) -> Vec<Client> {
    let mut clients = many.connect(count as usize);
    many.request(&mut clients, "once");
    many.request(&mut clients, "again");
    clients
}

fn half_open(many: &ManyClients, count: u64) -> Vec<Client> {
    (0..count).map(|_| many.half_open()).collect()
}

/// The median of [`ROUNDS`] rounds by resident memory, and the largest deviation from it.
fn median(measure: impl Fn() -> Memory) -> (Memory, u64) {
    let mut rounds: Vec<Memory> = (0..ROUNDS).map(|_| measure()).collect();
    rounds.sort_unstable_by_key(|round| round.resident);
    let median = rounds[ROUNDS / 2];
    let off = rounds.iter().map(|it| it.resident.abs_diff(median.resident)).max();
    (median, off.unwrap_or(0))
}

/// `number` with separators between the thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|it| str::from_utf8(it).unwrap());
    groups.collect::<Vec<_>>().join(",")
}

fn main() {
    let mut args = std::env::args().skip(1);
    // `cargo test --benches` runs this program without `--bench`.
    if !args.any(|arg| arg == "--bench") {
        return;
    }
    if !Path::new("/proc/self/smaps").exists() {
        println!("skipped: needs Linux's /proc");
        return;
    }
    let given: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let allowed = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    // The server raises its own limit.
    assert!(allow_files(allowed.min(HELD + SPARE)));
    println!("{EXPLAINED}\n");
    println!(
        "| adapter | scheme | held | files | idle: resident | stacks | reserved | tables | half-open: resident | stacks |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let (mut deviation, mut limited) = (0, Vec::new());
    for adapter in &ADAPTERS {
        if !given.is_empty() && !given.iter().any(|it| it == adapter.name) {
            continue;
        }
        let (most, why) = bound(adapter);
        if most < HELD {
            limited.push(format!(
                "{}: limited to {} connections: {why}",
                adapter.name,
                grouped(most)
            ));
        }
        for (scheme, tls) in SCHEMES {
            let count = most.min(if tls { HELD_IN_TLS } else { HELD });
            let (it, off) = median(|| cost(adapter, (scheme, tls), count, idle));
            deviation = deviation.max(off);
            let mut cells = vec![
                adapter.name.to_owned(),
                format!("{scheme}{}", if tls { ", in TLS" } else { "" }),
                grouped(count),
                adapter.files.to_string(),
            ];
            cells.extend([it.resident, it.stacks, it.reserved, it.tables].map(grouped));
            // Without a handshake there are no half-open connections.
            if (scheme, tls) == ("none", false) {
                cells.extend(["–".into(), "–".into()]);
            } else {
                let (it, off) = median(|| cost(adapter, (scheme, tls), count, half_open));
                deviation = deviation.max(off);
                cells.extend([it.resident, it.stacks].map(grouped));
            }
            println!("| {} |", cells.join(" | "));
        }
    }
    println!("\nNo round differs from its median by more than {} bytes.", grouped(deviation));
    limited.iter().for_each(|it| println!("{it}"));
}
