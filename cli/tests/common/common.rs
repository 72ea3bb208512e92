//! Child processes and temporary directories, for all tests of the command.

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

/// The timeout for anything that must happen. A test never asserts that something takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Reports that a test is skipped because `what` is missing. Fails if COUNTERSIGN_NO_SKIP is set.
pub(crate) fn skip(what: &str) {
    assert!(std::env::var_os("COUNTERSIGN_NO_SKIP").is_none(), "needs {what}");
    // Not `eprintln!`, whose output the test harness captures.
    writeln!(io::stderr(), "skipped: needs {what}").unwrap();
}

/// Raises the limit of open files of this process and its children to `wanted`. Returns `false`, after a
/// report, if the system does not permit it.
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

/// A temporary directory, removed on drop.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("countersign-{}-{}", id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // Short, because the path of a Unix socket has at most 107 bytes.
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The output of a process, collected by a thread.
#[derive(Clone)]
pub(crate) struct Capture(Arc<(Mutex<Captured>, Condvar)>);

struct Captured {
    bytes: Vec<u8>,
    ended: bool,
}

impl Capture {
    pub(crate) fn start(mut from: impl Read + Send + 'static) -> Self {
        let state = Mutex::new(Captured { bytes: Vec::new(), ended: false });
        let capture = Self(Arc::new((state, Condvar::new())));
        let shared = capture.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            let mut ended = false;
            while !ended {
                // A terminal whose other end is closed reports an error instead of the end.
                let n = from.read(&mut buffer).unwrap_or(0);
                ended = n == 0;
                let (state, changed) = &*shared.0;
                let mut state = state.lock().unwrap();
                state.bytes.extend_from_slice(&buffer[..n]);
                state.ended = ended;
                changed.notify_all();
            }
        });
        capture
    }

    /// Waits until `done` returns true for the text so far and whether it has ended. Returns the text.
    pub(crate) fn wait(&self, what: &str, done: impl Fn(&str, bool) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        loop {
            let text = String::from_utf8_lossy(&state.bytes);
            if done(&text, state.ended) {
                return text.into_owned();
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                let text = text.into_owned();
                // A panic with the lock held would poison it for the collecting thread.
                drop(state);
                panic!("waited for {what} and got: {text}");
            }
            state = changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits for the end and returns the text.
    pub(crate) fn wait_end(&self) -> String {
        self.wait("the end", |_, ended| ended)
    }
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServerAddr {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl ServerAddr {
    /// Parses the ready line of a server with the working directory `dir`.
    fn parse(line: &str, dir: &Path) -> Self {
        match line.strip_prefix("LISTENING ").and_then(|rest| rest.split_once(' ')) {
            Some(("unix", path)) => Self::Unix(dir.join(path)),
            Some((host, port)) => {
                Self::Tcp(SocketAddr::new(host.parse().unwrap(), port.parse().unwrap()))
            }
            None => panic!("not a ready line: {line}"),
        }
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The command, in the directory `dir` and without a key in the environment.
pub(crate) fn countersign(dir: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.current_dir(dir.path()).env_remove("COUNTERSIGN_KEY");
    command
}

/// Adds the adapter in the environment variable COUNTERSIGN_ADAPTER (mio, std or smol) to `command`, if it
/// is set and the command has no other.
pub(crate) fn with_adapter(command: &mut Command) -> &mut Command {
    let mut args = command.get_args();
    let has_adapter = args.next().is_some_and(|it| it == "serve" || it == "connect");
    let given = args.any(|arg| arg == "--adapter");
    if let Some(adapter) = std::env::var_os("COUNTERSIGN_ADAPTER").filter(|_| has_adapter && !given)
    {
        command.arg("--adapter").arg(adapter);
    }
    command
}

/// The scheme of most tests, which need no library to speak it, unless `args` contain another.
pub(crate) fn default_scheme<A: AsRef<OsStr>>(args: &[A]) -> &'static [&'static str] {
    if args.iter().any(|arg| arg.as_ref() == "--scheme") { &[] } else { &["--scheme", "challenge"] }
}

/// A server, killed on drop.
pub(crate) struct Server {
    pub(crate) child: Child,
    /// The addresses of its listeners, in order.
    pub(crate) at: Vec<ServerAddr>,
    pub(crate) log: Capture,
}

impl Server {
    /// Starts `countersign serve` with `args`, the [`default_scheme`] and `key` in the environment. Returns
    /// when it is ready.
    pub(crate) fn start<A: AsRef<OsStr>>(dir: &TempDir, key: &str, args: &[A]) -> Self {
        let listeners = args.iter().filter(|arg| arg.as_ref() == "--listen").count();
        let mut command = countersign(dir);
        command.arg("serve").args(args).args(default_scheme(args)).env("COUNTERSIGN_KEY", key);
        Self::spawn(command, listeners.max(1))
    }

    /// Starts any program that prints a ready line for each of its listeners.
    pub(crate) fn spawn(mut command: Command, listeners: usize) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = with_adapter(&mut command).spawn().unwrap();
        let out = Capture::start(child.stdout.take().unwrap());
        let log = Capture::start(child.stderr.take().unwrap());
        let mut server = Self { child, at: Vec::new(), log };
        let ready = out.wait("ready lines", |text, _| text.matches('\n').count() >= listeners);
        let dir = command.get_current_dir().unwrap_or(Path::new(""));
        server.at =
            ready.lines().take(listeners).map(|line| ServerAddr::parse(line, dir)).collect();
        assert_eq!(server.at.len(), listeners);
        server
    }

    /// The resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// A field of /proc/PID/status, in bytes.
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
            let log = self.log.wait_end();
            let start = log.len().saturating_sub(4000);
            eprintln!("log of the server: {}", log.get(start..).unwrap_or(&log));
        }
    }
}
