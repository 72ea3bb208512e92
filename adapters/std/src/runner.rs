//! Runs services on one thread, one connection after the other.

use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use countersign::Instant;
use countersign_driver::{Interest, Keys, ServiceConnection, StreamService};
use countersign_host::{
    CallError, Clock, ProtocolFactory, ShutdownHandle, Step, StoppableConnection, Stream,
};

use crate::wakeup::Wakeup;

/// How long a connection may take to end in order once the runner stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs services as clients, on one connection at a time, until it is stopped.
///
/// ```no_run
/// use std::time::Duration;
///
/// use countersign_std::{Address, Key, Runner, SessionFactory, services::Echo};
///
/// let address: Address = "127.0.0.1:9999".parse()?;
/// let (sessions, key) = (SessionFactory::mutual("device")?, Key::mutual(b"a key of 16 bytes or more")?);
/// let runner = Runner::new()?;
/// let shutdown = runner.shutdown_handle(); // stops it, from any thread
/// while !runner.is_stopping() {
///     if let Ok(stream) = address.connect(Duration::from_secs(10)) {
///         let (_service, result) = runner.run(&stream, &sessions, &key, Echo);
///         println!("{result:?}");
///     }
///     runner.sleep(Duration::from_secs(1));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Runner {
    wakeup: Arc<Wakeup>,
    shutdown: ShutdownHandle,
    clock: Clock,
}

impl Runner {
    /// A runner that runs nothing yet.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        let wakeup = Arc::new(Wakeup::new()?);
        let shutdown = ShutdownHandle::new(wakeup.clone().into());
        Ok(Self { wakeup, shutdown, clock: Clock::start() })
    }

    /// Stops it, from any thread: a connection in order, or after 3 s, and any sleep at once.
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.shutdown.clone()
    }

    /// Whether it was told to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shutdown.is_stopping()
    }

    /// Now, by the clock that it counts deadlines with.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Waits for `time`, or until the runner stops.
    pub fn sleep(&self, time: Duration) {
        let until = self.now().saturating_add(time);
        let interest = Interest { until: Some(until), ..Interest::default() };
        while !self.is_stopping() && self.now() < until {
            self.wakeup.wait(None, interest, self.now());
        }
    }

    /// Runs `service` on `stream`, which this end has connected, until the connection is over. Returns
    /// the service, and how the connection ended: if not in order, with [`CallError::Start`],
    /// [`CallError::Io`] or [`CallError::Protocol`].
    pub fn run<S: StreamService>(
        &self,
        stream: &Stream,
        factory: &dyn ProtocolFactory,
        keys: &dyn Keys,
        service: S,
    ) -> (S, Result<(), CallError>) {
        let protocol = match factory.client(&Waker::from(self.wakeup.clone()).into(), self.now()) {
            Ok(protocol) => protocol,
            Err(error) => return (service, Err(CallError::Start(error))),
        };
        let mut connection = ServiceConnection::new(protocol, service);
        let mut stoppable =
            StoppableConnection::new(&mut connection, &self.shutdown, Some(STOP_TIMEOUT));
        drive(stream, &self.wakeup, self.clock, |woken| {
            stoppable.poll(&mut { stream }, keys, self.now(), woken)
        });
        let result = stoppable.result();
        (connection.into_service(), result.map_err(CallError::from))
    }
}

/// Calls `poll` with whether the thread was woken by `wakeup`, and waits at `stream` as `poll` returns.
pub(crate) fn drive(
    stream: &Stream,
    wakeup: &Wakeup,
    clock: Clock,
    mut poll: impl FnMut(bool) -> Step,
) {
    let mut woken = false;
    loop {
        match poll(woken) {
            Step::Yield => woken = false,
            Step::Wait(interest) => woken = wakeup.wait(Some(stream), interest, clock.now()),
            Step::Closed => return,
        }
    }
}
