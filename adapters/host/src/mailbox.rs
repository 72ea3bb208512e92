//! A service for callers who would rather send and receive than be called.

use std::mem;

use countersign::{Error, Instant, Outbox, Peer, Remaining, SendError};

use countersign_driver::{Chunk, Flow, Service};

/// Holds one received part until it is taken and one posted part until it is sent. Wake the
/// connection after posting and taking.
#[derive(Debug, Default)]
pub struct Mailbox {
    open: bool,
    received: Option<Received>,
    posted: Option<Posted>,
    /// How many posts there were.
    posts: u64,
    /// Which of them was refused last, and why.
    refused: Option<(u64, SendError)>,
    finishing: bool,
    peer_finished: bool,
    closed: Option<Result<(), Error>>,
    changes: u64,
}

/// A part that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether it is its message's first.
    pub first: bool,
    /// What of the message follows it.
    pub remaining: Remaining,
}

#[derive(Debug)]
struct Posted {
    bytes: Vec<u8>,
    sent: usize,
    remaining: Remaining,
}

impl Mailbox {
    /// Whether the handshake is over.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether the peer sends no more messages; what was received before may still be here.
    #[must_use]
    pub fn peer_finished(&self) -> bool {
        self.peer_finished
    }

    /// How the connection ended, if it has.
    #[must_use]
    pub fn closed(&self) -> Option<Result<(), Error>> {
        self.closed
    }

    /// How often something happened that a caller may wait for.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Takes the part that was received.
    pub fn take(&mut self) -> Option<Received> {
        self.received.take()
    }

    /// Whether nothing waits to be sent, so that something can be posted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.posted.is_none()
    }

    /// Posts a part, of any length, of a message that `rest` follows. It takes the place of what
    /// was posted before and is not yet sent. Returns the post's number.
    pub fn post(&mut self, bytes: Vec<u8>, remaining: Remaining) -> u64 {
        self.posts += 1;
        self.posted = Some(Posted { bytes, sent: 0, remaining });
        self.posts
    }

    /// Why the post of this number was not sent, if it was refused and none after it was.
    #[must_use]
    pub fn refused(&self, post: u64) -> Option<SendError> {
        self.refused.and_then(|(number, why)| (number == post).then_some(why))
    }

    /// No more messages once what is posted is sent. Counts as a post, and returns its number.
    pub fn finish(&mut self) -> u64 {
        self.finishing = true;
        self.posts += 1;
        self.posts
    }

    fn send(&mut self, out: &mut Outbox<'_>) {
        if let Some(posted) = &mut self.posted {
            match posted.send(out) {
                Err(SendError::Full) => return,
                Err(why) => self.refused = Some((self.posts, why)),
                Ok(()) => {}
            }
            self.posted = None;
            self.changes += 1;
        }
        if self.finishing {
            out.finish();
        }
    }
}

impl Posted {
    /// Sends what is left, in as many parts as it takes.
    fn send(&mut self, out: &mut Outbox<'_>) -> Result<(), SendError> {
        loop {
            let left = &self.bytes[self.sent..];
            let chunk = &left[..left.len().min(out.max_chunk())];
            let remaining = match (left.len() - chunk.len(), self.remaining) {
                (0, remaining) => remaining,
                (more, Remaining::End) => Remaining::Bytes(more as u64),
                (more, Remaining::Bytes(remaining)) => {
                    Remaining::Bytes(remaining.saturating_add(more as u64))
                }
                (_, remaining @ (Remaining::More | Remaining::Unknown)) => remaining,
            };
            out.send_chunk(chunk, remaining)?;
            self.sent += chunk.len();
            if self.sent == self.bytes.len() {
                return Ok(());
            }
        }
    }
}

impl Service for Mailbox {
    fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, _: Instant) {
        self.open = true;
        self.changes += 1;
        self.send(out);
    }

    fn on_message(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        if self.received.is_some() {
            return Flow::Backpressure;
        }
        self.changes += 1;
        let Chunk { bytes, first, remaining } = chunk;
        self.received = Some(Received { bytes: bytes.to_vec(), first, remaining });
        Flow::Consumed
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, _: Instant) {
        self.send(out);
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, _: Instant) {
        self.send(out);
    }

    fn on_finished(&mut self, _: &mut Outbox<'_>, _: Instant) {
        self.peer_finished = true;
        self.changes += 1;
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        self.closed = Some(why);
        self.changes += 1;
        drop(mem::take(&mut self.posted));
    }
}
