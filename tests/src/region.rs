use std::cell::Cell;
use std::rc::Rc;

use countersign::{Buffers, Storage};

/// How many regions are out, and whether there are more to be had.
#[derive(Debug, Default)]
pub struct Pool {
    held: Cell<usize>,
    dry: Cell<bool>,
}

impl Pool {
    /// Leases that are out.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.get()
    }

    /// From now on there is no lease to be had, or there is again.
    pub fn set_dry(&self, dry: bool) {
        self.dry.set(dry);
    }
}

/// A region that has bytes only while it is leased, rubbish at first: whoever uses it without the
/// lease, or trusts what it finds, is caught.
#[derive(Debug)]
pub struct Region {
    pool: Rc<Pool>,
    capacity: usize,
    bytes: Vec<u8>,
}

impl Storage for Region {
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn lease(&mut self) -> bool {
        if self.bytes.is_empty() && !self.pool.dry.get() {
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
    /// Of handshake buffers.
    pub handshake: Rc<Pool>,
    /// Of receive buffers.
    pub receive: Rc<Pool>,
    /// Of send buffers.
    pub send: Rc<Pool>,
}

impl Pools {
    /// Regions of these pools, the receive and the send region so long.
    #[must_use]
    pub fn buffers(&self, receive: usize, send: usize) -> Buffers<Region> {
        let region =
            |pool: &Rc<Pool>, capacity| Region { pool: pool.clone(), capacity, bytes: Vec::new() };
        Buffers {
            handshake: region(&self.handshake, 1024),
            receive: region(&self.receive, receive),
            send: region(&self.send, send),
        }
    }

    /// Leases that are out, of all three.
    #[must_use]
    pub fn held(&self) -> usize {
        self.handshake.held() + self.receive.held() + self.send.held()
    }
}
