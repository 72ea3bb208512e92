//! Servers as child processes.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For anything that must happen; never how long it is expected to take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Says that a test is skipped for want of `what`; where nothing may be skipped, fails.
pub(crate) fn skip(what: &str) {
    assert!(std::env::var_os("COUNTERSIGN_NO_SKIP").is_none(), "needs {what}");
    // Past the test harness, which shows a passing test's output to nobody.
    writeln!(io::stderr(), "skipped: needs {what}").unwrap();
}

/// Lets this process, and those it starts, open `wanted` files; `false`, having said so, if the
/// system does not.
pub(crate) fn allow_files(wanted: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.is_none_or(|maximum| maximum >= wanted);
    if !enough {
        skip(&format!("{wanted} open files"));
    } else if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).unwrap();
    }
    enough
}

/// A directory that goes with the test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("countersign-{}-{}", id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // Short: a Unix socket's path has 107 bytes at most.
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a process writes, collected as it comes.
#[derive(Clone)]
pub(crate) struct Capture(Arc<(Mutex<Captured>, Condvar)>);

struct Captured {
    bytes: Vec<u8>,
    over: bool,
}

impl Capture {
    pub(crate) fn start(mut from: impl Read + Send + 'static) -> Self {
        let state = Mutex::new(Captured { bytes: Vec::new(), over: false });
        let capture = Self(Arc::new((state, Condvar::new())));
        let shared = capture.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            let mut over = false;
            while !over {
                // A terminal whose other end is closed reports an error: no more comes either.
                let n = from.read(&mut buffer).unwrap_or(0);
                over = n == 0;
                let (state, changed) = &*shared.0;
                let mut state = state.lock().unwrap();
                state.bytes.extend_from_slice(&buffer[..n]);
                state.over = over;
                changed.notify_all();
            }
        });
        capture
    }

    /// Waits until `done` says so of all text so far and of whether it is over, and returns that
    /// text.
    pub(crate) fn wait(&self, what: &str, done: impl Fn(&str, bool) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        loop {
            let text = String::from_utf8_lossy(&state.bytes);
            if done(&text, state.over) {
                return text.into_owned();
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.over || left.is_zero() {
                let text = text.into_owned();
                // A lock held by a panic would be lost to those who want to say more.
                drop(state);
                panic!("waited for {what} and got: {text}");
            }
            state = changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Everything, once it is over.
    pub(crate) fn whole(&self) -> String {
        self.wait("its end", |_, over| over)
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl At {
    /// From the ready line of a server that runs in the directory `here`.
    fn parse(line: &str, here: &Path) -> Self {
        match line.strip_prefix("LISTENING ").and_then(|rest| rest.split_once(' ')) {
            Some(("unix", path)) => Self::Unix(here.join(path)),
            Some((host, port)) => {
                Self::Tcp(SocketAddr::new(host.parse().unwrap(), port.parse().unwrap()))
            }
            None => panic!("not a ready line: {line}"),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The program, in a directory of the test's and without the environment's key.
pub(crate) fn countersign(scratch: &Scratch) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.current_dir(scratch.path()).env_remove("COUNTERSIGN_KEY");
    command
}

/// `command`, with the adapter that the environment has these tests run on: `COUNTERSIGN_ADAPTER`, one
/// of mio, std and smol. Without it, each on its own default.
pub(crate) fn on_adapter(command: &mut Command) -> &mut Command {
    let mut args = command.get_args();
    let verb = args.next().is_some_and(|verb| verb == "serve" || verb == "connect");
    let given = args.any(|arg| arg == "--adapter");
    if let Some(adapter) = std::env::var_os("COUNTERSIGN_ADAPTER").filter(|_| verb && !given) {
        command.arg("--adapter").arg(adapter);
    }
    command
}

/// The scheme that most tests here speak by hand, unless `args` name one.
pub(crate) fn by_hand<A: AsRef<OsStr>>(args: &[A]) -> &'static [&'static str] {
    if args.iter().any(|arg| arg.as_ref() == "--scheme") { &[] } else { &["--scheme", "challenge"] }
}

/// A server, killed on drop.
pub(crate) struct Server {
    pub(crate) child: Child,
    /// Where it listens, in order.
    pub(crate) at: Vec<At>,
    pub(crate) log: Capture,
}

impl Server {
    /// `countersign serve` with `args` and a key for the asking, once it is ready. It speaks what is
    /// spoken [`by_hand`].
    pub(crate) fn start<A: AsRef<OsStr>>(scratch: &Scratch, key: &str, args: &[A]) -> Self {
        let listeners = args.iter().filter(|arg| arg.as_ref() == "--listen").count();
        let mut command = countersign(scratch);
        command.arg("serve").args(args).args(by_hand(args)).env("COUNTERSIGN_KEY", key);
        Self::spawn(command, listeners.max(1))
    }

    /// Any server that says on how many listeners it is ready.
    pub(crate) fn spawn(mut command: Command, listeners: usize) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = on_adapter(&mut command).spawn().unwrap();
        let out = Capture::start(child.stdout.take().unwrap());
        let log = Capture::start(child.stderr.take().unwrap());
        let mut server = Self { child, at: Vec::new(), log };
        let ready = out.wait("ready lines", |text, _| text.matches('\n').count() >= listeners);
        let here = command.get_current_dir().unwrap_or(Path::new(""));
        server.at = ready.lines().take(listeners).map(|line| At::parse(line, here)).collect();
        assert_eq!(server.at.len(), listeners);
        server
    }

    /// Its resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// A field of its /proc/PID/status, in bytes.
    pub(crate) fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log.whole();
            let start = log.len().saturating_sub(4000);
            eprintln!("the server's log: {}", log.get(start..).unwrap_or(&log));
        }
    }
}
