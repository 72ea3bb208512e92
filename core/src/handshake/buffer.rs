//! The buffer that a handshake leases.

use super::{multiprocessing, mutual, receive_len, transmit_len};
use crate::config::Scheme;
use crate::storage::Storage;

/// Both parts of a handshake's buffer: all that was received, and what is or will be transmitted.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) received: &'a [u8],
    pub(crate) transmit: &'a [u8],
}

/// The buffer of a handshake: what was received in front, what is to be transmitted behind. Leased
/// from construction until the handshake is over and its last byte is out.
pub(crate) struct HandshakeBuffer<B> {
    storage: B,
    /// Where the transmit part begins.
    boundary: u16,
    /// Where it ends.
    end: u16,
    received: u16,
    /// Length of the space last offered.
    offered: u16,
    /// Of the transmit part, the bytes from `sent` to `queued` wait.
    sent: u16,
    queued: u16,
}

impl<B: Storage> HandshakeBuffer<B> {
    /// `storage` must be leased and long enough.
    pub(crate) fn new(storage: B, scheme: &Scheme) -> Self {
        const { assert!(mutual::RECEIVE_LEN + mutual::TRANSMIT_LEN <= 1024) };
        const { assert!(multiprocessing::RECEIVE_LEN + multiprocessing::TRANSMIT_LEN <= 1024) };
        let boundary = receive_len(scheme) as u16;
        let end = boundary + transmit_len(scheme) as u16;
        Self { storage, boundary, end, received: 0, offered: 0, sent: 0, queued: 0 }
    }

    /// Room for what is missing of `want` bytes.
    pub(crate) fn space(&mut self, want: usize) -> &mut [u8] {
        let end = want.min(self.boundary.into());
        let start = self.received_len().min(end);
        self.offered = (end - start) as u16;
        &mut self.storage.bytes_mut()[start..end]
    }

    /// `n` bytes were written to the space last offered.
    pub(crate) fn commit(&mut self, n: usize) {
        let n = n.min(core::mem::take(&mut self.offered).into());
        self.received += n as u16;
    }

    /// The space last offered will not be written to.
    pub(crate) fn handle_eof(&mut self) {
        self.offered = 0;
    }

    pub(crate) fn view(&self) -> View<'_> {
        let (front, back) = self.storage.bytes()[..self.end.into()].split_at(self.boundary.into());
        View { received: &front[..self.received.into()], transmit: back }
    }

    pub(crate) fn received_len(&self) -> usize {
        self.received.into()
    }

    /// What was received, and where to write the answer.
    pub(crate) fn split(&mut self) -> (&[u8], Transmit<'_>) {
        let (front, back) =
            self.storage.bytes_mut()[..self.end.into()].split_at_mut(self.boundary.into());
        (&front[..self.received.into()], Transmit { bytes: back, queued: &mut self.queued })
    }

    pub(super) fn transmit(&mut self) -> Transmit<'_> {
        self.split().1
    }

    pub(crate) fn pending(&self) -> &[u8] {
        &self.view().transmit[self.sent.into()..self.queued.into()]
    }

    pub(crate) fn pending_len(&self) -> usize {
        (self.queued - self.sent).into()
    }

    /// `n` of the [`pending`](Self::pending) bytes are out.
    pub(crate) fn handle_transmitted(&mut self, n: usize) {
        self.sent += n as u16;
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.sent == self.queued
    }

    /// Whether something was transmitted, and all that was to be.
    pub(crate) fn has_spoken(&self) -> bool {
        self.sent > 0 && self.is_drained()
    }

    /// Gives the buffer back. There was nothing secret in it.
    pub(crate) fn release(&mut self) {
        self.storage.release();
    }
}

/// Where a handshake writes what is to be transmitted.
pub(crate) struct Transmit<'a> {
    pub(super) bytes: &'a mut [u8],
    pub(super) queued: &'a mut u16,
}

impl Transmit<'_> {
    /// Queues `bytes`. The buffer was sized by [`transmit_len`], so there is room.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.draft()[..bytes.len()].copy_from_slice(bytes);
        self.queue(bytes.len());
    }

    /// What was queued so far, from the first byte on.
    pub(crate) fn queued(&self) -> &[u8] {
        &self.bytes[..usize::from(*self.queued)]
    }

    /// What is not queued yet.
    pub(crate) fn draft(&mut self) -> &mut [u8] {
        &mut self.bytes[usize::from(*self.queued)..]
    }

    /// Queues the first `len` bytes of the [`draft`](Self::draft).
    pub(crate) fn queue(&mut self, len: usize) {
        *self.queued += len as u16;
    }
}
