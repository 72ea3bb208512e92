//! The beginning of a message.

use countersign::Remaining;

/// Keeps the first `N` bytes of a message and drops the rest.
///
/// The device protocol responds to a message of any length, with an error if it is too long. One byte
/// more than the longest valid message is enough to detect that.
#[derive(Clone, Debug)]
pub(crate) struct MessagePrefix<const N: usize> {
    bytes: [u8; N],
    len: usize,
    complete: bool,
}

impl<const N: usize> MessagePrefix<N> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], len: 0, complete: false }
    }

    /// Adds a chunk. Returns the prefix if the message is complete.
    pub(crate) fn push(&mut self, chunk: &[u8], remaining: Remaining) -> Option<&[u8]> {
        if self.complete {
            self.len = 0;
        }
        let room = &mut self.bytes[self.len..];
        let kept = chunk.len().min(room.len());
        room[..kept].copy_from_slice(&chunk[..kept]);
        self.len += kept;
        self.complete = remaining == Remaining::End;
        self.complete.then_some(&self.bytes[..self.len])
    }
}
