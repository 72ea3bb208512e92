//! Services to try a connection with.

use countersign::{Instant, Outbox, SendError};

use crate::service::{Flow, Part, Service};

/// Sends every message back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

/// Sends every message back with the ASCII letters `a` to `z` made capitals, as Python's
/// `bytes.upper()` does; all other bytes stay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Upper;

/// Answers `part` with as many bytes, written by `write`.
fn answer(part: Part<'_>, out: &mut Outbox<'_>, write: impl FnOnce(&mut [u8])) -> Flow {
    match out.send_space(part.bytes.len(), part.rest) {
        Ok(space) => {
            write(space);
            out.commit();
            Flow::Done
        }
        Err(SendError::Full) => Flow::Blocked,
        // We have finished, or the connection has ended: no answer is due.
        Err(_) => Flow::Done,
    }
}

impl Service for Echo {
    fn on_message(&mut self, part: Part<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        answer(part, out, |space| space.copy_from_slice(part.bytes))
    }
}

impl Service for Upper {
    fn on_message(&mut self, part: Part<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        answer(part, out, |space| {
            for (to, from) in space.iter_mut().zip(part.bytes) {
                *to = from.to_ascii_uppercase();
            }
        })
    }
}
