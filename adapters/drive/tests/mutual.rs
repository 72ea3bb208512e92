//! Two connections of the scheme `mutual`, each in its turn, over a pair of pipes.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use countersign::{
    Buffers, Candidates, Config, Error, Instance, Instant, Key, KeyRequest, Mutual, Nonce, Outbox,
    Peer, Reason, Refuse, Role, Scheme, Session,
};
use countersign_drive::{Connection, Failure, Flow, Io, Keys, Part, Service, Turn};

const SECRET: &[u8] = b"a key that is long enough for anyone";

/// One direction.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    shut: bool,
}

/// One end of a pair of pipes.
struct End {
    input: Rc<RefCell<Pipe>>,
    output: Rc<RefCell<Pipe>>,
}

impl Io for End {
    type Error = Infallible;

    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Infallible> {
        let mut pipe = self.input.borrow_mut();
        let n = into.len().min(pipe.bytes.len());
        for (to, from) in into.iter_mut().zip(pipe.bytes.drain(..n)) {
            *to = from;
        }
        Ok((n > 0 || pipe.shut).then_some(n))
    }

    fn write(&mut self, from: &[u8]) -> Result<Option<usize>, Infallible> {
        let mut pipe = self.output.borrow_mut();
        assert!(!pipe.shut, "written to after it was shut");
        pipe.bytes.extend(from);
        Ok(Some(from.len()))
    }

    fn shut_write(&mut self) -> Result<(), Infallible> {
        self.output.borrow_mut().shut = true;
        Ok(())
    }
}

/// Notes what happens.
#[derive(Default)]
struct Log(Vec<String>);

impl Service for Log {
    fn on_open(&mut self, peer: &Peer<'_>, _: &mut Outbox<'_>, _: Instant) {
        self.0.push(format!("open {}", peer.name.unwrap()));
    }

    fn on_message(&mut self, part: Part<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        self.0.push(String::from_utf8(part.bytes.into()).unwrap());
        Flow::Done
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        self.0.push(format!("closed {}", why.map_or_else(Error::code, |()| "in order")));
    }
}

/// A key that may be withdrawn.
struct Ring {
    key: Key,
    there: bool,
}

impl Keys for Ring {
    fn candidates(&self, _: &KeyRequest<'_>) -> Result<Candidates<'_>, Refuse> {
        Ok(Candidates::one(&self.key))
    }

    fn hold(&self, peer: &Peer<'_>) -> bool {
        self.there && peer.fingerprint == self.key.fingerprint()
    }
}

fn ring() -> Ring {
    Ring { key: Key::mutual(SECRET).unwrap(), there: true }
}

struct Side {
    connection: Connection<Box<Session<Vec<u8>>>, Log>,
    io: End,
    over: Option<Result<(), Error>>,
    until: Option<Instant>,
}

impl Side {
    fn new(role: Role, io: End) -> Self {
        let (name, process) = match role {
            Role::Client => ("client", 1),
            Role::Server => ("server", 2),
        };
        let instance = Instance::from_bytes(&[process; Instance::LEN]);
        let config = Config::new(Scheme::Mutual(Mutual::new(name.parse().unwrap(), instance)));
        let buffers =
            Buffers { handshake: vec![0; 1024], receive: vec![0; 512], send: vec![0; 512] };
        let nonce = Nonce::from_bytes([process; Nonce::LEN]);
        let session = match role {
            Role::Client => Session::client(&config, nonce, buffers, Instant::EPOCH),
            Role::Server => Session::server(&config, nonce, buffers, Instant::EPOCH),
        };
        let connection = Connection::new(Box::new(session.unwrap()), Log::default());
        Self { connection, io, over: None, until: None }
    }

    /// A turn; whether there is more to do.
    fn turn(&mut self, keys: &Ring, now: Instant) -> bool {
        if self.over.is_some() {
            return false;
        }
        match self.connection.turn(&mut self.io, keys, now) {
            Turn::Again => true,
            Turn::Wait(wait) => {
                self.until = wait.until;
                false
            }
            Turn::Over(how) => {
                self.over = Some(how.map_err(|failure| match failure {
                    Failure::Protocol(error) => error,
                    Failure::Io(never) => match never {},
                }));
                false
            }
        }
    }

    fn log(&self) -> &[String] {
        &self.connection.service().0
    }
}

/// A client and a server.
struct Both {
    client: Side,
    server: Side,
    keys: Ring,
    now: Instant,
}

impl Both {
    fn new() -> Self {
        let (up, down) = (Rc::new(RefCell::default()), Rc::new(RefCell::default()));
        let client = End { input: Rc::clone(&down), output: Rc::clone(&up) };
        let server = End { input: up, output: down };
        let (client, server) = (Side::new(Role::Client, client), Side::new(Role::Server, server));
        Self { client, server, keys: ring(), now: Instant::EPOCH }
    }

    fn established() -> Self {
        let mut both = Self::new();
        both.settle();
        assert_eq!(both.client.log(), ["open server"]);
        assert_eq!(both.server.log(), ["open client"]);
        both
    }

    /// Turns until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.server.turn(&self.keys, self.now);
            self.client.turn(&self.keys, self.now);
        }
    }

    fn later(&mut self, by: Duration) {
        self.now = self.now.saturating_add(by);
        self.settle();
    }
}

#[test]
fn a_stopped_connection_ends_in_order_at_both_ends() {
    let mut both = Both::established();
    both.server.connection.stop();
    both.settle();
    both.later(Duration::from_millis(100));
    for side in [&both.client, &both.server] {
        assert_eq!(side.over, Some(Ok(())));
        assert_eq!(side.log().last().unwrap(), "closed in order");
    }
}

#[test]
fn an_orderly_end_waits_a_second_at_most_for_the_peers_end_of_stream() {
    let mut both = Both::established();
    both.server.connection.stop();
    both.server.turn(&both.keys, both.now);
    both.now = both.now.saturating_add(Duration::from_millis(100));
    both.server.turn(&both.keys, both.now);
    both.client.turn(&both.keys, both.now);
    // The client has said its last word and shut its side, of which the server does not hear.
    both.client.io.output.borrow_mut().shut = false;
    both.server.turn(&both.keys, both.now);
    assert_eq!(both.server.log().last().unwrap(), "closed in order");
    assert_eq!(both.server.over, None);
    let until = both.server.until.unwrap();
    assert!(until > both.now && until <= both.now.saturating_add(Duration::from_secs(1)));
    both.now = until;
    both.server.turn(&both.keys, both.now);
    assert_eq!(both.server.over, Some(Ok(())));
}

#[test]
fn a_connection_whose_key_is_withdrawn_ends_and_its_peer_is_told() {
    let mut both = Both::established();
    assert!(!both.server.connection.revoke(&both.keys, both.now));
    both.keys.there = false;
    assert!(both.server.connection.revoke(&both.keys, both.now));
    both.settle();
    assert_eq!(both.server.over, Some(Err(Error::Aborted(Reason::Application))));
    assert_eq!(both.client.over, Some(Err(Error::PeerClosed(Reason::Application))));
}

#[test]
fn a_key_that_goes_while_the_handshake_ends_opens_nothing() {
    let mut both = Both::new();
    both.keys.there = false;
    both.settle();
    assert!(both.client.log().iter().all(|line| !line.starts_with("open")));
    assert!(both.server.log().iter().all(|line| !line.starts_with("open")));
    assert_eq!(both.server.over, Some(Err(Error::Aborted(Reason::Application))));
}

#[test]
fn a_peer_that_is_silent_for_two_heartbeats_and_five_seconds_is_given_up() {
    let mut both = Both::established();
    // The client takes no turns: its process is frozen.
    let patience = Duration::from_secs(2 * 15 + 5);
    both.now = both.now.saturating_add(patience - Duration::from_micros(1));
    both.server.turn(&both.keys, both.now);
    assert_eq!(both.server.over, None);
    both.now = both.now.saturating_add(Duration::from_micros(1));
    both.server.turn(&both.keys, both.now);
    assert_eq!(both.server.log().last().unwrap(), "closed peer-silent");
}

#[test]
fn heartbeats_keep_two_silent_ends_together() {
    let mut both = Both::established();
    for _ in 0..100 {
        both.later(Duration::from_secs(15));
    }
    assert_eq!((both.client.over, both.server.over), (None, None));
}
