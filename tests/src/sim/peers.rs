//! Who is at the clients' end.

use std::time::Duration;

use countersign::{Error, Instant, Outbox, Peer, Rest, SendError};
use countersign_drive::{Flow, Part, Service};

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
    /// All answers, joined.
    pub heard: Vec<u8>,
    /// How many messages the answers were.
    pub answers: usize,
    /// How it ended.
    pub ended: Option<Result<(), Error>>,
}

impl Script {
    pub(crate) fn new(messages: Vec<Vec<u8>>, early: bool) -> Self {
        let due = messages.iter().map(Vec::len).sum();
        let (heard, answers) = (Vec::new(), 0);
        Self { messages, at: (0, 0), early, due, heard, answers, ended: None }
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
            let part = &left[..left.len().min(out.max_part())];
            let more = (left.len() - part.len()) as u64;
            let rest = if more == 0 { Rest::End } else { Rest::Bytes(more) };
            match out.send_part(part, rest) {
                Ok(()) if more == 0 => self.at = (self.at.0 + 1, 0),
                Ok(()) => self.at.1 += part.len(),
                Err(SendError::Full) => return,
                // The server had finished, and so have we.
                Err(SendError::Finished) => return,
                Err(error) => unreachable!("an honest send was refused: {error}"),
            }
        }
        if self.early || self.heard.len() == self.due {
            out.finish();
        }
    }
}

impl Service for Script {
    fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, _: Instant) {
        self.send(out);
    }

    fn on_message(&mut self, part: Part<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        self.heard.extend_from_slice(part.bytes);
        self.answers += usize::from(part.rest == Rest::End);
        if self.at.0 == self.messages.len() && self.heard.len() == self.due {
            out.finish();
        }
        Flow::Done
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, _: Instant) {
        self.send(out);
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        assert!(self.ended.replace(why).is_none(), "told twice that it is over");
    }
}

/// A client that does not hold the key, or does not play by the rules. Bytes that it has to send
/// go out at `at` and every `every` after.
#[derive(Debug)]
pub struct Stranger {
    pub(crate) bytes: Vec<u8>,
    /// How many go out at once.
    pub(crate) step: usize,
    pub(crate) at: Instant,
    pub(crate) every: Duration,
    /// Reads what it is sent.
    pub(crate) reads: bool,
    /// Shuts its write side when all is out.
    pub(crate) shuts: bool,
    pub(crate) shut: bool,
}

impl Stranger {
    pub(crate) fn random(rng: &mut Rng, now: Instant) -> Self {
        let (len, step, every) = match rng.within(0, 4) {
            // Nothing at all.
            0 => (0, 1, 1),
            // One byte a second.
            1 => (100, 1, 1_000_000),
            // A wrong answer, perhaps with something behind it.
            2 => (rng.within(32, 100), 100, 1),
            // A flood.
            3 => (100_000, 10_000, 10),
            // Half an answer.
            _ => (rng.within(1, 31), 31, 1),
        };
        Self {
            bytes: rng.bytes(len as usize),
            step,
            at: now,
            every: Duration::from_micros(every),
            reads: !rng.one_in(3),
            shuts: rng.one_in(3),
            shut: false,
        }
    }
}
