//! [`RunningServer`]: echo servers of every kind.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::case::Case;
use crate::{Harness, KEY};

/// An implementation of an echo server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    /// A loop without a protocol. It accepts any proof.
    Floor,
    /// The same loop with rustls.
    Rustls,
    /// `countersign serve`.
    Ours {
        adapter: &'static str,
        /// The log level.
        log: &'static str,
        /// Further arguments.
        args: &'static [&'static str],
    },
    /// The recipe of the Python Cookbook, for one client at a time.
    Recipe,
    Asyncio,
    Multiprocessing,
}

impl ServerKind {
    pub(crate) const MIO: Self = Self::quiet("mio", &[]);
    pub(crate) const STD: Self = Self::quiet("std", &[]);
    pub(crate) const SMOL: Self = Self::quiet("smol", &[]);
    /// With the default log level: a line for each connection.
    pub(crate) const LOGGING: Self = Self::Ours { adapter: "mio", log: "info", args: &[] };
    /// With buffers as long as the floor's.
    pub(crate) const LONG: Self = Self::quiet("mio", &["--buffer", "65536"]);
    /// Answers chunks as they come.
    pub(crate) const CHUNKS: Self = Self::quiet("mio", &["--stream"]);

    const fn quiet(adapter: &'static str, args: &'static [&'static str]) -> Self {
        Self::Ours { adapter, log: "warn", args }
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Floor => "floor".to_owned(),
            Self::Rustls => "bare rustls".to_owned(),
            Self::LOGGING => "ours, mio, logging".to_owned(),
            Self::Ours { adapter, args: [], .. } => format!("ours, {adapter}"),
            Self::Ours { adapter, args, .. } => format!("ours, {adapter}, {}", args.join(" ")),
            Self::Recipe => "the recipe, Python, for one client".to_owned(),
            Self::Asyncio => "asyncio".to_owned(),
            Self::Multiprocessing => "CPython's own".to_owned(),
        }
    }

    /// Whether it serves one client at a time.
    pub(crate) fn is_sequential(self) -> bool {
        self == Self::Recipe
    }

    fn needs_python(self) -> bool {
        matches!(self, Self::Recipe | Self::Asyncio | Self::Multiprocessing)
    }
}

/// Whether Python is installed. Prints a line if not.
pub(crate) fn has_python() -> bool {
    let version = Command::new("python3").arg("--version").output();
    match version {
        Ok(version) if version.status.success() => {
            println!("{}", String::from_utf8_lossy(&version.stdout).trim());
            true
        }
        _ => {
            println!("skipped: needs python3: the servers in Python");
            false
        }
    }
}

/// Whether servers of `kind` can run on this computer. `python`: it is installed.
pub(crate) fn can_run(kind: ServerKind, python: bool) -> bool {
    python || !kind.needs_python()
}

/// A server process that listens. It is killed on drop.
pub(crate) struct RunningServer {
    pub(crate) kind: ServerKind,
    pub(crate) address: String,
    child: Child,
}

impl RunningServer {
    pub(crate) fn start(harness: &Harness, case: &Case, kind: ServerKind) -> Self {
        harness.pin_to_server_cpu();
        let mut command = match kind {
            ServerKind::Ours { adapter, log, args } => {
                let mut serve = Command::new(&harness.countersign);
                serve.args(["serve", "--listen", "127.0.0.1:0", "--service", "echo"]);
                serve.args(["--scheme", case.scheme, "--adapter", adapter, "--log", log]);
                serve.args(args);
                // All load comes from one address, whose limits would otherwise apply.
                serve.args(["--limit-local", "--max-connections", "11000"]);
                serve.args(case.compatibility_args());
                if case.tls {
                    serve.args(["--tls-cert", "server.crt", "--tls-key", "server.key"]);
                }
                serve
            }
            ServerKind::Floor | ServerKind::Rustls => {
                let mut floor = Command::new(env::current_exe().unwrap());
                floor.args(["serve", if kind == ServerKind::Rustls { "tls" } else { case.scheme }]);
                floor
            }
            ServerKind::Recipe => python("recipe"),
            ServerKind::Multiprocessing => python("multiprocessing"),
            ServerKind::Asyncio if case.scheme == "challenge" => python("asyncio-raw"),
            ServerKind::Asyncio => python("asyncio-u32"),
        };
        let child = command
            .env("COUNTERSIGN_KEY", KEY)
            .current_dir(&harness.directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut running = Self { kind, address: String::new(), child };
        let mut ready = String::new();
        let out = running.child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut ready).unwrap();
        let Some((_, port)) = ready.trim().rsplit_once(' ') else {
            panic!("{} does not listen", kind.name());
        };
        running.address = format!("localhost:{port}");
        running
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn python(which: &str) -> Command {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/compare/servers.py");
    let mut command = Command::new("python3");
    command.arg("-B").arg(program).arg(which);
    command
}
