//! A connection that its owner stops.

use std::fmt;
use std::io;
use std::mem;
use std::ops::DerefMut;
use std::time::Duration;

use countersign::{CloseReason, Error, Instant, Protocol};
use countersign_driver::{Failure, Io, Keys, Progress, ServiceConnection, StreamService};

use crate::monitored_connection::Step;
use crate::shutdown_handle::ShutdownHandle;

/// A connection that a [`ShutdownHandle`] stops, on a thread or task of its own, which polls it.
///
/// When this is dropped the connection is abandoned, so that the service's
/// [`on_closed`](StreamService::on_closed) is called. A panic of the service is not caught.
pub struct StoppableConnection<'a, P: DerefMut<Target: Protocol>, S: StreamService> {
    connection: &'a mut ServiceConnection<P, S, io::Error>,
    shutdown: &'a ShutdownHandle,
    stop_timeout: Option<Duration>,
    /// When the connection is abandoned, once it was told to stop.
    give_up: Option<Instant>,
    result: Result<(), Failure<io::Error>>,
}

impl<'a, P: DerefMut<Target: Protocol>, S: StreamService> StoppableConnection<'a, P, S> {
    /// `shutdown` stops `connection`, and abandons it if that takes longer than `stop_timeout`.
    pub const fn new(
        connection: &'a mut ServiceConnection<P, S, io::Error>,
        shutdown: &'a ShutdownHandle,
        stop_timeout: Option<Duration>,
    ) -> Self {
        Self { connection, shutdown, stop_timeout, give_up: None, result: Ok(()) }
    }

    /// Makes progress until nothing more can be done now. `woken`: the waker of the connection was woken
    /// since the last poll.
    pub fn poll<I: Io<Error = io::Error>, K: Keys + ?Sized>(
        &mut self,
        io: &mut I,
        keys: &K,
        now: Instant,
        woken: bool,
    ) -> Step {
        if woken {
            self.connection.wake();
        }
        if self.shutdown.is_stopping() {
            self.connection.driver_mut().stop();
            let timeout = self.stop_timeout.map(|timeout| now.saturating_add(timeout));
            self.give_up = self.give_up.or(timeout);
        }
        if self.give_up.is_some_and(|at| at <= now) {
            self.result = Err(Failure::Protocol(Error::Aborted(CloseReason::Shutdown)));
            self.connection.abandon(CloseReason::Shutdown);
            return Step::Closed;
        }
        loop {
            return match self.connection.poll(io, keys, now) {
                Progress::Event(_) => continue,
                Progress::Yield => Step::Yield,
                Progress::Wait(interest) => Step::Wait(interest.until_at_most(self.give_up)),
                Progress::Closed(result) => {
                    self.result = result;
                    Step::Closed
                }
            };
        }
    }

    /// How the connection ended, after [`Step::Closed`].
    ///
    /// # Errors
    /// The transport or the session failed, or the connection was abandoned.
    pub fn result(mut self) -> Result<(), Failure<io::Error>> {
        mem::replace(&mut self.result, Ok(()))
    }
}

impl<P: DerefMut<Target: Protocol>, S: StreamService> Drop for StoppableConnection<'_, P, S> {
    fn drop(&mut self) {
        self.connection.abandon(CloseReason::Shutdown);
    }
}

impl<P: DerefMut<Target: Protocol>, S: StreamService> fmt::Debug for StoppableConnection<'_, P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoppableConnection").field("result", &self.result).finish_non_exhaustive()
    }
}
