//! Servers that send every message back.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::cases::Case;
use crate::{Bench, KEY};

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A loop that knows no protocol; of schemes with a proof, it takes any.
    Floor,
    /// rustls without us.
    Rustls,
    /// `countersign serve`, what it logs, and how long its buffers are, in bytes.
    Ours {
        adapter: &'static str,
        log: &'static str,
        buffer: u32,
    },
    Recipe,
    Asyncio,
    Multiprocessing,
}

impl Kind {
    pub(crate) const MIO: Self = Self::quiet("mio", 16 << 10);
    pub(crate) const STD: Self = Self::quiet("std", 16 << 10);
    pub(crate) const SMOL: Self = Self::quiet("smol", 16 << 10);
    /// As it is started without options: a line for each connection.
    pub(crate) const LOGGING: Self = Self::Ours { adapter: "mio", log: "info", buffer: 16 << 10 };
    /// With buffers as long as the floor's.
    pub(crate) const LONG: Self = Self::quiet("mio", 64 << 10);

    const fn quiet(adapter: &'static str, buffer: u32) -> Self {
        Self::Ours { adapter, log: "warn", buffer }
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Floor => "floor".to_owned(),
            Self::Rustls => "bare rustls".to_owned(),
            Self::LONG => "ours, mio, --buffer 65536".to_owned(),
            Self::LOGGING => "ours, mio, logging".to_owned(),
            Self::Ours { adapter, .. } => format!("ours, {adapter}"),
            Self::Recipe => "the recipe, Python, for one client".to_owned(),
            Self::Asyncio => "asyncio".to_owned(),
            Self::Multiprocessing => "CPython's own".to_owned(),
        }
    }

    /// Whether it serves one client after the other.
    pub(crate) fn is_one_by_one(self) -> bool {
        self == Self::Recipe
    }

    fn needs_python(self) -> bool {
        matches!(self, Self::Recipe | Self::Asyncio | Self::Multiprocessing)
    }
}

/// Whether Python's servers can be had; says so if not.
pub(crate) fn has_python() -> bool {
    let version = Command::new("python3").arg("--version").output();
    match version {
        Ok(version) if version.status.success() => {
            println!("{}", String::from_utf8_lossy(&version.stdout).trim());
            true
        }
        _ => {
            println!("left out: the servers in Python, for there is no python3");
            false
        }
    }
}

/// The servers that can be had here.
pub(crate) fn can_run(kind: Kind, python: bool) -> bool {
    python || !kind.needs_python()
}

/// A server that listens, until it is dropped.
pub(crate) struct Running {
    pub(crate) kind: Kind,
    pub(crate) address: String,
    child: Child,
}

impl Running {
    pub(crate) fn start(bench: &Bench, case: &Case, kind: Kind) -> Self {
        bench.on_server();
        let mut command = match kind {
            Kind::Ours { adapter, log, buffer } => {
                let mut serve = Command::new(&bench.countersign);
                serve.args(["serve", "--listen", "127.0.0.1:0", "--service", "echo"]);
                serve.args(["--scheme", case.scheme, "--adapter", adapter, "--log", log]);
                serve.args(["--buffer", &buffer.to_string()]);
                // The load is one source; what each may do is bounded.
                serve.args(["--limit-local", "--max-connections", "11000"]);
                serve.args(case.compatible());
                if case.tls {
                    serve.args(["--tls-cert", "server.crt", "--tls-key", "server.key"]);
                }
                serve
            }
            Kind::Floor | Kind::Rustls => {
                let mut floor = Command::new(env::current_exe().unwrap());
                floor.args(["serve", if kind == Kind::Rustls { "tls" } else { case.scheme }]);
                floor
            }
            Kind::Recipe => python("recipe"),
            Kind::Multiprocessing => python("multiprocessing"),
            Kind::Asyncio if case.scheme == "challenge" => python("asyncio-raw"),
            Kind::Asyncio => python("asyncio-u32"),
        };
        let child = command
            .env("COUNTERSIGN_KEY", KEY)
            .current_dir(&bench.directory)
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

impl Drop for Running {
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
