//! [`Endpoint`]: a protocol with its application.

use countersign::{
    Candidates, Error, Event, Instant, Key, KeyRejection, Outbox, Remaining, SendError,
};
use countersign_host::BoxedProtocol;

/// The key of every endpoint, unless a test sets another.
const SECRET: &[u8] = b"a key that is long enough for anyone";

/// A protocol, and what its application has seen of it.
pub(crate) struct Endpoint {
    pub(crate) protocol: BoxedProtocol,
    pub(crate) now: Instant,
    pub(crate) established: bool,
    /// The bytes of all messages consumed so far.
    pub(crate) received: Vec<u8>,
    pub(crate) peer_finished: bool,
    /// How the connection ended, if it did.
    pub(crate) result: Option<Result<(), Error>>,
    /// The application answers each chunk in upper case, and finishes when the peer does.
    pub(crate) answers: bool,
    /// The application does not consume.
    pub(crate) paused: bool,
    /// What follows the unconsumed chunk, if there is one.
    unconsumed: Option<Remaining>,
    pub(crate) secret: &'static [u8],
}

impl Endpoint {
    pub(crate) fn new(protocol: BoxedProtocol) -> Self {
        Self {
            protocol,
            now: Instant::EPOCH,
            established: false,
            received: Vec::new(),
            peer_finished: false,
            result: None,
            answers: false,
            paused: false,
            unconsumed: None,
            secret: SECRET,
        }
    }

    pub(crate) fn answering(protocol: BoxedProtocol) -> Self {
        Self { answers: true, ..Self::new(protocol) }
    }

    /// Handles all pending events.
    pub(crate) fn poll(&mut self) {
        while self.result.is_none() {
            match self.protocol.poll_event(self.now) {
                Ok(None) => break,
                Ok(Some(event)) => self.handle_event(event),
                Err(error) => self.result = Some(Err(error)),
            }
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::KeyNeeded => {
                let key = self.key();
                let answer = key.as_ref().map(Candidates::one).map_err(|&rejection| rejection);
                self.protocol.provide_key(answer, self.now).unwrap();
            }
            Event::Established => self.established = true,
            Event::Chunk { remaining, .. } => {
                self.unconsumed = Some(remaining);
                self.consume();
            }
            Event::Writable => self.consume(),
            Event::PeerFinished => {
                self.peer_finished = true;
                if self.answers {
                    self.protocol.finish(self.now);
                }
            }
            Event::Closed => self.result = Some(Ok(())),
            _ => {}
        }
    }

    fn key(&self) -> Result<Key, KeyRejection> {
        let request = self.protocol.key_request().ok_or(KeyRejection::Unknown)?;
        Ok(Key::new(request.purpose, self.secret).unwrap())
    }

    /// Consumes the announced chunk, unless paused or the answer does not fit.
    fn consume(&mut self) {
        let Some(remaining) = self.unconsumed.filter(|_| !self.paused) else { return };
        let (chunk, mut outbox) = self.protocol.split();
        if self.answers {
            match outbox.send_chunk(&chunk.to_ascii_uppercase(), remaining) {
                Err(SendError::Full) => return,
                sent => sent.unwrap(),
            }
        }
        self.unconsumed = None;
        self.received.extend_from_slice(chunk);
        self.protocol.consume(self.now);
    }

    /// Ends a pause.
    pub(crate) fn resume(&mut self) {
        self.paused = false;
        self.consume();
    }

    pub(crate) fn outbox(&mut self) -> Outbox<'_> {
        self.protocol.split().1
    }

    /// All bytes of one `poll_transmit`, which then count as transmitted.
    pub(crate) fn transmit(&mut self) -> Vec<u8> {
        self.transmit_at_most(usize::MAX)
    }

    /// The first `limit` bytes of one `poll_transmit`.
    pub(crate) fn transmit_at_most(&mut self, limit: usize) -> Vec<u8> {
        let bytes = self.protocol.poll_transmit(self.now);
        let bytes = bytes[..bytes.len().min(limit)].to_vec();
        self.protocol.handle_transmitted(bytes.len(), self.now);
        bytes
    }

    /// Reads the front of `bytes` without polling. Returns how many bytes were read.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> usize {
        let space = self.protocol.recv_space();
        if space.is_empty() {
            return 0;
        }
        let n = space.len().min(bytes.len());
        space[..n].copy_from_slice(&bytes[..n]);
        self.protocol.handle_received(n, self.now);
        n
    }

    /// Reads all of `bytes`, polling in between, until the protocol reads no more.
    pub(crate) fn receive_all(&mut self, mut bytes: &[u8]) {
        self.poll();
        while !bytes.is_empty() {
            match self.receive(bytes) {
                0 => return,
                n => bytes = &bytes[n..],
            }
            self.poll();
        }
    }

    /// Reports the end of the transport's stream, without polling.
    pub(crate) fn receive_eof(&mut self) {
        self.protocol.handle_eof(self.now);
    }

    /// Sets the time to `seconds` after the start, runs the timers, and polls.
    pub(crate) fn set_time(&mut self, seconds: u64) {
        self.now = Instant::from_micros(seconds * 1_000_000);
        self.protocol.handle_timeout(self.now);
        self.poll();
    }

    /// The error that the connection ended with.
    #[track_caller]
    pub(crate) fn error(&self) -> Error {
        self.result.unwrap().unwrap_err()
    }
}
