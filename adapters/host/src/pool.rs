//! Pools of buffers that connections share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use countersign::{Buffers, Config, Storage};

/// Free buffers that are kept for later leases. The others are deallocated.
const MAX_FREE: usize = 64;

/// A limited number of buffers of one length.
///
/// A lease that finds no free buffer enters a queue, and its waker is woken when a buffer is reserved for
/// it. The queue is in order of arrival, so that busy connections cannot starve others.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    len: usize,
    max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    #[allow(clippy::vec_box, reason = "a lease takes the box as it is")]
    free: Vec<Box<Busy>>,
    /// Number of leased buffers.
    leased: usize,
    /// The queue, by ticket. Tickets are numbered in order of arrival.
    waiting: BTreeMap<NonZeroU64, Waker>,
    /// Tickets for which a buffer is reserved. Their wakers were woken.
    reserved: BTreeSet<NonZeroU64>,
    last_ticket: u64,
}

impl Pool {
    /// A pool of at most `max` buffers of `len` bytes each. They are allocated on demand.
    #[must_use]
    pub fn new(len: usize, max: usize) -> Self {
        Self(Arc::new(Shared { len, max, state: Mutex::default() }))
    }

    /// Storage that can lease a buffer of this pool. If none is free, `waker` is woken when one is reserved
    /// for it.
    #[must_use]
    pub fn storage(&self, waker: &Waker) -> Lease {
        Lease { pool: self.0.clone(), state: LeaseState::Idle(waker.clone()) }
    }

    /// The number of leased buffers.
    #[must_use]
    pub fn leased(&self) -> usize {
        self.0.state().leased
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("len", &self.0.len).field("max", &self.0.max).finish()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that runs under the lock can leave the state inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves a free buffer for the first lease in the queue, and wakes it.
    fn reserve_next(&self, mut state: MutexGuard<'_, State>) {
        if state.leased + state.reserved.len() < self.max
            && let Some((ticket, waker)) = state.waiting.pop_first()
        {
            state.reserved.insert(ticket);
            drop(state);
            waker.wake();
        }
    }
}

/// Storage that leases a buffer of a [`Pool`] while it holds bytes.
pub struct Lease {
    pool: Arc<Shared>,
    state: LeaseState,
}

/// Kept small: every idle connection has two.
enum LeaseState {
    /// No buffer; what to wake when one is reserved.
    Idle(Waker),
    Busy(Box<Busy>),
}

/// A lease with a buffer, or in the queue for one. The pool keeps free buffers in it.
struct Busy {
    waker: Waker,
    /// Set while it is in the queue.
    ticket: Option<NonZeroU64>,
    /// Empty while it is in the queue.
    buffer: Box<[u8]>,
}

impl LeaseState {
    /// Takes the waker. The state is replaced next.
    fn take_waker(&mut self) -> Waker {
        match mem::replace(self, Self::Idle(Waker::noop().clone())) {
            Self::Idle(waker) => waker,
            Self::Busy(busy) => busy.waker,
        }
    }

    fn ticket(&self) -> Option<NonZeroU64> {
        match self {
            Self::Idle(_) => None,
            Self::Busy(busy) => busy.ticket,
        }
    }
}

impl Storage for Lease {
    fn capacity(&self) -> usize {
        self.pool.len
    }

    fn lease(&mut self) -> bool {
        let ticket = self.state.ticket();
        if ticket.is_none() && matches!(self.state, LeaseState::Busy(_)) {
            return true;
        }
        let mut state = self.pool.state();
        let available = match &ticket {
            Some(ticket) => state.reserved.remove(ticket),
            None => state.waiting.is_empty() && state.leased + state.reserved.len() < self.pool.max,
        };
        if available {
            state.leased += 1;
            let free = state.free.pop();
            drop(state);
            let waker = self.state.take_waker();
            self.state = LeaseState::Busy(match free {
                Some(mut busy) => {
                    busy.waker = waker;
                    busy
                }
                None => {
                    let buffer = vec![0; self.pool.len].into_boxed_slice();
                    Box::new(Busy { waker, ticket: None, buffer })
                }
            });
        } else if ticket.is_none() {
            state.last_ticket += 1;
            if let Some(ticket) = NonZeroU64::new(state.last_ticket) {
                let waker = self.state.take_waker();
                state.waiting.insert(ticket, waker.clone());
                let (ticket, buffer) = (Some(ticket), Box::default());
                self.state = LeaseState::Busy(Box::new(Busy { waker, ticket, buffer }));
            }
        }
        available
    }

    fn bytes(&self) -> &[u8] {
        match &self.state {
            LeaseState::Busy(busy) => &busy.buffer,
            LeaseState::Idle(_) => &[],
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.state {
            LeaseState::Busy(busy) => &mut busy.buffer,
            LeaseState::Idle(_) => &mut [],
        }
    }

    fn release(&mut self) {
        let LeaseState::Busy(busy) = &mut self.state else { return };
        let waker = mem::replace(&mut busy.waker, Waker::noop().clone());
        let LeaseState::Busy(busy) = mem::replace(&mut self.state, LeaseState::Idle(waker)) else {
            return;
        };
        let mut state = self.pool.state();
        if let Some(ticket) = busy.ticket {
            state.waiting.remove(&ticket);
            if state.reserved.remove(&ticket) {
                self.pool.reserve_next(state);
            }
        } else {
            state.leased -= 1;
            if state.free.len() < MAX_FREE {
                state.free.push(busy);
            }
            self.pool.reserve_next(state);
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
        let leased = matches!(&self.state, LeaseState::Busy(busy) if busy.ticket.is_none());
        f.debug_struct("Lease").field("leased", &leased).finish_non_exhaustive()
    }
}

/// The sizes of the three [`Pools`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PoolOptions {
    /// Handshakes in progress at once.
    pub handshakes: usize,
    /// Connections that hold received bytes at once.
    pub receiving: usize,
    /// Connections that hold bytes to send at once.
    pub sending: usize,
    /// Length of a receive buffer, and of a send buffer, in bytes.
    pub buffer_len: usize,
    /// Length of a handshake buffer, in bytes: [`Config::handshake_len`] of the sessions, or 1 KiB for any.
    pub handshake_len: usize,
}

/// The largest overhead of a framing for one message, in bytes.
const OVERHEAD: usize = 21;

impl PoolOptions {
    /// The default sizes, with handshake buffers for sessions of `config` alone.
    #[must_use]
    pub fn for_config(config: &Config) -> Self {
        Self { handshake_len: config.handshake_len(), ..Self::default() }
    }

    /// Sets the length of buffers to hold a message of `len` bytes in any framing. Longer messages are sent
    /// and received in chunks of that size.
    pub fn set_message_len(&mut self, len: usize) {
        self.buffer_len = len.saturating_add(OVERHEAD);
    }
}

impl Default for PoolOptions {
    /// 8192 handshakes of 1 KiB, and 1024 buffers in each direction for messages of 16 KiB: at most about
    /// 40 MiB for any number of connections.
    fn default() -> Self {
        Self {
            handshakes: 8192,
            receiving: 1024,
            sending: 1024,
            buffer_len: (16 << 10) + OVERHEAD,
            handshake_len: Pools::HANDSHAKE_LEN,
        }
    }
}

/// A pool for each of the three buffers of a session.
///
/// With one pool for both directions connections could deadlock: each holds received bytes, and none gets
/// a buffer to respond.
#[derive(Clone, Debug)]
pub struct Pools {
    /// For handshakes. Its size limits the number of unauthenticated connections.
    pub handshake: Pool,
    /// For received bytes.
    pub receive: Pool,
    /// For bytes to send.
    pub send: Pool,
}

impl Default for Pools {
    /// Pools of the default sizes.
    fn default() -> Self {
        Self::new(&PoolOptions::default())
    }
}

impl Pools {
    /// Length of a handshake buffer in bytes, sufficient for every scheme.
    pub const HANDSHAKE_LEN: usize = 1024;

    /// Pools of these sizes.
    #[must_use]
    pub fn new(options: &PoolOptions) -> Self {
        Self {
            handshake: Pool::new(options.handshake_len, options.handshakes),
            receive: Pool::new(options.buffer_len, options.receiving),
            send: Pool::new(options.buffer_len, options.sending),
        }
    }

    /// Storage for one session. No buffer is leased yet.
    #[must_use]
    pub fn buffers(&self, waker: &Waker) -> Buffers<Lease> {
        Buffers {
            handshake: self.handshake.storage(waker),
            receive: self.receive.storage(waker),
            send: self.send.storage(waker),
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

    fn storage(pool: &Pool) -> (Lease, Arc<Count>) {
        let count = Arc::new(Count::default());
        (pool.storage(&count.clone().into()), count)
    }

    fn woken(count: &Count) -> usize {
        count.0.load(Ordering::Relaxed)
    }

    #[test]
    fn leases_are_limited_and_queued_in_order() {
        let pool = Pool::new(8, 1);
        let (mut a, _) = storage(&pool);
        let (mut b, b_woken) = storage(&pool);
        let (mut c, c_woken) = storage(&pool);
        assert!(a.lease() && a.lease());
        assert_eq!((a.bytes().len(), pool.leased()), (8, 1));
        assert!(!b.lease() && !c.lease() && !b.lease());
        a.release();
        assert_eq!((woken(&b_woken), woken(&c_woken)), (1, 0));
        // The buffer is reserved for b.
        assert!(!a.lease() && !c.lease());
        assert!(b.lease());
        b.release();
        assert_eq!((woken(&b_woken), woken(&c_woken)), (1, 1));
        assert!(c.lease());
    }

    #[test]
    fn dropped_waiter_passes_its_reservation_on() {
        let pool = Pool::new(8, 1);
        let (mut a, _) = storage(&pool);
        let (mut b, b_woken) = storage(&pool);
        let (mut c, c_woken) = storage(&pool);
        let (mut d, d_woken) = storage(&pool);
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
