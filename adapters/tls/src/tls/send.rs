//! Sending: from the inner protocol's bytes to the transport's ciphertext.

use std::io::Write;
use std::ops::DerefMut;

use countersign::{Error, Instant, Protocol};

use super::{FINAL_FLUSH_TIMEOUT, RECORD_TIMEOUT, Tls};
use crate::tls_error::TlsError;

/// Most plaintext bytes in one record (RFC 8446, section 5.1).
const MAX_FRAGMENT_LEN: usize = 16 << 10;

/// Most bytes that rustls takes in one write to its empty buffer.
const MAX_WRITE_LEN: usize = 64 << 10;

impl<P: DerefMut<Target: Protocol>> Tls<P> {
    /// Fills `output` with the inner protocol's bytes and with TLS's own records, if all earlier
    /// output has left.
    pub(super) fn encrypt(&mut self, now: Instant) {
        if self.output_sent < self.output.len() {
            return;
        }
        (self.output, self.output_sent) = (Vec::new(), 0);
        if self.open && self.error.is_none() && self.inner_in_flight == 0 {
            let bytes = self.inner.poll_transmit(now);
            // Count only the records of what rustls will take.
            let bytes = &bytes[..bytes.len().min(MAX_WRITE_LEN)];
            let records = bytes.len().div_ceil(MAX_FRAGMENT_LEN) as u64;
            if records > self.records_remaining {
                self.fail(Error::from(TlsError::KeysExhausted), now);
            } else {
                self.records_remaining -= records;
                self.inner_in_flight = self.tls.writer().write(bytes).unwrap_or(0);
            }
        }
        if self.needs_close_notify() {
            self.tls.send_close_notify();
            self.write_closed = true;
        }
        while self.tls.wants_write() {
            // Writing to memory does not fail.
            if self.tls.write_tls(&mut self.output).is_err() {
                break;
            }
        }
        // Bytes of the inner protocol have its deadline, and so has the handshake.
        if self.open && self.inner_in_flight == 0 && !self.output.is_empty() {
            self.send_deadline.get_or_insert(now.saturating_add(RECORD_TIMEOUT));
        }
    }

    /// All of `output` has left: reports the bytes in it to the inner protocol.
    pub(super) fn output_transmitted(&mut self, now: Instant) {
        (self.output, self.output_sent, self.send_deadline) = (Vec::new(), 0, None);
        let transmitted = std::mem::take(&mut self.inner_in_flight);
        if transmitted > 0 {
            self.inner.handle_transmitted(transmitted, now);
        }
    }

    /// Limits the time for the remaining output of a failed inner protocol that is done.
    pub(super) fn limit_final_flush(&mut self, now: Instant) {
        if self.inner_failed && self.inner.is_done() && !self.is_output_drained() {
            let limit = now.saturating_add(FINAL_FLUSH_TIMEOUT);
            self.send_deadline = Some(self.send_deadline.map_or(limit, |at| at.min(limit)));
        }
    }

    pub(super) fn is_output_drained(&self) -> bool {
        self.output_sent == self.output.len() && !self.tls.wants_write()
    }

    /// Whether the inner protocol has ended its direction in order, so that close_notify is due.
    ///
    /// After an error there is no close_notify, so that the peer sees a truncation and not an
    /// intended end. While `inner_unpolled`, an error may exist that has not been reported yet.
    pub(super) fn needs_close_notify(&self) -> bool {
        !self.write_closed
            && !self.has_failed()
            && !self.inner_unpolled
            && self.inner.wants_shutdown()
    }

    /// Drops all output that has not left.
    pub(super) fn discard_output(&mut self) {
        while self.tls.wants_write() {
            if self.tls.write_tls(&mut std::io::sink()).is_err() {
                break;
            }
        }
        (self.output, self.output_sent, self.send_deadline) = (Vec::new(), 0, None);
    }
}
