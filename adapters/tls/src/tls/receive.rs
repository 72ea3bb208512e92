//! Receiving: from the transport's ciphertext to the inner protocol's plaintext, and its end.

use std::io::{self, Read};
use std::ops::DerefMut;

use countersign::{Error, Instant, Protocol, Truncated};

use super::{RECORD_TIMEOUT, Tls};
use crate::record_tracker::RecordTracker;
use crate::tls_error::{TlsError, tls_error};

/// Length of the receive buffer in bytes: the longest record that TLS allows.
pub(super) const INPUT_BUFFER_LEN: usize = 5 + (16 << 10) + 256;
/// Most bytes of the peer's TLS handshake that are read.
const MAX_HANDSHAKE_LEN: usize = 32 << 10;

/// A reader without data that is not at its end.
struct WouldBlockReader;

impl Read for WouldBlockReader {
    fn read(&mut self, _buf: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl<P: DerefMut<Target: Protocol>> Tls<P> {
    /// Passes received ciphertext to rustls. Returns whether rustls took any.
    pub(super) fn decrypt(&mut self) -> bool {
        if self.input_read == self.input_len || self.deferred_error.is_some() {
            return false;
        }
        let mut remaining = &self.input[self.input_read..self.input_len];
        let before = remaining.len();
        let read = self.tls.read_tls(&mut remaining);
        let n = before - remaining.len();
        self.input_read += n;
        if self.input_read == self.input_len {
            self.discard_input();
        }
        if !self.open {
            self.handshake_len += n;
        }
        // Reading from memory fails only when a message exceeds rustls's buffer.
        if read.is_err() || self.handshake_len > MAX_HANDSHAKE_LEN {
            self.deferred_error = Some(Error::from(TlsError::Broken));
            return false;
        }
        // Set before errors are looked at: plaintext in front of a bad record is still delivered.
        self.plaintext_pending = self.open;
        match self.tls.process_new_packets() {
            Ok(state) if state.peer_has_closed() => {
                self.close_notify_received = true;
                // Data behind close_notify is ignored (RFC 8446, section 6.1).
                self.discard_input();
                self.records = RecordTracker::default();
                self.recv_deadline = None;
            }
            Ok(_) => {}
            Err(error) => self.deferred_error = Some(tls_error(&error)),
        }
        n > 0
    }

    /// Passes plaintext, or its end, to the inner protocol. Returns whether there was any.
    pub(super) fn deliver_plaintext(&mut self, now: Instant) -> bool {
        if !self.plaintext_pending && !self.close_notify_received {
            return false;
        }
        let space = self.inner.recv_space();
        if space.is_empty() {
            return false;
        }
        // The only error is WouldBlock.
        let read = self.tls.reader().read(space);
        self.inner.handle_received(*read.as_ref().unwrap_or(&0), now);
        match read {
            Ok(n) if n > 0 => true,
            Ok(_) => {
                self.plaintext_pending = false;
                self.inner.handle_eof(now);
                true
            }
            Err(_) => {
                self.plaintext_pending = false;
                self.release_buffers();
                false
            }
        }
    }

    /// Has rustls free the buffer of a long record. It does so only on the next read, which on an idle
    /// connection may never come.
    fn release_buffers(&mut self) {
        if self.input_read == self.input_len && self.records.at_boundary() {
            let _ = self.tls.read_tls(&mut WouldBlockReader);
        }
    }

    /// Fails the connection if the peer's bytes were bad or cut off. Does nothing while plaintext
    /// that arrived before is unconsumed.
    pub(super) fn check_end(&mut self, now: Instant) -> Result<(), Error> {
        if self.chunk_held || self.plaintext_pending {
            return Ok(());
        }
        if let Some(error) = self.deferred_error {
            return Err(self.fail(error, now));
        }
        let all_read = self.input_read == self.input_len;
        if self.eof_received && !self.close_notify_received && all_read && !self.inner.is_done() {
            if self.peer_finished {
                // The peer's authenticated end of messages makes close_notify unnecessary.
                self.inner.handle_eof(now);
            } else {
                let truncated = self.truncation();
                return Err(self.fail(Error::Truncated(truncated), now));
            }
        }
        Ok(())
    }

    /// What an end of stream without close_notify cuts off.
    fn truncation(&self) -> Truncated {
        match self.inner.peer() {
            None => Truncated::Handshake,
            Some(_) if self.inner.is_receiving() => Truncated::Message,
            Some(_) => Truncated::Stream,
        }
    }

    /// Starts, restarts or stops the deadline for the rest of a record. `crossed`: a record began or
    /// ended since the last call. Other bytes do not move the deadline, so a peer cannot postpone it
    /// by sending byte after byte.
    pub(super) fn update_recv_deadline(&mut self, now: Instant, crossed: bool) {
        if !self.open || self.records.at_boundary() || self.error.is_some() {
            self.recv_deadline = None;
        } else if crossed || self.recv_deadline.is_none() {
            self.recv_deadline = Some(now.saturating_add(RECORD_TIMEOUT));
        }
    }

    /// Drops received ciphertext, and frees its buffer.
    pub(super) fn discard_input(&mut self) {
        (self.input, self.input_len, self.input_read) = (Vec::new(), 0, 0);
    }
}
