//! Services to try a connection with, and one for callers who would rather not be called.

use countersign::{Error, Instant, Outbox, Peer, SendError};

use crate::service::{Chunk, Flow, Service};

/// Leaves everything to whoever holds the connection: parts stay at hand, to be had from
/// [`Connection::part`](crate::Connection::part), and what is to be sent goes to
/// [`Connection::outbox`](crate::Connection::outbox). Needs no memory of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Desk {
    open: bool,
    peer_finished: bool,
    closed: Option<Result<(), Error>>,
    changes: u32,
}

impl Desk {
    /// Whether the handshake was ever over.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Whether the peer sends no more messages.
    #[must_use]
    pub const fn peer_finished(&self) -> bool {
        self.peer_finished
    }

    /// How the connection ended, if it has.
    #[must_use]
    pub const fn closed(&self) -> Option<Result<(), Error>> {
        self.closed
    }

    /// Differs from what it was if something has happened that its holder may wait for.
    #[must_use]
    pub const fn changes(&self) -> u32 {
        self.changes
    }

    fn change(&mut self) {
        self.changes = self.changes.wrapping_add(1);
    }
}

impl Service for Desk {
    fn on_open(&mut self, _: &Peer<'_>, _: &mut Outbox<'_>, _: Instant) {
        self.open = true;
        self.change();
    }

    fn on_message(&mut self, _: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        self.change();
        Flow::Backpressure
    }

    fn on_writable(&mut self, _: &mut Outbox<'_>, _: Instant) {
        self.change();
    }

    fn on_finished(&mut self, _: &mut Outbox<'_>, _: Instant) {
        self.peer_finished = true;
        self.change();
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        self.closed = Some(why);
        self.change();
    }
}

/// Sends every message back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

/// Sends every message back with the ASCII letters `a` to `z` made capitals, as Python's
/// `bytes.upper()` does; all other bytes stay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Upper;

/// What becomes of a part whose answer was `sent`.
fn flow(sent: Result<(), SendError>) -> Flow {
    match sent {
        Err(SendError::Full) => Flow::Backpressure,
        // If it is refused, we have finished or the connection has ended: no answer is due.
        _ => Flow::Consumed,
    }
}

impl Service for Echo {
    fn on_message(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        flow(out.send_chunk(chunk.bytes, chunk.remaining))
    }
}

impl Service for Upper {
    fn on_message(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        match out.send_space(chunk.bytes.len(), chunk.remaining) {
            Ok(space) => {
                for (to, from) in space.iter_mut().zip(chunk.bytes) {
                    *to = from.to_ascii_uppercase();
                }
                out.commit();
                Flow::Consumed
            }
            Err(error) => flow(Err(error)),
        }
    }
}
