//! `countersign device`.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use countersign_device::Device;
use countersign_device::{Backoff, DeviceClient, Kind, Response};
use countersign_host::{CallError, ConnectionOptions, PoolOptions};
use countersign_std::{Runner, ShutdownHandle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args::{DeviceArgs, SchemeName};
use crate::client_setup::{ClientSetup, client_setup};
use crate::connect::explain;
use crate::{Exit, Failed, print, say};

/// How long stopping may take before the process exits; longer than the runner takes.
const STOP_TIMEOUT: Duration = Duration::from_secs(6);

/// The state that outlives a connection.
struct Progress {
    backoff: Backoff,
    /// Answered heartbeats until the command ends; `None`: unlimited.
    left: Option<u64>,
    /// Whether the device was ever registered, which proves that its key and options are right.
    registered: bool,
    /// The result of the command, once it is known.
    result: Option<Result<(), Failed>>,
}

pub(crate) fn run(args: &DeviceArgs) -> Result<(), Failed> {
    if args.protocol.scheme == SchemeName::Challenge {
        return Err(Failed::new(
            Exit::Usage,
            "a device needs messages, which the scheme challenge does not have: choose another --scheme",
        ));
    }
    let buffers = PoolOptions::default();
    let ClientSetup { factory, keys, .. } =
        client_setup(&args.protocol, &args.tls, &args.address, args.expect_server, &buffers)?;
    let failure = |error| Failed::new(Exit::Failure, error);
    let runner = Runner::new().map_err(failure)?;
    let connecting = Arc::new(AtomicBool::new(false));
    handle_signals(runner.shutdown_handle(), connecting.clone()).map_err(failure)?;

    let progress = RefCell::new(Progress {
        backoff: Backoff::new(args.backoff_base, args.backoff_cap),
        left: args.count,
        registered: false,
        result: None,
    });
    let options = ConnectionOptions::default();
    let again = |why: &str| {
        let random = getrandom::u64().unwrap_or(u64::MAX);
        let delay = progress.borrow_mut().backoff.delay(random);
        let seconds = delay.as_secs_f64();
        say(&format!("{}: {why}; connecting again in {seconds:.1} s", args.address));
        runner.sleep(delay);
    };
    loop {
        connecting.store(true, Ordering::SeqCst);
        if runner.is_stopping() {
            return Ok(());
        }
        let connected = args.address.connect(options.connect_timeout);
        connecting.store(false, Ordering::SeqCst);
        let stream = match connected {
            Ok(stream) => stream,
            Err(error) => {
                again(&explain(&CallError::Connect(error), "").message);
                continue;
            }
        };
        let client = DeviceClient::new(args.app_id, args.imei, runner.now())
            .with_interval(args.heartbeat)
            .with_response_timeout(args.answer_timeout);
        let device = Device::new(client, |response| progress.borrow_mut().note(response));
        let (device, how) = runner.run(&stream, &*factory, &*keys, device);
        drop(stream);
        if let Some(result) = progress.borrow_mut().result.take() {
            return result;
        }
        if runner.is_stopping() {
            return Ok(());
        }
        let why = match (device.error(), how) {
            (Some(error), _) => error.to_string(),
            (None, Ok(())) => "the server closed the connection".into(),
            (None, Err(error)) => {
                let failed = explain(&error, "");
                // An attacker can forge a refusal, so it does not end a device that was registered.
                if matches!(failed.exit, Exit::Refused | Exit::Usage | Exit::Failure)
                    && !progress.borrow().registered
                {
                    let message = format!("{}: {}", args.address, failed.message);
                    return Err(Failed { message, ..failed });
                }
                failed.message
            }
        };
        again(&why);
    }
}

impl Progress {
    /// Prints a response; breaks after the last one.
    fn note(&mut self, response: &Response) -> ControlFlow<()> {
        let code = response.code();
        let Ok(kind) = response.kind() else { return ControlFlow::Continue(()) };
        let name = match kind {
            Kind::Register => "register",
            Kind::Heartbeat => "heartbeat",
            Kind::DateTime => "time",
        };
        let line = match response.time() {
            Some(time) => format!("{name} {code} {time}\n"),
            None => format!("{name} {code}\n"),
        };
        if let Err(failed) = print(line.as_bytes()) {
            self.result = Some(Err(failed));
        }
        self.registered |= (kind, code) == (Kind::Register, 0);
        if (kind, code) == (Kind::Heartbeat, 0) {
            self.backoff.reset();
            self.left = self.left.map(|left| left.saturating_sub(1));
            if self.left == Some(0) && self.result.is_none() {
                self.result = Some(Ok(()));
            }
        }
        if self.result.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// The first SIGTERM or SIGINT stops the device in order, a second one exits the process. While the
/// device connects, the first one exits too: there is no connection to close in order.
fn handle_signals(shutdown: ShutdownHandle, connecting: Arc<AtomicBool>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::spawn(move || {
        let mut stopping = false;
        for signal in signals.forever() {
            if std::mem::replace(&mut stopping, true) {
                process::exit(128 + signal);
            }
            shutdown.stop();
            // A full pipe on standard output can block the runner forever.
            thread::spawn(|| {
                thread::sleep(STOP_TIMEOUT);
                process::exit(0);
            });
            if connecting.load(Ordering::SeqCst) {
                process::exit(0);
            }
        }
    });
    Ok(())
}
