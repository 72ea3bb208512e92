//! A TLS client made with our own library, whose bytes a test can hold back or change.

use std::io::Read;
use std::sync::Arc;
use std::task::Waker;

use countersign::{
    Candidates, Config, Error, Event, Instant, Key, Mutual, ProcessId, Remaining, Role, Scheme,
};
use countersign_host::{BoxedProtocol, PoolOptions, Pools, ProtocolFactory, SessionFactory};
use countersign_tls::{Credentials, TlsFactory};

use crate::KEY;
use crate::common::{ServerAddr, TempDir};
use crate::honest_client::{Conversation, HonestClient};
use crate::peer::Peer;

/// The clock of the client stands still, so that it never times out.
const NOW: Instant = Instant::EPOCH;

/// The scheme inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InnerScheme {
    None,
    Mutual,
}

fn config(inner: InnerScheme, role: Role) -> Config {
    let mutual = |role| {
        let (name, process) = match role {
            Role::Client => ("client", 1),
            Role::Server => ("server", 2),
        };
        Mutual::new(name.parse().unwrap(), ProcessId::from_bytes(&[process; ProcessId::LEN]))
    };
    match inner {
        InnerScheme::None => Config::new(Scheme::None),
        InnerScheme::Mutual => Config::new(Scheme::Mutual(mutual(role))),
    }
}

pub(crate) fn sessions(inner: InnerScheme, role: Role) -> SessionFactory {
    SessionFactory::new(config(inner, role), Pools::new(&PoolOptions::default()))
}

fn read(dir: &TempDir, name: &str) -> Vec<u8> {
    std::fs::read(dir.path().join(name)).unwrap()
}

/// The certificate `name` in `dir`; its root is trusted.
pub(crate) fn credentials(dir: &TempDir, name: &str) -> Credentials {
    let (chain, key) = (format!("{name}.crt"), format!("{name}.key"));
    Credentials::new()
        .with_certificate(&read(dir, &chain), &read(dir, &key))
        .unwrap()
        .with_trust(&read(dir, "root.crt"))
        .unwrap()
}

/// A factory of clients for the server whose certificates are in `dir`.
pub(crate) fn clients(dir: &TempDir, inner: InnerScheme) -> Arc<dyn ProtocolFactory> {
    let credentials = credentials(dir, "client");
    Arc::new(TlsFactory::client(sessions(inner, Role::Client), &credentials, "localhost").unwrap())
}

/// A connection and its protocol.
pub(crate) struct TlsClient {
    pub(crate) peer: Peer,
    protocol: BoxedProtocol,
    received: Vec<u8>,
    finished: bool,
    /// How the protocol ended, once it has.
    pub(crate) result: Option<Result<(), Error>>,
    /// The maximum length of a write, in bytes.
    pub(crate) max_write: usize,
}

impl TlsClient {
    pub(crate) fn connect(at: &ServerAddr, clients: &dyn ProtocolFactory) -> Self {
        Self::on(Peer::connect(at), clients.client(&Waker::noop().into(), NOW).unwrap())
    }

    pub(crate) fn on(peer: Peer, protocol: BoxedProtocol) -> Self {
        let (received, finished, result) = (Vec::new(), false, None);
        Self { peer, protocol, received, finished, result, max_write: usize::MAX }
    }

    /// A client that has sent nothing, and its ClientHello.
    pub(crate) fn hello(at: &ServerAddr, clients: &dyn ProtocolFactory) -> (Self, Vec<u8>) {
        let mut client = Self::connect(at, clients);
        let hello = client.take_output();
        assert_eq!((hello[0], hello[5]), (22, 1), "not a ClientHello");
        (client, hello)
    }

    /// A client after the handshake.
    pub(crate) fn established(at: &ServerAddr, clients: &dyn ProtocolFactory) -> Self {
        let mut client = Self::connect(at, clients);
        client.run_until(Self::is_established);
        assert_eq!(client.result, None);
        client
    }

    pub(crate) fn is_established(&self) -> bool {
        self.protocol.peer().is_some()
    }

    fn events(&mut self) {
        while self.result.is_none() {
            match self.protocol.poll_event(NOW) {
                Ok(None) => break,
                Ok(Some(Event::KeyNeeded)) => {
                    let key = Key::mutual(KEY.as_bytes()).unwrap();
                    self.protocol.provide_key(Ok(Candidates::one(&key)), NOW).unwrap();
                }
                Ok(Some(Event::Chunk { .. })) => {
                    self.received.extend_from_slice(self.protocol.split().0);
                    self.protocol.consume(NOW);
                }
                Ok(Some(Event::PeerFinished)) => self.finished = true,
                Ok(Some(Event::Closed)) => self.result = Some(Ok(())),
                Ok(Some(_)) => {}
                Err(error) => self.result = Some(Err(error)),
            }
        }
    }

    /// Sends all pending output.
    pub(crate) fn flush(&mut self) {
        self.events();
        loop {
            let bytes = self.protocol.poll_transmit(NOW);
            if bytes.is_empty() {
                return;
            }
            let bytes = &bytes[..bytes.len().min(self.max_write)];
            self.peer.send(bytes);
            let n = bytes.len();
            self.protocol.handle_transmitted(n, NOW);
        }
    }

    /// Takes the pending output instead of sending it.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        self.events();
        let bytes = self.protocol.poll_transmit(NOW).to_vec();
        self.protocol.handle_transmitted(bytes.len(), NOW);
        bytes
    }

    /// Runs until `done` returns true or the protocol has ended.
    pub(crate) fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        loop {
            self.flush();
            if self.result.is_some() || done(self) {
                return;
            }
            self.read();
        }
    }

    /// Reads once.
    pub(crate) fn read(&mut self) {
        let space = self.protocol.recv_space();
        assert!(!space.is_empty(), "no space to receive");
        let n = (&self.peer.0).read(space).unwrap();
        self.protocol.handle_received(n, NOW);
        if n == 0 {
            self.protocol.handle_eof(NOW);
        }
    }

    /// Runs until the protocol has ended; returns how.
    pub(crate) fn run_to_end(&mut self) -> Result<(), Error> {
        self.run_until(|_| false);
        self.flush();
        self.result.unwrap()
    }

    /// Queues a message.
    pub(crate) fn queue(&mut self, message: &[u8]) {
        self.protocol.split().1.send(message).unwrap();
    }

    /// Queues the first chunk of a message, with `more` bytes remaining.
    pub(crate) fn queue_chunk(&mut self, chunk: &[u8], more: u64) {
        self.protocol.split().1.send_chunk(chunk, Remaining::Bytes(more)).unwrap();
    }

    /// Ends our side of the session and of TLS.
    pub(crate) fn finish(&mut self) {
        self.protocol.finish(NOW);
        self.flush();
    }
}

impl Conversation for TlsClient {
    fn request(&mut self, message: &[u8]) -> Vec<u8> {
        self.received.clear();
        self.queue(message);
        self.run_until(|it| it.received.len() >= message.len());
        assert_eq!(self.result, None);
        std::mem::take(&mut self.received)
    }

    fn close(mut self) {
        self.finish();
        assert_eq!(self.run_to_end(), Ok(()));
    }
}

/// Starts an honest client inside TLS.
pub(crate) fn honest_client(at: &ServerAddr, clients: &Arc<dyn ProtocolFactory>) -> HonestClient {
    let (at, clients) = (at.clone(), clients.clone());
    HonestClient::start_with(move || TlsClient::established(&at, &*clients))
}
