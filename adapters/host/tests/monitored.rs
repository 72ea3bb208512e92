//! Failures of services, as `MonitoredConnection` reports them.

#![cfg(test)]

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::Waker;

use countersign::{CloseReason, Config, Instant, Key, Outbox, Peer, Scheme};
use countersign_driver::services::Echo;
use countersign_driver::{Chunk, Flow, MessageBuffer, ServiceError, StreamService};
use countersign_host::{
    AdmissionGuard, ConnectionEnd, ConnectionEvent, MessageMemory, Messages, MonitoredConnection,
    PeerAddr, Pools, ServerContext, ServerHandle, ServerOptions, ServiceFactory, SessionFactory,
    Stream, Streams,
};

const NOW: Instant = Instant::EPOCH;

/// A server and one connection of it, of the scheme `none`.
struct Served<S> {
    handle: ServerHandle,
    connection: MonitoredConnection<S>,
    ours: Stream,
    _theirs: UnixStream,
    _guard: AdmissionGuard,
}

impl<S: StreamService> Served<S> {
    fn new(services: &impl ServiceFactory<Service = S>) -> Self {
        let handle = ServerHandle::of_tasks(Waker::noop().clone());
        let factory = SessionFactory::new(Config::new(Scheme::None), Pools::default());
        let (options, keys) = (ServerOptions::default(), Arc::new(None::<Key>).into());
        let context = ServerContext::new(Arc::new(factory), keys, options, handle.clone());
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = Stream::Unix(ours);
        let mut guard = context.admit(&ours, PeerAddr::Unix, NOW).unwrap();
        let waker = Waker::noop();
        let begun = context.begin(services, &ours, PeerAddr::Unix, &mut guard, waker);
        let (protocol, service) = begun.unwrap();
        let connection = MonitoredConnection::new(protocol, service);
        Self { handle, connection, ours, _theirs: theirs, _guard: guard }
    }

    /// Polls the connection; returns how it ended, if it did.
    fn poll(&mut self) -> Option<ConnectionEnd> {
        let mut ended = None;
        let _ = self.connection.poll(&mut &self.ours, &None::<Key>, NOW, |event| {
            if let ConnectionEvent::Ended(end) = event {
                ended = Some(end);
            }
        });
        ended
    }
}

#[test]
fn exhausted_memory_for_a_queued_message_is_overload() {
    let memory = MessageMemory::new(100_000, 0);
    let mut served = Served::new(&Messages::new(|_| Echo, memory.clone()));
    assert!(served.poll().is_none());
    let mut others = [memory.buffer(), memory.buffer()];
    for other in &mut others {
        other.reserve(100_000).unwrap();
    }
    served.handle.connections()[0].send(vec![7; 100_000]).unwrap();
    served.connection.connection_mut().wake();
    assert_eq!(served.poll().unwrap().service, Some(ServiceError::Overload));
}

#[test]
fn panic_in_the_error_of_a_service_is_reported() {
    struct Panics;

    impl StreamService for Panics {
        fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, _: Instant) {
            out.abort(CloseReason::Application);
        }

        fn on_chunk(&mut self, _: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
            Flow::Consumed
        }

        fn error(&self) -> Option<ServiceError> {
            panic!("intended panic");
        }
    }

    let mut served = Served::new(&Streams(|_| Panics));
    assert_eq!(served.poll().unwrap().service, Some(ServiceError::Panicked));
}
