//! A server without an event loop: the test polls its connections.

#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use countersign::{Config, Instant, Key, Mutual, ProcessId, Scheme};
use countersign_host::{
    CallConnection, MessageMemory, PeerAddr, Pools, ProtocolFactory, Sending, ServedConnection,
    ServerContext, ServerHandle, ServerOptions, ServiceFactory, SessionFactory, Step, Stream,
};

const SECRET: &[u8] = b"a key that is long enough for anyone";

pub(crate) fn key() -> Key {
    Key::mutual(SECRET).unwrap()
}

pub(crate) fn factory(name: &str, process: u8) -> SessionFactory {
    let process_id = ProcessId::from_bytes(&[process; ProcessId::LEN]);
    let mutual = Mutual::new(name.parse().unwrap(), process_id);
    SessionFactory::new(Config::new(Scheme::Mutual(mutual)), Pools::default())
}

fn streams() -> (Stream, Stream) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (Stream::Unix(a), Stream::Unix(b))
}

/// Whether a waker was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A server: its context and what makes its services.
pub(crate) struct Server<F> {
    pub(crate) context: Arc<ServerContext>,
    pub(crate) handle: ServerHandle,
    services: F,
}

impl<F: ServiceFactory> Server<F> {
    pub(crate) fn new(options: ServerOptions, services: F) -> Self {
        let handle = ServerHandle::of_tasks(Waker::noop().clone());
        let protocols = Arc::new(factory("server", 1));
        let keys = key().into();
        let context = ServerContext::new(protocols, keys, options, handle.clone());
        Self { context: Arc::new(context), handle, services }
    }

    /// A client called `name` and its connection at the server, before the handshake.
    pub(crate) fn accept(&self, name: &str) -> Pair<F> {
        let (ours, theirs) = streams();
        let guard = self.context.admit(&ours, PeerAddr::Unix, self.context.now()).unwrap();
        let woken = Arc::new(Woken::default());
        let waker = woken.clone().into();
        let (context, services) = (self.context.clone(), &self.services);
        let server =
            ServedConnection::begin(context, services, &ours, PeerAddr::Unix, guard, &waker);
        let protocol = factory(name, 2).client(&Waker::noop().into(), self.context.now()).unwrap();
        let client = CallConnection::new(protocol, &MessageMemory::default());
        let now = self.context.now();
        Pair { server: server.unwrap(), client, ours, theirs, woken, now }
    }

    /// The same after the handshake.
    pub(crate) fn connect(&self, name: &str) -> Pair<F> {
        let mut pair = self.accept(name);
        pair.poll();
        assert!(pair.client.peer().is_some());
        pair
    }
}

/// Both ends of a connection.
pub(crate) struct Pair<F: ServiceFactory> {
    pub(crate) server: ServedConnection<F>,
    pub(crate) client: CallConnection,
    ours: Stream,
    theirs: Stream,
    woken: Arc<Woken>,
    now: Instant,
}

impl<F: ServiceFactory> Pair<F> {
    /// Polls both ends until nothing more happens.
    pub(crate) fn poll(&mut self) -> (Step, Step) {
        let mut steps = None;
        loop {
            let server = self.poll_server();
            let client = self.client.poll(&mut &self.theirs, &key(), self.now);
            if steps.replace((server, client)) == Some((server, client))
                && !self.woken.0.load(Ordering::SeqCst)
            {
                return (server, client);
            }
        }
    }

    /// Polls the server's end alone, as its thread would.
    pub(crate) fn poll_server(&mut self) -> Step {
        let woken = self.woken.0.swap(false, Ordering::SeqCst);
        self.server.poll(&mut &self.ours, woken)
    }

    pub(crate) fn send(&mut self, message: &[u8]) {
        let mut sending = Sending::message(message);
        while !sending.is_taken() {
            if let Some(result) = self.client.send(&mut sending) {
                result.unwrap();
            }
            self.poll();
        }
    }

    /// The next message; `None` if the server sends no more.
    pub(crate) fn recv(&mut self) -> Option<Vec<u8>> {
        for _ in 0..10_000 {
            if let Some(received) = self.client.recv(self.now) {
                return received.unwrap();
            }
            self.poll();
        }
        panic!("nothing arrives");
    }

    /// Whether no message arrives.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.poll();
        self.client.recv(self.now).is_none()
    }
}
