use std::collections::VecDeque;

/// One direction of a connection, without bounds.
#[derive(Debug, Default)]
pub struct Wire {
    waiting: VecDeque<u8>,
    carried: Vec<u8>,
    shut: bool,
}

impl Wire {
    /// A wire on which `bytes` wait and nothing more comes.
    #[must_use]
    pub fn with(bytes: &[u8]) -> Self {
        Self { waiting: bytes.iter().copied().collect(), carried: bytes.to_vec(), shut: true }
    }

    /// Takes at most `limit` of `bytes`; returns how many.
    pub fn write(&mut self, bytes: &[u8], limit: usize) -> usize {
        let bytes = &bytes[..bytes.len().min(limit)];
        assert!(bytes.is_empty() || !self.shut, "written to after the write side was shut");
        self.waiting.extend(bytes);
        self.carried.extend_from_slice(bytes);
        bytes.len()
    }

    /// Fills at most `limit` bytes of `space`; returns how many.
    pub fn read(&mut self, space: &mut [u8], limit: usize) -> usize {
        let n = space.len().min(limit).min(self.waiting.len());
        for (to, from) in space.iter_mut().zip(self.waiting.drain(..n)) {
            *to = from;
        }
        n
    }

    /// Nothing more comes.
    pub fn shut(&mut self) {
        self.shut = true;
    }

    /// Whether all was read and nothing more comes.
    #[must_use]
    pub fn at_end(&self) -> bool {
        self.shut && self.waiting.is_empty()
    }

    /// All that was ever written.
    #[must_use]
    pub fn carried(&self) -> &[u8] {
        &self.carried
    }
}

/// How many bytes move at a time: the given numbers, over and over.
#[derive(Clone, Debug)]
pub struct Pace {
    pieces: Vec<usize>,
    next: usize,
}

impl Pace {
    /// As many as there are.
    #[must_use]
    pub fn whole() -> Self {
        Self::pieces(vec![usize::MAX])
    }

    /// `pieces`, some of which may be 0 but not all.
    #[must_use]
    pub fn pieces(pieces: Vec<usize>) -> Self {
        assert!(pieces.iter().any(|&piece| piece > 0), "a pace at which nothing moves");
        Self { pieces, next: 0 }
    }

    /// The next number.
    pub fn step(&mut self) -> usize {
        let piece = self.pieces[self.next % self.pieces.len()];
        self.next += 1;
        piece
    }

    /// After how many steps it begins again.
    #[must_use]
    pub fn period(&self) -> usize {
        self.pieces.len()
    }
}
