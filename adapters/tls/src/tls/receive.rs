//! From the transport's bytes to the inner machine's, and to their end.

use std::io::{self, Read};
use std::ops::DerefMut;

use crate::error::TlsError;
use countersign::{Error, Instant, Protocol, Truncated};

use super::{STALL, Tls};
use crate::error::tls_error;
use crate::records::Records;

/// What is read at once: the longest record.
pub(super) const INPUT_LEN: usize = 5 + (16 << 10) + 256;
/// The most that is taken of a TLS handshake, in bytes.
const MAX_HANDSHAKE: usize = 32 << 10;

/// Has nothing for now, which is not the end.
struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl<M: DerefMut<Target: Protocol>> Tls<M> {
    /// Has rustls look at what was read, if anything was and it takes it. Whether it did.
    pub(super) fn decrypt(&mut self) -> bool {
        if self.taken == self.filled || self.broken.is_some() {
            return false;
        }
        let mut rest = &self.input[self.taken..self.filled];
        let before = rest.len();
        let read = self.tls.read_tls(&mut rest);
        let n = before - rest.len();
        self.taken += n;
        if self.taken == self.filled {
            self.forget_input();
        }
        if !self.open {
            self.handshake += n;
        }
        // What it reads from is memory: its only error is of a message that is too long for it.
        if read.is_err() || self.handshake > MAX_HANDSHAKE {
            self.broken = Some(Error::from(TlsError::Broken));
            return false;
        }
        // What came before an error counts all the same.
        self.plain = self.open;
        match self.tls.process_new_packets() {
            Ok(state) if state.peer_has_closed() => {
                self.peer_closed = true;
                // Behind close_notify there is nothing (RFC 8446, section 6.1).
                self.forget_input();
                self.records = Records::default();
                self.receive_by = None;
            }
            Ok(_) => {}
            Err(error) => self.broken = Some(tls_error(&error)),
        }
        n > 0
    }

    /// Hands the inner machine decrypted bytes, or their end. Whether there was anything.
    pub(super) fn deliver(&mut self, now: Instant) -> bool {
        if !self.plain && !self.peer_closed {
            return false;
        }
        let space = self.inner.recv_space();
        if space.is_empty() {
            return false;
        }
        // An error is that there is nothing for now.
        let read = self.tls.reader().read(space);
        self.inner.handle_received(*read.as_ref().unwrap_or(&0), now);
        match read {
            Ok(n) if n > 0 => true,
            Ok(_) => {
                self.plain = false;
                self.inner.handle_eof(now);
                true
            }
            Err(_) => {
                self.plain = false;
                self.shrink();
                false
            }
        }
    }

    /// rustls gives back what a long record took only when it reads again, which on a connection that has
    /// nothing more to say may be never.
    fn shrink(&mut self) {
        if self.taken == self.filled && self.records.at_boundary() {
            let _ = self.tls.read_tls(&mut Nothing);
        }
    }

    /// What ends it when there is nothing more to deal with first.
    pub(super) fn end(&mut self, now: Instant) -> Result<(), Error> {
        if self.chunk || self.plain {
            return Ok(());
        }
        if let Some(error) = self.broken {
            return Err(self.fail(error, now));
        }
        if self.eof && !self.peer_closed && self.taken == self.filled && !self.inner.is_done() {
            if self.peer_finished {
                // It has said so itself, and needs nobody's word.
                self.inner.handle_eof(now);
            } else {
                let what = self.cut_off();
                return Err(self.fail(Error::Truncated(what), now));
            }
        }
        Ok(())
    }

    /// What an end of the transport's stream cuts off, where the peer has not said that it closes.
    fn cut_off(&self) -> Truncated {
        match self.inner.peer() {
            None => Truncated::Handshake,
            Some(_) if self.inner.is_receiving() => Truncated::Message,
            Some(_) => Truncated::Stream,
        }
    }

    /// Starts or stops the clock for the rest of a record.
    pub(super) fn watch_records(&mut self, now: Instant, progress: bool) {
        if !self.open || self.records.at_boundary() || self.failed.is_some() {
            self.receive_by = None;
        } else if progress || self.receive_by.is_none() {
            self.receive_by = Some(now.saturating_add(STALL));
        }
    }

    pub(super) fn forget_input(&mut self) {
        (self.input, self.filled, self.taken) = (Vec::new(), 0, 0);
    }
}
