use std::cell::Cell;
use std::rc::Rc;

use countersign::{Buffers, Storage};

/// Counts the leases of buffers, and can refuse new ones.
#[derive(Debug, Default)]
pub struct Pool {
    held: Cell<usize>,
    exhausted: Cell<bool>,
}

impl Pool {
    /// Returns the number of leases held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.get()
    }

    /// Makes the pool refuse new leases, or grant them again.
    pub fn set_exhausted(&self, exhausted: bool) {
        self.exhausted.set(exhausted);
    }
}

/// A buffer that has bytes only while it is leased, filled with garbage at first. It detects use
/// without a lease and trust in earlier contents.
#[derive(Debug)]
pub struct LeasedBuffer {
    pool: Rc<Pool>,
    capacity: usize,
    bytes: Vec<u8>,
}

impl Storage for LeasedBuffer {
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn lease(&mut self) -> bool {
        if self.bytes.is_empty() && !self.pool.exhausted.get() {
            self.bytes = vec![0xa5; self.capacity];
            self.pool.held.set(self.pool.held.get() + 1);
        }
        !self.bytes.is_empty()
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn release(&mut self) {
        if !std::mem::take(&mut self.bytes).is_empty() {
            self.pool.held.set(self.pool.held.get() - 1);
        }
    }
}

/// The three pools of one session.
#[derive(Debug, Default)]
pub struct Pools {
    /// Pool of handshake buffers.
    pub handshake: Rc<Pool>,
    /// Pool of receive buffers.
    pub receive: Rc<Pool>,
    /// Pool of send buffers.
    pub send: Rc<Pool>,
}

impl Pools {
    /// Returns buffers of these pools, with lengths in bytes for receiving and sending.
    #[must_use]
    pub fn buffers(&self, receive: usize, send: usize) -> Buffers<LeasedBuffer> {
        let buffer = |pool: &Rc<Pool>, capacity| LeasedBuffer {
            pool: pool.clone(),
            capacity,
            bytes: Vec::new(),
        };
        Buffers {
            handshake: buffer(&self.handshake, 1024),
            receive: buffer(&self.receive, receive),
            send: buffer(&self.send, send),
        }
    }

    /// Returns the number of leases held in all three pools.
    #[must_use]
    pub fn held(&self) -> usize {
        self.handshake.held() + self.receive.held() + self.send.held()
    }
}
