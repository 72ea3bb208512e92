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

/// What becomes of a part whose answer was `sent`.
fn flow(sent: Result<(), SendError>) -> Flow {
    match sent {
        Err(SendError::Full) => Flow::Blocked,
        // If it is refused, we have finished or the connection has ended: no answer is due.
        _ => Flow::Done,
    }
}

impl Service for Echo {
    fn on_message(&mut self, part: Part<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        flow(out.send_part(part.bytes, part.rest))
    }
}

impl Service for Upper {
    fn on_message(&mut self, part: Part<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        match out.send_space(part.bytes.len(), part.rest) {
            Ok(space) => {
                for (to, from) in space.iter_mut().zip(part.bytes) {
                    *to = from.to_ascii_uppercase();
                }
                out.commit();
                Flow::Done
            }
            Err(error) => flow(Err(error)),
        }
    }
}
