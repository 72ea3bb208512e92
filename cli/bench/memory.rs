//! What a connection costs `countersign serve` in memory, on each adapter and in each scheme: an idle one,
//! and a half-open one. Ten thousand are held, or as many as the system permits.
//!
//! `cargo bench -p countersign-cli --bench memory`, which can be told an adapter: `-- smol`
#![allow(clippy::unwrap_used, clippy::panic)]

#[allow(dead_code, clippy::explicit_write, reason = "shared with tests, which need more of it")]
#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/crowd.rs"]
mod crowd;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::{Scratch, Server, allow_files, countersign};
use countersign_tls::{Credentials, TlsFactory};
use crowd::{Client, Crowd, KEY, sessions};
use rustix::process::{Resource, getrlimit};

/// How many are held in the open.
const HELD: u64 = 10_000;
/// How many inside TLS, whose handshake takes so much longer.
const HELD_IN_TLS: u64 = 2_000;
/// How often everything is measured.
const ROUNDS: usize = 3;
/// Files, threads and mappings for everything that is no connection.
const SPARE: u64 = 200;

const EXPLAINED: &str = "\
Memory of `countersign serve` for each connection, in bytes: what the process has grown by, divided by how
many are held. An idle one was let in, has asked and heard twice, and says nothing. A half-open one has
heard all that the server says before it has to be answered, and says nothing. Medians of 3 rounds.
- files: descriptors of the server's
- resident: pages of the process that are in memory
- stacks: what of these is stacks of threads; on std each connection has a thread
- reserved: addresses, of which most are never used: on std those of stacks, else 64 MiB when the allocator
  begins another heap
- tables: the kernel's, of where the pages are; not resident
Not in it is what else the kernel has of sockets, and of threads, whose stacks in the kernel are 16 KiB each
on most systems.";

/// An adapter, and what each connection takes of what the system has bounds for.
struct Adapter {
    name: &'static str,
    files: u64,
    threads: u64,
}

const ADAPTERS: [Adapter; 3] = [
    Adapter { name: "mio", files: 1, threads: 0 },
    Adapter { name: "smol", files: 1, threads: 0 },
    Adapter { name: "std", files: 3, threads: 1 },
];

/// What is spoken, and whether inside TLS.
const SPOKEN: [(&str, bool); 6] = [
    ("none", false),
    ("challenge", false),
    ("multiprocessing", false),
    ("mutual", false),
    ("none", true),
    ("mutual", true),
];

/// What a process holds, in bytes.
#[derive(Clone, Copy)]
struct Memory {
    resident: u64,
    /// Of what is resident, the stacks of threads.
    stacks: u64,
    reserved: u64,
    /// The kernel's, to find the pages; not resident.
    tables: u64,
}

impl Memory {
    fn of(server: &Server) -> Self {
        let id = server.child.id();
        let pointers = stack_pointers(id);
        let (mut resident, mut stacks, mut on_stack) = (0, 0, false);
        // The sum of these is exact, other than VmRSS of its status, which may be some 100 kB off.
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

    /// What has come since `before`, for each of `count`.
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

/// Where the stacks of all threads that wait in the kernel, as all do but for a moment, end.
fn stack_pointers(id: u32) -> BTreeSet<u64> {
    let threads = fs::read_dir(format!("/proc/{id}/task")).unwrap();
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("syscall")).ok())
        // A number, six arguments, the stack pointer and the program counter.
        .filter_map(|call| call.split_whitespace().rev().nth(1).map(hex))
        .collect()
}

/// How many connections the system lets a server of `adapter` hold, and what bounds them.
fn bound(adapter: &Adapter) -> (u64, String) {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let cgroup = cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let pids = format!("/sys/fs/cgroup{cgroup}/pids.max");
    // This process holds the other ends, a file each.
    [
        ("`ulimit -Hn`", getrlimit(Resource::Nofile).maximum, adapter.files),
        ("`ulimit -Hu`", getrlimit(Resource::Nproc).maximum, adapter.threads),
        ("kernel.threads-max", number("/proc/sys/kernel/threads-max"), adapter.threads),
        ("kernel.pid_max", number("/proc/sys/kernel/pid_max"), adapter.threads),
        (&pids, number(&pids), adapter.threads),
        // A stack, a small one for signals, and a page each that guards them.
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

/// What clients show to the server of `scratch`, and whom they trust.
fn credentials(scratch: &Scratch) -> Credentials {
    let read = |name: &str| fs::read(scratch.path().join(name)).unwrap();
    let credentials = Credentials::new().with_trust(&read("root.crt")).unwrap();
    credentials.with_certificate(&read("client.crt"), &read("client.key")).unwrap()
}

/// What each of `count` connections costs that `make` makes.
fn cost(
    adapter: &Adapter,
    (scheme, tls): (&str, bool),
    count: u64,
    make: impl FnOnce(&Crowd, u64) -> Vec<Client>,
) -> Memory {
    let scratch = Scratch::new();
    let most = (count + SPARE).to_string();
    let mut args = vec!["--listen", "127.0.0.1:0", "--adapter", adapter.name, "--scheme", scheme];
    args.extend(["--max-connections", &most, "--max-handshakes", &most]);
    // Nobody is to be given up before all are there.
    args.extend(["--handshake-timeout", "3600", "--heartbeat", "3600"]);
    if tls {
        assert!(countersign(&scratch).args(["certs", "."]).output().unwrap().status.success());
        args.extend(["--tls-cert", "server.crt", "--tls-key", "server.key"]);
        args.extend(["--tls-client-ca", "root.crt"]);
    }
    let server = Server::start(&scratch, KEY, &args);
    let at = &server.at[0];
    let crowd = if tls {
        let sessions = TlsFactory::client(sessions(scheme), &credentials(&scratch), "localhost");
        Crowd::new(at, scheme, sessions.unwrap())
    } else {
        Crowd::new(at, scheme, sessions(scheme))
    };
    // The first pays for what every server needs.
    let mut first = crowd.enter(1);
    crowd.ask(&mut first, "first of all");
    let before = Memory::of(&server);
    let clients = make(&crowd, count);
    crowd.ask(&mut first, "and still");
    let after = Memory::of(&server);
    drop(clients);
    after.each(before, count)
}

fn idle(crowd: &Crowd, count: u64) -> Vec<Client> {
    let mut clients = crowd.enter(count as usize);
    crowd.ask(&mut clients, "once");
    crowd.ask(&mut clients, "again");
    clients
}

fn half_open(crowd: &Crowd, count: u64) -> Vec<Client> {
    (0..count).map(|_| crowd.stranger()).collect()
}

/// Of [`ROUNDS`] rounds, the median by what is resident, and how far the farthest is from it.
fn median(measure: impl Fn() -> Memory) -> (Memory, u64) {
    let mut rounds: Vec<Memory> = (0..ROUNDS).map(|_| measure()).collect();
    rounds.sort_unstable_by_key(|round| round.resident);
    let median = rounds[ROUNDS / 2];
    let off = rounds.iter().map(|it| it.resident.abs_diff(median.resident)).max();
    (median, off.unwrap_or(0))
}

/// With its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|it| str::from_utf8(it).unwrap());
    groups.collect::<Vec<_>>().join(",")
}

fn main() {
    let mut args = std::env::args().skip(1);
    // Asked to run as a test, it has nothing to say.
    if !args.any(|arg| arg == "--bench") {
        return;
    }
    if !Path::new("/proc/self/smaps").exists() {
        println!("left out: it needs Linux's /proc");
        return;
    }
    let given: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let allowed = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    // The server raises its own.
    assert!(allow_files(allowed.min(HELD + SPARE)));
    println!("{EXPLAINED}\n");
    println!(
        "| adapter | scheme | held | files | idle: resident | stacks | reserved | tables | half-open: resident | stacks |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let (mut farthest, mut left_out) = (0, Vec::new());
    for adapter in &ADAPTERS {
        if !given.is_empty() && !given.iter().any(|it| it == adapter.name) {
            continue;
        }
        let (most, why) = bound(adapter);
        if most < HELD {
            left_out.push(format!("{}: no more than {} fit: {why}", adapter.name, grouped(most)));
        }
        for (scheme, tls) in SPOKEN {
            let count = most.min(if tls { HELD_IN_TLS } else { HELD });
            let (it, off) = median(|| cost(adapter, (scheme, tls), count, idle));
            farthest = farthest.max(off);
            let mut cells = vec![
                adapter.name.to_owned(),
                format!("{scheme}{}", if tls { ", in TLS" } else { "" }),
                grouped(count),
                adapter.files.to_string(),
            ];
            cells.extend([it.resident, it.stacks, it.reserved, it.tables].map(grouped));
            // Without a handshake nobody is half-open.
            if (scheme, tls) == ("none", false) {
                cells.extend(["–".into(), "–".into()]);
            } else {
                let (it, off) = median(|| cost(adapter, (scheme, tls), count, half_open));
                farthest = farthest.max(off);
                cells.extend([it.resident, it.stacks].map(grouped));
            }
            println!("| {} |", cells.join(" | "));
        }
    }
    println!("\nNo round is more than {} bytes from its median.", grouped(farthest));
    left_out.iter().for_each(|it| println!("{it}"));
}
