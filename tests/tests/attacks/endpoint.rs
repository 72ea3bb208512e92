//! Endpoints driven by hand, with the attacker between them.

use std::time::Duration;

use countersign::{
    Buffers, Candidate, Candidates, Config, ConfigError, Error, Event, Instant, KeyRejection,
    Nonce, Protocol, Remaining, Role, Session,
};

use crate::party::{Keyring, Party};

/// Makes a session.
pub(crate) fn new_session(
    config: &Config,
    role: Role,
    nonce: Nonce,
) -> Result<Session<Vec<u8>>, ConfigError> {
    let buffers = Buffers { handshake: vec![0; 1024], receive: vec![0; 1200], send: vec![0; 1200] };
    match role {
        Role::Client => Session::client(config, nonce, buffers, Instant::EPOCH),
        Role::Server => Session::server(config, nonce, buffers, Instant::EPOCH),
    }
}

/// A session, and what it did.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) session: Session<Vec<u8>>,
    keyring: Keyring,
    pub(crate) now: Instant,
    /// Bytes transmitted and not yet taken.
    sent: Vec<u8>,
    /// All events other than chunks.
    pub(crate) events: Vec<Event>,
    /// Every chunk received.
    pub(crate) received: Vec<Vec<u8>>,
    pub(crate) error: Option<Error>,
}

impl Endpoint {
    pub(crate) fn new(config: &Config, role: Role, nonce: u8, keyring: Keyring) -> Self {
        Self::with_nonce(config, role, Nonce::from_bytes([nonce; Nonce::LEN]), keyring)
    }

    pub(crate) fn with_nonce(config: &Config, role: Role, nonce: Nonce, keyring: Keyring) -> Self {
        let now = Instant::EPOCH;
        let session = new_session(config, role, nonce);
        Self {
            session: session.unwrap(),
            keyring,
            now,
            sent: Vec::new(),
            events: Vec::new(),
            received: Vec::new(),
            error: None,
        }
    }

    /// Lets it receive `bytes`. Returns how many it read; the others are dropped.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut remaining = bytes;
        while !remaining.is_empty() && self.session.wants_read() {
            let space = self.session.recv_space();
            let n = space.len().min(remaining.len());
            space[..n].copy_from_slice(&remaining[..n]);
            self.session.handle_received(n, self.now);
            remaining = &remaining[n..];
            self.poll();
        }
        bytes.len() - remaining.len()
    }

    /// Lets it receive `bytes` and returns its output.
    pub(crate) fn answer(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.feed(bytes);
        self.output()
    }

    pub(crate) fn eof(&mut self) {
        self.session.handle_eof(self.now);
        self.poll();
    }

    pub(crate) fn advance(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time);
        self.session.handle_timeout(self.now);
        self.poll();
    }

    /// Returns its output.
    pub(crate) fn output(&mut self) -> Vec<u8> {
        self.poll();
        std::mem::take(&mut self.sent)
    }

    /// Sends a message and returns the output.
    pub(crate) fn send(&mut self, message: &[u8]) -> Vec<u8> {
        self.session.split().1.send(message).unwrap();
        self.output()
    }

    /// Sends a chunk of an unfinished message and returns the output.
    pub(crate) fn send_chunk(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.session.split().1.send_chunk(chunk, Remaining::More).unwrap();
        self.output()
    }

    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.session.finish(self.now);
        self.output()
    }

    pub(crate) fn is_established(&self) -> bool {
        assert_eq!(self.session.peer().is_some(), self.events.contains(&Event::Established));
        self.session.peer().is_some()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.events.contains(&Event::Closed)
    }

    pub(crate) fn session_id(&self) -> [u8; 16] {
        *self.session.peer().unwrap().session_id.unwrap()
    }

    pub(crate) fn poll(&mut self) {
        loop {
            match self.session.poll_event(self.now) {
                Ok(Some(Event::KeyNeeded)) => {
                    self.events.push(Event::KeyNeeded);
                    self.provide_key();
                }
                Ok(Some(Event::Chunk { .. })) => {
                    self.received.push(self.session.split().0.to_vec());
                    self.session.consume(self.now);
                }
                Ok(Some(event)) => self.events.push(event),
                polled => {
                    self.error = polled.err();
                    let bytes = self.session.poll_transmit(self.now);
                    let n = bytes.len();
                    self.sent.extend_from_slice(bytes);
                    self.session.handle_transmitted(n, self.now);
                    if n == 0 {
                        break;
                    }
                }
            }
        }
    }

    fn provide_key(&mut self) {
        let request = self.session.key_request().unwrap();
        let Keyring { key_id, keys, name_allowed } = &self.keyring;
        let answer =
            if request.key_id == *key_id { keys.as_deref() } else { Err(&KeyRejection::Unknown) };
        let candidate = |key| match name_allowed {
            true => Candidate::new(key),
            false => Candidate::name_not_allowed(key),
        };
        let answer = answer.map_err(|&why| why).and_then(|keys| {
            let mut fit = keys.iter().filter(|key| key.purpose() == request.purpose).map(candidate);
            let first = fit.next().ok_or(KeyRejection::Unknown)?;
            Ok(Candidates::new(first, fit.next()))
        });
        self.session.provide_key(answer, self.now).unwrap();
    }
}

/// The messages of a handshake between two endpoints, as far as it gets.
pub(crate) struct Handshake {
    pub(crate) m1: Vec<u8>,
    pub(crate) m2: Vec<u8>,
    /// M3, or the alert in its place.
    pub(crate) m3: Vec<u8>,
}

pub(crate) fn run_handshake(client: &mut Endpoint, server: &mut Endpoint) -> Handshake {
    let m1 = server.output();
    let m2 = client.answer(&m1);
    let m3 = server.answer(&m2);
    assert_eq!(client.answer(&m3), b"");
    Handshake { m1, m2, m3 }
}

/// Returns two endpoints that are established with each other.
pub(crate) fn pair(client: &Party, server: &Party) -> (Endpoint, Endpoint, Handshake) {
    let (mut client, mut server) = (client.start(), server.start());
    let handshake = run_handshake(&mut client, &mut server);
    assert!(client.is_established() && server.is_established());
    assert_eq!(client.session_id(), server.session_id());
    (client, server, handshake)
}

pub(crate) fn established() -> (Endpoint, Endpoint, Handshake) {
    pair(&Party::client(), &Party::server())
}

/// Returns `bytes` with each of its bits flipped, and the index of the byte.
pub(crate) fn flips(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> + '_ {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        (bit / 8, flipped)
    })
}

/// Returns the alert with this code.
pub(crate) const fn alert(code: u8) -> [u8; 6] {
    [0, 0, 0, 2, 0x7f, code]
}
