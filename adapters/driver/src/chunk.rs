//! A received message, or a piece of one.

use countersign::Remaining;

/// Consecutive bytes of a received message: all of it, or as much as the receive buffer holds.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// The bytes; at most [`Outbox::max_chunk`](countersign::Outbox::max_chunk).
    pub bytes: &'a [u8],
    /// Whether the message begins here.
    pub first: bool,
    /// What follows of the message.
    pub remaining: Remaining,
}

impl Chunk<'_> {
    /// Whether the message ends here. In a byte stream, which has no messages, every chunk counts as
    /// one.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(self.remaining, Remaining::End | Remaining::Unknown)
    }
}
