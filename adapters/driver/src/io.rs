//! The transport, as a driver uses it.

/// How many bytes [`Io::discard`] reads at once unless overridden. They are on the stack, of which a
/// microcontroller has little.
const SCRATCH: usize = 64;

/// A non-blocking byte stream.
///
/// `Ok(None)` means that the operation would block: the adapter waits and polls the driver again.
/// Implementations retry interrupted calls.
pub trait Io {
    /// Why the transport fails.
    type Error;

    /// Reads into the front of `into`, which is not empty. `Some(0)`: the peer has shut its write side.
    ///
    /// # Errors
    /// The transport has failed.
    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Self::Error>;

    /// Whether [`read`](Self::read) may return bytes. Where it is known that it would block, the driver
    /// leases no buffer for it.
    fn may_read(&self) -> bool {
        true
    }

    /// Reads bytes and drops them; returns as [`read`](Self::read) does.
    ///
    /// # Errors
    /// The transport has failed.
    fn discard(&mut self) -> Result<Option<usize>, Self::Error> {
        self.read(&mut [0; SCRATCH])
    }

    /// Writes from the front of `from`, which is not empty.
    ///
    /// # Errors
    /// The transport has failed.
    fn write(&mut self, from: &[u8]) -> Result<Option<usize>, Self::Error>;

    /// Shuts the write side, or begins to: [`flush`](Self::flush) reports when it is shut. Called once.
    ///
    /// # Errors
    /// The transport has failed.
    fn shut_write(&mut self) -> Result<(), Self::Error>;

    /// Moves on what the transport itself buffers; returns whether all of it, and the end of stream
    /// after [`shut_write`](Self::shut_write), has left. Called when nothing more is to be written. The
    /// default is for transports without a buffer of their own.
    ///
    /// # Errors
    /// The transport has failed.
    fn flush(&mut self) -> Result<bool, Self::Error> {
        Ok(true)
    }

    /// Acknowledges received bytes to the peer at once, where the transport can.
    ///
    /// A TCP sender with Nagle's algorithm holds back the rest of a message until its first segment is
    /// acknowledged, while our side delays that acknowledgement by up to 40 ms.
    fn acknowledge(&mut self) {}
}
