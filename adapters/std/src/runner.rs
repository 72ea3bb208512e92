//! Runs services on one thread, one connection after the other.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use countersign::{CloseReason, Error, Instant};
use countersign_driver::{Failure, Interest, Keys, Progress, ServiceConnection, StreamService};
use countersign_host::{BoxedProtocol, CallError, Clock, ProtocolFactory, Stream};

use crate::shutdown_handle::ShutdownHandle;
use crate::wakeup::Wakeup;

/// How long a connection may take to end in order once the runner is told to stop.
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
        let shutdown = ShutdownHandle::new(wakeup.clone());
        Ok(Self { wakeup, shutdown, clock: Clock::start() })
    }

    /// Stops it, from any thread.
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

    /// Waits for `time`, or until it is told to stop.
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
        match factory.client(&self.wakeup.clone().into(), self.now()) {
            Ok(protocol) => {
                let mut connection = ServiceConnection::new(protocol, service);
                let result = self.drive(&mut connection, stream, keys);
                (connection.into_service(), result)
            }
            Err(error) => (service, Err(CallError::Start(error))),
        }
    }

    fn drive<S: StreamService>(
        &self,
        connection: &mut ServiceConnection<BoxedProtocol, S, io::Error>,
        stream: &Stream,
        keys: &dyn Keys,
    ) -> Result<(), CallError> {
        let mut give_up: Option<Instant> = None;
        loop {
            let now = self.now();
            if self.is_stopping() && give_up.is_none() {
                give_up = Some(now.saturating_add(STOP_TIMEOUT));
                connection.driver_mut().stop();
            }
            if give_up.is_some_and(|at| at <= now) {
                connection.abandon(CloseReason::Shutdown);
                return Err(CallError::Protocol(Error::Aborted(CloseReason::Shutdown)));
            }
            match connection.poll(&mut { stream }, keys, now) {
                Progress::Event(_) | Progress::Yield => {}
                Progress::Wait(interest) => {
                    let interest = interest.until_at_most(give_up);
                    if self.wakeup.wait(Some(stream), interest, self.now()) {
                        connection.wake();
                    }
                }
                Progress::Closed(result) => {
                    return result.map_err(|failure| match failure {
                        Failure::Io(error) => CallError::Io(error),
                        Failure::Protocol(error) => CallError::Protocol(error),
                    });
                }
            }
        }
    }
}
