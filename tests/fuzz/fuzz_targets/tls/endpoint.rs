//! One endpoint of a TLS connection, and the bytes in transit to it.

use std::cell::RefCell;
use std::rc::Rc;

use arbitrary::Arbitrary;
use countersign::{Error, Event, Instant, Protocol};
use countersign_tls::Tls;

use crate::common::KeySet;
use crate::observed_session::{Log, ObservedSession};

/// A change of the bytes in transit.
#[derive(Arbitrary, Debug)]
pub enum Tamper<'a> {
    Bytes(&'a [u8]),
    Record(u8, &'a [u8]),
    Flip(u16, u8),
    Swap,
    Repeat,
    Drop,
    Cut(u16),
}

pub struct Endpoint {
    pub protocol: Tls<Box<ObservedSession>>,
    pub log: Rc<RefCell<Log>>,
    pub error: Option<Error>,
    pub closed: bool,
    pub holds_chunk: bool,
    pub wire: Vec<u8>,
    /// No more bytes follow those in transit.
    pub shut: bool,
    eof_handled: bool,
}

impl Endpoint {
    pub fn new(protocol: Tls<Box<ObservedSession>>, log: Rc<RefCell<Log>>) -> Self {
        Self {
            protocol,
            log,
            error: None,
            closed: false,
            holds_chunk: false,
            wire: Vec::new(),
            shut: false,
            eof_handled: false,
        }
    }

    fn event(&mut self, keys: &KeySet, now: Instant) -> bool {
        match self.protocol.poll_event(now) {
            Ok(None) => {
                assert_eq!(self.error, None, "the error disappeared");
                false
            }
            Ok(Some(event)) => {
                assert!(self.error.is_none() && !self.closed, "an event after the end");
                match event {
                    Event::KeyNeeded => {
                        let request = self.protocol.key_request().expect("a request");
                        let answer = keys.answer(&request);
                        self.protocol.provide_key(answer, now).expect("a key of the right purpose");
                    }
                    Event::Chunk { .. } => {
                        assert!(!self.holds_chunk);
                        self.holds_chunk = true;
                    }
                    Event::Closed => self.closed = true,
                    _ => {}
                }
                true
            }
            Err(error) => {
                assert!(self.error.is_none_or(|before| before == error), "the error changed");
                assert!(!self.closed, "an error after the end");
                self.error = Some(error);
                self.holds_chunk = false;
                false
            }
        }
    }

    /// Polls all events. Returns whether there were any.
    pub fn events(&mut self, keys: &KeySet, now: Instant) -> bool {
        let before = self.error;
        let mut moved = false;
        while self.event(keys, now) {
            moved = true;
        }
        assert!(!self.event(keys, now), "an event after the last");
        moved || self.error != before
    }

    /// Returns up to `limit` bytes of its output.
    pub fn transmit(&mut self, limit: usize, now: Instant) -> Vec<u8> {
        let wants = self.protocol.wants_write();
        let pending = self.protocol.poll_transmit(now);
        assert!(!wants || !pending.is_empty(), "wants_write without output");
        let n = pending.len().min(limit);
        let sent = pending[..n].to_vec();
        self.protocol.handle_transmitted(n, now);
        sent
    }

    /// Receives up to `limit` bytes. Returns whether it received any, or the end of the stream.
    pub fn receive(&mut self, limit: usize, now: Instant) -> bool {
        let wants = self.protocol.wants_read();
        let space = self.protocol.recv_space();
        assert_eq!(wants, !space.is_empty());
        let n = space.len().min(self.wire.len()).min(limit);
        space[..n].copy_from_slice(&self.wire[..n]);
        self.protocol.handle_received(n, now);
        self.wire.drain(..n);
        let end = wants && self.wire.is_empty() && self.shut && !self.eof_handled;
        if end {
            self.eof_handled = true;
            self.protocol.handle_eof(now);
        }
        n > 0 || end
    }

    /// Returns where the first two records in transit end.
    fn records(&self) -> Vec<usize> {
        let (mut ends, mut at) = (Vec::new(), 0);
        while ends.len() < 2 {
            let Some(&[_, _, _, high, low]) = self.wire.get(at..at + 5) else { break };
            at += 5 + usize::from(u16::from_be_bytes([high, low]));
            if at > self.wire.len() {
                break;
            }
            ends.push(at);
        }
        ends
    }

    pub fn tamper(&mut self, how: Tamper<'_>) {
        match (how, &self.records()[..]) {
            (Tamper::Bytes(bytes), _) => {
                self.wire.splice(..0, bytes.iter().copied());
            }
            (Tamper::Record(kind, bytes), _) => {
                let [high, low] = (bytes.len() as u16).to_be_bytes();
                let record = [&[20 + kind % 5, 3, 3, high, low], bytes].concat();
                self.wire.splice(..0, record);
            }
            (Tamper::Flip(at, bit), _) => {
                let len = self.wire.len().max(1);
                if let Some(byte) = self.wire.get_mut(usize::from(at) % len) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            (Tamper::Swap, &[first, second]) => self.wire[..second].rotate_left(first),
            (Tamper::Repeat, &[first, ..]) => {
                let record = self.wire[..first].to_vec();
                self.wire.splice(..0, record);
            }
            (Tamper::Drop, &[first, ..]) => {
                self.wire.drain(..first);
            }
            (Tamper::Cut(at), _) => {
                self.wire.truncate(at.into());
                self.shut = true;
            }
            _ => {}
        }
    }

    /// Returns how much memory the test itself holds for it.
    pub fn capacity(&self) -> usize {
        let log = self.log.borrow();
        self.wire.capacity() + log.sent.capacity() + log.received.capacity()
    }
}
