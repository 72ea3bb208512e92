//! Memory for whole messages, bounded for each message and for all of them together.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign_driver::{BufferError, MessageBuffer, MessageService, SendQueue, Service};

/// A budget for the messages of many connections. Clones share it.
///
/// It covers incoming messages that arrive in several chunks, and outgoing ones that wait for room.
/// Messages that fit a buffer take nothing from it, nor do those that a
/// [`ConnectionHandle`](crate::ConnectionHandle) has queued, which its own limit bounds.
#[derive(Clone)]
pub struct MessageMemory {
    budget: Arc<Budget>,
    incoming: Arc<Limit>,
    outgoing: Arc<Limit>,
}

/// What the buffers of one direction share, so that an idle connection keeps only pointers.
struct Limit {
    /// The most bytes in one buffer.
    max_len: usize,
    budget: Arc<Budget>,
}

struct Budget {
    max_message: usize,
    total: usize,
    used: AtomicUsize,
}

impl MessageMemory {
    /// The longest message unless configured otherwise, in bytes.
    pub const DEFAULT_MAX_MESSAGE: usize = 16 << 20;
    /// The budget for all messages unless configured otherwise, in bytes.
    pub const DEFAULT_TOTAL: usize = 256 << 20;

    /// A budget for messages of at most `max_message` bytes each and `total` bytes together; at least
    /// one message in each direction fits.
    #[must_use]
    pub fn new(max_message: usize, total: usize) -> Self {
        let max_queued = max_message.saturating_add(SendQueue::<MessageBytes>::OVERHEAD);
        let total = total.max(max_queued.saturating_mul(2));
        let budget = Arc::new(Budget { max_message, total, used: AtomicUsize::new(0) });
        let limit = |max_len| Arc::new(Limit { max_len, budget: budget.clone() });
        Self { incoming: limit(max_message), outgoing: limit(max_queued), budget }
    }

    /// The longest message, in bytes.
    #[must_use]
    pub fn max_message(&self) -> usize {
        self.budget.max_message
    }

    /// How many bytes are in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.budget.used.load(Ordering::Relaxed)
    }

    /// A service of whole messages as one of chunks, with memory of this budget.
    #[must_use]
    pub fn service<S: Service>(&self, service: S) -> MessageService<S, MessageBytes> {
        MessageService::new(service, self.message_buffer(), self.buffer())
    }

    /// An empty buffer for a [`SendQueue`] with room for one message of the longest kind.
    #[must_use]
    pub fn buffer(&self) -> MessageBytes {
        MessageBytes { limit: self.outgoing.clone(), contents: None }
    }

    /// An empty buffer for one message.
    #[must_use]
    pub fn message_buffer(&self) -> MessageBytes {
        MessageBytes { limit: self.incoming.clone(), contents: None }
    }
}

impl Default for MessageMemory {
    fn default() -> Self {
        Self::new(Self::DEFAULT_MAX_MESSAGE, Self::DEFAULT_TOTAL)
    }
}

impl fmt::Debug for MessageMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageMemory")
            .field("max_message", &self.budget.max_message)
            .field("total", &self.budget.total)
            .field("used", &self.used())
            .finish()
    }
}

impl Budget {
    fn take(&self, bytes: usize) -> Result<(), BufferError> {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&used| used <= self.total)
            })
            .map(|_| ())
            .map_err(|_| BufferError::Exhausted)
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A message's share of a [`MessageMemory`]. Most connections hold an empty one most of the time, so the
/// bytes are behind a pointer.
pub struct MessageBytes {
    limit: Arc<Limit>,
    contents: Option<Box<Contents>>,
}

#[derive(Default)]
struct Contents {
    bytes: Vec<u8>,
    /// Bytes taken from the budget.
    reserved: usize,
}

impl MessageBytes {
    /// Takes the bytes out, and returns their memory to the budget.
    pub fn take(&mut self) -> Vec<u8> {
        self.contents.take().map_or_else(Vec::new, |contents| {
            self.limit.budget.give_back(contents.reserved);
            contents.bytes
        })
    }

    /// The bytes, with capacity for all that is reserved, which is at least `additional` bytes more.
    fn reserve_capacity(&mut self, additional: usize) -> Result<&mut Vec<u8>, BufferError> {
        self.reserve(additional)?;
        let Contents { bytes, reserved } = &mut **self.contents.get_or_insert_default();
        if bytes.capacity() - bytes.len() < additional {
            bytes.reserve_exact(*reserved - bytes.len());
        }
        Ok(bytes)
    }
}

impl MessageBuffer for MessageBytes {
    fn bytes(&self) -> &[u8] {
        self.contents.as_ref().map_or(&[], |contents| &contents.bytes)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.contents.as_mut().map_or(&mut [], |contents| &mut contents.bytes)
    }

    fn max_len(&self) -> usize {
        self.limit.max_len
    }

    fn reserve(&mut self, additional: usize) -> Result<(), BufferError> {
        let (max, len, budget) = (self.max_len(), self.bytes().len(), &self.limit.budget);
        let needed = len.checked_add(additional).filter(|&needed| needed <= max);
        let needed = needed.ok_or(BufferError::TooLong { max: budget.max_message })?;
        let reserved = self.contents.as_ref().map_or(0, |contents| contents.reserved);
        if needed > reserved {
            // Of a message whose length is not known, twice as much each time.
            let wanted =
                if len > 0 { needed.max(reserved.saturating_mul(2)).min(max) } else { needed };
            let wanted = match budget.take(wanted - reserved) {
                Ok(()) => wanted,
                Err(_) => {
                    budget.take(needed - reserved)?;
                    needed
                }
            };
            self.contents.get_or_insert_default().reserved = wanted;
        }
        Ok(())
    }

    fn grow(&mut self, additional: usize) -> Result<&mut [u8], BufferError> {
        let bytes = self.reserve_capacity(additional)?;
        let start = bytes.len();
        bytes.resize(start + additional, 0);
        Ok(&mut bytes[start..])
    }

    fn append(&mut self, added: &[u8]) -> Result<(), BufferError> {
        self.reserve_capacity(added.len())?.extend_from_slice(added);
        Ok(())
    }

    fn drop_front(&mut self, n: usize) {
        if let Some(contents) = &mut self.contents {
            contents.bytes.drain(..n.min(contents.bytes.len()));
        }
    }

    fn clear(&mut self) {
        drop(self.take());
    }
}

impl Drop for MessageBytes {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for MessageBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageBytes").field("len", &self.bytes().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_for_each_and_for_all() {
        let memory = MessageMemory::new(100, 250);
        let (mut a, mut b, mut c) = (memory.buffer(), memory.buffer(), memory.buffer());
        assert_eq!(a.reserve(117), Err(BufferError::TooLong { max: 100 }));
        assert_eq!((a.max_len(), memory.message_buffer().max_len()), (116, 100));
        assert_eq!(memory.message_buffer().reserve(101), Err(BufferError::TooLong { max: 100 }));
        a.reserve(100).unwrap();
        b.grow(100).unwrap().fill(7);
        assert_eq!(memory.used(), 200);
        assert_eq!(c.grow(51).map(|_| ()), Err(BufferError::Exhausted));
        c.grow(50).unwrap();
        a.clear();
        drop(b);
        assert_eq!(memory.used(), 50);
        c.drop_front(20);
        assert_eq!(c.bytes().len(), 30);
        assert_eq!(c.take().len(), 30);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn growing_message_takes_what_is_left_of_the_budget() {
        let memory = MessageMemory::new(100, 216);
        let (mut a, mut b) = (memory.buffer(), memory.buffer());
        a.grow(100).unwrap();
        for _ in 0..10 {
            b.grow(10).unwrap();
        }
        assert!(memory.used() <= 216);
        assert_eq!(b.grow(20).map(|_| ()), Err(BufferError::TooLong { max: 100 }));
    }
}
