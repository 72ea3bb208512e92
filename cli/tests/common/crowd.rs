//! Clients of one server by the thousand, by our own library, all on one thread.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::task::Waker;

use countersign::{
    Candidates, Config, Digest, Event, Instant, Key, Multiprocessing, Mutual, Name, ProcessId,
    Scheme,
};
use countersign_host::{BoxedProtocol, PoolOptions, Pools, ProtocolFactory, SessionFactory};

use crate::common::{At, PATIENCE};

pub(crate) const KEY: &str = "a key that is long enough for anyone";
/// How many shake hands at once.
pub(crate) const BATCH: usize = 1_000;
/// Time stands still for these clients: they owe no sign of life in between.
const NOW: Instant = Instant::EPOCH;

/// SessionFactory of clients that speak `scheme`, called as on the command line, of which none has to wait for
/// a buffer.
pub(crate) fn sessions(scheme: &str) -> SessionFactory {
    let config = Config::new(match scheme {
        "none" => Scheme::None,
        "challenge" => Scheme::Challenge { digest: Digest::Sha256 },
        "multiprocessing" => Scheme::Multiprocessing(Multiprocessing::new(Digest::Sha256)),
        "mutual" => {
            let instance = ProcessId::from_bytes(&[7; ProcessId::LEN]);
            Scheme::Mutual(Mutual::new(Name::new("client").unwrap(), instance))
        }
        _ => panic!("no scheme: {scheme}"),
    });
    let mut options = PoolOptions::default();
    options.handshakes = usize::MAX;
    SessionFactory::new(config, Pools::new(&options))
}

/// Where clients come from.
pub(crate) struct Crowd {
    at: SocketAddr,
    protocol: Box<dyn ProtocolFactory>,
    key: Key,
}

impl Crowd {
    /// Clients of the server at `at`, whose key is [`KEY`], that speak `protocol` with `scheme` in it.
    pub(crate) fn new(at: &At, scheme: &str, protocol: impl ProtocolFactory + 'static) -> Self {
        let At::Tcp(at) = *at else { panic!("not listening on TCP: {at}") };
        let key = match scheme {
            "mutual" => Key::mutual(KEY.as_bytes()),
            _ => Key::challenge(Digest::Sha256, KEY.as_bytes()),
        };
        Self { at, protocol: Box::new(protocol), key: key.unwrap() }
    }

    /// One that has said nothing.
    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let machine = self.protocol.client(Waker::noop(), NOW).unwrap();
        Client { stream, machine, heard: Vec::new() }
    }

    /// As many as `count` that are let in, of which [`BATCH`] shake hands at once.
    pub(crate) fn enter(&self, count: usize) -> Vec<Client> {
        let mut clients = Vec::with_capacity(count);
        while clients.len() < count {
            let begun = clients.len();
            let batch = BATCH.min(count - begun);
            clients.extend((0..batch).map(|_| self.connect()));
            for client in &mut clients[begun..] {
                client.until(&self.key, |client| client.machine.peer().is_some());
            }
        }
        clients
    }

    /// One that has heard all that the server says before it has to be answered, and does not answer.
    pub(crate) fn stranger(&self) -> Client {
        let mut client = self.connect();
        // Who speaks first, says that much.
        client.speak(&self.key);
        while !client.has_to_say(&self.key) {
            client.read();
        }
        client
    }

    /// All ask before any reads its answer.
    pub(crate) fn ask(&self, clients: &mut [Client], round: &str) {
        let message = |index| format!("client {index}, {round}");
        for (index, client) in clients.iter_mut().enumerate() {
            client.heard.clear();
            client.machine.split().1.send(message(index).as_bytes()).unwrap();
            client.speak(&self.key);
        }
        for (index, client) in clients.iter_mut().enumerate() {
            let expected = message(index).to_uppercase();
            client.until(&self.key, |client| client.heard.len() >= expected.len());
            assert_eq!(client.heard, expected.as_bytes());
        }
    }
}

/// One of a [`Crowd`].
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    machine: BoxedProtocol,
    /// The messages that came, joined.
    heard: Vec<u8>,
}

impl Client {
    /// Drives the machine until `done` says so and all is said.
    fn until(&mut self, key: &Key, done: impl Fn(&Self) -> bool) {
        loop {
            self.speak(key);
            if done(self) {
                return;
            }
            self.read();
        }
    }

    fn has_to_say(&mut self, key: &Key) -> bool {
        while let Some(event) = self.machine.poll_event(NOW).unwrap() {
            match event {
                Event::KeyNeeded => {
                    self.machine.provide_key(Ok(Candidates::one(key)), NOW).unwrap();
                }
                Event::Chunk { .. } => {
                    self.heard.extend_from_slice(self.machine.split().0);
                    self.machine.consume(NOW);
                }
                _ => {}
            }
        }
        !self.machine.poll_transmit(NOW).is_empty()
    }

    fn speak(&mut self, key: &Key) {
        while self.has_to_say(key) {
            let bytes = self.machine.poll_transmit(NOW);
            self.stream.write_all(bytes).unwrap();
            let n = bytes.len();
            self.machine.handle_transmitted(n, NOW);
        }
    }

    fn read(&mut self) {
        let n = self.stream.read(self.machine.recv_space()).unwrap();
        assert!(n > 0, "the server hung up");
        self.machine.handle_received(n, NOW);
    }
}
