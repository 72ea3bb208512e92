//! Buffers that many connections share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use countersign::{Buffers, Storage};

/// Free buffers that are kept for the next lease; more are given back to the allocator.
const KEEP: usize = 64;

/// A capped set of buffers of one length. Whoever finds none to lease is queued, and woken when
/// it has one: in order, so that the busy cannot starve the patient.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    len: usize,
    max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    free: Vec<Box<[u8]>>,
    /// Leased.
    out: usize,
    /// Who waits, by ticket; tickets are drawn in order.
    waiting: BTreeMap<NonZeroU64, Waker>,
    /// Tickets whose holder was woken and has a buffer coming.
    granted: BTreeSet<NonZeroU64>,
    tickets: u64,
}

impl Pool {
    /// A pool of at most `max` buffers, each `len` bytes, made as they are needed.
    #[must_use]
    pub fn new(len: usize, max: usize) -> Self {
        Self(Arc::new(Shared { len, max, state: Mutex::default() }))
    }

    /// A region of this pool, not leased. `wake` is woken when a lease that was not to be had is.
    #[must_use]
    pub fn region(&self, wake: &Waker) -> Lease {
        Lease { pool: self.0.clone(), held: Held::Ticket(None), wake: wake.clone() }
    }

    /// How many buffers are leased.
    #[must_use]
    pub fn leased(&self) -> usize {
        self.0.state().out
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("len", &self.0.len).field("max", &self.0.max).finish()
    }
}

impl Shared {
    /// No code runs under the lock that could leave the state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a free place to the first who waits, and wakes it.
    fn grant(&self, mut state: MutexGuard<'_, State>) {
        if state.out + state.granted.len() < self.max
            && let Some((ticket, wake)) = state.waiting.pop_first()
        {
            state.granted.insert(ticket);
            drop(state);
            wake.wake();
        }
    }
}

/// A region that a [`Pool`] lends.
pub struct Lease {
    pool: Arc<Shared>,
    held: Held,
    wake: Waker,
}

/// Every idle connection has three: small.
enum Held {
    /// Not a buffer, but perhaps a place in the queue for one.
    Ticket(Option<NonZeroU64>),
    Buffer(Box<[u8]>),
}

impl Storage for Lease {
    fn capacity(&self) -> usize {
        self.pool.len
    }

    fn lease(&mut self) -> bool {
        let Held::Ticket(ticket) = &mut self.held else { return true };
        let mut state = self.pool.state();
        let had = match ticket {
            Some(ticket) => state.granted.remove(ticket),
            None => state.waiting.is_empty() && state.out + state.granted.len() < self.pool.max,
        };
        if had {
            state.out += 1;
            let free = state.free.pop();
            drop(state);
            let buffer = free.unwrap_or_else(|| vec![0; self.pool.len].into_boxed_slice());
            self.held = Held::Buffer(buffer);
        } else if ticket.is_none() {
            state.tickets += 1;
            *ticket = NonZeroU64::new(state.tickets);
            if let Some(ticket) = *ticket {
                state.waiting.insert(ticket, self.wake.clone());
            }
        }
        had
    }

    fn bytes(&self) -> &[u8] {
        match &self.held {
            Held::Buffer(buffer) => buffer,
            Held::Ticket(_) => &[],
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.held {
            Held::Buffer(buffer) => buffer,
            Held::Ticket(_) => &mut [],
        }
    }

    fn release(&mut self) {
        match std::mem::replace(&mut self.held, Held::Ticket(None)) {
            Held::Ticket(None) => {}
            Held::Ticket(Some(ticket)) => {
                let mut state = self.pool.state();
                state.waiting.remove(&ticket);
                if state.granted.remove(&ticket) {
                    self.pool.grant(state);
                }
            }
            Held::Buffer(buffer) => {
                let mut state = self.pool.state();
                state.out -= 1;
                if state.free.len() < KEEP {
                    state.free.push(buffer);
                }
                self.pool.grant(state);
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leased = matches!(self.held, Held::Buffer(_));
        f.debug_struct("Lease").field("leased", &leased).finish_non_exhaustive()
    }
}

/// The sizes of the three [`Pools`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PoolOptions {
    /// How many handshakes may be under way at once.
    pub handshakes: usize,
    /// How many connections may hold received bytes at once.
    pub receiving: usize,
    /// How many may hold bytes to send at once.
    pub sending: usize,
    /// Length of a receive and of a send buffer in bytes.
    pub buffer_len: usize,
}

/// The most that any framing puts around a message, in bytes.
const OVERHEAD: usize = 21;

impl PoolOptions {
    /// Buffers with room for a message of `len` bytes and what any framing puts around it: so much is
    /// read at once, and written. Longer messages come in parts.
    pub fn set_message_len(&mut self, len: usize) {
        self.buffer_len = len.saturating_add(OVERHEAD);
    }
}

impl Default for PoolOptions {
    /// 8192 handshakes of 1 KiB, and 1024 buffers each way with room for a message of 16 KiB and
    /// what any framing puts around it: at most some 40 MiB, however many connect.
    fn default() -> Self {
        Self { handshakes: 8192, receiving: 1024, sending: 1024, buffer_len: (16 << 10) + OVERHEAD }
    }
}

/// A pool for each of a session's buffers. One pool for both directions would let honest peers
/// block each other: each holding what it received, none able to answer.
#[derive(Clone, Debug)]
pub struct Pools {
    /// Its size bounds the connections that have not authenticated.
    pub handshake: Pool,
    /// Received bytes.
    pub receive: Pool,
    /// Bytes to send.
    pub send: Pool,
}

impl Pools {
    /// Length of a handshake buffer in bytes; enough for every scheme.
    pub const HANDSHAKE_LEN: usize = 1024;

    /// Empty pools.
    #[must_use]
    pub fn new(options: &PoolOptions) -> Self {
        Self {
            handshake: Pool::new(Self::HANDSHAKE_LEN, options.handshakes),
            receive: Pool::new(options.buffer_len, options.receiving),
            send: Pool::new(options.buffer_len, options.sending),
        }
    }

    /// Regions for one session, none of them leased.
    #[must_use]
    pub fn buffers(&self, wake: &Waker) -> Buffers<Lease> {
        Buffers {
            handshake: self.handshake.region(wake),
            receive: self.receive.region(wake),
            send: self.send.region(wake),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn region(pool: &Pool) -> (Lease, Arc<Count>) {
        let count = Arc::new(Count::default());
        (pool.region(&count.clone().into()), count)
    }

    fn woken(count: &Count) -> usize {
        count.0.load(Ordering::Relaxed)
    }

    #[test]
    fn leases_are_capped_and_the_first_in_the_queue_is_woken() {
        let pool = Pool::new(8, 1);
        let (mut a, _) = region(&pool);
        let (mut b, b_woken) = region(&pool);
        let (mut c, c_woken) = region(&pool);
        assert!(a.lease() && a.lease());
        assert_eq!((a.bytes().len(), pool.leased()), (8, 1));
        assert!(!b.lease() && !c.lease() && !b.lease());
        a.release();
        assert_eq!((woken(&b_woken), woken(&c_woken)), (1, 0));
        // What was promised to b nobody else gets.
        assert!(!a.lease() && !c.lease());
        assert!(b.lease());
        b.release();
        assert_eq!((woken(&b_woken), woken(&c_woken)), (1, 1));
        assert!(c.lease());
    }

    #[test]
    fn who_leaves_the_queue_is_not_woken_and_passes_its_grant_on() {
        let pool = Pool::new(8, 1);
        let (mut a, _) = region(&pool);
        let (mut b, b_woken) = region(&pool);
        let (mut c, c_woken) = region(&pool);
        let (mut d, d_woken) = region(&pool);
        assert!(a.lease() && !b.lease() && !c.lease() && !d.lease());
        b.release();
        a.release();
        assert_eq!((woken(&b_woken), woken(&c_woken), woken(&d_woken)), (0, 1, 0));
        drop(c);
        assert_eq!(woken(&d_woken), 1);
        assert!(d.lease());
        drop(d);
        assert_eq!(pool.leased(), 0);
        assert!(b.lease());
    }
}
