//! The interface of applications that take whole messages.

use core::fmt;

use countersign::{CloseReason, Error, Instant, Outbox, Peer, SendError};

use crate::message_buffer::{BufferError, MessageBuffer};
use crate::queue_error::QueueError;
use crate::send_queue::SendQueue;

/// An application on one connection, with whole messages. It runs on every adapter.
///
/// Order of calls: `on_open` when the handshake is over; `on_message`, `on_writable`, `on_wake`,
/// `on_timeout` as things happen; `on_finished` once, after the last message; `on_closed` once, last,
/// also when the handshake failed. A call that returns an error ends the connection, unless it is that of an
/// answer after this end has finished in order, [`SendError::Finished`].
///
/// In a byte stream, which has no messages, each piece that arrives counts as one.
///
/// ```
/// use countersign_driver::{Context, Service, ServiceError};
///
/// /// Sends every message back.
/// struct Echo;
///
/// impl Service for Echo {
///     fn on_message(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), ServiceError> {
///         Ok(cx.send(message)?)
///     }
/// }
/// ```
pub trait Service {
    /// The handshake is over.
    ///
    /// # Errors
    /// Any error ends the connection.
    fn on_open(&mut self, peer: &Peer<'_>, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        let _ = (peer, cx);
        Ok(())
    }

    /// A message has arrived. The next one is not read before everything sent has left the queue, so one
    /// answer per message finds room, unless the memory that all connections share is exhausted.
    ///
    /// # Errors
    /// Any error ends the connection.
    fn on_message(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), ServiceError>;

    /// All that was queued has been handed over: there is room again.
    ///
    /// # Errors
    /// Any error ends the connection.
    fn on_writable(&mut self, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        let _ = cx;
        Ok(())
    }

    /// The waker of the connection was woken. Spurious calls are possible.
    ///
    /// # Errors
    /// Any error ends the connection.
    fn on_wake(&mut self, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        let _ = cx;
        Ok(())
    }

    /// The peer sends no more messages. By default this end finishes too, after what it has queued.
    ///
    /// # Errors
    /// Any error ends the connection.
    fn on_finished(&mut self, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        cx.finish();
        Ok(())
    }

    /// The deadline of [`poll_timeout`](Self::poll_timeout) has passed.
    ///
    /// # Errors
    /// Any error ends the connection.
    fn on_timeout(&mut self, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        let _ = cx;
        Ok(())
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
}

/// Why a service ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceError {
    /// A message could not be sent.
    Send(SendError),
    /// The peer's message exceeds the limit.
    MessageTooLong {
        /// The longest message that is accepted, in bytes.
        max: usize,
    },
    /// The memory for messages, which all connections share, is exhausted.
    Overload,
    /// The application's own reason.
    Closed(CloseReason),
    /// The service panicked.
    Panicked,
}

impl ServiceError {
    /// One word for logs and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Send(_) => "not-sent",
            Self::MessageTooLong { .. } => "message-too-long",
            Self::Overload => "overload",
            Self::Closed(why) => Error::Aborted(why).code(),
            Self::Panicked => "panicked",
        }
    }

    /// The reason that the peer receives.
    pub(crate) const fn reason(self) -> CloseReason {
        match self {
            Self::MessageTooLong { .. } => CloseReason::Protocol,
            Self::Send(_) | Self::Overload | Self::Panicked => CloseReason::Application,
            Self::Closed(why) => why,
        }
    }
}

impl From<SendError> for ServiceError {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl From<QueueError> for ServiceError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Send(error) => Self::Send(error),
            QueueError::MemoryExhausted => Self::Overload,
        }
    }
}

impl From<CloseReason> for ServiceError {
    fn from(why: CloseReason) -> Self {
        Self::Closed(why)
    }
}

impl From<BufferError> for ServiceError {
    fn from(error: BufferError) -> Self {
        match error {
            BufferError::TooLong { max } => Self::MessageTooLong { max },
            BufferError::Exhausted => Self::Overload,
        }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(error) => write!(f, "a message was not sent: {error}"),
            Self::MessageTooLong { max } => write!(
                f,
                "the peer's message exceeds {max} bytes: raise the limit, or take messages in chunks"
            ),
            Self::Overload => f.write_str(
                "the memory for messages is exhausted: raise its limit, or lower the longest message",
            ),
            Self::Closed(why) => Error::Aborted(*why).fmt(f),
            Self::Panicked => f.write_str("the service panicked"),
        }
    }
}

impl core::error::Error for ServiceError {}

/// What a [`Service`] may do with its connection during a call.
pub struct Context<'a> {
    pub(crate) out: Outbox<'a>,
    pub(crate) queue: &'a mut dyn Queue,
    pub(crate) finishing: &'a mut bool,
    pub(crate) now: Instant,
}

impl Context<'_> {
    /// Sends a message: at once as far as there is room, the rest from a queue.
    ///
    /// # Errors
    /// [`SendError::Full`] when the queue has no room for it, [`SendError::TooLong`] when it never will,
    /// [`QueueError::MemoryExhausted`]; nothing of it was sent then. [`SendError::Finished`],
    /// [`SendError::Ended`].
    pub fn send(&mut self, message: &[u8]) -> Result<(), QueueError> {
        if *self.finishing {
            return Err(SendError::Finished.into());
        }
        self.queue.send(message, &mut self.out)
    }

    /// Sends a message of `len` bytes that `fill` writes in place: `fill(offset, space)` is called for
    /// consecutive pieces of it.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_with(
        &mut self,
        len: usize,
        mut fill: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), QueueError> {
        if *self.finishing {
            return Err(SendError::Finished.into());
        }
        self.queue.send_with(len, &mut self.out, &mut fill)
    }

    /// How many bytes of messages are queued behind the send buffer.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.queued()
    }

    /// No more messages from this side, after those that are queued. Idempotent.
    pub fn finish(&mut self) {
        *self.finishing = true;
    }

    /// Takes back [`finish`](Self::finish); returns whether it was called. For the adapters.
    #[doc(hidden)]
    pub fn take_finish(&mut self) -> bool {
        core::mem::take(self.finishing)
    }

    /// Ends the session in both directions with [`Error::Aborted`]; what the send buffer holds still
    /// goes out, what is queued does not.
    pub fn abort(&mut self, why: CloseReason) {
        self.out.abort(why);
    }

    /// The time at which the driver was polled.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("now", &self.now).finish_non_exhaustive()
    }
}

/// A [`SendQueue`] of any buffer.
pub(crate) trait Queue {
    fn send(&mut self, message: &[u8], out: &mut Outbox<'_>) -> Result<(), QueueError>;

    fn send_with(
        &mut self,
        len: usize,
        out: &mut Outbox<'_>,
        fill: &mut dyn FnMut(usize, &mut [u8]),
    ) -> Result<(), QueueError>;

    fn queued(&self) -> usize;
}

impl<B: MessageBuffer> Queue for SendQueue<B> {
    fn send(&mut self, message: &[u8], out: &mut Outbox<'_>) -> Result<(), QueueError> {
        self.send(message, out)
    }

    fn send_with(
        &mut self,
        len: usize,
        out: &mut Outbox<'_>,
        fill: &mut dyn FnMut(usize, &mut [u8]),
    ) -> Result<(), QueueError> {
        self.send_with(len, out, fill)
    }

    fn queued(&self) -> usize {
        self.len()
    }
}
