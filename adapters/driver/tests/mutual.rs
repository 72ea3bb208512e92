//! Two connections of the scheme `mutual` over a pair of pipes, polled alternately.
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
use countersign_driver::{
    Chunk, Failure, Flow, Io, Keys, Progress, ServiceConnection, StreamService,
};

const SECRET: &[u8] = b"a key that is long enough for anyone";

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    shut: bool,
    /// Writes would block.
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

/// Records what happens.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    /// Messages are refused by back-pressure.
    blocks: bool,
    /// What to send when woken.
    on_wake: Option<&'static str>,
    until: Option<Instant>,
}

impl StreamService for Log {
    fn on_open(&mut self, peer: &Peer<'_>, _: &mut Outbox<'_>, _: Instant) {
        self.lines.push(format!("open {}", peer.name.unwrap()));
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        self.lines.push(format!("message {:?}", String::from_utf8_lossy(chunk.bytes)));
        if self.blocks { Flow::Backpressure } else { Flow::Consumed }
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, _: Instant) {
        if let Some(message) = self.on_wake.take() {
            out.send(message.as_bytes()).unwrap();
        }
    }

    fn on_timeout(&mut self, _: &mut Outbox<'_>, _: Instant) {
        self.until = None;
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.until
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        self.lines.push(format!("closed {}", result.map_or_else(Error::code, |()| "in order")));
    }
}

/// A key that can be removed.
struct RemovableKey {
    key: Key,
    removed: bool,
}

impl Keys for RemovableKey {
    fn candidates(&self, _: &KeyRequest<'_>) -> Result<Candidates<'_>, KeyRejection> {
        Ok(Candidates::one(&self.key))
    }

    fn hold(&self, peer: &Peer<'_>) -> bool {
        !self.removed && peer.fingerprint == self.key.fingerprint()
    }
}

fn key() -> RemovableKey {
    RemovableKey { key: Key::mutual(SECRET).unwrap(), removed: false }
}

struct Side {
    connection: ServiceConnection<Box<Session<Vec<u8>>>, Log, Infallible>,
    io: End,
    result: Option<Result<(), Error>>,
    until: Option<Instant>,
}

impl Side {
    fn new(role: Role, io: End) -> Self {
        let (name, process) = match role {
            Role::Client => ("client", 1),
            Role::Server => ("server", 2),
        };
        let process_id = ProcessId::from_bytes(&[process; ProcessId::LEN]);
        let config = Config::new(Scheme::Mutual(Mutual::new(name.parse().unwrap(), process_id)));
        let buffers =
            Buffers { handshake: vec![0; 1024], receive: vec![0; 512], send: vec![0; 512] };
        let nonce = Nonce::from_bytes([process; Nonce::LEN]);
        let session = match role {
            Role::Client => Session::client(&config, nonce, buffers, Instant::EPOCH),
            Role::Server => Session::server(&config, nonce, buffers, Instant::EPOCH),
        };
        let connection = ServiceConnection::new(Box::new(session.unwrap()), Log::default());
        Self { connection, io, result: None, until: None }
    }

    /// Polls it; returns whether there is more to do.
    fn poll(&mut self, keys: &impl Keys, now: Instant) -> bool {
        if self.result.is_some() {
            return false;
        }
        match self.connection.poll(&mut self.io, keys, now) {
            Progress::Event(_) => self.poll(keys, now),
            Progress::Yield => true,
            Progress::Wait(interest) => {
                self.until = interest.until;
                false
            }
            Progress::Closed(result) => {
                self.result = Some(result.map_err(|failure| match failure {
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
struct Pair {
    client: Side,
    server: Side,
    keys: RemovableKey,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        let (up, down) = (Rc::new(RefCell::default()), Rc::new(RefCell::default()));
        let client = End { input: Rc::clone(&down), output: Rc::clone(&up) };
        let server = End { input: up, output: down };
        let (client, server) = (Side::new(Role::Client, client), Side::new(Role::Server, server));
        Self { client, server, keys: key(), now: Instant::EPOCH }
    }

    fn established() -> Self {
        let mut pair = Self::new();
        pair.settle();
        assert_eq!(pair.client.log(), ["open server"]);
        assert_eq!(pair.server.log(), ["open client"]);
        pair
    }

    /// Polls both until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.server.poll(&self.keys, self.now);
            self.client.poll(&self.keys, self.now);
        }
    }

    /// The server has refused the message at hand by back-pressure.
    fn blocked() -> Self {
        let mut pair = Self::established();
        pair.server.connection.service_mut().blocks = true;
        pair.client.connection.service_mut().on_wake = Some("hello");
        pair.client.connection.wake();
        pair.settle();
        assert_eq!(pair.server.log(), ["open client", "message \"hello\""]);
        pair
    }

    fn later(&mut self, by: Duration) {
        self.now = self.now.saturating_add(by);
        self.settle();
    }
}

#[test]
fn stopped_connection_ends_in_order_on_both_sides() {
    let mut pair = Pair::established();
    pair.server.connection.driver_mut().stop();
    pair.settle();
    pair.later(Duration::from_millis(100));
    for side in [&pair.client, &pair.server] {
        assert_eq!(side.result, Some(Ok(())));
        assert_eq!(side.log().last().unwrap(), "closed in order");
    }
}

#[test]
fn orderly_end_waits_one_second_for_the_end_of_stream() {
    let mut pair = Pair::established();
    pair.server.connection.driver_mut().stop();
    pair.server.poll(&pair.keys, pair.now);
    pair.now = pair.now.saturating_add(Duration::from_millis(100));
    pair.server.poll(&pair.keys, pair.now);
    pair.client.poll(&pair.keys, pair.now);
    // The client has shut its write side, which does not reach the server.
    pair.client.io.output.borrow_mut().shut = false;
    pair.server.poll(&pair.keys, pair.now);
    assert_eq!(pair.server.log().last().unwrap(), "closed in order");
    assert_eq!(pair.server.result, None);
    let until = pair.server.until.unwrap();
    assert!(until > pair.now && until <= pair.now.saturating_add(Duration::from_secs(1)));
    pair.now = until;
    pair.server.poll(&pair.keys, pair.now);
    assert_eq!(pair.server.result, Some(Ok(())));
}

#[test]
fn removed_key_ends_the_connection_and_notifies_the_peer() {
    let mut pair = Pair::established();
    assert!(!pair.server.connection.driver_mut().revoke(&pair.keys, pair.now));
    pair.keys.removed = true;
    assert!(pair.server.connection.driver_mut().revoke(&pair.keys, pair.now));
    pair.settle();
    assert_eq!(pair.server.result, Some(Err(Error::Aborted(CloseReason::Application))));
    assert_eq!(pair.client.result, Some(Err(Error::PeerClosed(CloseReason::Application))));
}

#[test]
fn key_removed_during_the_handshake_opens_no_session() {
    let mut pair = Pair::new();
    pair.keys.removed = true;
    pair.settle();
    assert!(pair.client.log().iter().all(|line| !line.starts_with("open")));
    assert!(pair.server.log().iter().all(|line| !line.starts_with("open")));
    assert_eq!(pair.server.result, Some(Err(Error::Aborted(CloseReason::Application))));
}

#[test]
fn silent_peer_times_out_after_two_heartbeats_and_5_seconds() {
    let mut pair = Pair::established();
    // The client is not polled: its process is frozen.
    let timeout = Duration::from_secs(2 * 15 + 5);
    pair.now = pair.now.saturating_add(timeout - Duration::from_micros(1));
    pair.server.poll(&pair.keys, pair.now);
    assert_eq!(pair.server.result, None);
    pair.now = pair.now.saturating_add(Duration::from_micros(1));
    pair.server.poll(&pair.keys, pair.now);
    assert_eq!(pair.server.log().last().unwrap(), "closed peer-silent");
}

#[test]
fn heartbeats_keep_an_idle_connection_alive() {
    let mut pair = Pair::established();
    for _ in 0..100 {
        pair.later(Duration::from_secs(15));
    }
    assert_eq!((pair.client.result, pair.server.result), (None, None));
}

#[test]
fn chunk_of_an_ended_session_is_not_offered_again() {
    let messages = |side: &Side| -> Vec<String> {
        side.log().iter().filter(|line| line.starts_with("message")).cloned().collect()
    };
    // Ended by its owner, and woken for another reason.
    let mut pair = Pair::blocked();
    pair.keys.removed = true;
    assert!(pair.server.connection.driver_mut().revoke(&pair.keys, pair.now));
    pair.server.connection.wake();
    pair.settle();
    assert_eq!(messages(&pair.server), ["message \"hello\""]);

    // Ended by a deadline in the poll in which the deadline of the service is due.
    let mut pair = Pair::blocked();
    pair.server.io.output.borrow_mut().full = true;
    pair.now = pair.now.saturating_add(Duration::from_secs(15));
    pair.server.poll(&pair.keys, pair.now);
    pair.now = pair.now.saturating_add(Duration::from_secs(30));
    pair.server.connection.service_mut().until = Some(pair.now);
    pair.server.poll(&pair.keys, pair.now);
    assert_eq!(messages(&pair.server), ["message \"hello\""]);
    assert_eq!(pair.server.log().last().unwrap(), "closed send-timeout");
}

#[test]
fn stop_that_cannot_write_waits_at_most_a_second() {
    let mut pair = Pair::established();
    pair.server.io.output.borrow_mut().full = true;
    pair.server.connection.driver_mut().stop();
    let started = pair.now;
    while pair.server.result.is_none() {
        pair.server.poll(&pair.keys, pair.now);
        if pair.server.result.is_none() {
            let until = pair.server.until.unwrap();
            assert!(until > pair.now, "waits for an instant that has passed");
            pair.now = until;
        }
    }
    let took = pair.now.saturating_duration_since(started);
    assert!(took <= Duration::from_millis(1100), "{took:?}");
}

#[test]
fn revoked_connection_is_not_revoked_again() {
    let mut pair = Pair::established();
    pair.keys.removed = true;
    assert!(pair.server.connection.driver_mut().revoke(&pair.keys, pair.now));
    pair.server.poll(&pair.keys, pair.now);
    assert!(!pair.server.connection.driver_mut().revoke(&pair.keys, pair.now));
}

#[test]
fn single_key_holds_its_sessions_and_has_one_id() {
    let key = |secret: &[u8]| Key::mutual(secret).unwrap();
    let mut pair = Pair::established();
    assert!(!pair.server.connection.driver_mut().revoke(&key(SECRET), pair.now));
    assert!(!pair.server.connection.driver_mut().revoke(&Some(key(SECRET)), pair.now));
    assert!(pair.client.connection.driver_mut().revoke(&None::<Key>, pair.now));
    assert!(
        pair.server
            .connection
            .driver_mut()
            .revoke(&key(b"another key that is long enough"), pair.now)
    );
    let request = |key_id| KeyRequest::mutual(Role::Server, key_id, None);
    assert!(key(SECRET).candidates(&request(Mutual::DEFAULT_KEY_ID)).is_ok());
    assert_eq!(key(SECRET).candidates(&request("admin")).err(), Some(KeyRejection::Unknown));
}
