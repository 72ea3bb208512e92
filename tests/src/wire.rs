use std::collections::VecDeque;

/// One direction of a connection in memory, without a limit.
#[derive(Debug, Default)]
pub struct Wire {
    waiting: VecDeque<u8>,
    written: Vec<u8>,
    shut: bool,
}

impl Wire {
    /// Makes a wire that carries `bytes` and then the end of the stream.
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

/// How many bytes move per step: the given numbers in a cycle.
#[derive(Clone, Debug)]
pub struct Pace {
    pieces: Vec<usize>,
    next: usize,
}

impl Pace {
    /// No limit.
    #[must_use]
    pub fn whole() -> Self {
        Self::pieces(vec![usize::MAX])
    }

    /// A cycle of `pieces`. Some of them may be 0, but not all.
    #[must_use]
    pub fn pieces(pieces: Vec<usize>) -> Self {
        assert!(pieces.iter().any(|&piece| piece > 0), "a pace of zeros only");
        Self { pieces, next: 0 }
    }

    /// Returns the next number.
    pub fn step(&mut self) -> usize {
        let piece = self.pieces[self.next % self.pieces.len()];
        self.next += 1;
        piece
    }

    /// Returns the length of the cycle.
    #[must_use]
    pub fn period(&self) -> usize {
        self.pieces.len()
    }
}
