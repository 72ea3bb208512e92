//! A client of our own library inside TLS, whose bytes a test has in its hands.

use std::io::Read;
use std::sync::Arc;
use std::task::Waker;

use countersign::{
    Candidates, Config, Error, Event, Instant, Key, Mutual, ProcessId, Remaining, Role, Scheme,
};
use countersign_host::{BoxedProtocol, PoolOptions, Pools, ProtocolFactory, SessionFactory};
use countersign_tls::{Credentials, TlsFactory};

use crate::KEY;
use crate::common::{At, Scratch};
use crate::neighbour::{Neighbour, Talk};
use crate::peer::Peer;

/// Time stands still for it: it is never too late.
const NOW: Instant = Instant::EPOCH;

/// What is to be inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    None,
    Mutual,
}

fn config(what: What, role: Role) -> Config {
    let mutual = |role| {
        let (name, process) = match role {
            Role::Client => ("client", 1),
            Role::Server => ("server", 2),
        };
        Mutual::new(name.parse().unwrap(), ProcessId::from_bytes(&[process; ProcessId::LEN]))
    };
    match what {
        What::None => Config::new(Scheme::None),
        What::Mutual => Config::new(Scheme::Mutual(mutual(role))),
    }
}

pub(crate) fn sessions(what: What, role: Role) -> SessionFactory {
    SessionFactory::new(config(what, role), Pools::new(&PoolOptions::default()))
}

fn read(scratch: &Scratch, name: &str) -> Vec<u8> {
    std::fs::read(scratch.path().join(name)).unwrap()
}

/// The certificate `name` of `scratch`, and trust in its root.
pub(crate) fn credentials(scratch: &Scratch, name: &str) -> Credentials {
    let (chain, key) = (format!("{name}.crt"), format!("{name}.key"));
    Credentials::new()
        .with_certificate(&read(scratch, &chain), &read(scratch, &key))
        .unwrap()
        .with_trust(&read(scratch, "root.crt"))
        .unwrap()
}

/// Makes clients for the server of `scratch`.
pub(crate) fn clients(scratch: &Scratch, what: What) -> Arc<dyn ProtocolFactory> {
    let credentials = credentials(scratch, "client");
    Arc::new(TlsFactory::client(sessions(what, Role::Client), &credentials, "localhost").unwrap())
}

/// A connection and the machine that speaks over it.
pub(crate) struct Insider {
    pub(crate) peer: Peer,
    machine: BoxedProtocol,
    heard: Vec<u8>,
    finished: bool,
    pub(crate) over: Option<Result<(), Error>>,
    /// The most that it writes at once, in bytes.
    pub(crate) piece: usize,
}

impl Insider {
    pub(crate) fn connect(at: &At, clients: &dyn ProtocolFactory) -> Self {
        Self::over(Peer::connect(at), clients.client(Waker::noop(), NOW).unwrap())
    }

    pub(crate) fn over(peer: Peer, machine: BoxedProtocol) -> Self {
        let (heard, finished, over) = (Vec::new(), false, None);
        Self { peer, machine, heard, finished, over, piece: usize::MAX }
    }

    /// One that has said nothing, and its ClientHello.
    pub(crate) fn hello(at: &At, clients: &dyn ProtocolFactory) -> (Self, Vec<u8>) {
        let mut insider = Self::connect(at, clients);
        let hello = insider.unsaid();
        assert_eq!((hello[0], hello[5]), (22, 1), "not a ClientHello");
        (insider, hello)
    }

    /// One that is let in.
    pub(crate) fn enter(at: &At, clients: &dyn ProtocolFactory) -> Self {
        let mut insider = Self::connect(at, clients);
        insider.until(Self::is_in);
        assert_eq!(insider.over, None);
        insider
    }

    pub(crate) fn is_in(&self) -> bool {
        self.machine.peer().is_some()
    }

    fn events(&mut self) {
        while self.over.is_none() {
            match self.machine.poll_event(NOW) {
                Ok(None) => break,
                Ok(Some(Event::KeyNeeded)) => {
                    let key = Key::mutual(KEY.as_bytes()).unwrap();
                    self.machine.provide_key(Ok(Candidates::one(&key)), NOW).unwrap();
                }
                Ok(Some(Event::Chunk { .. })) => {
                    self.heard.extend_from_slice(self.machine.split().0);
                    self.machine.consume(NOW);
                }
                Ok(Some(Event::PeerFinished)) => self.finished = true,
                Ok(Some(Event::Closed)) => self.over = Some(Ok(())),
                Ok(Some(_)) => {}
                Err(error) => self.over = Some(Err(error)),
            }
        }
    }

    /// All that it has to say now.
    pub(crate) fn flush(&mut self) {
        self.events();
        loop {
            let bytes = self.machine.poll_transmit(NOW);
            if bytes.is_empty() {
                return;
            }
            let bytes = &bytes[..bytes.len().min(self.piece)];
            self.peer.send(bytes);
            let n = bytes.len();
            self.machine.handle_transmitted(n, NOW);
        }
    }

    /// What it has to say now, not said.
    pub(crate) fn unsaid(&mut self) -> Vec<u8> {
        self.events();
        let bytes = self.machine.poll_transmit(NOW).to_vec();
        self.machine.handle_transmitted(bytes.len(), NOW);
        bytes
    }

    /// Goes on until `done` says so, or it is over.
    pub(crate) fn until(&mut self, done: impl Fn(&Self) -> bool) {
        loop {
            self.flush();
            if self.over.is_some() || done(self) {
                return;
            }
            self.read();
        }
    }

    /// Reads once.
    pub(crate) fn read(&mut self) {
        let space = self.machine.recv_space();
        assert!(!space.is_empty(), "nothing to wait for");
        let n = (&self.peer.0).read(space).unwrap();
        self.machine.handle_received(n, NOW);
        if n == 0 {
            self.machine.handle_eof(NOW);
        }
    }

    /// How it ends.
    pub(crate) fn end(&mut self) -> Result<(), Error> {
        self.until(|_| false);
        self.flush();
        self.over.unwrap()
    }

    pub(crate) fn say(&mut self, message: &[u8]) {
        self.machine.split().1.send(message).unwrap();
    }

    /// A message's first part, with so many bytes to come.
    pub(crate) fn say_part(&mut self, chunk: &[u8], more: u64) {
        self.machine.split().1.send_chunk(chunk, Remaining::Bytes(more)).unwrap();
    }

    /// Ends its side inside TLS, and TLS with it.
    pub(crate) fn finish(&mut self) {
        self.machine.finish(NOW);
        self.flush();
    }
}

impl Talk for Insider {
    fn ask(&mut self, message: &[u8]) -> Vec<u8> {
        self.heard.clear();
        self.say(message);
        self.until(|it| it.heard.len() >= message.len());
        assert_eq!(self.over, None);
        std::mem::take(&mut self.heard)
    }

    fn leave(mut self) {
        self.finish();
        assert_eq!(self.end(), Ok(()));
    }
}

/// Moves one in that talks inside TLS.
pub(crate) fn neighbour(at: &At, clients: &Arc<dyn ProtocolFactory>) -> Neighbour {
    let (at, clients) = (at.clone(), clients.clone());
    Neighbour::who(move || Insider::enter(&at, &*clients))
}
