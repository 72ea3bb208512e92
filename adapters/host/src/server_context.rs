//! What every server does with a connection, however it waits for it.

use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use countersign::Instant;
use countersign_driver::Failure;

use crate::clock::Clock;
use crate::connection_handle::{ConnectionHandle, ConnectionWaker};
use crate::connection_limit::{ConnectionLimit, ConnectionPermit};
use crate::log::{log_end, log_established, log_refused};
use crate::message_memory::MessageMemory;
use crate::monitored_connection::ConnectionEvent;
use crate::peer_addr::PeerAddr;
use crate::peer_limits::{HandshakePermit, PeerLimitOptions, PeerLimits};
use crate::principal::Principal;
use crate::server_handle::{Registration, ServerHandle};
use crate::service_factory::ServiceFactory;
use crate::session_factory::{BoxedProtocol, ProtocolFactory, StartError};
use crate::shared_keys::SharedKeys;
use crate::stream::Stream;

/// The limits of a server. Servers in several threads may share a clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Connections at once; one more is closed as soon as it is accepted.
    pub connection_limit: ConnectionLimit,
    /// What one address may cost before it has authenticated. May be shared only with the clock.
    pub peer_limits: PeerLimits,
    /// Memory for whole messages.
    pub message_memory: MessageMemory,
    /// The clock that all deadlines are counted by.
    pub clock: Clock,
    /// How long what is in progress may take once the server stops.
    pub stop_timeout: Duration,
}

impl Default for ServerOptions {
    /// 10,000 connections, messages of 16 MiB and 256 MiB together, 10 s to stop.
    fn default() -> Self {
        Self {
            connection_limit: ConnectionLimit::new(10_000),
            peer_limits: PeerLimits::new(PeerLimitOptions::default()),
            message_memory: MessageMemory::default(),
            clock: Clock::start(),
            stop_timeout: Duration::from_secs(10),
        }
    }
}

/// Admits connections, makes what runs on them, and logs what becomes of them.
pub struct ServerContext {
    factory: Arc<dyn ProtocolFactory>,
    keys: SharedKeys,
    options: ServerOptions,
    handle: ServerHandle,
}

/// What a server holds for a connection as long as its socket is open.
#[derive(Debug)]
pub struct AdmissionGuard {
    /// Until it is established.
    handshake: HandshakePermit,
    registration: Option<Registration>,
    _connection: ConnectionPermit,
}

impl ServerContext {
    /// The context of a server that speaks what `factory` makes, and that `handle` controls.
    #[must_use]
    pub fn new(
        factory: Arc<dyn ProtocolFactory>,
        keys: SharedKeys,
        options: ServerOptions,
        handle: ServerHandle,
    ) -> Self {
        Self { factory, keys, options, handle }
    }

    /// The holder of the keys.
    #[must_use]
    pub const fn keys(&self) -> &SharedKeys {
        &self.keys
    }

    /// The server's limits.
    #[must_use]
    pub const fn options(&self) -> &ServerOptions {
        &self.options
    }

    /// The server's handle.
    #[must_use]
    pub const fn handle(&self) -> &ServerHandle {
        &self.handle
    }

    /// Now, by the server's clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.options.clock.now()
    }

    /// Admits a connection that was accepted, or rejects it: with an alert where the scheme has one, and
    /// a line in the log.
    #[must_use]
    pub fn admit(&self, stream: &Stream, addr: PeerAddr, now: Instant) -> Option<AdmissionGuard> {
        let handshake = match self.options.peer_limits.begin(&addr, now) {
            Ok(permit) => permit,
            Err(exceeded) => {
                self.reject(stream, addr, exceeded.code());
                return None;
            }
        };
        let Some(connection) = self.options.connection_limit.acquire() else {
            self.reject(stream, addr, "overload");
            return None;
        };
        Some(AdmissionGuard { handshake, registration: None, _connection: connection })
    }

    /// The protocol and the service of a connection that was admitted; `None` if it cannot begin, or
    /// making them panicked, and it was rejected.
    pub fn begin<F: ServiceFactory>(
        &self,
        services: &F,
        stream: &Stream,
        addr: PeerAddr,
        guard: &mut AdmissionGuard,
        waker: impl Into<ConnectionWaker>,
    ) -> Option<(BoxedProtocol, F::Service)> {
        self.begin_with(stream, addr, guard, waker, |handle| services.create(handle))
    }

    /// As [`begin`](Self::begin), for a connection that is driven by calls.
    pub(crate) fn begin_with<T>(
        &self,
        stream: &Stream,
        addr: PeerAddr,
        guard: &mut AdmissionGuard,
        waker: impl Into<ConnectionWaker>,
        create: impl FnOnce(ConnectionHandle) -> T,
    ) -> Option<(BoxedProtocol, T)> {
        let registration = self.handle.register(addr, waker.into());
        let handle = registration.handle().clone();
        let holder = handle.lease_holder();
        holder.set_principal(Principal::of_address(&addr));
        guard.registration = Some(registration);
        // After a panic nothing that it may have left half done is used: a protocol and a service.
        let begun = catch_unwind(AssertUnwindSafe(|| {
            let protocol = self.factory.server(&holder, self.now())?;
            Ok((protocol, create(handle)))
        }));
        let reason = match begun {
            Ok(Ok(begun)) => return Some(begun),
            Ok(Err(error)) => StartError::code(&error),
            Err(_) => "panicked",
        };
        self.reject(stream, addr, reason);
        None
    }

    fn reject(&self, stream: &Stream, addr: PeerAddr, reason: &str) {
        // A new socket has room for an alert; if not, it closes without one.
        let _ = stream.write(self.factory.busy());
        log_refused(&addr, self.factory.name(), reason);
    }

    /// Logs an event of a connection that has [begun](Self::begin), and settles what it cost its address.
    pub fn record(&self, event: ConnectionEvent<'_>, guard: &mut AdmissionGuard, now: Instant) {
        let AdmissionGuard { handshake, registration: Some(registration), .. } = guard else {
            return;
        };
        let (addr, name) = (registration.handle().addr(), self.factory.name());
        match event {
            ConnectionEvent::Established(peer) => {
                *handshake = HandshakePermit::default();
                let holder = registration.handle().lease_holder();
                holder.set_principal(Principal::of_peer(&peer, &addr));
                log_established(&addr, name, &peer);
            }
            ConnectionEvent::Ended(end) => {
                log_end(&addr, name, &end);
                let permit = mem::take(handshake);
                if let Err(Failure::Protocol(error)) = end.result
                    && error.is_authentication_failure()
                {
                    permit.failed(now);
                }
            }
        }
    }
}

impl fmt::Debug for ServerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerContext")
            .field("scheme", &self.factory.name())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
