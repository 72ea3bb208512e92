//! Accepted connections that are driven by calls.

#![cfg(test)]

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use countersign::{
    CloseReason, Config, Error, Instant, Key, Mutual, ProcessId, Scheme, SendError, Storage,
};
use countersign_driver::NoKeys;
use countersign_host::{
    CallConnection, CallError, ConnectionHandle, LeaseHolder, MessageMemory, PeerAddr, PoolOptions,
    Pools, ProtocolFactory, Sending, ServerContext, ServerHandle, ServerOptions, SessionFactory,
    SharedKeys, Step, Stream,
};

const SECRET: &[u8] = b"a key that is long enough for anyone";
const OTHER: &[u8] = b"another key that is long enough";

fn factory(name: &str, process: u8, pools: Pools) -> SessionFactory {
    let process = ProcessId::from_bytes(&[process; ProcessId::LEN]);
    let mutual = Mutual::new(name.parse().unwrap(), process);
    SessionFactory::new(Config::new(Scheme::Mutual(mutual)), pools)
}

fn streams() -> (Stream, Stream) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (Stream::Unix(a), Stream::Unix(b))
}

/// Both ends of an established connection, and virtual time.
struct Pair {
    context: Arc<ServerContext>,
    keys: SharedKeys,
    server: CallConnection,
    client: CallConnection,
    streams: (Stream, Stream),
    now: Instant,
}

/// A waker whose owners are counted.
struct CountedWaker;

impl Wake for CountedWaker {
    fn wake(self: Arc<Self>) {}
}

impl Pair {
    fn new() -> Self {
        Self::with(Pools::default(), Waker::noop())
    }

    /// With the buffers of the server, and what wakes its connection.
    fn with(pools: Pools, waker: &Waker) -> Self {
        let keys = SharedKeys::from(Key::mutual(SECRET).unwrap());
        let mut options = ServerOptions::default();
        options.stop_timeout = Duration::from_secs(5);
        let handle = ServerHandle::of_tasks(Waker::noop().clone());
        let server = Arc::new(factory("server", 1, pools));
        let context = Arc::new(ServerContext::new(server, keys.clone(), options, handle));
        let streams = streams();
        let now = context.now();
        let guard = context.admit(&streams.0, PeerAddr::Unix, now).unwrap();
        let server =
            CallConnection::accepted(context.clone(), &streams.0, PeerAddr::Unix, guard, waker);
        let protocol =
            factory("client", 2, Pools::default()).client(&Waker::noop().into(), now).unwrap();
        let client = CallConnection::new(protocol, &MessageMemory::default());
        let mut pair = Self { context, keys, server: server.unwrap(), client, streams, now };
        pair.poll();
        assert!(pair.handle().is_open());
        pair
    }

    /// Polls both ends until nothing more happens.
    fn poll(&mut self) -> (Step, Step) {
        let key = Key::mutual(SECRET).unwrap();
        let mut steps = None;
        loop {
            // The server's end uses the keys of its server.
            let server = self.server.poll(&mut &self.streams.0, &NoKeys, self.now);
            let client = self.client.poll(&mut &self.streams.1, &key, self.now);
            if steps.replace((server, client)) == Some((server, client)) {
                return (server, client);
            }
        }
    }

    fn advance(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time);
        self.poll();
    }

    fn handle(&self) -> ConnectionHandle {
        self.server.handle().unwrap().clone()
    }

    fn send(&mut self, message: &[u8]) {
        let mut sending = Sending::message(message);
        while self.client.send(&mut sending).is_none() {
            self.poll();
        }
    }
}

#[test]
fn stopped_server_finishes_idle_connection() {
    let mut pair = Pair::new();
    pair.context.handle().stop();
    pair.poll();
    pair.advance(Duration::from_millis(100));
    let now = pair.now;
    assert!(matches!(pair.client.recv(now), Some(Ok(None))));
    assert!(pair.client.send(&mut Sending::finish()).is_none());
    assert_eq!(pair.poll(), (Step::Closed, Step::Closed));
    assert!(matches!(pair.server.recv(now), Some(Ok(None))));
}

#[test]
fn stopped_server_answers_before_it_finishes() {
    let mut pair = Pair::new();
    pair.send(b"request");
    pair.context.handle().stop();
    pair.advance(Duration::from_secs(1));
    let now = pair.now;
    assert!(matches!(pair.server.recv(now), Some(Ok(Some(it))) if it == b"request"));
    assert!(pair.server.send(&mut Sending::message(b"reply")).is_none());
    pair.poll();
    assert!(matches!(pair.client.recv(now), Some(Ok(Some(it))) if it == b"reply"));
    pair.poll();
    pair.advance(Duration::from_millis(100));
    let now = pair.now;
    assert!(matches!(pair.client.recv(now), Some(Ok(None))));
}

#[test]
fn stopped_server_sends_what_waits_for_a_buffer() {
    let mut options = PoolOptions::default();
    options.sending = 1;
    let pools = Pools::new(&options);
    let mut pair = Pair::with(pools.clone(), Waker::noop());
    let mut other = pools.send.storage(&LeaseHolder::default());
    assert!(other.lease());
    let mut sending = Sending::message(&b"last"[..]);
    assert!(pair.server.send(&mut sending).is_none());
    assert!(sending.is_taken());
    pair.poll();
    pair.context.handle().stop();
    for _ in 0..5 {
        pair.advance(Duration::from_millis(100));
    }
    drop(other);
    while pair.server.send(&mut sending).is_none() {
        pair.poll();
    }
    let now = pair.now;
    assert!(matches!(pair.client.recv(now), Some(Ok(Some(it))) if it == b"last"));
}

#[test]
fn handle_of_a_closed_connection_keeps_no_waker() {
    let waker = Arc::new(CountedWaker);
    let mut pair = Pair::with(Pools::default(), &waker.clone().into());
    let handle = pair.handle();
    assert!(Arc::strong_count(&waker) > 1);
    handle.close();
    pair.poll();
    assert!(pair.client.send(&mut Sending::finish()).is_none());
    pair.poll();
    drop(pair);
    assert_eq!(Arc::strong_count(&waker), 1);
    handle.wake();
}

#[test]
fn stopped_server_waits_for_the_answer_of_the_application() {
    let mut pair = Pair::new();
    pair.send(b"request");
    let now = pair.now;
    assert!(matches!(pair.server.recv(now), Some(Ok(Some(it))) if it == b"request"));
    pair.context.handle().stop();
    // The application prepares its answer.
    for _ in 0..10 {
        pair.advance(Duration::from_millis(100));
    }
    assert!(pair.handle().is_open());
    assert!(pair.server.send(&mut Sending::message(b"reply")).is_none());
    pair.poll();
    let now = pair.now;
    assert!(matches!(pair.client.recv(now), Some(Ok(Some(it))) if it == b"reply"));
    // The connection is idle again.
    for _ in 0..3 {
        pair.advance(Duration::from_millis(100));
    }
    let now = pair.now;
    assert!(matches!(pair.client.recv(now), Some(Ok(None))));
}

#[test]
fn stopped_server_finishes_once_nothing_is_answered() {
    let mut pair = Pair::new();
    pair.send(b"message");
    let now = pair.now;
    assert!(matches!(pair.server.recv(now), Some(Ok(Some(_)))));
    // The next call shows that the message needs no answer.
    assert!(pair.server.recv(now).is_none());
    pair.context.handle().stop();
    pair.poll();
    pair.advance(Duration::from_millis(100));
    let now = pair.now;
    assert!(matches!(pair.client.recv(now), Some(Ok(None))));
}

#[test]
fn stopped_server_abandons_connection_after_stop_timeout() {
    let mut pair = Pair::new();
    // The application never receives it.
    pair.send(b"request");
    pair.context.handle().stop();
    let Step::Wait(interest) = pair.poll().0 else { panic!("closed") };
    let at = pair.now.saturating_add(Duration::from_secs(5));
    assert!(interest.until.is_some_and(|until| until <= at));
    pair.advance(Duration::from_secs(5));
    assert!(pair.server.is_closed() && !pair.handle().is_open());
    let now = pair.now;
    let shutdown = Error::Aborted(CloseReason::Shutdown);
    let received = pair.server.recv(now);
    assert!(matches!(&received, Some(Err(CallError::Protocol(error))) if *error == shutdown));
}

#[test]
fn removed_key_ends_connection() {
    let mut pair = Pair::new();
    pair.keys.replace(Arc::new(Key::mutual(SECRET).unwrap()));
    pair.poll();
    assert!(pair.handle().is_open());
    pair.keys.replace(Arc::new(Key::mutual(OTHER).unwrap()));
    pair.poll();
    assert!(!pair.handle().is_open());
    let now = pair.now;
    let removed = Error::Aborted(CloseReason::Application);
    let received = pair.server.recv(now);
    assert!(matches!(&received, Some(Err(CallError::Protocol(error))) if *error == removed));
}

#[test]
fn handle_closes_and_aborts_connection() {
    let mut pair = Pair::new();
    pair.handle().close();
    pair.poll();
    let now = pair.now;
    assert!(matches!(pair.client.recv(now), Some(Ok(None))));
    let sent = pair.server.send(&mut Sending::message(b"late"));
    assert!(matches!(sent, Some(Err(CallError::Send(SendError::Finished)))), "{sent:?}");

    let mut pair = Pair::new();
    pair.handle().abort(CloseReason::Application);
    pair.poll();
    let now = pair.now;
    let received = pair.client.recv(now);
    let aborted = Error::PeerClosed(CloseReason::Application);
    assert!(
        matches!(&received, Some(Err(CallError::Protocol(error))) if *error == aborted),
        "{received:?}"
    );
}

#[test]
fn queued_message_leaves_while_another_operation_waits() {
    let mut pair = Pair::new();
    let message = vec![7; 1 << 20];
    assert!(pair.server.send(&mut Sending::message(&message)).is_none());
    let now = pair.now;
    // Both ends only poll and receive.
    for _ in 0..1000 {
        while pair.server.poll(&mut &pair.streams.0, &NoKeys, now) == Step::Yield {}
        while pair.client.poll(&mut &pair.streams.1, &NoKeys, now) == Step::Yield {}
        if let Some(received) = pair.client.recv(now) {
            assert!(received.unwrap().unwrap() == message);
            return;
        }
    }
    panic!("the rest of the message does not leave");
}

#[test]
fn receiver_with_queued_output_wants_a_poll() {
    let mut pair = Pair::new();
    // Fits the socket buffer, not the send buffer.
    let message = vec![7; 60_000];
    assert!(pair.server.send(&mut Sending::message(&message)).is_none());
    let now = pair.now;
    while pair.server.poll(&mut &pair.streams.0, &NoKeys, now) == Step::Yield {}
    let received = loop {
        while pair.client.poll(&mut &pair.streams.1, &NoKeys, now) == Step::Yield {}
        if let Some(received) = pair.client.recv(now) {
            break received;
        }
        assert!(pair.client.wants_poll(), "the rest of the message does not leave");
    };
    assert!(received.unwrap().unwrap() == message);
}

#[test]
fn failed_transport_is_reported_to_a_call_once_closed() {
    let mut pair = Pair::new();
    let unread = b"what the peer leaves unread makes its socket reset ours";
    assert!(pair.server.send(&mut Sending::message(unread)).is_none());
    let step = pair.server.poll(&mut &pair.streams.0, &NoKeys, pair.now);
    assert!(matches!(step, Step::Wait(_)));
    pair.streams.1 = streams().0;
    let step = pair.server.poll(&mut &pair.streams.0, &NoKeys, pair.now);
    assert_eq!(step, Step::Closed);
    assert!(!pair.handle().is_open());
    let now = pair.now;
    let received = pair.server.recv(now);
    let reset = io::ErrorKind::ConnectionReset;
    assert!(
        matches!(&received, Some(Err(CallError::Io(error))) if error.kind() == reset),
        "{received:?}"
    );
}
