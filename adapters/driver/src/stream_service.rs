//! The interface of applications that take messages in chunks of bounded size.

use countersign::{Error, Instant, Outbox, Peer};

use crate::chunk::Chunk;
use crate::service::ServiceError;

/// What a [`StreamService`] did with a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// It is done with it.
    Consumed,
    /// It cannot take it now, usually because the answer found no room. The same chunk is offered again
    /// after [`StreamService::on_writable`] or [`StreamService::on_wake`]; until then the peer is read
    /// no further than one buffer.
    Backpressure,
}

/// An application on one connection that answers while a message is still arriving, in bounded memory.
/// It runs on every adapter. [`Service`](crate::Service) is the simpler interface, with whole messages.
///
/// Order of calls: `on_open` when the handshake is over; `on_chunk`, `on_writable`, `on_wake`,
/// `on_timeout` as things happen; `on_finished` once, after the last message; `on_closed` once, last,
/// also when the handshake failed.
///
/// ```
/// use countersign::{Instant, Outbox, SendError};
/// use countersign_driver::{Chunk, Flow, StreamService};
///
/// /// Sends every message back while it arrives.
/// struct Echo;
///
/// impl StreamService for Echo {
///     fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
///         match out.send_chunk(chunk.bytes, chunk.remaining) {
///             Err(SendError::Full) => Flow::Backpressure, // the chunk comes again when there is room
///             Ok(()) | Err(_) => Flow::Consumed, // other errors: the session is over
///         }
///     }
/// }
/// ```
pub trait StreamService {
    /// The handshake is over.
    fn on_open(&mut self, peer: &Peer<'_>, out: &mut Outbox<'_>, now: Instant) {
        let _ = (peer, out, now);
    }

    /// A chunk of a message has arrived.
    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow;

    /// There is room for what was refused as [`Full`](countersign::SendError::Full).
    fn on_writable(&mut self, out: &mut Outbox<'_>, now: Instant) {
        let _ = (out, now);
    }

    /// The waker of the connection was woken. Spurious calls are possible.
    fn on_wake(&mut self, out: &mut Outbox<'_>, now: Instant) {
        let _ = (out, now);
    }

    /// The peer sends no more messages. By default this end finishes too.
    fn on_finished(&mut self, out: &mut Outbox<'_>, now: Instant) {
        let _ = now;
        out.finish();
    }

    /// The deadline of [`poll_timeout`](Self::poll_timeout) has passed.
    fn on_timeout(&mut self, out: &mut Outbox<'_>, now: Instant) {
        let _ = (out, now);
    }

    /// Whether no answer is due that a wake-up or a deadline will bring. An orderly stop waits for it.
    fn is_idle(&self) -> bool {
        true
    }

    /// When to call [`on_timeout`](Self::on_timeout).
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The connection has ended, in order or with an error.
    fn on_closed(&mut self, result: Result<(), Error>) {
        let _ = result;
    }

    /// Why the service aborted the connection, for the log.
    fn error(&self) -> Option<ServiceError> {
        None
    }
}
