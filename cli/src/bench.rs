//! `countersign bench`: throughput and latency of a server.

mod load;
mod processor;
mod report;

use std::cell::RefCell;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use countersign::Framing;
use countersign_driver::{Failure, Keys};
use countersign_host::{
    Address, BoxedProtocol, CallError, Clock, ConnectionEvent, PoolOptions, ProtocolFactory,
    StartError, Stream,
};
use countersign_mio::Connections;
use mio::{Events, Poll, Token};

use crate::args::BenchArgs;
use crate::client_setup::{ClientSetup, client_setup};
use crate::connect::explain;
use crate::{Exit, Failed, print};
use load::{Load, Plan, Tally};
use processor::Processor;
use report::{Phase, Report, Times};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the connections may take to close at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that are established at the same time; a server's listen queue is short.
const CONNECTING_MAX: usize = 128;
/// How often progress is shown.
const PROGRESS: Duration = Duration::from_millis(200);

fn failure(error: impl std::fmt::Display) -> Failed {
    Failed::new(Exit::Failure, error)
}

pub(crate) fn run(args: &BenchArgs) -> Result<(), Failed> {
    let wanted = args.connections as usize;
    crate::raise_file_limit();
    let mut buffers = PoolOptions::default();
    buffers.handshakes = buffers.handshakes.max(wanted);
    // A buffer for each connection: waiting for buffers would distort the latencies of the server.
    (buffers.receiving, buffers.sending) = (wanted, wanted);
    buffers.set_message_len(args.buffer as usize);
    let ClientSetup { factory, keys, config, inside_tls } =
        client_setup(&args.protocol, &args.tls, &args.address, args.expect_server, &buffers)?;
    let raw = config.framing() == Framing::Raw;
    if raw && args.size == 0 {
        let message = "a byte stream has no empty messages: give another --size";
        return Err(Failed::new(Exit::Usage, message));
    }
    let plan = Plan {
        message: vec![b'x'; args.size as usize].into(),
        pipeline: args.pipeline as usize,
        raw,
        once: args.reconnect,
        every: args.every,
        epoch: Instant::now(),
    };
    let mut bench = Bench::new(args, plan, factory, keys).map_err(failure)?;
    let mut report = Report::new(args, config.scheme().name(), inside_tls);
    bench.open(&mut report)?;
    bench.talk(args.duration, &mut report)?;
    bench.close()?;
    if let Some(path) = &args.plot {
        let plotted = report.plot().map_err(failure)?;
        let cannot = |error| failure(format!("{}: {error}", path.display()));
        fs::write(path, plotted).map_err(cannot)?;
    }
    print(if args.json { report.json() } else { report.text() }.as_bytes())
}

/// The connections, in one event loop.
struct Bench {
    poll: Poll,
    events: Events,
    clock: Clock,
    connections: Connections<Load, Instant>,
    factory: Arc<dyn ProtocolFactory>,
    keys: Arc<dyn Keys + Send + Sync>,
    address: Address,
    plan: Plan,
    tally: Rc<RefCell<Tally>>,
    /// The number of connections to hold.
    wanted: usize,
    /// The wakers of connections that wait for the measurement to begin.
    wakers: Vec<Waker>,
    processor: Option<Processor>,
    /// When progress was last shown, if standard error is a terminal.
    shown: Option<Instant>,
}

/// What happened in one round of the loop.
#[derive(Default)]
struct Round {
    /// How long connecting and authenticating took.
    established: Vec<Duration>,
    ended: Vec<Result<(), Failure<io::Error>>>,
}

/// Why a connection was not started.
enum StartFailure {
    Connect(io::Error),
    Start(StartError),
}

impl From<io::Error> for StartFailure {
    fn from(error: io::Error) -> Self {
        Self::Connect(error)
    }
}

impl Bench {
    fn new(
        args: &BenchArgs,
        plan: Plan,
        factory: Arc<dyn ProtocolFactory>,
        keys: Arc<dyn Keys + Send + Sync>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let connections = Connections::new(poll.registry(), Token(usize::MAX))?;
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            clock: Clock::start(),
            connections,
            factory,
            keys,
            address: args.address.clone(),
            plan,
            tally: Rc::new(RefCell::new(Tally::new(args.count))),
            wanted: args.connections as usize,
            wakers: Vec::new(),
            processor: Processor::of(&args.address, args.server_pid),
            shown: io::stderr().is_terminal().then(Instant::now),
        })
    }

    fn processor_time(&self) -> Option<Duration> {
        self.processor.as_ref()?.time()
    }

    /// Opens all connections. Fails if one of them fails.
    fn open(&mut self, report: &mut Report) -> Result<(), Failed> {
        let wanted = self.wanted;
        let (begun, before) = (Instant::now(), self.processor_time());
        let mut open = 0;
        while open < wanted {
            while self.connections.len() < wanted && self.connections.len() - open < CONNECTING_MAX
            {
                self.connect()?;
            }
            let round = self.round(CONNECT_TIMEOUT)?;
            if let Some(how) = round.ended.into_iter().next() {
                let error = match how {
                    Ok(()) => return Err(failure("the server closed an idle connection")),
                    Err(Failure::Io(error)) => CallError::Connect(error),
                    Err(Failure::Protocol(error)) => CallError::Protocol(error),
                };
                let which = format!("{}, connection {open} of {wanted}: ", self.address);
                return Err(explain(&error, &which));
            }
            open += round.established.len();
            round.established.into_iter().for_each(|time| report.handshakes.add(time));
            self.show(&format!("{open} of {wanted} connections"));
        }
        report.opened = Phase::over(begun, before, self.processor_time());
        Ok(())
    }

    /// Sends on all connections for `time`, or until the requested number of messages is answered.
    fn talk(&mut self, time: Duration, report: &mut Report) -> Result<(), Failed> {
        let (begun, before) = (Instant::now(), self.processor_time());
        self.tally.borrow_mut().begin();
        self.wakers.drain(..).for_each(Waker::wake);
        while !self.tally.borrow().is_over() && begun.elapsed() < time {
            let round = self.round(time.saturating_sub(begun.elapsed()))?;
            round.established.into_iter().for_each(|time| report.reconnects.add(time));
            for how in round.ended {
                report.ended(&how);
                // A failed connection is not replaced, so that a server that refuses is not flooded.
                if self.plan.once && how.is_ok() {
                    self.connect()?;
                }
            }
            if self.connections.is_empty() {
                break;
            }
            let done = self.tally.borrow().done;
            let rate = done as f64 / begun.elapsed().as_secs_f64();
            self.show(&format!("{done} messages, {rate:.0} a second"));
        }
        report.talked = Phase::over(begun, before, self.processor_time());
        let mut tally = self.tally.borrow_mut();
        tally.end();
        report.messages = tally.done;
        report.unanswered = tally.asked - tally.done;
        report.latencies = std::mem::replace(&mut tally.latencies, Times::new());
        Ok(())
    }

    /// Closes all connections.
    fn close(&mut self) -> Result<(), Failed> {
        self.connections.stop();
        let begun = Instant::now();
        while !self.connections.is_empty() && begun.elapsed() < CLOSE_TIMEOUT {
            self.round(CLOSE_TIMEOUT)?;
        }
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        Ok(())
    }

    /// Starts one more connection.
    fn connect(&mut self) -> Result<(), Failed> {
        let Self { connections, factory, wakers, plan, tally, clock, .. } = self;
        let offset = connections.len() as f64 / self.wanted as f64;
        let now = clock.now();
        let talking = tally.borrow().is_begun();
        let make = |waker: &Waker,
                    _: &Stream,
                    _: &mut Instant|
         -> Result<(BoxedProtocol, Load), StartFailure> {
            let protocol = factory.client(&waker.into(), now).map_err(StartFailure::Start)?;
            if !talking {
                wakers.push(waker.clone());
            }
            Ok((protocol, Load::new(plan.clone(), tally.clone(), offset)))
        };
        let until = now.saturating_add(CONNECT_TIMEOUT);
        connections.connect(&self.address, until, Instant::now(), make).map_err(|why| {
            let error = match why {
                StartFailure::Connect(error) => CallError::Connect(error),
                StartFailure::Start(error) => CallError::Start(error),
            };
            explain(&error, &format!("{}: ", self.address))
        })
    }

    /// Runs one round of the loop, which waits for `time` at most.
    fn round(&mut self, time: Duration) -> Result<Round, Failed> {
        let timeout = self.connections.timeout(self.clock.now());
        let timeout = timeout.into_iter().chain([time, PROGRESS]).min();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other.map_err(failure)?,
        }
        for event in &self.events {
            self.connections.handle_event(event);
        }
        let mut round = Round::default();
        self.connections.run(&*self.keys, self.clock.now(), |event, begun| match event {
            ConnectionEvent::Established(_) => round.established.push(begun.elapsed()),
            ConnectionEvent::Ended(end) => round.ended.push(end.result),
        });
        Ok(round)
    }

    /// Shows the progress on a terminal, every [`PROGRESS`].
    fn show(&mut self, text: &str) {
        if let Some(shown) = &mut self.shown
            && shown.elapsed() >= PROGRESS
        {
            *shown = Instant::now();
            let _ = write!(io::stderr(), "\r\x1b[K{text}");
        }
    }
}
