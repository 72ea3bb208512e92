//! Thousands of clients of one server on one thread, with our own library.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use countersign::{
    Candidates, Config, Digest, Event, Instant, Key, Multiprocessing, Mutual, Name, ProcessId,
    Scheme,
};
use countersign_host::{
    BoxedProtocol, LeaseHolder, PoolOptions, Pools, ProtocolFactory, SessionFactory,
};

use crate::common::{PATIENCE, ServerAddr};

pub(crate) const KEY: &str = "a key that is long enough for anyone";
/// How many handshakes run at the same time.
pub(crate) const BATCH: usize = 1_000;
/// The clock of these clients stands still, so that they send no heartbeats.
const NOW: Instant = Instant::EPOCH;

/// A factory of client sessions with `scheme`, and a handshake buffer for each.
pub(crate) fn sessions(scheme: &str) -> SessionFactory {
    let config = Config::new(match scheme {
        "none" => Scheme::None,
        "challenge" => Scheme::Challenge { digest: Digest::Sha256 },
        "multiprocessing" => Scheme::Multiprocessing(Multiprocessing::new(Digest::Sha256)),
        "mutual" => {
            let process = ProcessId::from_bytes(&[7; ProcessId::LEN]);
            Scheme::Mutual(Mutual::new(Name::new("client").unwrap(), process))
        }
        _ => panic!("no scheme: {scheme}"),
    });
    let mut options = PoolOptions::default();
    options.handshakes = usize::MAX;
    SessionFactory::new(config, Pools::new(&options))
}

/// Connects clients to one server.
pub(crate) struct ManyClients {
    at: SocketAddr,
    protocol: Box<dyn ProtocolFactory>,
    key: Key,
}

impl ManyClients {
    /// Clients of the server at `at` with the key [`KEY`]. `protocol` contains `scheme`.
    pub(crate) fn new(
        at: &ServerAddr,
        scheme: &str,
        protocol: impl ProtocolFactory + 'static,
    ) -> Self {
        let ServerAddr::Tcp(at) = *at else { panic!("not listening on TCP: {at}") };
        let key = match scheme {
            "mutual" => Key::mutual(KEY.as_bytes()),
            _ => Key::challenge(Digest::Sha256, KEY.as_bytes()),
        };
        Self { at, protocol: Box::new(protocol), key: key.unwrap() }
    }

    /// A client that has sent nothing.
    fn connect_one(&self) -> Client {
        let stream = TcpStream::connect(self.at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let protocol = self.protocol.client(&LeaseHolder::default(), NOW).unwrap();
        Client { stream, protocol, received: Vec::new() }
    }

    /// `count` established clients; [`BATCH`] handshakes run at the same time.
    pub(crate) fn connect(&self, count: usize) -> Vec<Client> {
        let mut clients = Vec::with_capacity(count);
        while clients.len() < count {
            let begun = clients.len();
            let batch = BATCH.min(count - begun);
            clients.extend((0..batch).map(|_| self.connect_one()));
            for client in &mut clients[begun..] {
                client.run_until(&self.key, |client| client.protocol.peer().is_some());
            }
        }
        clients
    }

    /// A half-open client: it has received the first message of the server and does not answer.
    pub(crate) fn half_open(&self) -> Client {
        let mut client = self.connect_one();
        // The side that sends first does so.
        client.transmit(&self.key);
        while !client.has_output(&self.key) {
            client.read();
        }
        client
    }

    /// Sends a request on each client, then reads all replies.
    pub(crate) fn request(&self, clients: &mut [Client], round: &str) {
        let message = |index| format!("client {index}, {round}");
        for (index, client) in clients.iter_mut().enumerate() {
            client.received.clear();
            client.protocol.split().1.send(message(index).as_bytes()).unwrap();
            client.transmit(&self.key);
        }
        for (index, client) in clients.iter_mut().enumerate() {
            let expected = message(index).to_uppercase();
            client.run_until(&self.key, |client| client.received.len() >= expected.len());
            assert_eq!(client.received, expected.as_bytes());
        }
    }
}

/// A client made by [`ManyClients`].
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    protocol: BoxedProtocol,
    /// The received messages, concatenated.
    received: Vec<u8>,
}

impl Client {
    /// Drives the protocol until `done` returns true and all output is sent.
    fn run_until(&mut self, key: &Key, done: impl Fn(&Self) -> bool) {
        loop {
            self.transmit(key);
            if done(self) {
                return;
            }
            self.read();
        }
    }

    fn has_output(&mut self, key: &Key) -> bool {
        while let Some(event) = self.protocol.poll_event(NOW).unwrap() {
            match event {
                Event::KeyNeeded => {
                    self.protocol.provide_key(Ok(Candidates::one(key)), NOW).unwrap();
                }
                Event::Chunk { .. } => {
                    self.received.extend_from_slice(self.protocol.split().0);
                    self.protocol.consume(NOW);
                }
                _ => {}
            }
        }
        !self.protocol.poll_transmit(NOW).is_empty()
    }

    fn transmit(&mut self, key: &Key) {
        while self.has_output(key) {
            let bytes = self.protocol.poll_transmit(NOW);
            self.stream.write_all(bytes).unwrap();
            let n = bytes.len();
            self.protocol.handle_transmitted(n, NOW);
        }
    }

    fn read(&mut self) {
        let n = self.stream.read(self.protocol.recv_space()).unwrap();
        assert!(n > 0, "the server closed the connection");
        self.protocol.handle_received(n, NOW);
    }
}
