//! `countersign bench`: what a server does in a second, and how long it takes.

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
    Address, BoxedProtocol, ClientError, Clock, ConnectionEvent, PoolOptions, ProtocolFactory,
    StartError, Stream,
};
use countersign_mio::Connections;
use mio::{Events, Poll, Token};

use crate::args::BenchArgs;
use crate::connect::explain;
use crate::end::{self, ClientEnd};
use crate::{Exit, Failed, print};
use load::{Load, Plan, Tally};
use processor::Processor;
use report::{Phase, Report, Times};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long connections may take to end when all is done.
const LEAVE: Duration = Duration::from_secs(5);
/// Connections that are being made at once: a server's queue is of some length.
const AT_ONCE: usize = 128;
/// How often progress is shown.
const PROGRESS: Duration = Duration::from_millis(200);

fn failure(error: impl std::fmt::Display) -> Failed {
    Failed::new(Exit::Failure, error)
}

pub(crate) fn run(args: &BenchArgs) -> Result<(), Failed> {
    let wanted = args.connections as usize;
    crate::allow_files();
    let mut buffers = PoolOptions::default();
    buffers.handshakes = buffers.handshakes.max(wanted);
    // None is to wait for another's: it is the server's time that is measured.
    (buffers.receiving, buffers.sending) = (wanted, wanted);
    buffers.set_message_len(args.buffer as usize);
    let ClientEnd { protocol, keys, config, inside_tls } =
        end::client(&args.protocol, &args.tls, &args.address, args.expect_server, &buffers)?;
    let raw = config.framing() == Framing::Raw;
    if raw && args.size == 0 {
        let message = "in a byte stream an empty message is nothing: give another --size";
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
    let mut bench = Bench::new(args, plan, protocol, keys).map_err(failure)?;
    let mut report = Report::new(args, config.scheme().name(), inside_tls);
    bench.open(&mut report)?;
    bench.talk(args.duration, &mut report)?;
    bench.leave()?;
    if let Some(path) = &args.plot {
        let plotted = report.plot().map_err(failure)?;
        let cannot = |error| failure(format!("{}: {error}", path.display()));
        fs::write(path, plotted).map_err(cannot)?;
    }
    print(if args.json { report.json() } else { report.text() }.as_bytes())
}

/// The connections, in a loop of one thread.
struct Bench {
    poll: Poll,
    events: Events,
    clock: Clock,
    connections: Connections<Load, Instant>,
    protocol: Arc<dyn ProtocolFactory>,
    keys: Arc<dyn Keys + Send + Sync>,
    address: Address,
    plan: Plan,
    tally: Rc<RefCell<Tally>>,
    /// How many connections there are to be.
    wanted: usize,
    /// Those of the connections that wait for the word to begin.
    wakers: Vec<Waker>,
    processor: Option<Processor>,
    /// When progress was last shown, if somebody looks.
    shown: Option<Instant>,
}

/// What a round of the loop has told.
#[derive(Default)]
struct Told {
    /// How long it took to connect and authenticate.
    established: Vec<Duration>,
    ended: Vec<Result<(), Failure<io::Error>>>,
}

/// Why a connection was not begun.
enum NotBegun {
    Connect(io::Error),
    Start(StartError),
}

impl From<io::Error> for NotBegun {
    fn from(error: io::Error) -> Self {
        Self::Connect(error)
    }
}

impl Bench {
    fn new(
        args: &BenchArgs,
        plan: Plan,
        protocol: Arc<dyn ProtocolFactory>,
        keys: Arc<dyn Keys + Send + Sync>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let connections = Connections::new(poll.registry(), Token(usize::MAX))?;
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            clock: Clock::start(),
            connections,
            protocol,
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

    /// Opens all connections. One that fails is a server that cannot be measured so.
    fn open(&mut self, report: &mut Report) -> Result<(), Failed> {
        let wanted = self.wanted;
        let (begun, before) = (Instant::now(), self.processor_time());
        let mut open = 0;
        while open < wanted {
            while self.connections.len() < wanted && self.connections.len() - open < AT_ONCE {
                self.connect()?;
            }
            let told = self.round(CONNECT)?;
            if let Some(how) = told.ended.into_iter().next() {
                let error = match how {
                    Ok(()) => return Err(failure("the server closed a connection that was idle")),
                    Err(Failure::Io(error)) => ClientError::Connect(error),
                    Err(Failure::Protocol(error)) => ClientError::Protocol(error),
                };
                let which = format!("{}, connection {open} of {wanted}: ", self.address);
                return Err(explain(&error, &which));
            }
            open += told.established.len();
            told.established.into_iter().for_each(|time| report.handshakes.add(time));
            self.show(&format!("{open} of {wanted} connections"));
        }
        report.opened = Phase::over(begun, before, self.processor_time());
        Ok(())
    }

    /// Has all connections talk for `time`, or until as many messages are answered as were asked for.
    fn talk(&mut self, time: Duration, report: &mut Report) -> Result<(), Failed> {
        let (begun, before) = (Instant::now(), self.processor_time());
        self.tally.borrow_mut().begin();
        self.wakers.drain(..).for_each(Waker::wake);
        while !self.tally.borrow().is_over() && begun.elapsed() < time {
            let told = self.round(time.saturating_sub(begun.elapsed()))?;
            told.established.into_iter().for_each(|time| report.reconnects.add(time));
            for how in told.ended {
                report.ended(&how);
                // Who fails is not replaced: a server that lets nobody in is not to be hammered.
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

    /// Ends all connections.
    fn leave(&mut self) -> Result<(), Failed> {
        self.connections.stop();
        let begun = Instant::now();
        while !self.connections.is_empty() && begun.elapsed() < LEAVE {
            self.round(LEAVE)?;
        }
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        Ok(())
    }

    /// Begins one more connection.
    fn connect(&mut self) -> Result<(), Failed> {
        let Self { connections, protocol, wakers, plan, tally, clock, .. } = self;
        let place = connections.len() as f64 / self.wanted as f64;
        let now = clock.now();
        let talking = tally.borrow().is_begun();
        let make = |wake: &Waker, _: &Stream| -> Result<(BoxedProtocol, Load), NotBegun> {
            let machine = protocol.client(wake, now).map_err(NotBegun::Start)?;
            if !talking {
                wakers.push(wake.clone());
            }
            Ok((machine, Load::new(plan.clone(), tally.clone(), place)))
        };
        let until = now.saturating_add(CONNECT);
        connections.connect(&self.address, until, Instant::now(), make).map_err(|why| {
            let error = match why {
                NotBegun::Connect(error) => ClientError::Connect(error),
                NotBegun::Start(error) => ClientError::Start(error),
            };
            explain(&error, &format!("{}: ", self.address))
        })
    }

    /// One round of the loop, which sleeps for `time` at most.
    fn round(&mut self, time: Duration) -> Result<Told, Failed> {
        let timeout = self.connections.timeout(self.clock.now());
        let timeout = timeout.into_iter().chain([time, PROGRESS]).min();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other.map_err(failure)?,
        }
        for event in &self.events {
            self.connections.ready(event);
        }
        let mut told = Told::default();
        self.connections.run(&*self.keys, self.clock.now(), |notice, begun| match notice {
            ConnectionEvent::Established { .. } => told.established.push(begun.elapsed()),
            ConnectionEvent::Ended(ended) => told.ended.push(ended.how),
        });
        Ok(told)
    }

    /// Shows how far it is, if it is time, and somebody looks.
    fn show(&mut self, text: &str) {
        if let Some(shown) = &mut self.shown
            && shown.elapsed() >= PROGRESS
        {
            *shown = Instant::now();
            let _ = write!(io::stderr(), "\r\x1b[K{text}");
        }
    }
}
