//! Runs a service of whole messages as one of chunks.

use countersign::{Error, Instant, Outbox, Peer, SendError};

use crate::chunk::Chunk;
use crate::message_buffer::MessageBuffer;
use crate::reassembler::{append, is_whole};
use crate::send_queue::SendQueue;
use crate::service::{Context, Service, ServiceError};
use crate::stream_service::{Flow, StreamService};

/// A [`Service`] as a [`StreamService`]: reassembles what arrives, and queues what finds no room.
///
/// A message that arrives in one chunk is passed on where it is. One that exceeds the memory for a message
/// ends the connection with [`ServiceError::MessageTooLong`], however it arrives. While anything is queued no further
/// message is passed on: the peer has to read before it is served again.
#[derive(Debug)]
pub struct MessageService<S, B> {
    service: S,
    /// What has arrived of a message that has more than one chunk.
    incoming: B,
    outgoing: SendQueue<B>,
    ending: Ending,
}

/// How far the end of what the service sends is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    /// This end finishes when the queue is empty.
    Requested,
    Finished,
    /// The service has ended the connection.
    Failed(ServiceError),
}

impl<S: Service, B: MessageBuffer> MessageService<S, B> {
    /// `service`, with memory for one incoming message and for the queue of outgoing ones, where each takes
    /// 16 bytes more ([`SendQueue::OVERHEAD`]).
    pub const fn new(service: S, incoming: B, outgoing: B) -> Self {
        Self { service, incoming, outgoing: SendQueue::new(outgoing), ending: Ending::No }
    }

    /// The service.
    pub const fn get_ref(&self) -> &S {
        &self.service
    }

    /// The service; wake the connection after giving it something to do.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.service
    }

    /// The service, when the connection is over.
    pub fn into_inner(self) -> S {
        self.service
    }

    /// Calls the service, and acts on what it wants.
    fn call(
        &mut self,
        out: &mut Outbox<'_>,
        now: Instant,
        call: impl FnOnce(&mut S, &mut Context<'_>, &mut B) -> Result<(), ServiceError>,
    ) {
        let Self { service, incoming, outgoing, ending } = self;
        if let Ending::Failed(_) = ending {
            return;
        }
        let mut finishing = *ending != Ending::No;
        let queue = &mut *outgoing;
        let mut cx = Context { out: out.reborrow(), queue, finishing: &mut finishing, now };
        let result = call(service, &mut cx, incoming);
        // This end has finished in order: an answer that comes too late ends nothing else.
        if let Err(error) = result
            && error != ServiceError::Send(SendError::Finished)
        {
            *ending = Ending::Failed(error);
            out.abort(error.reason());
        } else if finishing && *ending != Ending::Finished {
            *ending = Ending::Requested;
            if outgoing.is_empty() {
                *ending = Ending::Finished;
                out.finish();
            }
        }
    }

    /// Hands queued messages to the outbox, and calls `on_writable` when the queue is empty.
    fn flush(&mut self, out: &mut Outbox<'_>, now: Instant) {
        if self.outgoing.is_empty() {
            return;
        }
        // An outbox that takes no more has ended, which the driver finds out.
        let flushed = self.outgoing.flush(out).is_ok() && self.outgoing.is_empty();
        if flushed {
            self.call(out, now, |service, cx, _| service.on_writable(cx));
        }
    }
}

/// Adds a part of a message to `incoming`, and passes the message on when it is complete.
#[cold]
fn on_part<B: MessageBuffer>(
    service: &mut impl Service,
    chunk: Chunk<'_>,
    incoming: &mut B,
    cx: &mut Context<'_>,
) -> Result<(), ServiceError> {
    if !append(incoming, chunk)? {
        return Ok(());
    }
    let result = service.on_message(incoming.bytes(), cx);
    incoming.clear();
    result
}

impl<S: Service, B: MessageBuffer> StreamService for MessageService<S, B> {
    fn on_open(&mut self, peer: &Peer<'_>, out: &mut Outbox<'_>, now: Instant) {
        self.call(out, now, |service, cx, _| service.on_open(peer, cx));
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow {
        if !self.outgoing.is_empty() && chunk.is_last() {
            return Flow::Backpressure;
        }
        self.call(out, now, |service, cx, incoming| {
            if is_whole(incoming, &chunk) {
                return service.on_message(chunk.bytes, cx);
            }
            on_part(service, chunk, incoming, cx)
        });
        Flow::Consumed
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.flush(out, now);
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.call(out, now, |service, cx, _| service.on_wake(cx));
    }

    fn on_finished(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.call(out, now, |service, cx, _| service.on_finished(cx));
    }

    fn on_timeout(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.call(out, now, |service, cx, _| service.on_timeout(cx));
    }

    fn is_idle(&self) -> bool {
        self.outgoing.is_empty() && self.incoming.bytes().is_empty() && self.service.is_idle()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.service.poll_timeout()
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        self.incoming.clear();
        self.outgoing.clear();
        self.service.on_closed(result);
    }

    fn error(&self) -> Option<ServiceError> {
        match self.ending {
            Ending::Failed(error) => Some(error),
            Ending::No | Ending::Requested | Ending::Finished => None,
        }
    }
}
