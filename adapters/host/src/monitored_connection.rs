//! What there is to tell of a connection.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use countersign::{CloseReason, Error, Instant, Peer};
use tracing::error;

use crate::net::PeerAddr;
use crate::session_factory::BoxedProtocol;
use countersign_driver::Io;
use countersign_driver::{Connection, Failure, Progress, Wait};
use countersign_driver::{Keys, Service};

/// A connection of which it is told when it is established and how it ends, once each.
///
/// A service that panics ends its own connection, as [`Error::Aborted`] with [`CloseReason::Application`],
/// and nobody else's.
pub struct MonitoredConnection<S> {
    connection: Connection<BoxedProtocol, S>,
    origin: PeerAddr,
    told_established: bool,
    told_ended: bool,
}

/// What there is to tell of a connection.
#[derive(Debug)]
pub enum ConnectionEvent<'a> {
    /// Its handshake is over.
    Established {
        /// Where it came from, or where it went.
        origin: PeerAddr,
        /// Who it is.
        peer: Peer<'a>,
    },
    /// It has ended.
    Ended(Ended),
}

/// A connection has ended. It may still be taking leave of its peer, for a second or so.
#[derive(Debug)]
pub struct Ended {
    /// Where it came from, or where it went.
    pub origin: PeerAddr,
    /// Whether its handshake was ever over.
    pub established: bool,
    /// How it ended.
    pub how: Result<(), Failure<io::Error>>,
}

/// What is next for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another turn, when others have had theirs.
    Again,
    /// Nothing until something happens.
    Wait(Wait),
    /// It is over: drop the transport.
    Over,
}

impl<S: Service> MonitoredConnection<S> {
    /// A connection at its beginning.
    pub fn new(machine: BoxedProtocol, service: S, origin: PeerAddr) -> Self {
        let connection = Connection::new(machine, service);
        Self { connection, origin, told_established: false, told_ended: false }
    }

    /// The connection, to be woken or stopped.
    pub fn connection_mut(&mut self) -> &mut Connection<BoxedProtocol, S> {
        &mut self.connection
    }

    /// Whether it was told how the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.told_ended
    }

    /// Takes a turn, and tells `tell` what came of it.
    pub fn turn<I: Io<Error = io::Error>, K: Keys + ?Sized>(
        &mut self,
        io: &mut I,
        keys: &K,
        now: Instant,
        mut tell: impl FnMut(ConnectionEvent<'_>),
    ) -> Next {
        let Some(turn) = self.guard(|connection| connection.turn(io, keys, now)) else {
            self.abandon_for(CloseReason::Application, tell);
            return Next::Over;
        };
        if self.connection.established()
            && !mem::replace(&mut self.told_established, true)
            && let Some(peer) = self.connection.peer()
        {
            tell(ConnectionEvent::Established { origin: self.origin, peer });
        }
        let next = match turn {
            Progress::Yield => Next::Again,
            Progress::Wait(wait) => Next::Wait(wait),
            Progress::Closed(how) => {
                self.ended(how, tell);
                return Next::Over;
            }
        };
        if let Some(error) = self.connection.error() {
            self.ended(Err(Failure::Protocol(error)), tell);
        }
        next
    }

    /// The transport has failed between turns.
    pub fn lost(&mut self, error: io::Error, tell: impl FnMut(ConnectionEvent<'_>)) {
        match self.guard(|connection| connection.lost(error)) {
            Some(Progress::Closed(how)) => self.ended(how, tell),
            _ => self.abandon_for(CloseReason::Application, tell),
        }
    }

    /// Ends the connection here and now.
    pub fn abandon(&mut self, tell: impl FnMut(ConnectionEvent<'_>)) {
        self.abandon_for(CloseReason::Shutdown, tell);
    }

    fn abandon_for(&mut self, why: CloseReason, tell: impl FnMut(ConnectionEvent<'_>)) {
        self.guard(|connection| connection.abandon_for(why));
        self.ended(Err(Failure::Protocol(Error::Aborted(why))), tell);
    }

    /// Does something in which the service is called; `None` if that panicked. All that is done with
    /// the connection afterwards is to abandon it.
    fn guard<T>(&mut self, call: impl FnOnce(&mut Connection<BoxedProtocol, S>) -> T) -> Option<T> {
        let Self { connection, origin, .. } = self;
        let done = catch_unwind(AssertUnwindSafe(|| call(connection)));
        done.map_err(|_| error!(target: "countersign", "the service of peer={origin} panicked"))
            .ok()
    }

    fn ended(
        &mut self,
        how: Result<(), Failure<io::Error>>,
        mut tell: impl FnMut(ConnectionEvent<'_>),
    ) {
        if !mem::replace(&mut self.told_ended, true) {
            let established = self.connection.established();
            tell(ConnectionEvent::Ended(Ended { origin: self.origin, established, how }));
        }
    }
}
