//! What the tests of a session share: an end of a connection without the connection.

extern crate std;

mod close;
mod control;
mod errors;
mod handshake;
mod keepalive;
mod leases;
mod multiprocessing;
mod mutual;
mod pair;
mod receive;
mod sealed;
mod secrets;
mod send;
mod timers;
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

const SECRET: &[u8] = b"the key of both ends";

/// How many regions are out, whether there are more to be had, and whether one is waited for.
#[derive(Debug, Default)]
struct Pool {
    out: Cell<usize>,
    dry: Cell<bool>,
    awaited: Cell<bool>,
}

/// Bytes that are there only while leased, and are rubbish at first.
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
        if self.bytes.is_empty() && !self.pool.dry.get() {
            self.bytes = vec![0xa5; self.capacity];
            self.pool.out.set(self.pool.out.get() + 1);
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
            self.pool.out.set(self.pool.out.get() - 1);
        }
    }
}

#[derive(Debug, Default)]
struct Pools {
    handshake: Rc<Pool>,
    receive: Rc<Pool>,
    send: Rc<Pool>,
}

impl Pools {
    /// Leases held: handshake, receive, send.
    fn held(&self) -> (usize, usize, usize) {
        (self.handshake.out.get(), self.receive.out.get(), self.send.out.get())
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

/// One end, and the moment it is there.
struct End {
    session: Session<Region>,
    pools: Pools,
    now: Instant,
}

fn nonce() -> Nonce {
    Nonce::from_bytes([0x6e; Nonce::LEN])
}

fn key(digest: Digest, secret: &[u8]) -> Key {
    Key::challenge(digest, secret).unwrap()
}

fn challenge(digest: Digest) -> Config {
    Config::new(Scheme::Challenge { digest })
}

fn framed(framing: Framing) -> Config {
    Config::new(Scheme::None).with_framing(framing)
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

fn whole() -> Event {
    Event::Chunk { first: true, remaining: Remaining::End }
}

impl End {
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

    /// An end with nothing to prove, open.
    fn open(config: &Config) -> Self {
        let mut end = Self::server(config);
        assert_eq!(end.events(), [Event::Established]);
        end
    }

    /// Offers `bytes` to be read once; returns how many were.
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

    /// Has all of `bytes` read, in one piece if possible, without looking for events.
    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let n = self.offer(bytes);
            assert!(n > 0, "{} bytes were not wanted", bytes.len());
            bytes = &bytes[n..];
        }
    }

    fn eof(&mut self) {
        self.session.handle_eof(self.now);
    }

    fn poll(&mut self) -> Result<Option<Event>, Error> {
        self.session.poll_event(self.now)
    }

    /// All events until there are no more.
    fn events(&mut self) -> Vec<Event> {
        let events: Vec<Event> = core::iter::from_fn(|| self.poll().unwrap()).take(100).collect();
        assert!(events.len() < 100, "there is no end of events");
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

    /// Gives the answer to a key request, which must be open.
    fn key(&mut self, key: &Key) {
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

    /// Transmits all there is.
    fn sent(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        loop {
            match self.transmit(usize::MAX) {
                bytes if bytes.is_empty() => return sent,
                bytes => sent.extend(bytes),
            }
            assert!(sent.len() < 1 << 20, "there is no end of bytes");
        }
    }

    /// It is now `micros` after the epoch, and time is let pass.
    fn at(&mut self, micros: u64) {
        self.now = Instant::from_micros(micros);
        self.session.handle_timeout(self.now);
    }

    fn timeout(&self) -> Option<u64> {
        self.session.poll_timeout().map(Instant::as_micros)
    }
}
