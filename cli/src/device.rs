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
use countersign_host::{ClientError, ClientOptions, PoolOptions};
use countersign_std::{Runner, Stopper};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args::{DeviceArgs, SchemeName};
use crate::connect::explain;
use crate::end::{self, ClientEnd};
use crate::{Exit, Failed, print, say};

/// More than the runner takes to stop.
const STOP: Duration = Duration::from_secs(6);

/// What lasts from one connection to the next.
struct Progress {
    backoff: Backoff,
    /// Answered heartbeats that are still to come; `None` for no end of them.
    left: Option<u64>,
    /// Whether it was ever registered: what it was given is right, then.
    registered: bool,
    /// All that was asked for is done, or failed.
    over: Option<Result<(), Failed>>,
}

pub(crate) fn run(args: &DeviceArgs) -> Result<(), Failed> {
    if args.protocol.scheme == SchemeName::Challenge {
        return Err(Failed::new(
            Exit::Usage,
            "a device needs messages, and the scheme challenge has none: choose another --scheme",
        ));
    }
    let buffers = PoolOptions::default();
    let ClientEnd { protocol, keys, .. } =
        end::client(&args.protocol, &args.tls, &args.address, args.expect_server, &buffers)?;
    let failure = |error| Failed::new(Exit::Failure, error);
    let runner = Runner::new().map_err(failure)?;
    let connecting = Arc::new(AtomicBool::new(false));
    handle_signals(runner.stopper(), connecting.clone()).map_err(failure)?;

    let progress = RefCell::new(Progress {
        backoff: Backoff::new(args.backoff_base, args.backoff_cap),
        left: args.count,
        registered: false,
        over: None,
    });
    let options = ClientOptions::default();
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
                again(&explain(&ClientError::Connect(error), "").message);
                continue;
            }
        };
        let client = DeviceClient::new(args.app_id, args.imei, runner.now())
            .with_interval(args.heartbeat)
            .with_answer_timeout(args.answer_timeout);
        let device = Device::new(client, |response| progress.borrow_mut().note(response));
        let (device, how) = runner.run(&stream, &*protocol, &*keys, device);
        drop(stream);
        if let Some(over) = progress.borrow_mut().over.take() {
            return over;
        }
        if runner.is_stopping() {
            return Ok(());
        }
        let why = match (device.error(), how) {
            (Some(error), _) => error.to_string(),
            (None, Ok(())) => "the server closed the connection".into(),
            (None, Err(error)) => {
                let failed = explain(&error, "");
                // Anybody can forge a refusal: it does not end what has worked before.
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
    /// Prints an answer, and breaks when it was the last.
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
            self.over = Some(Err(failed));
        }
        self.registered |= (kind, code) == (Kind::Register, 0);
        if (kind, code) == (Kind::Heartbeat, 0) {
            self.backoff.reset();
            self.left = self.left.map(|left| left.saturating_sub(1));
            if self.left == Some(0) && self.over.is_none() {
                self.over = Some(Ok(()));
            }
        }
        if self.over.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// A first SIGTERM or SIGINT ends the device in order, a second one the process. While a connection
/// is made there is nothing to be put in order.
fn handle_signals(stopper: Stopper, connecting: Arc<AtomicBool>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::spawn(move || {
        let mut stopping = false;
        for signal in signals.forever() {
            if std::mem::replace(&mut stopping, true) {
                process::exit(128 + signal);
            }
            stopper.stop();
            // Whoever should read what we print may have stopped, and hold us up for ever.
            thread::spawn(|| {
                thread::sleep(STOP);
                process::exit(0);
            });
            if connecting.load(Ordering::SeqCst) {
                process::exit(0);
            }
        }
    });
    Ok(())
}
