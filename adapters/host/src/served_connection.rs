//! A connection of a server with a thread or task of its own.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::Waker;

use countersign::Instant;
use countersign_driver::Io;

use crate::monitored_connection::{ConnectionEvent, MonitoredConnection, Step};
use crate::peer_addr::PeerAddr;
use crate::server_context::{AdmissionGuard, ServerContext};
use crate::service_factory::ServiceFactory;
use crate::shared_keys::KeysWatcher;
use crate::stream::Stream;

/// A connection of a server with a thread or task of its own, which polls it.
pub struct ServedConnection<F: ServiceFactory> {
    context: Arc<ServerContext>,
    connection: MonitoredConnection<F::Service>,
    guard: AdmissionGuard,
    keys: KeysWatcher,
    /// When the connection is abandoned, once the server was told to stop.
    give_up: Option<Instant>,
}

impl<F: ServiceFactory> ServedConnection<F> {
    /// A connection that was [admitted](ServerContext::admit); `None` if it cannot begin. Whenever
    /// `waker` is woken, [`poll`](Self::poll) it.
    pub fn begin(
        context: Arc<ServerContext>,
        services: &F,
        stream: &Stream,
        addr: PeerAddr,
        mut guard: AdmissionGuard,
        waker: &Waker,
    ) -> Option<Self> {
        let (protocol, service) = context.begin(services, stream, addr, &mut guard, waker)?;
        let connection = MonitoredConnection::new(protocol, service);
        let keys = context.keys().watch();
        Some(Self { context, connection, guard, keys, give_up: None })
    }

    /// Makes progress until nothing more can be done now. `woken`: its waker was woken since the last
    /// poll.
    pub fn poll<I: Io<Error = io::Error>>(&mut self, io: &mut I, woken: bool) -> Step {
        let Self { context, connection, guard, keys, give_up } = self;
        let now = context.now();
        let record = |event: ConnectionEvent<'_>| context.record(event, guard, now);
        if woken {
            connection.connection_mut().wake();
        }
        if keys.refresh() {
            connection.revoke(keys.keys(), now);
        }
        if give_up.is_none() && context.handle().is_stopping() {
            *give_up = Some(now.saturating_add(context.options().stop_timeout));
            connection.connection_mut().driver_mut().stop();
        }
        if give_up.is_some_and(|at| at <= now) {
            connection.abandon(record);
            return Step::Closed;
        }
        match connection.poll(io, keys.keys(), now, record) {
            Step::Wait(interest) => Step::Wait(interest.until_at_most(*give_up)),
            step => step,
        }
    }
}

impl<F: ServiceFactory> Drop for ServedConnection<F> {
    /// A connection that has not ended is abandoned.
    fn drop(&mut self) {
        let Self { context, connection, guard, .. } = self;
        let now = context.now();
        if !connection.has_ended() {
            connection.abandon(|event| context.record(event, guard, now));
        }
    }
}

impl<F: ServiceFactory> fmt::Debug for ServedConnection<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedConnection")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}
