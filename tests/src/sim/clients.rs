//! Honest and hostile clients.

use std::collections::VecDeque;
use std::time::Duration;

use countersign::{Error, Instant, Outbox, Peer, Remaining, SendError};
use countersign_driver::{Chunk, Flow, StreamService};

use super::rng::Rng;

/// The service of an honest client. It sends its messages as fast as the session accepts them, and
/// counts the replies.
#[derive(Debug)]
pub struct ClientService {
    messages: Vec<Vec<u8>>,
    /// Index of the message being sent, and how many of its bytes are sent.
    position: (usize, usize),
    /// Finishes once all messages are sent; otherwise once all replies have arrived.
    finish_early: bool,
    /// Length of all replies, in bytes.
    expected_len: usize,
    /// How long it stays connected after the handshake.
    linger: Option<Duration>,
    linger_until: Option<Instant>,
    /// All replies, concatenated.
    pub received: Vec<u8>,
    /// Number of replies.
    pub replies: usize,
    /// The result passed to `on_closed`.
    pub closed: Option<Result<(), Error>>,
}

impl ClientService {
    pub(crate) fn new(
        messages: Vec<Vec<u8>>,
        finish_early: bool,
        linger: Option<Duration>,
    ) -> Self {
        let expected_len = messages.iter().map(Vec::len).sum();
        let (received, replies) = (Vec::new(), 0);
        let (position, linger_until, closed) = ((0, 0), None, None);
        Self {
            messages,
            position,
            finish_early,
            expected_len,
            linger,
            linger_until,
            received,
            replies,
            closed,
        }
    }

    /// Returns all its messages, concatenated.
    #[must_use]
    pub fn sent(&self) -> Vec<u8> {
        self.messages.concat()
    }

    /// Returns how many messages it sends.
    #[must_use]
    pub fn count(&self) -> usize {
        self.messages.len()
    }

    fn send(&mut self, out: &mut Outbox<'_>) {
        while let Some(message) = self.messages.get(self.position.0) {
            let left = &message[self.position.1..];
            let chunk = &left[..left.len().min(out.max_chunk())];
            let more = (left.len() - chunk.len()) as u64;
            let remaining = if more == 0 { Remaining::End } else { Remaining::Bytes(more) };
            match out.send_chunk(chunk, remaining) {
                Ok(()) if more == 0 => self.position = (self.position.0 + 1, 0),
                Ok(()) => self.position.1 += chunk.len(),
                Err(SendError::Full) => return,
                // The server had finished, so this session has finished too.
                Err(SendError::Finished) => return,
                Err(error) => unreachable!("the session refuses an honest chunk: {error}"),
            }
        }
        self.finish(out);
    }

    /// Finishes once everything that it waits for has happened.
    fn finish(&mut self, out: &mut Outbox<'_>) {
        let all_sent = self.position.0 == self.messages.len();
        if all_sent
            && self.linger.is_none()
            && (self.finish_early || self.received.len() == self.expected_len)
        {
            out.finish();
        }
    }
}

impl StreamService for ClientService {
    fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, now: Instant) {
        self.linger_until = self.linger.map(|linger| now.saturating_add(linger));
        self.send(out);
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        self.received.extend_from_slice(chunk.bytes);
        self.replies += usize::from(chunk.remaining == Remaining::End);
        self.finish(out);
        Flow::Consumed
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, _: Instant) {
        self.send(out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.linger_until
    }

    fn on_timeout(&mut self, out: &mut Outbox<'_>, _: Instant) {
        (self.linger, self.linger_until) = (None, None);
        self.finish(out);
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        assert!(self.closed.replace(result).is_none(), "on_closed was called twice");
    }
}

/// A client that does not hold the key or violates the protocol. It sends its bytes in steps.
#[derive(Debug)]
pub struct HostileClient {
    pub(crate) bytes: VecDeque<u8>,
    /// Most bytes sent in one step.
    pub(crate) step_len: usize,
    /// When the next step is due.
    pub(crate) next_step: Instant,
    /// The time between steps.
    pub(crate) interval: Duration,
    /// Reads what the server sends.
    pub(crate) reads: bool,
    /// Shuts down its write side after its last byte.
    pub(crate) shuts: bool,
    pub(crate) shut: bool,
    /// Sends back what it receives.
    pub(crate) reflects: bool,
    /// Replays the bytes of another client: its index, and how many bytes are copied.
    pub(crate) replays: Option<(usize, usize)>,
}

impl HostileClient {
    /// Makes a client with random behaviour, in a simulation with `honest` honest clients.
    pub(crate) fn random(rng: &mut Rng, now: Instant, honest: usize) -> Self {
        let kind = rng.within(0, 6);
        let (len, step_len, interval) = match kind {
            // Sends nothing.
            0 => (0, 1, 1),
            // Sends one byte per second.
            1 => (100, 1, 1_000_000),
            // Sends a wrong response, and possibly more bytes.
            2 => (rng.within(32, 100), 100, 1),
            // Floods the server.
            3 => (10_000, 5_000, 10),
            // Replays the bytes of an honest client, or reflects those of the server.
            4 | 5 => (0, 4096, 1),
            // Sends part of a response.
            _ => (rng.within(1, 31), 31, 1),
        };
        Self {
            bytes: rng.bytes(len as usize).into(),
            step_len,
            next_step: now,
            interval: Duration::from_micros(interval),
            reads: kind == 5 || !rng.one_in(3),
            shuts: !matches!(kind, 4 | 5) && rng.one_in(3),
            shut: false,
            reflects: kind == 5,
            replays: (kind == 4 && honest > 0)
                .then(|| (rng.next_u64() as usize % honest.max(1), 0)),
        }
    }
}
