//! Two connections of the scheme `mutual`, each in its turn, over a pair of pipes.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use countersign::{
    Buffers, Candidates, CloseReason, Config, Error, Instant, Key, KeyRejection, KeyRequest,
    Mutual, Nonce, Outbox, Peer, ProcessId, Role, Scheme, Session,
};
use countersign_driver::{Chunk, Connection, Failure, Flow, Io, Keys, Progress, Service};

const SECRET: &[u8] = b"a key that is long enough for anyone";

/// One direction.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    shut: bool,
    /// It takes nothing for now.
    full: bool,
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
        if pipe.full {
            return Ok(None);
        }
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
struct Log {
    lines: Vec<String>,
    /// Messages are not dealt with.
    blocks: bool,
    /// What to say when it is woken.
    says: Option<&'static str>,
    until: Option<Instant>,
}

impl Service for Log {
    fn on_open(&mut self, peer: &Peer<'_>, _: &mut Outbox<'_>, _: Instant) {
        self.lines.push(format!("open {}", peer.name.unwrap()));
    }

    fn on_message(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        self.lines.push(format!("message {:?}", String::from_utf8_lossy(chunk.bytes)));
        if self.blocks { Flow::Backpressure } else { Flow::Consumed }
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, _: Instant) {
        if let Some(message) = self.says.take() {
            out.send(message.as_bytes()).unwrap();
        }
    }

    fn on_timeout(&mut self, _: &mut Outbox<'_>, _: Instant) {
        self.until = None;
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.until
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        self.lines.push(format!("closed {}", why.map_or_else(Error::code, |()| "in order")));
    }
}

/// A key that may be withdrawn.
struct Ring {
    key: Key,
    there: bool,
}

impl Keys for Ring {
    fn candidates(&self, _: &KeyRequest<'_>) -> Result<Candidates<'_>, KeyRejection> {
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
        let instance = ProcessId::from_bytes(&[process; ProcessId::LEN]);
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
    fn turn(&mut self, keys: &impl Keys, now: Instant) -> bool {
        if self.over.is_some() {
            return false;
        }
        match self.connection.turn(&mut self.io, keys, now) {
            Progress::Yield => true,
            Progress::Wait(wait) => {
                self.until = wait.until;
                false
            }
            Progress::Closed(how) => {
                self.over = Some(how.map_err(|failure| match failure {
                    Failure::Protocol(error) => error,
                    Failure::Io(never) => match never {},
                }));
                false
            }
        }
    }

    fn log(&self) -> &[String] {
        &self.connection.service().lines
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

    /// The server has a message at hand that it does not deal with.
    fn blocked() -> Self {
        let mut both = Self::established();
        both.server.connection.service_mut().blocks = true;
        both.client.connection.service_mut().says = Some("hello");
        both.client.connection.wake();
        both.settle();
        assert_eq!(both.server.log(), ["open client", "message \"hello\""]);
        both
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
    assert_eq!(both.server.over, Some(Err(Error::Aborted(CloseReason::Application))));
    assert_eq!(both.client.over, Some(Err(Error::PeerClosed(CloseReason::Application))));
}

#[test]
fn a_key_that_goes_while_the_handshake_ends_opens_nothing() {
    let mut both = Both::new();
    both.keys.there = false;
    both.settle();
    assert!(both.client.log().iter().all(|line| !line.starts_with("open")));
    assert!(both.server.log().iter().all(|line| !line.starts_with("open")));
    assert_eq!(both.server.over, Some(Err(Error::Aborted(CloseReason::Application))));
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

#[test]
fn a_part_that_is_gone_with_its_session_is_not_offered_again() {
    let messages = |side: &Side| -> Vec<String> {
        side.log().iter().filter(|line| line.starts_with("message")).cloned().collect()
    };
    // Ended from outside, and woken for another reason.
    let mut both = Both::blocked();
    both.keys.there = false;
    assert!(both.server.connection.revoke(&both.keys, both.now));
    both.server.connection.wake();
    both.settle();
    assert_eq!(messages(&both.server), ["message \"hello\""]);

    // Ended by a deadline in the turn in which the service's own is due.
    let mut both = Both::blocked();
    both.server.io.output.borrow_mut().full = true;
    both.now = both.now.saturating_add(Duration::from_secs(15));
    both.server.turn(&both.keys, both.now);
    both.now = both.now.saturating_add(Duration::from_secs(30));
    both.server.connection.service_mut().until = Some(both.now);
    both.server.turn(&both.keys, both.now);
    assert_eq!(messages(&both.server), ["message \"hello\""]);
    assert_eq!(both.server.log().last().unwrap(), "closed send-timeout");
}

#[test]
fn a_stop_whose_last_word_cannot_leave_waits_a_second_and_never_for_the_past() {
    let mut both = Both::established();
    both.server.io.output.borrow_mut().full = true;
    both.server.connection.stop();
    let begun = both.now;
    while both.server.over.is_none() {
        both.server.turn(&both.keys, both.now);
        if both.server.over.is_none() {
            let until = both.server.until.unwrap();
            assert!(until > both.now, "to be called again at a moment that has passed");
            both.now = until;
        }
    }
    let took = both.now.saturating_duration_since(begun);
    assert!(took <= Duration::from_millis(1100), "{took:?}");
}

#[test]
fn one_that_was_ended_for_want_of_its_key_is_not_ended_again() {
    let mut both = Both::established();
    both.keys.there = false;
    assert!(both.server.connection.revoke(&both.keys, both.now));
    both.server.turn(&both.keys, both.now);
    assert!(!both.server.connection.revoke(&both.keys, both.now));
}

#[test]
fn a_key_alone_holds_its_own_sessions_and_answers_to_one_id() {
    let key = |secret: &[u8]| Key::mutual(secret).unwrap();
    let mut both = Both::established();
    assert!(!both.server.connection.revoke(&key(SECRET), both.now));
    assert!(!both.server.connection.revoke(&Some(key(SECRET)), both.now));
    assert!(both.client.connection.revoke(&None::<Key>, both.now));
    assert!(both.server.connection.revoke(&key(b"another key that is long enough"), both.now));
    let request = |kid| KeyRequest::mutual(Role::Server, kid, None);
    assert!(key(SECRET).candidates(&request(Mutual::DEFAULT_KEY_ID)).is_ok());
    assert_eq!(key(SECRET).candidates(&request("admin")).err(), Some(KeyRejection::Unknown));
}
