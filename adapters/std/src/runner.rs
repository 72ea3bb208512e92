//! Services on one thread, one connection after the other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign::{CloseReason, Error, Instant};
use countersign_driver::{Connection, Failure, Keys, Progress, Service, Wait};
use countersign_host::{BoxedProtocol, ClientError, Clock, ProtocolFactory, Stream};

use crate::rouse::Rouse;

/// How long what is under way may take once the runner is told to stop.
const STOP: Duration = Duration::from_secs(3);

/// Runs services on one connection at a time, until it is told to stop.
#[derive(Debug)]
pub struct Runner {
    rouse: Arc<Rouse>,
    stopping: Arc<AtomicBool>,
    clock: Clock,
}

/// Stops a [`Runner`], from any thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    rouse: Arc<Rouse>,
    stopping: Arc<AtomicBool>,
}

impl Stopper {
    /// Ends the connection there is, once nothing is under way on it or after 3 s, and any sleep.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.rouse.rouse();
    }
}

impl Runner {
    /// A runner with nothing to run.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        let rouse = Arc::new(Rouse::new()?);
        Ok(Self { rouse, stopping: Arc::default(), clock: Clock::start() })
    }

    /// What stops it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper { rouse: self.rouse.clone(), stopping: self.stopping.clone() }
    }

    /// Whether it was told to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// What it counts time by.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Waits for `time`, or until told to stop.
    pub fn sleep(&self, time: Duration) {
        let until = self.now().saturating_add(time);
        let wait = Wait { read: false, write: false, until: Some(until) };
        while !self.is_stopping() && self.now() < until {
            self.rouse.wait(None, wait, self.now());
        }
    }

    /// Speaks `protocol` on `stream`, which this end has connected, and runs `service` until the
    /// connection is over. Returns the service, and how it ended: with [`ClientError::Start`],
    /// [`ClientError::Io`] or [`ClientError::Protocol`] if not in order.
    pub fn run<S: Service>(
        &self,
        stream: &Stream,
        protocol: &dyn ProtocolFactory,
        keys: &dyn Keys,
        service: S,
    ) -> (S, Result<(), ClientError>) {
        match protocol.client(&self.rouse.clone().into(), self.now()) {
            Ok(machine) => {
                let mut connection = Connection::new(machine, service);
                let how = self.drive(&mut connection, stream, keys);
                (connection.into_service(), how)
            }
            Err(error) => (service, Err(ClientError::Start(error))),
        }
    }

    fn drive<S: Service>(
        &self,
        connection: &mut Connection<BoxedProtocol, S>,
        stream: &Stream,
        keys: &dyn Keys,
    ) -> Result<(), ClientError> {
        let mut give_up: Option<Instant> = None;
        loop {
            let now = self.now();
            if self.is_stopping() && give_up.is_none() {
                give_up = Some(now.saturating_add(STOP));
                connection.stop();
            }
            if give_up.is_some_and(|at| at <= now) {
                connection.abandon();
                return Err(ClientError::Protocol(Error::Aborted(CloseReason::Shutdown)));
            }
            match connection.turn(&mut { stream }, keys, now) {
                Progress::Yield => {}
                Progress::Closed(how) => {
                    return how.map_err(|failure| match failure {
                        Failure::Io(error) => ClientError::Io(error),
                        Failure::Protocol(error) => ClientError::Protocol(error),
                    });
                }
                Progress::Wait(wait) => {
                    let until = wait.until.into_iter().chain(give_up).min();
                    if self.rouse.wait(Some(stream), Wait { until, ..wait }, self.now()) {
                        connection.wake();
                    }
                }
            }
        }
    }
}
