//! The transport as a turn sees it.

/// A non-blocking byte stream. `Ok(None)` is "nothing now": the adapter waits and takes another
/// turn. Interruptions are the implementation's to retry.
pub trait Io {
    /// What can go wrong with it.
    type Error;

    /// Reads to the front of `into`, which is not empty. `Some(0)`: the peer has shut its write
    /// side.
    ///
    /// # Errors
    /// The transport has failed.
    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Self::Error>;

    /// Whether it may be that [`read`](Self::read) gives something. Where it is known that it does not,
    /// no buffer needs to be had for it.
    fn may_read(&self) -> bool {
        true
    }

    /// Writes from the front of `from`, which is not empty.
    ///
    /// # Errors
    /// The transport has failed.
    fn write(&mut self, from: &[u8]) -> Result<Option<usize>, Self::Error>;

    /// Shuts the write side, or begins to: [`flush`](Self::flush) says when it is shut. Called once.
    ///
    /// # Errors
    /// The transport has failed.
    fn shut_write(&mut self) -> Result<(), Self::Error>;

    /// Whether all that was written, and the end if the write side was to be shut, has left; sees to it
    /// that it does. Called when there is no more to write. A transport that holds nothing back has
    /// nothing to do.
    ///
    /// # Errors
    /// The transport has failed.
    fn flush(&mut self) -> Result<bool, Self::Error> {
        Ok(true)
    }

    /// Has the peer know at once that all it sent has arrived. A TCP that holds small segments back
    /// (Nagle's algorithm) sends the rest of a message only then, and ours is in no hurry to say so:
    /// together they wait for 40 ms. Nothing where there is no such thing.
    fn acknowledge(&mut self) {}
}
