//! `countersign serve`.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::thread;

use countersign::{Framing, Mutual};
use countersign_device::{Devices, Registry};
use countersign_driver::services::{Echo, Upper};
use countersign_host::{
    Address, ConnectionLimit, Listener, MessageMemory, Messages, PeerLimitOptions, PeerLimits,
    PoolOptions, Pools, ProtocolFactory, ServerHandle, ServerOptions, ServiceFactory,
    SessionFactory, SharedKeys, Streams,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use tracing::{info, warn};

use crate::adapter::{self, Runnable};
use crate::args::{LogFormat, SchemeName, ServeAdapter, ServeArgs, ServiceName};
use crate::key_reload::KeyReload;
use crate::loaded_keys::{self, IfMissing, LoadedKeys};
use crate::status_server::StatusServer;
use crate::{Exit, Failed, log, say, tls};

/// Descriptors other than connections: standard streams, signals, and a reserve.
const OTHER_FILES: u64 = 32;
/// Descriptors of one worker other than connections: its listeners and its event loop.
const WORKER_FILES: usize = 8;

pub(crate) fn run(args: &ServeArgs) -> Result<(), Failed> {
    check_devices(args)?;
    check_memory(args)?;
    let _log = log::start(&args.log, args.log_format)?;
    let workers = usize::from(args.workers);
    let max_connections = args.max_connections.unwrap_or(args.adapter.connections()) as usize;
    raise_file_limit(max_connections, args.adapter, workers);

    // One set of listeners for each worker.
    let mut sets: Vec<Vec<Listener>> = Vec::new();
    sets.resize_with(workers, Vec::new);
    let mut bound = Vec::new();
    for address in &args.listen {
        let cannot =
            |error| Failed::new(Exit::Failure, format!("cannot listen on {address}: {error}"));
        let listeners = address.listen(sets.len()).map_err(cannot)?;
        if let Some(first) = listeners.first() {
            bound.push(first.address().map_err(cannot)?);
        }
        for (set, listener) in sets.iter_mut().zip(listeners) {
            set.push(listener);
        }
    }

    let status = match args.service {
        ServiceName::Device => {
            let registry = Registry::new(args.max_devices as usize);
            Some(StatusServer::new(registry, args.status.as_ref())?)
        }
        _ => None,
    };

    // After binding, so that a server that cannot start leaves no new key file behind.
    let loaded = loaded_keys::load(&args.protocol, IfMissing::Generate)?;
    let inside_tls = args.tls.tls_cert.is_some();
    let refine = |mutual: Mutual| mutual.with_heartbeat(args.heartbeat);
    let mut config = args.protocol.config("server", inside_tls, refine)?;
    // A sealed frame is no longer than a buffer; of other frames each is a message.
    let frames_are_messages = config.framing() != Framing::Sealed;
    if !args.stream && args.protocol.max_frame.is_none() && frames_are_messages {
        config = config.with_max_frame(args.max_message as u64);
    }
    let mut buffers = PoolOptions::for_config(&config);
    buffers.handshakes = args.max_handshakes as usize;
    buffers.receiving = args.max_buffers as usize;
    buffers.sending = buffers.receiving;
    buffers.set_message_len(args.buffer as usize);
    let factory = tls::server(SessionFactory::new(config, Pools::new(&buffers)), &args.tls)?;
    announce(args, &loaded, &bound);
    let keys = SharedKeys::new(loaded.keys);
    let reload = KeyReload::new(args.protocol.clone(), keys.clone());
    let mut options = ServerOptions::default();
    options.connection_limit = ConnectionLimit::new(max_connections);
    let mut limits = PeerLimitOptions::default();
    limits.handshakes = args.source_handshakes;
    limits.failures = args.source_failures;
    limits.local = args.limit_local;
    options.peer_limits = PeerLimits::new(limits);
    let memory = MessageMemory::new(args.max_message, args.message_memory);
    options.message_memory = memory.clone();
    let shared = Shared { adapter: args.adapter, factory, keys, options };
    match (args.service, &status) {
        (ServiceName::Device, Some(status)) => {
            let devices = Devices::new(status.registry().clone(), args.device_interval);
            shared.serve(sets, &bound, reload, Some(status), devices)
        }
        (ServiceName::Echo, _) if args.stream => {
            shared.serve(sets, &bound, reload, None, Streams(|_| Echo))
        }
        (ServiceName::Echo, _) => {
            shared.serve(sets, &bound, reload, None, Messages::new(|_| Echo, memory))
        }
        _ if args.stream => shared.serve(sets, &bound, reload, None, Streams(|_| Upper)),
        _ => shared.serve(sets, &bound, reload, None, Messages::new(|_| Upper, memory)),
    }
}

/// Checks that the options for devices fit together.
fn check_devices(args: &ServeArgs) -> Result<(), Failed> {
    let wrong = if args.service != ServiceName::Device {
        args.status.is_some().then_some("--status is for the service device")
    } else if args.protocol.scheme == SchemeName::Challenge {
        Some(
            "the service device needs messages, which the scheme challenge does not have: choose another --scheme",
        )
    } else {
        None
    };
    wrong.map_or(Ok(()), |wrong| Err(Failed::new(Exit::Usage, wrong)))
}

/// Checks that a message fits its memory in both directions.
fn check_memory(args: &ServeArgs) -> Result<(), Failed> {
    if args.message_memory / 2 < args.max_message {
        let needed = args.max_message.saturating_mul(2);
        let wrong = format!(
            "--message-memory {} is less than twice --max-message {}: give at least {needed}",
            args.message_memory, args.max_message
        );
        return Err(Failed::new(Exit::Usage, wrong));
    }
    Ok(())
}

/// What the workers share.
struct Shared {
    adapter: ServeAdapter,
    factory: Arc<dyn ProtocolFactory>,
    keys: SharedKeys,
    options: ServerOptions,
}

impl Shared {
    fn worker<F: ServiceFactory + 'static>(
        &self,
        listeners: Vec<Listener>,
        services: F,
    ) -> io::Result<Runnable> {
        let (factory, keys) = (self.factory.clone(), self.keys.clone());
        adapter::server(self.adapter, listeners, factory, keys, services, self.options.clone())
    }

    /// Runs a server for each set of listeners, until a signal stops them.
    fn serve<F: ServiceFactory + Clone + 'static>(
        &self,
        sets: Vec<Vec<Listener>>,
        bound: &[Address],
        reload: KeyReload,
        status: Option<&StatusServer>,
        services: F,
    ) -> Result<(), Failed> {
        let failure = |error: io::Error| Failed::new(Exit::Failure, error);
        let servers = sets.into_iter().map(|set| self.worker(set, services.clone()));
        let servers: Vec<Runnable> = servers.collect::<io::Result<_>>().map_err(failure)?;
        let handles: Vec<ServerHandle> =
            servers.iter().map(|server| server.handle.clone()).collect();
        let started = status.map_or(Ok(None), StatusServer::start).map_err(failure)?;
        let registry = status.map(|status| status.registry().clone());
        handle_signals(handles.clone(), reload, registry).map_err(failure)?;
        print_ready(bound, started.as_ref()).map_err(failure)?;
        let threads: Vec<_> = servers
            .into_iter()
            .map(|server| {
                let stop_all = StopAllOnDrop(handles.clone());
                thread::spawn(move || {
                    let _stop_all = stop_all;
                    (server.run)()
                })
            })
            .collect();
        // Join every worker before the result of one is reported.
        let results: Vec<_> = threads.into_iter().map(thread::JoinHandle::join).collect();
        for result in results {
            result
                .map_err(|_| Failed::new(Exit::Failure, "a worker panicked"))?
                .map_err(failure)?;
        }
        Ok(())
    }
}

/// Stops all workers when one of them ends or panics, so that no server runs with fewer workers.
struct StopAllOnDrop(Vec<ServerHandle>);

impl Drop for StopAllOnDrop {
    fn drop(&mut self) {
        self.0.iter().for_each(ServerHandle::stop);
    }
}

/// Prints the bound addresses on standard output: a line for each listener, and one for the status
/// socket. Scripts wait for these lines.
fn print_ready(bound: &[Address], status: Option<&Address>) -> io::Result<()> {
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

/// Logs a warning about a weak key. If the key is the default one, announces the command that connects.
fn announce(args: &ServeArgs, loaded: &LoadedKeys, bound: &[Address]) {
    if let Some(warning) = &loaded.warning {
        warn!(target: "countersign", "{warning}");
    }
    let (Some(file), Some(address)) = (loaded.default_file, bound.first()) else { return };
    let program = std::env::args().next().unwrap_or_else(|| "countersign".into());
    let verb = if loaded.generated { "made a new key in" } else { "using the key in" };
    let (subcommand, identity) = match (args.service, args.protocol.scheme) {
        // Devices use another scheme by default.
        (ServiceName::Device, SchemeName::Mutual) => {
            ("device", " --app-id ID --imei IMEI --scheme mutual")
        }
        (ServiceName::Device, _) => ("device", " --app-id ID --imei IMEI"),
        _ => ("connect", ""),
    };
    let command = format!(
        "{} {subcommand} {}{identity}{}",
        shell_quoted(&program),
        shell_quoted(&reachable(address).to_string()),
        args.protocol.peer_options()
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

/// The address to connect to on the same machine, for a server that listens at `address`.
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

/// `word`, quoted for a shell if necessary.
fn shell_quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The first SIGTERM or SIGINT stops the servers in order, a second one exits the process. SIGHUP reloads
/// the keys, or stops the servers if their terminal has hung up. SIGUSR1 logs the devices, if devices
/// are served.
fn handle_signals(
    handles: Vec<ServerHandle>,
    reload: KeyReload,
    devices: Option<Registry>,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    if devices.is_some() {
        signals.add_signal(SIGUSR1)?;
    }
    let on_terminal = io::stderr().is_terminal();
    thread::spawn(move || {
        let mut stopping = false;
        for signal in signals.forever() {
            if let (SIGUSR1, Some(devices)) = (signal, &devices) {
                log_devices(devices);
                continue;
            }
            let hung_up = on_terminal && !io::stderr().is_terminal();
            if signal == SIGHUP && !hung_up {
                if reload.reload() {
                    handles.iter().for_each(ServerHandle::keys_changed);
                }
                continue;
            }
            if std::mem::replace(&mut stopping, true) {
                std::process::exit(128 + signal);
            }
            info!(target: "countersign", "stopping: no new connections, 10 s for pending messages");
            handles.iter().for_each(ServerHandle::stop);
        }
    });
    Ok(())
}

/// Logs each line of the table of devices, and the JSON.
fn log_devices(devices: &Registry) {
    for line in devices.table().lines() {
        info!(target: "countersign", "devices {line}");
    }
    info!(target: "countersign", "devices {}", devices.json().trim_end());
}

/// Raises the limit of open files for the allowed connections. Logs a warning if the system permits
/// fewer.
fn raise_file_limit(max_connections: usize, adapter: ServeAdapter, workers: usize) {
    let allowed = crate::raise_file_limit();
    let connections = max_connections as u64 * adapter.files();
    let wanted = connections + (workers * WORKER_FILES) as u64 + OTHER_FILES;
    if let Some(files) = allowed
        && files < wanted
    {
        warn!(target: "countersign", "--max-connections {max_connections} needs {wanted} open files and the system allows {files}: raise `ulimit -n`, or allow fewer connections");
    }
}
