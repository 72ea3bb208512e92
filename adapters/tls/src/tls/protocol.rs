//! The [`Protocol`] implementation, which drivers and applications call.

use std::ops::DerefMut;

use countersign::{
    Candidates, CloseReason, Error, Event, Instant, KeyError, KeyRejection, KeyRequest, Outbox,
    Peer, Protocol, TimedOut, Truncated,
};

use super::Tls;
use super::receive::INPUT_BUFFER_LEN;

impl<P: DerefMut<Target: Protocol>> Protocol for Tls<P> {
    fn peer(&self) -> Option<Peer<'_>> {
        let mut peer = self.inner.peer()?;
        peer.authenticated |= self.peer_verified;
        Some(peer)
    }

    fn key_request(&self) -> Option<KeyRequest<'_>> {
        self.inner.key_request()
    }

    fn wants_read(&self) -> bool {
        let readable = self.error.is_none() && !self.eof_received && !self.close_notify_received;
        readable
            && self.deferred_error.is_none()
            && self.input_read == self.input_len
            && !self.plaintext_pending
            && (!self.open || self.inner.wants_read())
            && !self.inner.is_done()
    }

    fn wants_write(&self) -> bool {
        let inner = self.open && self.error.is_none() && self.inner.wants_write();
        !self.is_output_drained() || inner || self.needs_close_notify()
    }

    fn awaiting_buffer(&self) -> bool {
        self.inner.awaiting_buffer()
    }

    fn wants_shutdown(&self) -> bool {
        let ended = self.write_closed || (self.inner_failed && self.inner.wants_shutdown());
        self.is_output_drained() && (self.error.is_some() || ended)
    }

    fn is_done(&self) -> bool {
        let ended = (self.write_closed || self.inner_failed) && self.inner.is_done();
        self.is_output_drained() && (self.error.is_some() || ended)
    }

    fn is_receiving(&self) -> bool {
        self.open && (!self.records.at_boundary() || self.inner.is_receiving())
    }

    fn is_idle(&self) -> bool {
        self.open
            && self.inner.is_idle()
            && self.is_output_drained()
            && self.records.at_boundary()
            && self.input_read == self.input_len
            && !self.plaintext_pending
    }

    fn provide_key(
        &mut self,
        answer: Result<Candidates<'_>, KeyRejection>,
        now: Instant,
    ) -> Result<(), KeyError> {
        self.inner_unpolled = true;
        self.inner.provide_key(answer, now)
    }

    /// Does nothing: the inner protocol is bound to this TLS connection.
    fn bind_channel(&mut self, _exporter: &[u8; 32], _now: Instant) {}

    fn split(&mut self) -> (&[u8], Outbox<'_>) {
        self.inner.split()
    }

    fn split_peer(&mut self) -> Option<(Peer<'_>, Outbox<'_>)> {
        let (mut peer, outbox) = self.inner.split_peer()?;
        peer.authenticated |= self.peer_verified;
        Some((peer, outbox))
    }

    fn consume(&mut self, now: Instant) {
        self.chunk_held = false;
        self.inner.consume(now);
    }

    fn finish(&mut self, now: Instant) {
        self.inner.finish(now);
    }

    fn abort(&mut self, why: CloseReason, now: Instant) {
        self.inner_unpolled = true;
        self.inner.abort(why, now);
    }

    fn recv_space(&mut self) -> &mut [u8] {
        self.space_lent = self.wants_read();
        if !self.space_lent {
            // While we do not read, a slow peer is not at fault.
            self.recv_deadline = None;
            return &mut [];
        }
        self.input.resize(INPUT_BUFFER_LEN, 0);
        &mut self.input
    }

    fn handle_received(&mut self, n: usize, now: Instant) {
        if !std::mem::take(&mut self.space_lent) {
            return;
        }
        (self.input_len, self.input_read) = (n.min(self.input.len()), 0);
        let crossed = self.records.advance(&self.input[..self.input_len]);
        self.update_recv_deadline(now, crossed);
        if self.input_len == 0 {
            self.discard_input();
        }
    }

    fn handle_eof(&mut self, _now: Instant) {
        self.eof_received = true;
        self.recv_deadline = None;
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.inner_unpolled = true;
        self.inner.handle_timeout(now);
        self.limit_final_flush(now);
        if self.send_deadline.is_some_and(|at| at <= now) {
            if !self.write_closed && !self.has_failed() {
                self.fail(Error::TimedOut(TimedOut::Send), now);
            }
            // A record that left in part cannot be followed by anything, not even an alert.
            self.write_closed = true;
            self.discard_output();
        }
        if self.recv_deadline.is_some_and(|at| at <= now) && !self.has_failed() {
            self.fail(Error::TimedOut(TimedOut::Receive), now);
        }
    }

    fn poll_event(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        while !self.open {
            if self.inner.is_done() {
                // The handshake deadline passed, or the application aborted.
                return self.poll_inner(now);
            }
            if !self.tls.is_handshaking() {
                self.finish_handshake(now)?;
            } else if !self.decrypt() {
                return match self.deferred_error {
                    Some(error) => Err(self.fail(error, now)),
                    None if self.eof_received => {
                        Err(self.fail(Error::Truncated(Truncated::Handshake), now))
                    }
                    None => Ok(None),
                };
            }
        }
        loop {
            if let Some(event) = self.poll_inner(now)? {
                return Ok(Some(event));
            }
            // Decrypt the next record only when the plaintext of the last is consumed: rustls then
            // never holds more than one record.
            if !self.deliver_plaintext(now) && (self.plaintext_pending || !self.decrypt()) {
                break;
            }
        }
        if self.wants_read() {
            // We read again, so the deadline for the rest of a record runs from here.
            self.update_recv_deadline(now, false);
        }
        self.check_end(now)?;
        Ok(None)
    }

    fn poll_transmit(&mut self, now: Instant) -> &[u8] {
        self.encrypt(now);
        self.limit_final_flush(now);
        &self.output[self.output_sent..]
    }

    fn handle_transmitted(&mut self, n: usize, now: Instant) {
        self.output_sent = self.output_sent.saturating_add(n).min(self.output.len());
        if self.output_sent == self.output.len() {
            self.output_transmitted(now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.inner.poll_timeout(), self.send_deadline, self.recv_deadline]
            .into_iter()
            .flatten()
            .min()
    }
}
