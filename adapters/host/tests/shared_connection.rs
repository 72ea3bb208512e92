//! Connections that calls share, on transports that never wait and on those that end.

#![cfg(test)]

use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use countersign::{Config, Instant, Key, Scheme};
use countersign_driver::{Keys, NoKeys};
use countersign_host::{
    CallConnection, CallError, CallTransport, ConnectionOptions, Connector, KeepAlive, PeerAddr,
    Pools, Sending, ServerContext, ServerHandle, ServerOptions, SessionFactory, SharedConnection,
    SharedKeys, Step, Stream,
};

fn factory() -> SessionFactory {
    SessionFactory::new(Config::new(Scheme::None), Pools::default())
}

/// A transport on which more can always be read, as from a peer that floods.
struct Flood(Arc<AtomicUsize>);

impl CallTransport for Flood {
    fn poll(&mut self, _: &mut CallConnection, _: &dyn Keys, _: Instant, _: &Waker) -> Step {
        assert!(self.0.fetch_add(1, Ordering::SeqCst) < 1000, "polled without end");
        Step::Yield
    }
}

#[test]
fn flood_keeps_neither_a_call_nor_the_keep_alive_thread() {
    let mut options = ConnectionOptions::default();
    options.timeout = Some(Duration::ZERO);
    let connector = Connector::new("127.0.0.1:1", factory(), NoKeys).unwrap();
    let polls = Arc::new(AtomicUsize::new(0));
    let flood = Flood(polls.clone());
    let connection = SharedConnection::begin(flood, &connector.with_options(options)).unwrap();
    let call = connection.begin_call();
    let received = connection.poll(&call, Waker::noop(), &mut CallConnection::recv);
    assert!(matches!(received, ControlFlow::Break(Err(CallError::TimedOut))), "{received:?}");
    assert!(connection.keep_alive().is_some());
    // The keep-alive thread of the process may have had a turn too.
    assert!(polls.load(Ordering::SeqCst) < 100);
}

/// A socket that is counted until it is closed.
struct Counted(Stream, #[expect(dead_code, reason = "its owners are counted")] Arc<()>);

impl Counted {
    fn stream(&self) -> &Stream {
        &self.0
    }
}

impl CallTransport for Counted {
    fn poll(
        &mut self,
        connection: &mut CallConnection,
        keys: &dyn Keys,
        now: Instant,
        _: &Waker,
    ) -> Step {
        connection.poll(&mut &self.0, keys, now)
    }
}

#[test]
fn ended_connection_closes_its_socket_and_gives_back_its_place() {
    let handle = ServerHandle::of_tasks(Waker::noop().clone());
    let keys = SharedKeys::from(Key::mutual(b"a key that is not needed").unwrap());
    let options = ServerOptions::default();
    let limit = options.connection_limit.clone();
    let context = Arc::new(ServerContext::new(Arc::new(factory()), keys, options, handle));
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (ours, open) = (Stream::Unix(ours), Arc::new(()));
    let guard = context.admit(&ours, PeerAddr::Unix, context.now()).unwrap();
    let transport = Counted(ours, open.clone());
    let (stream, addr) = (Counted::stream, PeerAddr::Unix);
    let connection = SharedConnection::accepted(&context, transport, stream, addr, guard).unwrap();
    assert_eq!((limit.open(), Arc::strong_count(&open)), (1, 2));
    drop(theirs);
    let call = connection.begin_call();
    let received = connection.poll(&call, Waker::noop(), &mut CallConnection::recv);
    assert!(matches!(received, ControlFlow::Break(Ok(None) | Err(_))), "{received:?}");
    // The application still has the connection.
    let mut finish = |it: &mut CallConnection, _| it.send(&mut Sending::finish());
    let _ = connection.poll(&connection.begin_call(), Waker::noop(), &mut finish);
    for _ in 0..100 {
        let _ = connection.keep_alive();
    }
    assert_eq!((limit.open(), Arc::strong_count(&open)), (0, 1));
    assert!(connection.handle().is_some_and(|handle| !handle.is_open()));
    let again = connection.poll(&call, Waker::noop(), &mut CallConnection::recv);
    assert!(matches!(again, ControlFlow::Break(_)));
}
