//! The buffer of a handshake.

use super::{receive_len, transmit_len};
use crate::config::Scheme;
use crate::storage::Storage;

/// The received bytes, and those that are or will be transmitted.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) received: &'a [u8],
    pub(crate) transmit: &'a [u8],
}

/// The handshake buffer: received bytes in front, bytes to transmit behind.
///
/// Leased from the creation of the session until the last byte of the handshake is transmitted. All
/// bytes stay in place, because both ends hash them.
pub(crate) struct HandshakeBuffer<B> {
    storage: B,
    /// Where the transmit region begins.
    boundary: u16,
    /// Where the transmit region ends.
    end: u16,
    received: u16,
    /// Length of the last space.
    space_len: u16,
    /// In the transmit region, the bytes from `sent` to `queued` wait to be transmitted.
    sent: u16,
    queued: u16,
}

impl<B: Storage> HandshakeBuffer<B> {
    /// `storage` must be leased and have `Config::handshake_len` bytes.
    pub(crate) fn new(storage: B, scheme: &Scheme) -> Self {
        let boundary = receive_len(scheme) as u16;
        let end = boundary + transmit_len(scheme) as u16;
        Self { storage, boundary, end, received: 0, space_len: 0, sent: 0, queued: 0 }
    }

    /// The space for the bytes that are missing from `want`.
    pub(crate) fn space(&mut self, want: usize) -> &mut [u8] {
        let end = want.min(self.boundary.into());
        let start = self.received_len().min(end);
        self.space_len = (end - start) as u16;
        &mut self.storage.bytes_mut()[start..end]
    }

    /// `n` bytes were written to the last space.
    pub(crate) fn commit(&mut self, n: usize) {
        let n = n.min(core::mem::take(&mut self.space_len).into());
        self.received += n as u16;
    }

    /// Invalidates the last space.
    pub(crate) fn handle_eof(&mut self) {
        self.space_len = 0;
    }

    pub(crate) fn view(&self) -> View<'_> {
        let (front, back) = self.storage.bytes()[..self.end.into()].split_at(self.boundary.into());
        View { received: &front[..self.received.into()], transmit: back }
    }

    pub(crate) fn received_len(&self) -> usize {
        self.received.into()
    }

    /// The received bytes, and where to write the answer.
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

    /// The first `n` of the [`pending`](Self::pending) bytes were transmitted.
    pub(crate) fn handle_transmitted(&mut self, n: usize) {
        self.sent += n as u16;
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.sent == self.queued
    }

    /// Whether bytes were queued and all of them are transmitted.
    pub(crate) fn is_fully_transmitted(&self) -> bool {
        self.sent > 0 && self.is_drained()
    }

    /// Releases the lease. The buffer contains no secrets, so it is not wiped.
    pub(crate) fn release(&mut self) {
        self.storage.release();
    }
}

/// The transmit region of a [`HandshakeBuffer`].
pub(crate) struct Transmit<'a> {
    pub(super) bytes: &'a mut [u8],
    pub(super) queued: &'a mut u16,
}

impl Transmit<'_> {
    /// Queues `bytes`. There is room: the region has [`transmit_len`] bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.draft()[..bytes.len()].copy_from_slice(bytes);
        self.queue(bytes.len());
    }

    /// All queued bytes, including those that are transmitted.
    pub(crate) fn queued(&self) -> &[u8] {
        &self.bytes[..usize::from(*self.queued)]
    }

    /// The bytes after the queued ones: messages prepared but not queued.
    pub(crate) fn draft(&mut self) -> &mut [u8] {
        &mut self.bytes[usize::from(*self.queued)..]
    }

    /// Queues the first `len` bytes of the [`draft`](Self::draft).
    pub(crate) fn queue(&mut self, len: usize) {
        *self.queued += len as u16;
    }
}
