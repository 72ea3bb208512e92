//! A connection that reports when it is established and how it ends.

use std::fmt;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use countersign::{CloseReason, Error, Instant, Peer};
use countersign_driver::{
    Failure, Interest, Io, Keys, Progress, ServiceConnection, ServiceError, StreamService,
};

use crate::session_factory::BoxedProtocol;

/// A connection that reports when it is established and how it ends, once each.
///
/// A service or a holder of keys that panics ends its own connection, with [`Error::Aborted`] and
/// [`CloseReason::Application`], and no other.
pub struct MonitoredConnection<S> {
    connection: ServiceConnection<BoxedProtocol, S, io::Error>,
    reported_end: bool,
    panicked: bool,
}

/// What a connection reports.
#[derive(Debug)]
pub enum ConnectionEvent<'a> {
    /// Its handshake is over, with this peer.
    Established(Peer<'a>),
    /// It has ended.
    Ended(ConnectionEnd),
}

/// How a connection has ended. It may go on closing for a second or so.
#[derive(Debug)]
pub struct ConnectionEnd {
    /// Whether its handshake was completed.
    pub established: bool,
    /// How it ended.
    pub result: Result<(), Failure<io::Error>>,
    /// Why the service ended it, if it did.
    pub service: Option<ServiceError>,
}

/// What to do next with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Poll it again, after other connections had their turn.
    Yield,
    /// Wait for this, or for its waker.
    Wait(Interest),
    /// It is over: drop the transport.
    Closed,
}

impl<S: StreamService> MonitoredConnection<S> {
    /// A connection at its beginning.
    pub fn new(protocol: BoxedProtocol, service: S) -> Self {
        let connection = ServiceConnection::new(protocol, service);
        Self { connection, reported_end: false, panicked: false }
    }

    /// The connection, to be woken or stopped.
    pub const fn connection_mut(&mut self) -> &mut ServiceConnection<BoxedProtocol, S, io::Error> {
        &mut self.connection
    }

    /// Whether it has reported how it ended.
    pub const fn has_ended(&self) -> bool {
        self.reported_end
    }

    /// Makes progress until nothing more can be done now, and reports events to `report`.
    pub fn poll<I: Io<Error = io::Error>, K: Keys + ?Sized>(
        &mut self,
        io: &mut I,
        keys: &K,
        now: Instant,
        mut report: impl FnMut(ConnectionEvent<'_>),
    ) -> Step {
        loop {
            let Some(progress) = self.guard(|connection| connection.poll(io, keys, now)) else {
                self.abandon_for(CloseReason::Application, report);
                return Step::Closed;
            };
            if let Some(error) = self.connection.driver().error() {
                self.ended(Err(Failure::Protocol(error)), &mut report);
            }
            return match progress {
                Progress::Event(_) => {
                    if let Some(peer) = self.connection.driver().peer() {
                        report(ConnectionEvent::Established(peer));
                    }
                    continue;
                }
                Progress::Yield => Step::Yield,
                Progress::Wait(interest) => Step::Wait(interest),
                Progress::Closed(result) => {
                    self.ended(result, report);
                    Step::Closed
                }
            };
        }
    }

    /// Ends the session if the key that authenticated it is not among `keys` any more; returns whether
    /// it did.
    pub fn revoke<K: Keys + ?Sized>(&mut self, keys: &K, now: Instant) -> bool {
        match self.guard(|connection| connection.driver_mut().revoke(keys, now)) {
            Some(revoked) => revoked,
            // Keys that panic vouch for nothing.
            None => {
                self.connection.driver_mut().abort(CloseReason::Application, now);
                true
            }
        }
    }

    /// Reports that the transport failed between polls.
    pub fn transport_failed(&mut self, error: io::Error, report: impl FnMut(ConnectionEvent<'_>)) {
        match self.guard(|connection| connection.transport_failed(error)) {
            Some(Progress::Closed(result)) => self.ended(result, report),
            _ => self.abandon_for(CloseReason::Application, report),
        }
    }

    /// Ends the connection at once, without a last word.
    pub fn abandon(&mut self, report: impl FnMut(ConnectionEvent<'_>)) {
        self.abandon_for(CloseReason::Shutdown, report);
    }

    fn abandon_for(&mut self, why: CloseReason, report: impl FnMut(ConnectionEvent<'_>)) {
        self.guard(|connection| connection.abandon(why));
        self.ended(Err(Failure::Protocol(Error::Aborted(why))), report);
    }

    /// Calls what may call the application; `None` if that panicked. After a panic the connection is only
    /// abandoned.
    fn guard<T>(
        &mut self,
        call: impl FnOnce(&mut ServiceConnection<BoxedProtocol, S, io::Error>) -> T,
    ) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(|| call(&mut self.connection)));
        self.panicked |= done.is_err();
        done.ok()
    }

    fn ended(
        &mut self,
        result: Result<(), Failure<io::Error>>,
        mut report: impl FnMut(ConnectionEvent<'_>),
    ) {
        if !mem::replace(&mut self.reported_end, true) {
            let established = self.connection.driver().is_established();
            let service = match self.guard(|connection| connection.service().error()) {
                Some(error) if !self.panicked => error,
                _ => Some(ServiceError::Panicked),
            };
            report(ConnectionEvent::Ended(ConnectionEnd { established, result, service }));
        }
    }
}

impl<S> fmt::Debug for MonitoredConnection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MonitoredConnection")
            .field("reported_end", &self.reported_end)
            .finish_non_exhaustive()
    }
}
