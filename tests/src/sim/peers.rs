//! Who is at the clients' end.

use std::collections::VecDeque;
use std::time::Duration;

use countersign::{Error, Instant, Outbox, Peer, Remaining, SendError};
use countersign_driver::{Chunk, Flow, StreamService};

use super::rng::Rng;

/// An honest client: sends its messages as fast as they are taken, and counts the answers.
#[derive(Debug)]
pub struct Script {
    messages: Vec<Vec<u8>>,
    /// Which message is being sent, and how much of it has been.
    at: (usize, usize),
    /// Ends its side as soon as all is sent, rather than when all is answered.
    early: bool,
    due: usize,
    /// For how long it stays, from when it is let in, and until when.
    stay: Option<Duration>,
    until: Option<Instant>,
    /// All answers, joined.
    pub heard: Vec<u8>,
    /// How many messages the answers were.
    pub answers: usize,
    /// How it ended.
    pub ended: Option<Result<(), Error>>,
}

impl Script {
    pub(crate) fn new(messages: Vec<Vec<u8>>, early: bool, stay: Option<Duration>) -> Self {
        let due = messages.iter().map(Vec::len).sum();
        let (heard, answers) = (Vec::new(), 0);
        let (at, until, ended) = ((0, 0), None, None);
        Self { messages, at, early, due, stay, until, heard, answers, ended }
    }

    /// Everything it sends, joined.
    #[must_use]
    pub fn said(&self) -> Vec<u8> {
        self.messages.concat()
    }

    /// How many messages it sends.
    #[must_use]
    pub fn count(&self) -> usize {
        self.messages.len()
    }

    fn send(&mut self, out: &mut Outbox<'_>) {
        while let Some(message) = self.messages.get(self.at.0) {
            let left = &message[self.at.1..];
            let chunk = &left[..left.len().min(out.max_chunk())];
            let more = (left.len() - chunk.len()) as u64;
            let remaining = if more == 0 { Remaining::End } else { Remaining::Bytes(more) };
            match out.send_chunk(chunk, remaining) {
                Ok(()) if more == 0 => self.at = (self.at.0 + 1, 0),
                Ok(()) => self.at.1 += chunk.len(),
                Err(SendError::Full) => return,
                // The server had finished, and so have we.
                Err(SendError::Finished) => return,
                Err(error) => unreachable!("an honest send was refused: {error}"),
            }
        }
        self.finish(out);
    }

    /// Finishes if it is time to.
    fn finish(&mut self, out: &mut Outbox<'_>) {
        let said = self.at.0 == self.messages.len();
        if said && self.stay.is_none() && (self.early || self.heard.len() == self.due) {
            out.finish();
        }
    }
}

impl StreamService for Script {
    fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, now: Instant) {
        self.until = self.stay.map(|stay| now.saturating_add(stay));
        self.send(out);
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        self.heard.extend_from_slice(chunk.bytes);
        self.answers += usize::from(chunk.remaining == Remaining::End);
        self.finish(out);
        Flow::Consumed
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, _: Instant) {
        self.send(out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.until
    }

    fn on_timeout(&mut self, out: &mut Outbox<'_>, _: Instant) {
        (self.stay, self.until) = (None, None);
        self.finish(out);
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        assert!(self.ended.replace(why).is_none(), "told twice that it is over");
    }
}

/// A client that does not hold the key, or does not play by the rules. Bytes that it has to send
/// go out at `at` and every `every` after.
#[derive(Debug)]
pub struct Stranger {
    pub(crate) bytes: VecDeque<u8>,
    /// How many go out at once.
    pub(crate) step: usize,
    pub(crate) at: Instant,
    pub(crate) every: Duration,
    /// Reads what it is sent.
    pub(crate) reads: bool,
    /// Shuts its write side when all is out.
    pub(crate) shuts: bool,
    pub(crate) shut: bool,
    /// Sends what it is sent.
    pub(crate) mirrors: bool,
    /// Sends what that client sends, of which it has heard so many bytes.
    pub(crate) parrots: Option<(usize, usize)>,
}

impl Stranger {
    /// One of a crowd with so many `honest` clients.
    pub(crate) fn random(rng: &mut Rng, now: Instant, honest: usize) -> Self {
        let kind = rng.within(0, 6);
        let (len, step, every) = match kind {
            // Nothing at all.
            0 => (0, 1, 1),
            // One byte a second.
            1 => (100, 1, 1_000_000),
            // A wrong answer, perhaps with something behind it.
            2 => (rng.within(32, 100), 100, 1),
            // A flood.
            3 => (10_000, 5_000, 10),
            // What others say, or what it is told.
            4 | 5 => (0, 4096, 1),
            // Half an answer.
            _ => (rng.within(1, 31), 31, 1),
        };
        Self {
            bytes: rng.bytes(len as usize).into(),
            step,
            at: now,
            every: Duration::from_micros(every),
            reads: kind == 5 || !rng.one_in(3),
            shuts: !matches!(kind, 4 | 5) && rng.one_in(3),
            shut: false,
            mirrors: kind == 5,
            parrots: (kind == 4 && honest > 0).then(|| (rng.any() as usize % honest.max(1), 0)),
        }
    }
}
