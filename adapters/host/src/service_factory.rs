//! What makes the services of new connections.

use countersign::{Error, Instant, Outbox, Peer};
use countersign_driver::{Chunk, Flow, MessageService, Service, ServiceError, StreamService};

use crate::connection_handle::{ConnectionHandle, HandledService};
use crate::message_memory::{MessageBytes, MessageMemory};

/// Makes the service of each connection of a server.
pub trait ServiceFactory: Send + Sync {
    /// What it makes.
    type Service: StreamService + Send;

    /// A service for a connection whose handshake is yet to come.
    fn create(&self, handle: ConnectionHandle) -> Self::Service;
}

impl<F: ServiceFactory> ServiceFactory for &F {
    type Service = F::Service;

    fn create(&self, handle: ConnectionHandle) -> Self::Service {
        (**self).create(handle)
    }
}

/// Makes services of whole messages, by a function.
#[derive(Clone, Debug)]
pub struct Messages<F> {
    create: F,
    memory: MessageMemory,
}

impl<F> Messages<F> {
    /// Services that `create` makes, with messages in `memory`.
    pub const fn new(create: F, memory: MessageMemory) -> Self {
        Self { create, memory }
    }
}

impl<S: Service + Send, F: Fn(ConnectionHandle) -> S + Send + Sync> ServiceFactory for Messages<F> {
    type Service = MessageService<HandledService<S>, MessageBytes>;

    fn create(&self, handle: ConnectionHandle) -> Self::Service {
        // Before the function runs: it may queue messages already.
        handle.enable_messages(self.memory.max_message());
        self.memory.service(HandledService { service: (self.create)(handle.clone()), handle })
    }
}

/// Makes services of chunks, by a function.
#[derive(Clone, Debug)]
pub struct Streams<F>(pub F);

impl<S: StreamService + Send, F: Fn(ConnectionHandle) -> S + Send + Sync> ServiceFactory
    for Streams<F>
{
    type Service = HandledStream<S>;

    fn create(&self, handle: ConnectionHandle) -> Self::Service {
        HandledStream::new((self.0)(handle.clone()), handle)
    }
}

/// A stream service whose connection has a handle.
#[derive(Debug)]
pub struct HandledStream<S> {
    service: S,
    handle: ConnectionHandle,
}

impl<S> HandledStream<S> {
    /// `service` on the connection of `handle`.
    pub const fn new(service: S, handle: ConnectionHandle) -> Self {
        Self { service, handle }
    }
}

impl<S: StreamService> StreamService for HandledStream<S> {
    fn on_open(&mut self, peer: &Peer<'_>, out: &mut Outbox<'_>, now: Instant) {
        self.handle.set_peer(peer);
        self.service.on_open(peer, out, now);
        self.handle.apply_to(out);
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow {
        self.service.on_chunk(chunk, out, now)
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.service.on_writable(out, now);
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.service.on_wake(out, now);
        self.handle.apply_to(out);
    }

    fn on_finished(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.service.on_finished(out, now);
    }

    fn on_timeout(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.service.on_timeout(out, now);
    }

    fn is_idle(&self) -> bool {
        self.service.is_idle()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.service.poll_timeout()
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        self.handle.set_closed();
        self.service.on_closed(result);
    }

    fn error(&self) -> Option<ServiceError> {
        self.service.error()
    }
}
