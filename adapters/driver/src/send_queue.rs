//! Splits messages into chunks, and queues what the send buffer does not take.

use countersign::{Outbox, Remaining, SendError};

use crate::message_buffer::MessageBuffer;

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

/// Messages of any length on their way to an [`Outbox`].
///
/// A message goes to the outbox in chunks, as many as fit at once; the rest waits in a
/// [`MessageBuffer`], behind those queued before.
#[derive(Debug)]
pub struct SendQueue<B> {
    /// Queued messages, each behind its header.
    buffer: B,
}

/// Sends a message from where it is: as many chunks behind the first `sent` bytes as there is room for,
/// which it counts up. Another message may only follow when all of this one was sent.
///
/// # Errors
/// [`SendError::Full`] if there is more to send: call again when the outbox is writable. Others as
/// [`Outbox::send`].
pub fn send_from(out: &mut Outbox<'_>, message: &[u8], sent: &mut usize) -> Result<(), SendError> {
    send_with(out, message.len(), sent, |offset, space| {
        space.copy_from_slice(&message[offset..][..space.len()]);
    })
}

/// As [`send_from`], for a message of `len` bytes: `fill(offset, space)` writes the bytes from `offset` on.
fn send_with(
    out: &mut Outbox<'_>,
    len: usize,
    sent: &mut usize,
    mut fill: impl FnMut(usize, &mut [u8]),
) -> Result<(), SendError> {
    loop {
        let n = (len - *sent).min(out.max_chunk());
        let remaining = match len - *sent - n {
            0 => Remaining::End,
            more => Remaining::Bytes(more as u64),
        };
        fill(*sent, out.send_space(n, remaining)?);
        out.commit();
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
    /// [`SendError::Full`]: the queue has no room for it, and nothing of it was sent. Others as
    /// [`Outbox::send`].
    pub fn send(&mut self, message: &[u8], out: &mut Outbox<'_>) -> Result<(), SendError> {
        self.send_with(message.len(), out, |offset, space| {
            space.copy_from_slice(&message[offset..][..space.len()]);
        })
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
        mut fill: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), SendError> {
        let mut sent = 0;
        if self.is_empty() {
            // Room for the rest is taken before the first chunk leaves: no message is sent in part.
            if len > out.max_chunk() {
                self.reserve(len)?;
            }
            match send_with(out, len, &mut sent, &mut fill) {
                Err(SendError::Full) => {}
                result => {
                    self.buffer.clear();
                    return result;
                }
            }
        }
        let left = len - sent;
        self.reserve(left)?;
        let room = self.buffer.grow(HEADER_LEN + left).map_err(|_| SendError::Full)?;
        let (header, body) = room.split_at_mut(HEADER_LEN);
        header.copy_from_slice(&self::header(left, 0));
        fill(sent, body);
        Ok(())
    }

    /// Makes sure that a message of `len` bytes can be queued.
    fn reserve(&mut self, len: usize) -> Result<(), SendError> {
        let max = self.max_len();
        if len > max {
            return Err(SendError::TooLong { max });
        }
        self.buffer.reserve(HEADER_LEN + len).map_err(|_| SendError::Full)
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
