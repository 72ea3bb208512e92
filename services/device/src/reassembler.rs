//! One short message out of its parts.

use countersign::Remaining;

/// What has come of a message, at most `N` bytes. A longest message of `N - 1` bytes can be told from
/// a longer one, of which the rest is dropped.
#[derive(Clone, Debug)]
pub(super) struct Reassembler<const N: usize> {
    bytes: [u8; N],
    len: usize,
    whole: bool,
}

impl<const N: usize> Reassembler<N> {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; N], len: 0, whole: false }
    }

    /// Adds a part. The message, or what was kept of it, if it was its last.
    pub(super) fn push(&mut self, chunk: &[u8], remaining: Remaining) -> Option<&[u8]> {
        if self.whole {
            self.len = 0;
        }
        let room = &mut self.bytes[self.len..];
        let kept = chunk.len().min(room.len());
        room[..kept].copy_from_slice(&chunk[..kept]);
        self.len += kept;
        self.whole = remaining == Remaining::End;
        self.whole.then_some(&self.bytes[..self.len])
    }
}
