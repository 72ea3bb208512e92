//! Services to try a connection with. Each answers whole messages as a [`Service`], and chunks while
//! the message is still arriving as a [`StreamService`].

use countersign::{Instant, Outbox, SendError};

use crate::chunk::Chunk;
use crate::service::{Context, Service, ServiceError};
use crate::stream_service::{Flow, StreamService};

/// Sends every message back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

/// Sends every message back with the ASCII letters `a` to `z` in upper case, as Python's
/// `bytes.upper()` does. All other bytes stay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Upper;

impl Service for Echo {
    fn on_message(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), ServiceError> {
        Ok(cx.send(message)?)
    }
}

impl StreamService for Echo {
    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        flow(out.send_chunk(chunk.bytes, chunk.remaining))
    }
}

impl Service for Upper {
    fn on_message(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), ServiceError> {
        Ok(cx.send_with(message.len(), |offset, space| upper(&message[offset..], space))?)
    }
}

impl StreamService for Upper {
    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        let Chunk { bytes, remaining, .. } = chunk;
        flow(out.send_with(bytes.len(), remaining, |space| upper(bytes, space)))
    }
}

fn upper(from: &[u8], to: &mut [u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = from.to_ascii_uppercase();
    }
}

/// What becomes of a chunk whose answer was `sent`.
fn flow(sent: Result<(), SendError>) -> Flow {
    match sent {
        Err(SendError::Full) => Flow::Backpressure,
        // This end has finished or the session has ended: no answer is due.
        Ok(()) | Err(_) => Flow::Consumed,
    }
}
