//! Pools of buffers that connections share.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign::{Buffers, Config, Storage};

use crate::lease_holder::LeaseHolder;
use crate::principal::Principal;
use crate::shares::{Group, Member};

/// Free buffers that are kept for later leases. The others are deallocated.
const MAX_FREE: usize = 64;
/// For how long a lease that exceeds its holder's share is left alone, and for how long others wait before
/// it is revoked. Honest connections return a lease much sooner while others wait.
const GRACE: Duration = Duration::from_millis(250);

/// A limited number of buffers of one length.
///
/// A lease that finds no free buffer enters a queue, and its holder is woken when a buffer is reserved for
/// it. The principal that holds least is served first, and within it the address that holds least, then in
/// order of arrival. While others wait, each principal's share is an equal part of the pool: the oldest
/// lease of the one that exceeds it most is revoked, after 250 ms.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    len: usize,
    max: usize,
    /// Whether leases wait: read without the lock.
    contended: AtomicBool,
    /// Whether leases are revoked and not returned yet: read without the lock.
    revoking: AtomicBool,
    /// Whether leases can be revoked: who holds which is kept.
    revocable: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    #[allow(clippy::vec_box, reason = "a lease takes the box as it is")]
    free: Vec<Box<Busy>>,
    /// The leases with a buffer. Leases are numbered in the order in which they came, when they entered
    /// the queue and again when they got a buffer.
    held: BTreeMap<u64, Held>,
    /// The number of leases with a buffer that cannot be revoked.
    irrevocable: usize,
    /// The leases for which a buffer is reserved. Their holders were woken.
    reserved: BTreeMap<u64, Principal>,
    /// The leases in the queue.
    waiting: BTreeMap<u64, Principal>,
    /// Who holds and waits for how much. Not kept while buffers are plenty: it would take more time than a
    /// lease itself.
    shares: Option<Shares>,
    last_number: u64,
}

/// A leased buffer.
struct Held {
    holder: LeaseHolder,
    principal: Principal,
    /// It is in no share any more.
    revoked: bool,
}

/// By principal, then by address.
struct Shares {
    principals: Group<Group<Queue>>,
    /// The number of leases that were revoked and not returned yet.
    revoked: usize,
}

/// What one address of a principal holds and waits for.
#[derive(Default)]
struct Queue {
    /// Its leases, and since when they are known to be held.
    held: BTreeMap<u64, Instant>,
    reserved: usize,
    /// Its leases in the queue, and since when.
    waiting: BTreeMap<u64, (LeaseHolder, Instant)>,
}

impl Member for Queue {
    fn held(&self) -> usize {
        self.held.len() + self.reserved
    }

    fn next_ticket(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|(ticket, _)| *ticket)
    }
}

impl Shares {
    /// The shares of those who hold something at the beginning.
    fn begin(held: &BTreeMap<u64, Held>, reserved: &BTreeMap<u64, Principal>) -> Self {
        let mut shares = Self { principals: Group::default(), revoked: 0 };
        let now = Instant::now();
        for (number, lease) in held {
            shares.queue(lease.principal, |queue| queue.held.insert(*number, now));
        }
        for principal in reserved.values() {
            shares.queue(*principal, |queue| queue.reserved += 1);
        }
        shares
    }

    fn queue<T>(&mut self, of: Principal, change: impl FnOnce(&mut Queue) -> T) -> T {
        self.principals.change(of.id, |addresses| addresses.change(of.address, change))
    }

    /// Takes the lease that is next to get a buffer out of the queue.
    fn pop_next(&mut self) -> Option<(u64, Principal, LeaseHolder)> {
        let id = self.principals.poorest()?;
        let address = self.principals.get(id)?.poorest()?;
        let principal = Principal { id, address };
        let (ticket, (holder, _)) = self.queue(principal, |queue| {
            let first = queue.waiting.pop_first();
            queue.reserved += usize::from(first.is_some());
            first
        })?;
        Some((ticket, principal, holder))
    }

    /// Takes the lease that is to be revoked for one of `waiter` out of the shares; returns its number.
    /// `max` is the number of buffers.
    fn pop_excess(&mut self, waiter: Principal, max: usize, now: Instant) -> Option<u64> {
        let id = self.principals.richest(max).unwrap_or(waiter.id);
        let addresses = self.principals.get(id)?;
        let address = if id == waiter.id {
            // Within its own principal a waiter displaces only another address.
            addresses.richest(addresses.held()).filter(|address| *address != waiter.address)?
        } else {
            addresses.most()?
        };
        self.queue(Principal { id, address }, |queue| {
            let oldest = queue.held.first_entry()?;
            if now.saturating_duration_since(*oldest.get()) < GRACE {
                return None;
            }
            Some(oldest.remove_entry().0)
        })
    }
}

impl Pool {
    /// A pool of at most `max` buffers of `len` bytes each. They are allocated on demand.
    #[must_use]
    pub fn new(len: usize, max: usize) -> Self {
        Self::with(len, max, true)
    }

    /// As [`new`](Self::new), but no lease is revoked. A handshake ends soon enough by its own deadline.
    pub(crate) fn irrevocable(len: usize, max: usize) -> Self {
        Self::with(len, max, false)
    }

    fn with(len: usize, max: usize, revocable: bool) -> Self {
        let (contended, revoking) = (AtomicBool::new(false), AtomicBool::new(false));
        let state = Mutex::default();
        Self(Arc::new(Shared { len, max, contended, revoking, revocable, state }))
    }

    /// Storage that can lease a buffer of this pool. If none is free, `holder` is woken when one is reserved
    /// for it, and when its lease is revoked.
    #[must_use]
    pub fn storage(&self, holder: &LeaseHolder) -> Lease {
        Lease { pool: self.0.clone(), state: LeaseState::Idle(holder.clone()) }
    }

    /// The number of leased buffers.
    #[must_use]
    pub fn leased(&self) -> usize {
        let state = self.0.state();
        state.held.len() + state.irrevocable
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

    /// Publishes whether leases wait.
    fn note_waiting(&self, state: &State) {
        self.contended.store(!state.waiting.is_empty(), Ordering::Relaxed);
    }

    /// Reserves a free buffer for the lease whose turn it is, and wakes its holder.
    fn reserve_next(&self, mut state: MutexGuard<'_, State>) {
        if state.in_use() < self.max
            && let Some((number, principal, holder)) =
                state.shares.as_mut().and_then(Shares::pop_next)
        {
            state.waiting.remove(&number);
            state.reserved.insert(number, principal);
            self.note_waiting(&state);
            drop(state);
            holder.wake();
        } else if state.waiting.is_empty()
            && state.in_use() <= self.max / 2
            && state.shares.as_ref().is_some_and(|shares| shares.revoked == 0)
        {
            state.shares = None;
        }
    }

    /// Revokes a lease for the one that waits with this number, if it has waited for long enough.
    fn revoke_for(&self, number: u64, mut state: MutexGuard<'_, State>) {
        let Some(waiter) = state.waiting.get(&number).copied() else { return };
        let State { held, shares: Some(shares), waiting, .. } = &mut *state else { return };
        let now = Instant::now();
        let waits =
            shares.queue(waiter, |queue| queue.waiting.get(&number).map(|(_, since)| *since));
        let due = waits.is_some_and(|since| now.saturating_duration_since(since) >= GRACE);
        if due
            && shares.revoked < waiting.len()
            && let Some(lease) = shares.pop_excess(waiter, self.max, now)
        {
            shares.revoked += 1;
            self.revoking.store(true, Ordering::Relaxed);
            let holder = held.get_mut(&lease).map(|lease| {
                lease.revoked = true;
                lease.holder.clone()
            });
            drop(state);
            if let Some(holder) = holder {
                holder.wake();
            }
        }
    }
}

impl State {
    /// The number of buffers that are leased or reserved.
    fn in_use(&self) -> usize {
        self.held.len() + self.irrevocable + self.reserved.len()
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Grants a lease to `holder`; returns its number.
    fn grant(&mut self, holder: &LeaseHolder, revocable: bool) -> u64 {
        let (number, principal) = (self.next_number(), holder.principal());
        if !revocable {
            self.irrevocable += 1;
            return number;
        }
        let lease = Held { holder: holder.clone(), principal, revoked: false };
        self.held.insert(number, lease);
        if let Some(shares) = &mut self.shares {
            shares.queue(principal, |queue| queue.held.insert(number, Instant::now()));
        }
        number
    }
}

/// Storage that leases a buffer of a [`Pool`] while it holds bytes.
pub struct Lease {
    pool: Arc<Shared>,
    state: LeaseState,
}

/// Kept small: every idle connection has two.
enum LeaseState {
    /// No buffer.
    Idle(LeaseHolder),
    Busy(Box<Busy>),
}

/// A lease with a buffer, or in the queue for one. The pool keeps free buffers in it.
struct Busy {
    /// `None` in a free one.
    holder: Option<LeaseHolder>,
    number: u64,
    /// `None` while it is in the queue.
    buffer: Option<Box<[u8]>>,
}

impl LeaseState {
    /// Becomes busy with `busy`, which gets the holder.
    fn become_busy(&mut self, busy: Box<Busy>) {
        let before = mem::replace(self, Self::Busy(busy));
        let holder = match before {
            Self::Idle(holder) => Some(holder),
            Self::Busy(before) => before.holder,
        };
        if let Self::Busy(busy) = self {
            busy.holder = holder;
        }
    }

    fn holder(&self) -> Option<&LeaseHolder> {
        match self {
            Self::Idle(holder) => Some(holder),
            Self::Busy(busy) => busy.holder.as_ref(),
        }
    }
}

impl Storage for Lease {
    fn capacity(&self) -> usize {
        self.pool.len
    }

    fn lease(&mut self) -> bool {
        let waiting = match &self.state {
            LeaseState::Busy(busy) if busy.buffer.is_some() => return true,
            LeaseState::Busy(busy) => Some(busy.number),
            LeaseState::Idle(_) => None,
        };
        let pool = self.pool.clone();
        let mut state = pool.state();
        if let Some(number) = waiting {
            let Some(principal) = state.reserved.remove(&number) else {
                pool.revoke_for(number, state);
                return false;
            };
            if let Some(shares) = &mut state.shares {
                shares.queue(principal, |queue| queue.reserved -= 1);
            }
        } else if !state.waiting.is_empty() || state.in_use() >= pool.max {
            self.enqueue(state);
            return false;
        }
        let Some(holder) = self.state.holder() else { return false };
        let number = state.grant(holder, pool.revocable);
        let free = state.free.pop();
        drop(state);
        let mut busy = free.unwrap_or_else(|| {
            let buffer = Some(vec![0; pool.len].into_boxed_slice());
            Box::new(Busy { holder: None, number, buffer })
        });
        busy.number = number;
        self.state.become_busy(busy);
        true
    }

    fn bytes(&self) -> &[u8] {
        match &self.state {
            LeaseState::Busy(busy) => busy.buffer.as_deref().unwrap_or_default(),
            LeaseState::Idle(_) => &[],
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.state {
            LeaseState::Busy(busy) => busy.buffer.as_deref_mut().unwrap_or_default(),
            LeaseState::Idle(_) => &mut [],
        }
    }

    fn release(&mut self) {
        let LeaseState::Busy(busy) = &mut self.state else { return };
        let Some(holder) = busy.holder.take() else { return };
        let LeaseState::Busy(busy) = mem::replace(&mut self.state, LeaseState::Idle(holder)) else {
            return;
        };
        let (number, mut state) = (busy.number, self.pool.state());
        if busy.buffer.is_some() {
            match (state.held.remove(&number), &mut state.shares) {
                (None, _) => state.irrevocable -= 1,
                (Some(Held { revoked: true, .. }), Some(shares)) => {
                    shares.revoked -= 1;
                    self.pool.revoking.store(shares.revoked > 0, Ordering::Relaxed);
                }
                (Some(lease), Some(shares)) => {
                    shares.queue(lease.principal, |queue| queue.held.remove(&number));
                }
                (Some(_), None) => {}
            }
            if state.free.len() < MAX_FREE {
                state.free.push(busy);
            }
        } else if let Some(principal) = state.reserved.remove(&number) {
            if let Some(shares) = &mut state.shares {
                shares.queue(principal, |queue| queue.reserved -= 1);
            }
        } else if let Some(principal) = state.waiting.remove(&number) {
            if let Some(shares) = &mut state.shares {
                shares.queue(principal, |queue| queue.waiting.remove(&number));
            }
            self.pool.note_waiting(&state);
        }
        self.pool.reserve_next(state);
    }

    fn contended(&self) -> bool {
        self.pool.contended.load(Ordering::Relaxed)
    }

    fn is_revoked(&self) -> bool {
        match &self.state {
            LeaseState::Busy(busy) if self.pool.revoking.load(Ordering::Relaxed) => {
                self.pool.state().held.get(&busy.number).is_some_and(|lease| lease.revoked)
            }
            _ => false,
        }
    }
}

impl Lease {
    fn enqueue(&mut self, mut state: MutexGuard<'_, State>) {
        let Some(holder) = self.state.holder().cloned() else { return };
        let (number, principal) = (state.next_number(), holder.principal());
        let State { held, reserved, waiting, shares, .. } = &mut *state;
        let shares = shares.get_or_insert_with(|| Shares::begin(held, reserved));
        shares.queue(principal, |queue| queue.waiting.insert(number, (holder, Instant::now())));
        waiting.insert(number, principal);
        self.pool.note_waiting(&state);
        self.state.become_busy(Box::new(Busy { holder: None, number, buffer: None }));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leased = matches!(&self.state, LeaseState::Busy(busy) if busy.buffer.is_some());
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
            handshake: Pool::irrevocable(options.handshake_len, options.handshakes),
            receive: Pool::new(options.buffer_len, options.receiving),
            send: Pool::new(options.buffer_len, options.sending),
        }
    }

    /// Storage for one session. No buffer is leased yet.
    #[must_use]
    pub fn buffers(&self, holder: &LeaseHolder) -> Buffers<Lease> {
        Buffers {
            handshake: self.handshake.storage(holder),
            receive: self.receive.storage(holder),
            send: self.send.storage(holder),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;
    use std::thread;

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
        (pool.storage(&LeaseHolder::new(count.clone().into())), count)
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

    /// A holder of a principal and an address within it.
    fn storage_of(pool: &Pool, id: u32, address: u32) -> (Lease, Arc<Count>) {
        let count = Arc::new(Count::default());
        let holder = LeaseHolder::new(count.clone().into());
        holder.set_principal(Principal { id, address });
        (pool.storage(&holder), count)
    }

    /// The leases of one address, all granted.
    fn held_by(pool: &Pool, id: u32, address: u32, count: usize) -> Vec<Lease> {
        (0..count)
            .map(|_| {
                let mut lease = storage_of(pool, id, address).0;
                assert!(lease.lease());
                lease
            })
            .collect()
    }

    fn revoked(leases: &[Lease]) -> Vec<bool> {
        leases.iter().map(Storage::is_revoked).collect()
    }

    #[test]
    fn principal_that_holds_least_is_served_first() {
        let pool = Pool::new(8, 2);
        let mut crowd = held_by(&pool, 1, 1, 2);
        let mut waiting: Vec<_> = (0..3).map(|_| storage_of(&pool, 1, 1)).collect();
        assert!(waiting.iter_mut().all(|(lease, _)| !lease.lease()));
        let (mut other, other_woken) = storage_of(&pool, 2, 2);
        assert!(!other.lease() && other.contended());
        crowd.pop();
        assert_eq!(woken(&other_woken), 1);
        assert!(other.lease());
        drop(other);
        assert_eq!(waiting.iter().map(|(_, count)| woken(count)).collect::<Vec<_>>(), [1, 0, 0]);
    }

    #[test]
    fn address_that_holds_least_is_served_first_within_a_principal() {
        let pool = Pool::new(8, 2);
        let mut crowd = held_by(&pool, 1, 1, 2);
        let (mut same, same_woken) = storage_of(&pool, 1, 1);
        let (mut other, other_woken) = storage_of(&pool, 1, 2);
        assert!(!same.lease() && !other.lease());
        crowd.pop();
        assert_eq!((woken(&same_woken), woken(&other_woken)), (0, 1));
    }

    #[test]
    fn oldest_lease_beyond_the_share_is_revoked_after_a_grace_period() {
        let pool = Pool::new(8, 4);
        let mut crowd = held_by(&pool, 1, 1, 4);
        let (mut other, other_woken) = storage_of(&pool, 2, 2);
        assert!(!other.lease() && !other.lease());
        assert_eq!(revoked(&crowd), [false; 4], "not at once");
        thread::sleep(GRACE);
        assert!(!other.lease() && !other.lease());
        assert_eq!(revoked(&crowd), [true, false, false, false], "one for each that waits");
        drop(crowd.remove(0));
        assert_eq!(woken(&other_woken), 1);
        assert!(other.lease() && !other.is_revoked());
        assert!(!other.contended());
        // A buffer that was revoked is as good as any.
        drop(other);
        let mut next = storage_of(&pool, 1, 1).0;
        assert!(next.lease() && !next.is_revoked());
    }

    #[test]
    fn nothing_within_a_share_is_revoked() {
        let pool = Pool::new(8, 2);
        let mut leases = held_by(&pool, 1, 1, 1);
        leases.extend(held_by(&pool, 2, 2, 1));
        let (mut third, _) = storage_of(&pool, 3, 3);
        let (mut first, _) = storage_of(&pool, 1, 1);
        assert!(!third.lease() && !first.lease());
        thread::sleep(GRACE);
        assert!(!third.lease() && !first.lease());
        assert_eq!(revoked(&leases), [false; 2]);
    }

    #[test]
    fn waiter_displaces_only_other_addresses_of_its_principal() {
        let pool = Pool::new(8, 3);
        let crowd = held_by(&pool, 1, 1, 3);
        let (mut same, _) = storage_of(&pool, 1, 1);
        assert!(!same.lease());
        thread::sleep(GRACE);
        assert!(!same.lease());
        assert_eq!(revoked(&crowd), [false; 3]);
        let (mut other, _) = storage_of(&pool, 1, 2);
        assert!(!other.lease());
        thread::sleep(GRACE);
        assert!(!other.lease());
        assert_eq!(revoked(&crowd), [true, false, false]);
    }

    #[test]
    fn shares_are_kept_only_while_buffers_are_short() {
        let pool = Pool::new(8, 4);
        let mut crowd = held_by(&pool, 1, 1, 4);
        let (mut other, _) = storage_of(&pool, 2, 2);
        assert!(!other.lease());
        other.release();
        assert!(pool.0.state().shares.is_some() && !crowd[0].contended());
        crowd.truncate(2);
        assert!(pool.0.state().shares.is_none());
        drop(crowd);
        assert_eq!(pool.leased(), 0);
    }
}
