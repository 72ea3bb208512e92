//! `countersign serve`.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use countersign::Mutual;
use countersign_device::{Devices, Registry};
use countersign_driver::services::{Echo, Upper};
use countersign_host::{
    Address, ConnectionLimit, Listener, Open, PeerAddr, PeerLimitOptions, PeerLimits, PoolOptions,
    Pools, ProtocolFactory, ServerHandle, ServerOptions, SessionFactory, SharedKeys,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use crate::adapter::{self, Runnable};
use crate::args::{LogFormat, ProtocolArgs, SchemeName, ServeAdapter, ServeArgs, ServiceName};
use crate::secret::{self, Found, Missing};
use crate::status::Status;
use crate::{Exit, Failed, log, say, tls};

/// Descriptors that are not connections: standard streams, signals, and some to spare.
const OTHER_FILES: u64 = 32;
/// Descriptors of one worker: its listeners and its event loop's own.
const WORKER_FILES: usize = 8;

pub(crate) fn run(args: &ServeArgs) -> Result<(), Failed> {
    check_devices(args)?;
    let _log = log::start(&args.log, args.log_format)?;
    let workers = usize::from(args.workers);
    let max_connections = args.max_connections.unwrap_or(args.adapter.connections()) as usize;
    raise_file_limit(max_connections, args.adapter, workers);

    // One set of listeners for each worker.
    let mut sets: Vec<Vec<Listener>> = Vec::new();
    sets.resize_with(workers, Vec::new);
    let mut bound = Vec::new();
    let mut unix_paths = UnixPaths::default();
    for address in &args.listen {
        let cannot =
            |error| Failed::new(Exit::Failure, format!("cannot listen on {address}: {error}"));
        let listeners = address.listen(sets.len()).map_err(cannot)?;
        if let Some(first) = listeners.first() {
            bound.push(first.address().map_err(cannot)?);
        }
        if let Address::Unix(path) = address {
            unix_paths.add(path);
        }
        for (set, listener) in sets.iter_mut().zip(listeners) {
            set.push(listener);
        }
    }

    let status = match args.service {
        ServiceName::Device => {
            let registry = Registry::new(args.max_devices as usize);
            Some(Status::new(registry, args.status.as_ref())?)
        }
        _ => None,
    };
    if let Some(Address::Unix(path)) = &args.status {
        unix_paths.add(path);
    }

    // Not before it is certain that there will be a server to use it.
    let found = secret::find(&args.protocol, Missing::Make)?;
    let mut buffers = PoolOptions::default();
    buffers.handshakes = args.max_handshakes as usize;
    buffers.receiving = args.max_buffers as usize;
    buffers.sending = buffers.receiving;
    buffers.set_message_len(args.buffer as usize);
    let pools = Pools::new(&buffers);
    let inside_tls = args.tls.tls_cert.is_some();
    let refine = |mutual: Mutual| mutual.with_heartbeat(args.heartbeat);
    let config = args.protocol.config("server", inside_tls, refine)?;
    let protocol = tls::server(SessionFactory::new(config, pools), &args.tls)?;
    announce(args, &found, &bound);
    let keys = SharedKeys::new(found.keys);
    let reload = Reload { args: args.protocol.clone(), keys: keys.clone() };
    let mut options = ServerOptions::default();
    options.gate = ConnectionLimit::new(max_connections);
    let mut limits = PeerLimitOptions::default();
    limits.handshakes = args.source_handshakes;
    limits.failures = args.source_failures;
    limits.local = args.limit_local;
    options.sources = PeerLimits::new(limits);
    let front = Shared { adapter: args.adapter, protocol, keys, options };
    match (args.service, status) {
        (ServiceName::Device, Some(status)) => {
            let devices = Devices::new(status.registry().clone(), args.device_interval);
            front.serve(sets, &bound, reload, Some(status), || devices.clone())
        }
        (ServiceName::Echo, _) => {
            front.serve(sets, &bound, reload, None, || |_: &PeerAddr, _| Echo)
        }
        _ => front.serve(sets, &bound, reload, None, || |_: &PeerAddr, _| Upper),
    }
}

/// Whether what is asked for of devices goes together.
fn check_devices(args: &ServeArgs) -> Result<(), Failed> {
    let wrong = if args.service != ServiceName::Device {
        args.status.is_some().then_some("--status is for the service device")
    } else if args.protocol.scheme == SchemeName::Challenge {
        Some(
            "the service device needs messages, and the scheme challenge has none: choose another --scheme",
        )
    } else {
        None
    };
    wrong.map_or(Ok(()), |wrong| Err(Failed::new(Exit::Usage, wrong)))
}

/// What all workers have in common.
struct Shared {
    adapter: ServeAdapter,
    protocol: Arc<dyn ProtocolFactory>,
    keys: SharedKeys,
    options: ServerOptions,
}

impl Shared {
    fn worker<O: Open + Send + 'static>(
        &self,
        listeners: Vec<Listener>,
        open: O,
    ) -> io::Result<Runnable> {
        let (protocol, keys) = (self.protocol.clone(), self.keys.clone());
        adapter::server(self.adapter, listeners, protocol, keys, open, self.options.clone())
    }

    /// Runs a server for each set of listeners, until a signal stops them.
    fn serve<O: Open + Send + 'static>(
        &self,
        sets: Vec<Vec<Listener>>,
        bound: &[Address],
        reload: Reload,
        status: Option<Status>,
        open: impl Fn() -> O,
    ) -> Result<(), Failed> {
        let failure = |error: io::Error| Failed::new(Exit::Failure, error);
        let servers = sets.into_iter().map(|set| self.worker(set, open()));
        let servers: Vec<Runnable> = servers.collect::<io::Result<_>>().map_err(failure)?;
        let remotes: Vec<ServerHandle> =
            servers.iter().map(|server| server.remote.clone()).collect();
        let started = status.as_ref().map_or(Ok(None), Status::start).map_err(failure)?;
        handle_signals(remotes.clone(), reload, status).map_err(failure)?;
        ready(bound, started.as_ref()).map_err(failure)?;
        let threads: Vec<_> = servers
            .into_iter()
            .map(|server| {
                let together = StopAllOnDrop(remotes.clone());
                thread::spawn(move || {
                    let _together = together;
                    (server.run)()
                })
            })
            .collect();
        // All of them, before anything is made of how one ended.
        let ended: Vec<_> = threads.into_iter().map(thread::JoinHandle::join).collect();
        for ran in ended {
            ran.map_err(|_| Failed::new(Exit::Failure, "a worker panicked"))?.map_err(failure)?;
        }
        Ok(())
    }
}

/// Stops all workers when one ends, however it ends, rather than leave half a server.
struct StopAllOnDrop(Vec<ServerHandle>);

impl Drop for StopAllOnDrop {
    fn drop(&mut self) {
        self.0.iter().for_each(ServerHandle::stop);
    }
}

/// Says where it listens, and where it tells of devices, on standard output, for people and scripts to wait for.
fn ready(bound: &[Address], status: Option<&Address>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let listening = bound.iter().map(|address| ("LISTENING", address));
    for (word, address) in listening.chain(status.map(|address| ("STATUS", address))) {
        match address {
            Address::Tcp { host, port } => writeln!(out, "{word} {host} {port}")?,
            Address::Unix(path) => writeln!(out, "{word} unix {}", path.display())?,
        }
    }
    out.flush()
}

/// Says how to connect, when the key is one that nobody gave, and what is wrong with it.
fn announce(args: &ServeArgs, found: &Found, bound: &[Address]) {
    if let Some(warning) = &found.warning {
        warn!(target: "countersign", "{warning}");
    }
    let (Some(file), Some(address)) = (found.default_file, bound.first()) else { return };
    let program = std::env::args().next().unwrap_or_else(|| "countersign".into());
    let verb = if found.made { "made a new key in" } else { "using the key in" };
    let (what, who) = match (args.service, args.protocol.scheme) {
        // Not what devices speak unless told.
        (ServiceName::Device, SchemeName::Mutual) => {
            ("device", " --app-id ID --imei IMEI --scheme mutual")
        }
        (ServiceName::Device, _) => ("device", " --app-id ID --imei IMEI"),
        _ => ("connect", ""),
    };
    let command = format!(
        "{} {what} {}{who}{}",
        quoted(&program),
        quoted(&reachable(address).to_string()),
        args.protocol.for_the_other_end()
    );
    let tls = match (&args.tls.tls_cert, &args.tls.tls_client_ca) {
        (None, _) => "",
        (Some(_), None) => ", with --tls-ca",
        (Some(_), Some(_)) => ", with --tls-ca, --tls-cert and --tls-key",
    };
    match args.log_format {
        LogFormat::Json => {
            info!(target: "countersign", "{verb} {file}; to connect, in the same directory{tls}: {command}");
        }
        LogFormat::Text => {
            say(&format!("{verb} {file}"));
            say(&format!("to connect, in a second terminal, here{tls}:\n    {command}"));
        }
    }
}

/// Where to connect to a server that listens at `address`, from the same machine.
fn reachable(address: &Address) -> Address {
    match address {
        Address::Tcp { host, port } if host == "0.0.0.0" => {
            Address::Tcp { host: "127.0.0.1".into(), port: *port }
        }
        Address::Tcp { host, port } if host == "::" => {
            Address::Tcp { host: "::1".into(), port: *port }
        }
        other => other.clone(),
    }
}

/// `word` as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Where the keys came from, and who uses them.
struct Reload {
    args: ProtocolArgs,
    keys: SharedKeys,
}

impl Reload {
    /// Reads the keys again. What has a mistake is refused whole, and the old keys stay.
    fn reload(&self) -> bool {
        match secret::find(&self.args, Missing::Fail) {
            Ok(found) if !found.in_file => {
                info!(target: "countersign", "no keys read again: there is no file of them");
                false
            }
            Ok(found) => {
                if let Some(warning) = &found.warning {
                    warn!(target: "countersign", "{warning}");
                }
                self.keys.replace(found.keys);
                info!(target: "countersign", "keys read again");
                true
            }
            Err(failed) => {
                error!(target: "countersign", "keys not read again, the old ones stay: {}", failed.message);
                false
            }
        }
    }
}

/// A first SIGTERM or SIGINT stops the servers in order, a second one the process. SIGHUP has the
/// keys read again, unless it came because the terminal that we report to is gone. SIGUSR1 has the
/// devices logged, if we serve any.
fn handle_signals(
    remotes: Vec<ServerHandle>,
    reload: Reload,
    status: Option<Status>,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    if status.is_some() {
        signals.add_signal(SIGUSR1)?;
    }
    let on_terminal = io::stderr().is_terminal();
    thread::spawn(move || {
        let mut stopping = false;
        for signal in signals.forever() {
            if let (SIGUSR1, Some(status)) = (signal, &status) {
                status.log();
                continue;
            }
            let hung_up = on_terminal && !io::stderr().is_terminal();
            if signal == SIGHUP && !hung_up {
                if reload.reload() {
                    remotes.iter().for_each(ServerHandle::keys_changed);
                }
                continue;
            }
            if std::mem::replace(&mut stopping, true) {
                std::process::exit(128 + signal);
            }
            info!(target: "countersign", "stopping: no more connections, and 10 s for what is under way");
            remotes.iter().for_each(ServerHandle::stop);
        }
    });
    Ok(())
}

/// As many files as connections are allowed, if the system permits.
fn raise_file_limit(max_connections: usize, adapter: ServeAdapter, workers: usize) {
    let allowed = crate::allow_files();
    let connections = max_connections as u64 * adapter.files();
    let wanted = connections + (workers * WORKER_FILES) as u64 + OTHER_FILES;
    if let Some(files) = allowed
        && files < wanted
    {
        warn!(target: "countersign", "--max-connections {max_connections} needs {wanted} open files and the system allows {files}: raise `ulimit -n`, or allow fewer connections");
    }
}

/// Unix sockets to remove in the end, if they are still ours: device and inode tell.
#[derive(Default)]
struct UnixPaths(Vec<(PathBuf, u64, u64)>);

impl UnixPaths {
    fn add(&mut self, path: &Path) {
        if let Ok(file) = fs::symlink_metadata(path) {
            self.0.push((path.into(), file.dev(), file.ino()));
        }
    }
}

impl Drop for UnixPaths {
    fn drop(&mut self) {
        for (path, dev, ino) in &self.0 {
            if fs::symlink_metadata(path).is_ok_and(|file| (file.dev(), file.ino()) == (*dev, *ino))
            {
                let _ = fs::remove_file(path);
            }
        }
    }
}
