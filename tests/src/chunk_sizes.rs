/// How many bytes each read or write moves: a repeating cycle of sizes.
#[derive(Clone, Debug)]
pub struct ChunkSizes {
    cycle: Vec<usize>,
    next: usize,
}

impl ChunkSizes {
    /// No limit.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::cycle(vec![usize::MAX])
    }

    /// Repeats `sizes`. Some of them may be 0, but not all.
    #[must_use]
    pub fn cycle(sizes: Vec<usize>) -> Self {
        assert!(sizes.iter().any(|&size| size > 0), "all chunk sizes are 0");
        Self { cycle: sizes, next: 0 }
    }

    /// Returns the next size.
    pub fn next_size(&mut self) -> usize {
        let size = self.cycle[self.next % self.cycle.len()];
        self.next += 1;
        size
    }

    /// Returns the length of the cycle.
    #[must_use]
    pub fn period(&self) -> usize {
        self.cycle.len()
    }
}
