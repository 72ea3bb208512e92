//! Memory for messages.

use core::fmt;

/// Why a [`MessageBuffer`] cannot grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BufferError {
    /// It would exceed the most that it may ever hold, in bytes.
    TooLong {
        /// The most that it may hold, in bytes.
        max: usize,
    },
    /// The memory that it shares with others is exhausted.
    Exhausted,
}

impl fmt::Display for BufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { max } => write!(f, "the message exceeds {max} bytes"),
            Self::Exhausted => f.write_str("the memory for messages is exhausted"),
        }
    }
}

impl core::error::Error for BufferError {}

/// Memory that grows with a message, up to a bound: an array in firmware ([`SliceBuffer`]), a share of
/// a common budget on a host.
pub trait MessageBuffer {
    /// The bytes in it.
    fn bytes(&self) -> &[u8];

    /// The same, to be written.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// The most bytes that it may hold.
    fn max_len(&self) -> usize;

    /// Makes sure that `additional` more bytes fit.
    ///
    /// # Errors
    /// They do not; nothing has changed.
    fn reserve(&mut self, additional: usize) -> Result<(), BufferError>;

    /// Appends `additional` zero bytes and returns them.
    ///
    /// # Errors
    /// They do not fit; nothing has changed.
    fn grow(&mut self, additional: usize) -> Result<&mut [u8], BufferError>;

    /// Appends `bytes`.
    ///
    /// # Errors
    /// They do not fit; nothing has changed.
    fn append(&mut self, bytes: &[u8]) -> Result<(), BufferError> {
        self.grow(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Drops the first `n` bytes.
    fn drop_front(&mut self, n: usize);

    /// Drops all bytes and gives the memory back.
    fn clear(&mut self);
}

/// A message buffer in memory of the caller.
#[derive(Debug)]
pub struct SliceBuffer<'b> {
    memory: &'b mut [u8],
    len: usize,
}

impl<'b> SliceBuffer<'b> {
    /// An empty buffer for at most `memory.len()` bytes.
    pub fn new(memory: &'b mut [u8]) -> Self {
        Self { memory, len: 0 }
    }
}

impl MessageBuffer for SliceBuffer<'_> {
    fn bytes(&self) -> &[u8] {
        &self.memory[..self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }

    fn max_len(&self) -> usize {
        self.memory.len()
    }

    fn reserve(&mut self, additional: usize) -> Result<(), BufferError> {
        let max = self.memory.len();
        if additional > max - self.len { Err(BufferError::TooLong { max }) } else { Ok(()) }
    }

    fn grow(&mut self, additional: usize) -> Result<&mut [u8], BufferError> {
        self.reserve(additional)?;
        let grown = &mut self.memory[self.len..][..additional];
        grown.fill(0);
        self.len += additional;
        Ok(grown)
    }

    fn drop_front(&mut self, n: usize) {
        let n = n.min(self.len);
        self.memory.copy_within(n..self.len, 0);
        self.len -= n;
    }

    fn clear(&mut self) {
        self.len = 0;
    }
}
