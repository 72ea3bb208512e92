use std::collections::VecDeque;

/// One direction of a connection in memory, of unlimited capacity.
#[derive(Debug, Default)]
pub struct Pipe {
    waiting: VecDeque<u8>,
    written: Vec<u8>,
    shut: bool,
}

impl Pipe {
    /// Makes a pipe that carries `bytes` and then the end of the stream.
    #[must_use]
    pub fn with(bytes: &[u8]) -> Self {
        Self { waiting: bytes.iter().copied().collect(), written: bytes.to_vec(), shut: true }
    }

    /// Accepts up to `limit` bytes of `bytes`. Returns how many.
    pub fn write(&mut self, bytes: &[u8], limit: usize) -> usize {
        let bytes = &bytes[..bytes.len().min(limit)];
        assert!(bytes.is_empty() || !self.shut, "written after the end of the stream");
        self.waiting.extend(bytes);
        self.written.extend_from_slice(bytes);
        bytes.len()
    }

    /// Fills up to `limit` bytes of `space`. Returns how many.
    pub fn read(&mut self, space: &mut [u8], limit: usize) -> usize {
        let n = space.len().min(limit).min(self.waiting.len());
        for (to, from) in space.iter_mut().zip(self.waiting.drain(..n)) {
            *to = from;
        }
        n
    }

    /// Ends the stream.
    pub fn shut(&mut self) {
        self.shut = true;
    }

    /// Whether everything was read and the stream has ended.
    #[must_use]
    pub fn at_end(&self) -> bool {
        self.shut && self.waiting.is_empty()
    }

    /// Returns all bytes ever written.
    #[must_use]
    pub fn written(&self) -> &[u8] {
        &self.written
    }
}
