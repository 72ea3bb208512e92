//! Splits messages into chunks, and queues what the send buffer does not take.

use countersign::{Outbox, Remaining, SendError};

use crate::message_buffer::{BufferError, MessageBuffer};
use crate::queue_error::QueueError;

/// Length of what precedes each queued message: its length, and how many of its bytes were sent, each a
/// `u64`.
const HEADER_LEN: usize = 16;

fn header(len: usize, sent: usize) -> [u8; HEADER_LEN] {
    ((len as u128) << 64 | sent as u128).to_be_bytes()
}

fn parse_header(header: [u8; HEADER_LEN]) -> (usize, usize) {
    let both = u128::from_be_bytes(header);
    ((both >> 64) as usize, both as usize)
}

/// Why a message that an empty queue could take was not queued.
const fn not_queued(error: BufferError) -> QueueError {
    match error {
        BufferError::TooLong { .. } => QueueError::Send(SendError::Full),
        BufferError::Exhausted => QueueError::MemoryExhausted,
    }
}

/// Messages of any length on their way to an [`Outbox`].
///
/// A message goes to the outbox in chunks, as many as fit at once; the rest waits in a
/// [`MessageBuffer`], behind those queued before.
#[derive(Debug)]
pub struct SendQueue<B> {
    /// Queued messages, each behind its header.
    buffer: B,
}

/// A message to send, of which one piece is handed over at a time.
trait Source {
    fn len(&self) -> usize;

    /// Hands the `n` bytes from `offset` on to the outbox, which takes all of them or none.
    fn send(
        &mut self,
        offset: usize,
        n: usize,
        remaining: Remaining,
        out: &mut Outbox<'_>,
    ) -> Result<(), SendError>;

    /// Appends the bytes from `offset` on to `buffer`.
    fn append(&mut self, offset: usize, buffer: &mut impl MessageBuffer)
    -> Result<(), BufferError>;
}

impl Source for &[u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn send(
        &mut self,
        offset: usize,
        n: usize,
        remaining: Remaining,
        out: &mut Outbox<'_>,
    ) -> Result<(), SendError> {
        out.send_chunk(&self[offset..][..n], remaining)
    }

    fn append(
        &mut self,
        offset: usize,
        buffer: &mut impl MessageBuffer,
    ) -> Result<(), BufferError> {
        buffer.append(&self[offset..])
    }
}

/// A message of `len` bytes: `fill(offset, space)` writes those from `offset` on.
struct Filled<F> {
    len: usize,
    fill: F,
}

impl<F: FnMut(usize, &mut [u8])> Source for Filled<F> {
    fn len(&self) -> usize {
        self.len
    }

    fn send(
        &mut self,
        offset: usize,
        n: usize,
        remaining: Remaining,
        out: &mut Outbox<'_>,
    ) -> Result<(), SendError> {
        out.send_with(n, remaining, |space| (self.fill)(offset, space))
    }

    fn append(
        &mut self,
        offset: usize,
        buffer: &mut impl MessageBuffer,
    ) -> Result<(), BufferError> {
        (self.fill)(offset, buffer.grow(self.len - offset)?);
        Ok(())
    }
}

/// Sends a message from where it is: as many chunks behind the first `sent` bytes as there is room for,
/// which it counts up. Another message may only follow when all of this one was sent.
///
/// # Errors
/// [`SendError::Full`] if there is more to send: call again when the outbox is writable. Others as
/// [`Outbox::send`].
pub fn send_from(
    out: &mut Outbox<'_>,
    mut message: &[u8],
    sent: &mut usize,
) -> Result<(), SendError> {
    send_chunks(out, &mut message, sent)
}

fn send_chunks(
    out: &mut Outbox<'_>,
    message: &mut impl Source,
    sent: &mut usize,
) -> Result<(), SendError> {
    let len = message.len();
    loop {
        let n = (len - *sent).min(out.max_chunk());
        let remaining = match len - *sent - n {
            0 => Remaining::End,
            more => Remaining::Bytes(more as u64),
        };
        message.send(*sent, n, remaining, out)?;
        *sent += n;
        if *sent == len {
            return Ok(());
        }
    }
}

impl<B: MessageBuffer> SendQueue<B> {
    /// Bytes that a queued message takes beside its own.
    pub const OVERHEAD: usize = HEADER_LEN;

    /// An empty queue of at most `buffer.max_len()` bytes.
    pub const fn new(buffer: B) -> Self {
        Self { buffer }
    }

    /// Whether all messages were handed to the outbox.
    pub fn is_empty(&self) -> bool {
        self.buffer.bytes().is_empty()
    }

    /// How many bytes are queued.
    pub fn len(&self) -> usize {
        self.buffer.bytes().len()
    }

    /// Sends a message, or queues what does not fit the outbox.
    ///
    /// # Errors
    /// [`SendError::Full`] when the queue has no room for it, [`SendError::TooLong`] when it never will,
    /// [`QueueError::MemoryExhausted`]; others as [`Outbox::send`]. Nothing of it was sent.
    pub fn send(&mut self, mut message: &[u8], out: &mut Outbox<'_>) -> Result<(), QueueError> {
        self.send_source(&mut message, out)
    }

    /// Sends a message of `len` bytes that `fill` writes in place: `fill(offset, space)` is called for
    /// consecutive pieces.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_with(
        &mut self,
        len: usize,
        out: &mut Outbox<'_>,
        fill: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), QueueError> {
        self.send_source(&mut Filled { len, fill }, out)
    }

    fn send_source(
        &mut self,
        message: &mut impl Source,
        out: &mut Outbox<'_>,
    ) -> Result<(), QueueError> {
        let len = message.len();
        if self.is_empty() && len <= out.max_chunk() {
            match message.send(0, len, Remaining::End, out) {
                Err(SendError::Full) => {}
                result => return result.map_err(QueueError::Send),
            }
        }
        self.send_and_queue(message, out)
    }

    /// Sends what finds room of a message, and queues the rest.
    #[cold]
    fn send_and_queue(
        &mut self,
        message: &mut impl Source,
        out: &mut Outbox<'_>,
    ) -> Result<(), QueueError> {
        let (len, mut sent) = (message.len(), 0);
        if self.is_empty() && len > out.max_chunk() {
            // Room for the rest is taken before the first chunk leaves: no message is sent in part.
            self.reserve(len)?;
            match send_chunks(out, message, &mut sent) {
                Err(SendError::Full) => {}
                result => {
                    self.buffer.clear();
                    return result.map_err(QueueError::Send);
                }
            }
        }
        let left = len - sent;
        self.reserve(left)?;
        let queued = self.buffer.append(&header(left, 0));
        queued.and_then(|()| message.append(sent, &mut self.buffer)).map_err(not_queued)
    }

    /// Makes sure that a message of `len` bytes can be queued.
    fn reserve(&mut self, len: usize) -> Result<(), QueueError> {
        let max = self.max_len();
        if len > max {
            return Err(SendError::TooLong { max }.into());
        }
        self.buffer.reserve(HEADER_LEN + len).map_err(not_queued)
    }

    /// The longest message that is certain to fit an empty queue, in bytes.
    pub fn max_len(&self) -> usize {
        self.buffer.max_len().saturating_sub(HEADER_LEN)
    }

    /// Hands queued messages to the outbox, as much of them as fits. Call it when the outbox is writable
    /// again. Returns whether anything was handed over.
    ///
    /// # Errors
    /// Every [`SendError`] but `Full`; then the queue is cleared, since nothing more can be sent.
    pub fn flush(&mut self, out: &mut Outbox<'_>) -> Result<bool, SendError> {
        let (mut done, mut moved) = (0, false);
        let result = loop {
            let queued = &self.buffer.bytes()[done..];
            let Some((header, rest)) = queued.split_first_chunk::<HEADER_LEN>() else {
                break Ok(());
            };
            let (len, before) = parse_header(*header);
            let mut sent = before;
            let result = send_from(out, &rest[..len], &mut sent);
            moved |= result.is_ok() || sent > before;
            match result {
                Ok(()) => done += HEADER_LEN + len,
                Err(SendError::Full) => {
                    let front = &mut self.buffer.bytes_mut()[done..][..HEADER_LEN];
                    front.copy_from_slice(&self::header(len, sent));
                    break Ok(());
                }
                Err(error) => break Err(error),
            }
        };
        if result.is_err() || done == self.buffer.bytes().len() {
            self.clear();
        } else if done > 0 {
            self.buffer.drop_front(done);
        }
        result.map(|()| moved)
    }

    /// Drops all queued messages and gives the memory back.
    pub fn clear(&mut self) {
        self.buffer.clear();
    }
}
