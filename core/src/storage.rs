//! The buffers of a session, which the caller owns.

use core::ops::Range;

/// A buffer that a session leases while it has bytes to keep.
///
/// A session takes the lease when it has bytes to store and releases it when it has none, so that
/// many idle sessions can share a few buffers. Plain memory (`[u8; N]`, `&mut [u8]`, `Box<[u8]>`: any
/// type that is `AsRef<[u8]>` and `AsMut<[u8]>`) is a buffer whose lease always succeeds.
///
/// ```
/// use std::cell::RefCell;
/// use std::rc::Rc;
///
/// use countersign::Storage;
///
/// /// A buffer of 1024 bytes from a shared pool.
/// struct Pooled {
///     pool: Rc<RefCell<Vec<Box<[u8]>>>>,
///     lease: Option<Box<[u8]>>,
/// }
///
/// impl Storage for Pooled {
///     fn capacity(&self) -> usize {
///         1024
///     }
///     fn lease(&mut self) -> bool {
///         if self.lease.is_none() {
///             self.lease = self.pool.borrow_mut().pop();
///         }
///         self.lease.is_some()
///     }
///     fn bytes(&self) -> &[u8] {
///         self.lease.as_deref().unwrap_or_default()
///     }
///     fn bytes_mut(&mut self) -> &mut [u8] {
///         self.lease.as_deref_mut().unwrap_or_default()
///     }
///     fn release(&mut self) {
///         // A real pool also wakes a session that is `awaiting_buffer`.
///         self.pool.borrow_mut().extend(self.lease.take());
///     }
/// }
///
/// let pool = Rc::new(RefCell::new(vec![vec![0; 1024].into_boxed_slice()]));
/// let [mut a, mut b] = [(); 2].map(|()| Pooled { pool: Rc::clone(&pool), lease: None });
/// assert!(a.lease() && !b.lease());
/// a.release();
/// assert!(b.lease());
/// ```
pub trait Storage {
    /// Length of the buffer while leased, in bytes. Constant.
    fn capacity(&self) -> usize;

    /// Takes the lease, or keeps it if it is already held. Returns `false` if no lease is available
    /// now; the owner of the buffers then wakes the driver of the session when one is.
    fn lease(&mut self) -> bool;

    /// The buffer: [`capacity`](Self::capacity) bytes while leased. Without a lease the session does
    /// not use the bytes, and their number is arbitrary. Contents are kept as long as the lease.
    fn bytes(&self) -> &[u8];

    /// The buffer, writable; otherwise as [`bytes`](Self::bytes).
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Releases the lease, or stops waiting for one. No effect if there is neither.
    fn release(&mut self);

    /// Whether others wait for a lease. A session that holds one then takes nothing more into the buffer
    /// than completes what it has, and so returns the lease as soon as it can.
    fn contended(&self) -> bool {
        false
    }

    /// Whether the owner of the buffers wants this lease back at once, because its holder has more than
    /// its share while others wait. The session then ends with [`Error::Overload`](crate::Error::Overload).
    fn is_revoked(&self) -> bool {
        false
    }
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

/// The bytes of a buffer that are in use, from `start` to `end`.
///
/// `u32` keeps sessions small. Of a longer buffer only the first 4 GiB are used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UsedRange {
    start: u32,
    end: u32,
}

impl UsedRange {
    /// The usable length of `storage`, in bytes.
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

    /// Removes the first `n` bytes from the range.
    pub(crate) fn advance(&mut self, n: usize) {
        self.start += n as u32;
    }

    /// Adds the next `n` bytes to the range.
    pub(crate) fn extend(&mut self, n: usize) {
        self.end += n as u32;
    }

    /// Moves the bytes to the front of the buffer.
    pub(crate) fn compact(&mut self, bytes: &mut [u8]) {
        bytes.copy_within(self.range(), 0);
        (self.start, self.end) = (0, self.end - self.start);
    }

    /// Makes the range empty and starts it at the front.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The three buffers of one session.
///
/// [`Config::handshake_len`](crate::Config::handshake_len),
/// [`Config::receive_len`](crate::Config::receive_len) and
/// [`Config::MIN_BUFFER`](crate::Config::MIN_BUFFER) are the least lengths. The longer the receive
/// and send buffers, the longer the chunks.
///
/// ```
/// use countersign::{Buffers, Config, Digest, Scheme};
///
/// let config = Config::new(Scheme::Challenge { digest: Digest::Sha256 });
/// let buffers = Buffers {
///     handshake: vec![0; config.handshake_len()].into_boxed_slice(),
///     receive: vec![0; 16 * 1024].into_boxed_slice(),
///     send: vec![0; 16 * 1024].into_boxed_slice(),
/// };
/// assert!(buffers.receive.len() >= config.receive_len());
/// ```
#[derive(Debug)]
pub struct Buffers<B> {
    /// Leased from the creation of the session until the last byte of the handshake is sent.
    pub handshake: B,
    /// Leased while received bytes wait to be parsed or consumed.
    pub receive: B,
    /// Leased while queued bytes wait to be transmitted.
    pub send: B,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buffer that reports a length and has no bytes.
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
    fn used_range_extends_and_advances() {
        let mut used = UsedRange::default();
        assert!(used.is_empty());
        used.extend(5);
        used.advance(2);
        used.extend(1);
        assert_eq!((used.start(), used.end(), used.len()), (2, 6, 4));
        assert_eq!(used.range(), 2..6);
        assert!(!used.is_empty());
        used.advance(4);
        assert!(used.is_empty());
        assert_eq!((used.len(), used.start()), (0, 6));
        used.clear();
        assert_eq!(used.range(), 0..0);
    }

    #[test]
    fn compact_moves_only_the_used_bytes_to_the_front() {
        let mut bytes = *b"abcdefgh";
        let mut used = UsedRange::default();
        used.extend(6);
        used.advance(4);
        used.compact(&mut bytes);
        assert_eq!(used.range(), 0..2);
        assert_eq!(&bytes, b"efcdefgh");
        // Overlapping source and destination.
        used.extend(4);
        used.advance(1);
        used.compact(&mut bytes);
        assert_eq!(used.range(), 0..5);
        assert_eq!(&bytes, b"fcdeffgh");
    }

    #[test]
    fn plain_memory_always_grants_its_lease() {
        let mut region = [7; 3];
        assert!(region.lease());
        assert_eq!((region.capacity(), region.bytes()), (3, &[7; 3][..]));
        region.bytes_mut()[0] = 1;
        region.release();
        assert_eq!(region.bytes(), [1, 7, 7]);
    }

    #[test]
    fn capacity_is_capped_at_4_gib() {
        assert_eq!(UsedRange::capacity(&Long(17)), 17);
        assert_eq!(UsedRange::capacity(&Long(u32::MAX as usize)), u32::MAX as usize);
        assert_eq!(UsedRange::capacity(&Long(usize::MAX)), u32::MAX as usize);
    }
}
