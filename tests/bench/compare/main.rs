//! What a server of ours costs beside others that do the same, in the processor time of the server: the
//! floor, a bare loop over the same sockets; rustls without us; Python's servers. They take turns under
//! the same load, which is `countersign bench`, on another processor if there is one.
//!
//! `cargo bench -p countersign-tests --bench compare -- [--rounds N] [--seconds S] [--plot FILE.svg] [CASE]`
#![allow(clippy::unwrap_used, clippy::panic)]

mod cases;
mod floor;
mod report;
mod servers;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, hint};

use hmac::{Hmac, KeyInit, Mac};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;
use sha2::Sha256;

use cases::Case;
use report::{Figures, Report};
use servers::{Kind, Running};

pub(crate) const KEY: &str = "a key that is long enough for anyone";

/// What was asked for.
struct Asked {
    rounds: usize,
    seconds: f64,
    plot: Option<PathBuf>,
    /// What is in the titles of the cases that are to be run.
    only: String,
}

impl Asked {
    fn parse(mut args: impl Iterator<Item = String>) -> Self {
        let mut asked = Self { rounds: 5, seconds: 1.5, plot: None, only: String::new() };
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
            match arg.as_str() {
                "--bench" => {}
                "--rounds" => asked.rounds = value().parse().unwrap(),
                "--seconds" => asked.seconds = value().parse().unwrap(),
                "--plot" => asked.plot = Some(value().into()),
                only => asked.only = only.to_owned(),
            }
        }
        asked
    }
}

/// What every measurement needs.
pub(crate) struct Bench {
    /// The command.
    pub(crate) countersign: PathBuf,
    /// Where certificates and a key are.
    pub(crate) directory: PathBuf,
    /// The processors for servers and for the load, if there are two.
    processors: Option<[CpuSet; 2]>,
}

impl Bench {
    /// Builds the command, as it is released, and makes what it needs.
    fn new() -> Self {
        let here = env::current_exe().unwrap();
        // This is in target/release/deps.
        let release = here.ancestors().nth(2).unwrap().to_owned();
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--release", "--locked", "-p", "countersign-cli"])
            .arg("--target-dir")
            .arg(release.parent().unwrap())
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
            .status();
        assert!(built.unwrap().success(), "the command was not built");
        let countersign = release.join("countersign");
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compare");
        let _ = fs::remove_dir_all(&directory);
        let mut certs = Command::new(&countersign);
        certs.arg("certs").arg(&directory).stdout(Stdio::null());
        assert!(certs.status().unwrap().success());
        Self { countersign, directory, processors: processors() }
    }

    fn pin(&self, which: usize) {
        if let Some(processors) = &self.processors {
            sched_setaffinity(None, &processors[which]).unwrap();
        }
    }

    /// Has what this process starts from now on run where servers do.
    pub(crate) fn on_server(&self) {
        self.pin(0);
    }

    /// What `server` costs in `case`.
    fn measure(&self, case: &Case, server: &Running, seconds: f64) -> Figures {
        self.pin(1);
        let spoken = case.spoken_to(server.kind);
        let mut load = Command::new(&self.countersign);
        load.args(["bench", &server.address, "--json", "--scheme", spoken])
            .args(["--server-pid", &server.pid().to_string()])
            .args(["--duration", &seconds.to_string()])
            .args(case.load)
            .args(if spoken == case.scheme { case.compatible() } else { &[] })
            .args(if server.kind.is_one_by_one() {
                &["--connections", "1"][..]
            } else {
                case.connections
            })
            .env("COUNTERSIGN_KEY", KEY)
            .current_dir(&self.directory);
        if case.tls {
            load.args(["--tls-ca", "root.crt"]);
        }
        let out = load.output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{}, {}: {said}", case.title, server.kind.name());
        let told: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert!(told["failed"].as_object().unwrap().is_empty(), "{told}");
        Figures::new(&told["talked"], told["latency_us"]["max"].as_f64().unwrap())
    }
}

/// One processor for servers, and one for their load.
fn processors() -> Option<[CpuSet; 2]> {
    let ours = sched_getaffinity(None).ok()?;
    let mut each = (0..CpuSet::MAX_CPU).filter(|&cpu| ours.is_set(cpu)).map(|cpu| {
        let mut set = CpuSet::new();
        set.set(cpu);
        set
    });
    let load = each.next()?;
    Some([each.next()?, load])
}

/// Has this process, and those that it starts, have as many open files as the system allows; how many.
fn allow_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How long two HMACs take over the bytes of a sealed frame of `len`, in microseconds: one to make its tag
/// and one to verify it.
fn two_hmacs(len: usize) -> f64 {
    let (frame, begun, mut count) = (vec![7; 8 + 5 + len], Instant::now(), 0);
    while begun.elapsed() < Duration::from_millis(200) {
        for _ in 0..2 {
            let mut mac = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
            mac.update(hint::black_box(&frame));
            hint::black_box(mac.finalize());
        }
        count += 1;
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}

fn main() {
    let mut args = env::args().skip(1).peekable();
    // A server of ours that is no more than a floor is this program too.
    if args.next_if(|arg| arg == "serve").is_some() {
        return floor::run(&args.next().unwrap());
    }
    // Asked to run as a test, it has nothing to say.
    let args: Vec<_> = args.collect();
    if !args.iter().any(|arg| arg == "--bench") {
        return;
    }
    let asked = Asked::parse(args.into_iter());
    let files = allow_files();
    let bench = Bench::new();
    let python = servers::has_python();
    let mut report = Report::new(&asked.only, files);
    for round in 1..=asked.rounds {
        for (case, results) in report.cases() {
            eprintln!("round {round} of {}: {}", asked.rounds, case.title);
            let hmacs = if case.sealed { two_hmacs(case.size) } else { 0.0 };
            for &kind in case.servers.iter().filter(|&&kind| servers::can_run(kind, python)) {
                let server = Running::start(&bench, case, kind);
                let mut figures = bench.measure(case, &server, asked.seconds * case.times);
                if kind == Kind::Floor {
                    figures.processor += hmacs;
                }
                results.add(kind, figures);
            }
        }
    }
    print!("{}", report.text(asked.rounds));
    if let Some(path) = &asked.plot {
        fs::write(path, report.plot()).unwrap();
    }
}
