//! The processor time of our servers, compared with other echo servers: the floor, a bare loop over
//! the same sockets; the same loop with rustls; servers in Python. They are measured alternately
//! under the same load, `countersign bench`, which runs on another processor if there is one.
//!
//! `cargo bench -p countersign-tests --bench compare -- [--rounds N] [--seconds S] [--plot FILE.svg] [CASE]`
#![allow(clippy::unwrap_used, clippy::panic)]

mod case;
mod floor;
mod report;
mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, hint};

use hmac::{Hmac, KeyInit, Mac};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;
use sha2::Sha256;

use case::Case;
use report::{Measurement, Report};
use server::{RunningServer, ServerKind};

pub(crate) const KEY: &str = "a key that is long enough for anyone";

/// The command line.
struct Options {
    rounds: usize,
    seconds: f64,
    plot: Option<PathBuf>,
    /// Only cases whose title contains this are run.
    filter: String,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Self {
        let mut options = Self { rounds: 5, seconds: 1.5, plot: None, filter: String::new() };
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
            match arg.as_str() {
                "--bench" => {}
                "--rounds" => options.rounds = value().parse().unwrap(),
                "--seconds" => options.seconds = value().parse().unwrap(),
                "--plot" => options.plot = Some(value().into()),
                filter => options.filter = filter.to_owned(),
            }
        }
        options
    }
}

/// The environment of all measurements.
pub(crate) struct Harness {
    /// The built command.
    pub(crate) countersign: PathBuf,
    /// Contains certificates and their keys.
    pub(crate) directory: PathBuf,
    /// The processors for servers and for the load, if there are two.
    processors: Option<[CpuSet; 2]>,
}

impl Harness {
    /// Builds the command in release mode, and makes certificates.
    fn new() -> Self {
        // The path is target/release/deps/compare-….
        let program = env::current_exe().unwrap();
        let release = program.ancestors().nth(2).unwrap().to_owned();
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

    /// Pins this process, and those that it starts from now on, to a processor.
    fn pin_to_cpu(&self, which: usize) {
        if let Some(processors) = &self.processors {
            sched_setaffinity(None, &processors[which]).unwrap();
        }
    }

    /// Pins the processes that this one starts from now on to the servers' processor.
    pub(crate) fn pin_to_server_cpu(&self) {
        self.pin_to_cpu(0);
    }

    /// Runs the load of `case` on `server`.
    fn measure(&self, case: &Case, server: &RunningServer, seconds: f64) -> Measurement {
        self.pin_to_cpu(1);
        let scheme = case.load_scheme(server.kind);
        let mut load = Command::new(&self.countersign);
        load.args(["bench", &server.address, "--json", "--scheme", scheme])
            .args(["--server-pid", &server.pid().to_string()])
            .args(["--duration", &seconds.to_string()])
            .args(case.load_args)
            .args(if scheme == case.scheme { case.compatibility_args() } else { &[] })
            .args(if server.kind.is_sequential() {
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
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{}, {}: {stderr}", case.title, server.kind.name());
        let summary: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert!(summary["failed"].as_object().unwrap().is_empty(), "{summary}");
        Measurement::new(&summary["talked"], summary["latency_us"]["max"].as_f64().unwrap())
    }
}

/// A processor for servers, and one for the load. `None` if there is only one.
fn processors() -> Option<[CpuSet; 2]> {
    let allowed = sched_getaffinity(None).ok()?;
    let mut each = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).map(|cpu| {
        let mut set = CpuSet::new();
        set.set(cpu);
        set
    });
    let load = each.next()?;
    Some([each.next()?, load])
}

/// Raises the limit of open files to its maximum, for this process and its children. Returns the
/// limit.
fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The time in microseconds of two HMACs over a sealed frame with `len` bytes of payload: one to
/// make its tag, and one to verify it.
fn two_hmacs(len: usize) -> f64 {
    let (frame, start, mut count) = (vec![7; 8 + 5 + len], Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(200) {
        for _ in 0..2 {
            let mut mac = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
            mac.update(hint::black_box(&frame));
            hint::black_box(mac.finalize());
        }
        count += 1;
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}

fn main() {
    let mut args = env::args().skip(1).peekable();
    // The floor is this program too.
    if args.next_if(|arg| arg == "serve").is_some() {
        return floor::run(&args.next().unwrap());
    }
    // `cargo test` runs this program without `--bench`.
    let args: Vec<_> = args.collect();
    if !args.iter().any(|arg| arg == "--bench") {
        return;
    }
    let options = Options::parse(args.into_iter());
    let files = raise_file_limit();
    let harness = Harness::new();
    let python = server::has_python();
    let mut report = Report::new(&options.filter, files);
    for round in 1..=options.rounds {
        for (case, results) in report.cases() {
            eprintln!("round {round} of {}: {}", options.rounds, case.title);
            let hmacs = if case.sealed { two_hmacs(case.size) } else { 0.0 };
            for &kind in case.servers.iter().filter(|&&kind| server::can_run(kind, python)) {
                let server = RunningServer::start(&harness, case, kind);
                let mut measurement =
                    harness.measure(case, &server, options.seconds * case.duration_factor);
                if kind == ServerKind::Floor {
                    measurement.cpu_time += hmacs;
                }
                results.add(kind, measurement);
            }
        }
    }
    print!("{}", report.text(options.rounds));
    if let Some(path) = &options.plot {
        fs::write(path, report.plot()).unwrap();
    }
}
