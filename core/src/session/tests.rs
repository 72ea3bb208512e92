//! Helpers shared by the session tests: one endpoint of a connection, without a transport.

extern crate std;

mod close;
mod control;
mod deadlines;
mod errors;
mod handshake;
mod keepalive;
mod leases;
mod multiprocessing;
mod mutual;
mod pair;
mod receive;
mod scripted_peer;
mod sealed;
mod secrets;
mod send;
mod usage;

use super::*;
use crate::config::{Framing, Scheme};
use crate::crypto::keys::{Candidates, Key};
use crate::crypto::mac::{Digest, Mac};
use crate::error::{KeyError, KeyRejection, SendError};
use crate::event::Remaining;
use crate::key_request::{Challenge, KeyRequest};
use crate::protocol::Protocol;
use core::cell::Cell;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

const SECRET: &[u8] = b"key shared by both sides";

/// State of a buffer pool: regions leased, whether it is exhausted, whether a lease is awaited, whether others
/// wait for one, and whether all leases are revoked.
#[derive(Debug, Default)]
struct Pool {
    leased: Cell<usize>,
    exhausted: Cell<bool>,
    awaited: Cell<bool>,
    contended: Cell<bool>,
    revoked: Cell<bool>,
}

/// Storage whose bytes exist only while leased and start with arbitrary content.
#[derive(Debug)]
struct Region {
    pool: Rc<Pool>,
    capacity: usize,
    bytes: Vec<u8>,
}

impl Storage for Region {
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn lease(&mut self) -> bool {
        if self.bytes.is_empty() && !self.pool.exhausted.get() {
            self.bytes = vec![0xa5; self.capacity];
            self.pool.leased.set(self.pool.leased.get() + 1);
        }
        self.pool.awaited.set(self.bytes.is_empty());
        !self.bytes.is_empty()
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn release(&mut self) {
        self.pool.awaited.set(false);
        if !core::mem::take(&mut self.bytes).is_empty() {
            self.pool.leased.set(self.pool.leased.get() - 1);
        }
    }

    fn contended(&self) -> bool {
        self.pool.contended.get()
    }

    fn is_revoked(&self) -> bool {
        self.pool.revoked.get() && !self.bytes.is_empty()
    }
}

#[derive(Debug, Default)]
struct Pools {
    handshake: Rc<Pool>,
    receive: Rc<Pool>,
    send: Rc<Pool>,
}

impl Pools {
    /// Number of leases held: handshake, receive, send.
    fn held(&self) -> (usize, usize, usize) {
        (self.handshake.leased.get(), self.receive.leased.get(), self.send.leased.get())
    }

    fn buffers(&self, receive: usize, send: usize) -> Buffers<Region> {
        let region =
            |pool: &Rc<Pool>, capacity| Region { pool: pool.clone(), capacity, bytes: Vec::new() };
        Buffers {
            handshake: region(&self.handshake, 1024),
            receive: region(&self.receive, receive),
            send: region(&self.send, send),
        }
    }
}

/// One session, its buffer pools and its current time.
struct Endpoint {
    session: Session<Region>,
    pools: Pools,
    now: Instant,
}

/// The nonce of every session in these tests.
fn nonce() -> Nonce {
    Nonce::from_bytes([0x6e; Nonce::LEN])
}

fn key(digest: Digest, secret: &[u8]) -> Key {
    Key::challenge(digest, secret).unwrap()
}

fn challenge(digest: Digest) -> Config {
    Config::new(Scheme::Challenge { digest })
}

/// A configuration without authentication.
fn framed(framing: Framing) -> Config {
    Config::new(Scheme::None).with_framing(framing)
}

/// A frame of the framing `u32`.
fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// The event for a message that is delivered in one chunk.
fn whole_message() -> Event {
    Event::Chunk { first: true, remaining: Remaining::End }
}

impl Endpoint {
    fn new(config: &Config, role: Role, receive: usize, send: usize) -> Self {
        let (pools, now) = (Pools::default(), Instant::EPOCH);
        let buffers = pools.buffers(receive, send);
        let session = Session::new(config, role, nonce(), buffers, now).unwrap();
        Self { session, pools, now }
    }

    fn server(config: &Config) -> Self {
        Self::new(config, Role::Server, 64, 64)
    }

    fn client(config: &Config) -> Self {
        Self::new(config, Role::Client, 64, 64)
    }

    /// An established server of a configuration without authentication.
    fn established(config: &Config) -> Self {
        let mut endpoint = Self::server(config);
        assert_eq!(endpoint.events(), [Event::Established]);
        endpoint
    }

    /// Performs one read of at most `bytes`; returns the number of bytes taken.
    fn offer(&mut self, bytes: &[u8]) -> usize {
        let space = self.session.recv_space();
        if space.is_empty() {
            return 0;
        }
        let n = space.len().min(bytes.len());
        space[..n].copy_from_slice(&bytes[..n]);
        self.session.handle_received(n, self.now);
        n
    }

    /// Reads all of `bytes`, in as few reads as possible, without polling events.
    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let n = self.offer(bytes);
            assert!(n > 0, "the session does not read {} bytes", bytes.len());
            bytes = &bytes[n..];
        }
    }

    fn eof(&mut self) {
        self.session.handle_eof(self.now);
    }

    fn poll(&mut self) -> Result<Option<Event>, Error> {
        self.session.poll_event(self.now)
    }

    /// Polls events until none is left.
    fn events(&mut self) -> Vec<Event> {
        let events: Vec<Event> = core::iter::from_fn(|| self.poll().unwrap()).take(100).collect();
        assert!(events.len() < 100, "events do not end");
        events
    }

    fn error(&mut self) -> Error {
        self.poll().unwrap_err()
    }

    fn chunk(&mut self) -> &[u8] {
        self.session.split().0
    }

    fn consume(&mut self) {
        self.session.consume(self.now);
    }

    /// Polls all events and consumes every chunk; returns each event with its chunk.
    fn drain_chunks(&mut self) -> Vec<(Event, Vec<u8>)> {
        let mut chunks = Vec::new();
        while let Some(event) = self.poll().unwrap() {
            chunks.push((event, self.chunk().to_vec()));
            self.consume();
        }
        chunks
    }

    /// Answers the pending key request.
    fn provide_key(&mut self, key: &Key) {
        self.session.provide_key(Ok(Candidates::one(key)), self.now).unwrap();
    }

    fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.session.split().1.send(message)
    }

    fn send_chunk(&mut self, chunk: &[u8], remaining: Remaining) -> Result<(), SendError> {
        self.session.split().1.send_chunk(chunk, remaining)
    }

    fn finish(&mut self) {
        self.session.finish(self.now);
    }

    /// Transmits at most `limit` bytes.
    fn transmit(&mut self, limit: usize) -> Vec<u8> {
        let bytes = self.session.poll_transmit(self.now);
        let bytes = bytes[..bytes.len().min(limit)].to_vec();
        self.session.handle_transmitted(bytes.len(), self.now);
        bytes
    }

    /// Transmits all pending bytes.
    fn transmit_all(&mut self) -> Vec<u8> {
        let mut transmitted = Vec::new();
        loop {
            match self.transmit(usize::MAX) {
                bytes if bytes.is_empty() => return transmitted,
                bytes => transmitted.extend(bytes),
            }
            assert!(transmitted.len() < 1 << 20, "output does not end");
        }
    }

    /// Sets the time to `micros` after the epoch and handles timeouts.
    fn advance_to(&mut self, micros: u64) {
        self.now = Instant::from_micros(micros);
        self.session.handle_timeout(self.now);
    }

    /// One iteration of a driver whose transport has nothing to read.
    fn drive_idle(&mut self) {
        assert_eq!(self.events(), []);
        self.transmit_all();
        if !self.session.recv_space().is_empty() {
            self.session.handle_received(0, self.now);
        }
    }

    /// The next deadline, in microseconds after the epoch.
    fn timeout(&self) -> Option<u64> {
        self.session.poll_timeout().map(Instant::as_micros)
    }
}
