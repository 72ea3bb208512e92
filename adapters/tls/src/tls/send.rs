//! From the inner machine's bytes to the transport's.

use std::io::Write;
use std::ops::DerefMut;

use crate::error::TlsError;
use countersign::{Error, Instant, Protocol};

use super::{LAST_WORD, STALL, Tls};

/// How much of a message goes into one record, in bytes (RFC 8446, section 5.1).
const MAX_FRAGMENT: usize = 16 << 10;

/// How much rustls takes at once, in bytes: its buffer is empty then.
const MAX_TAKEN: usize = 64 << 10;

impl<M: DerefMut<Target: Protocol>> Tls<M> {
    /// Encrypts what the inner machine has to say, if all before it is out.
    pub(super) fn encrypt(&mut self, now: Instant) {
        if self.sent < self.output.len() {
            return;
        }
        (self.output, self.sent) = (Vec::new(), 0);
        if self.open && self.failed.is_none() && self.carried == 0 {
            let bytes = self.inner.poll_transmit(now);
            // Counted is what it will take.
            let bytes = &bytes[..bytes.len().min(MAX_TAKEN)];
            let records = bytes.len().div_ceil(MAX_FRAGMENT) as u64;
            if records > self.records_left {
                self.fail(Error::from(TlsError::KeysExhausted), now);
            } else {
                self.records_left -= records;
                self.carried = self.tls.writer().write(bytes).unwrap_or(0);
            }
        }
        if self.owes_close() {
            self.tls.send_close_notify();
            self.closing = true;
        }
        while self.tls.wants_write() {
            // What it writes to is memory.
            if self.tls.write_tls(&mut self.output).is_err() {
                break;
            }
        }
        // The inner machine sees to what it has to say itself, and until then to its handshake.
        if self.open && self.carried == 0 && !self.output.is_empty() {
            self.send_by.get_or_insert(now.saturating_add(STALL));
        }
    }

    /// What was encrypted last is out.
    pub(super) fn settle(&mut self, now: Instant) {
        (self.output, self.sent, self.send_by) = (Vec::new(), 0, None);
        let carried = std::mem::take(&mut self.carried);
        if carried > 0 {
            self.inner.handle_transmitted(carried, now);
        }
    }

    /// Once an inner machine that failed has nothing more to say, what is left has a moment to leave.
    pub(super) fn hurry(&mut self, now: Instant) {
        if self.inner_failed && self.inner.is_done() && !self.is_drained() {
            let soon = now.saturating_add(LAST_WORD);
            self.send_by = Some(self.send_by.map_or(soon, |at| at.min(soon)));
        }
    }

    pub(super) fn is_drained(&self) -> bool {
        self.sent == self.output.len() && !self.tls.wants_write()
    }

    /// Whether the inner machine has ended its direction in order, and close_notify is to say so. After
    /// an error there is none, so that the peer can tell the end from one that was meant; nor while
    /// nobody has asked whether there is one.
    pub(super) fn owes_close(&self) -> bool {
        !self.closing && !self.has_failed() && !self.in_doubt && self.inner.wants_shutdown()
    }

    /// Drops what waits to be transmitted.
    pub(super) fn forget_output(&mut self) {
        while self.tls.wants_write() {
            if self.tls.write_tls(&mut std::io::sink()).is_err() {
                break;
            }
        }
        (self.output, self.sent, self.send_by) = (Vec::new(), 0, None);
    }
}
