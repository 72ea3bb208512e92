//! Where a session keeps bytes: regions that the caller owns.

use core::ops::Range;

/// A region of bytes that can be leased and given back.
///
/// A session takes a lease when it has something to keep and gives it back when it has not, so
/// that many idle sessions can share few buffers. Plain memory (`[u8; N]`, `&mut [u8]`,
/// `Box<[u8]>`: whatever is `AsRef<[u8]>` and `AsMut<[u8]>`) is a region whose lease never fails.
pub trait Storage {
    /// Length of the region while leased, in bytes. Never changes.
    fn capacity(&self) -> usize;

    /// Takes the lease, or keeps it if already held. `false`: none can be had now; whoever lends
    /// the region wakes the session's driver when one can.
    fn lease(&mut self) -> bool;

    /// The region: [`capacity`](Self::capacity) bytes while leased, otherwise of any length and
    /// not to be used. Contents last as long as the lease.
    fn bytes(&self) -> &[u8];

    /// The region, to write to.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Gives the lease back, or stops waiting for one. Harmless when there is nothing to give.
    fn release(&mut self);
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Storage for T {
    fn capacity(&self) -> usize {
        self.as_ref().len()
    }

    fn lease(&mut self) -> bool {
        true
    }

    fn bytes(&self) -> &[u8] {
        self.as_ref()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.as_mut()
    }

    fn release(&mut self) {}
}

/// Which bytes of a region are in use: those from `start` to `end`.
///
/// There are many sessions and few regions of 4 GiB, so it is half as large as it could be, and of
/// a longer region only the first 4 GiB are used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// How much of `storage` is used, in bytes.
    pub(crate) fn capacity(storage: &(impl Storage + ?Sized)) -> usize {
        storage.capacity().min(u32::MAX as usize)
    }

    pub(crate) fn start(self) -> usize {
        self.start as usize
    }

    pub(crate) fn end(self) -> usize {
        self.end as usize
    }

    pub(crate) fn len(self) -> usize {
        self.end() - self.start()
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    pub(crate) fn range(self) -> Range<usize> {
        self.start()..self.end()
    }

    /// The first `n` bytes are no longer in use.
    pub(crate) fn drop_front(&mut self, n: usize) {
        self.start += n as u32;
    }

    /// So are the next `n`.
    pub(crate) fn grow(&mut self, n: usize) {
        self.end += n as u32;
    }

    /// Moves them to the front of their region.
    pub(crate) fn compact(&mut self, bytes: &mut [u8]) {
        bytes.copy_within(self.range(), 0);
        (self.start, self.end) = (0, self.end - self.start);
    }

    /// None are.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The three regions of one session. The lengths that a session asks for are in
/// [`ConfigError`](crate::ConfigError); [`Config`](crate::Config) knows the least of each.
#[derive(Debug)]
pub struct Buffers<B> {
    /// Held from construction until the handshake is over and its last byte is sent.
    pub handshake: B,
    /// Held while received bytes wait to be parsed or consumed.
    pub receive: B,
    /// Held while sent bytes wait to be transmitted.
    pub send: B,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A region that says how long it is and has no bytes.
    struct Long(usize);

    impl Storage for Long {
        fn capacity(&self) -> usize {
            self.0
        }

        fn lease(&mut self) -> bool {
            false
        }

        fn bytes(&self) -> &[u8] {
            &[]
        }

        fn bytes_mut(&mut self) -> &mut [u8] {
            &mut []
        }

        fn release(&mut self) {}
    }

    #[test]
    fn a_span_grows_behind_and_shrinks_in_front() {
        let mut span = Span::default();
        assert!(span.is_empty());
        span.grow(5);
        span.drop_front(2);
        span.grow(1);
        assert_eq!((span.start(), span.end(), span.len()), (2, 6, 4));
        assert_eq!(span.range(), 2..6);
        assert!(!span.is_empty());
        span.drop_front(4);
        assert!(span.is_empty());
        assert_eq!((span.len(), span.start()), (0, 6));
        span.clear();
        assert_eq!(span.range(), 0..0);
    }

    #[test]
    fn compacting_moves_what_is_in_use_to_the_front_and_nothing_else() {
        let mut bytes = *b"abcdefgh";
        let mut span = Span::default();
        span.grow(6);
        span.drop_front(4);
        span.compact(&mut bytes);
        assert_eq!(span.range(), 0..2);
        assert_eq!(&bytes, b"efcdefgh");
        // What overlaps its new place, too.
        span.grow(4);
        span.drop_front(1);
        span.compact(&mut bytes);
        assert_eq!(span.range(), 0..5);
        assert_eq!(&bytes, b"fcdeffgh");
    }

    #[test]
    fn plain_memory_is_a_region_whose_lease_never_fails() {
        let mut region = [7; 3];
        assert!(region.lease());
        assert_eq!((region.capacity(), region.bytes()), (3, &[7; 3][..]));
        region.bytes_mut()[0] = 1;
        region.release();
        assert_eq!(region.bytes(), [1, 7, 7]);
    }

    #[test]
    fn of_a_long_region_the_first_4_gib_are_used() {
        assert_eq!(Span::capacity(&Long(17)), 17);
        assert_eq!(Span::capacity(&Long(u32::MAX as usize)), u32::MAX as usize);
        assert_eq!(Span::capacity(&Long(usize::MAX)), u32::MAX as usize);
    }
}
