//! It as its driver and its application see it.

use std::ops::DerefMut;

use countersign::{
    Candidates, CloseReason, Error, Event, Instant, KeyError, KeyRejection, KeyRequest, Outbox,
    Peer, Protocol, TimedOut, Truncated,
};

use super::Tls;
use super::receive::INPUT_LEN;

impl<M: DerefMut<Target: Protocol>> Protocol for Tls<M> {
    fn peer(&self) -> Option<Peer<'_>> {
        let mut peer = self.inner.peer()?;
        peer.authenticated |= self.verified;
        Some(peer)
    }

    fn key_request(&self) -> Option<KeyRequest<'_>> {
        self.inner.key_request()
    }

    fn wants_read(&self) -> bool {
        let may = self.failed.is_none() && !self.eof && !self.peer_closed;
        may && self.broken.is_none()
            && self.taken == self.filled
            && !self.plain
            && (!self.open || self.inner.wants_read())
            && !self.inner.is_done()
    }

    fn wants_write(&self) -> bool {
        let inner = self.open && self.failed.is_none() && self.inner.wants_write();
        !self.is_drained() || inner || self.owes_close()
    }

    fn awaiting_buffer(&self) -> bool {
        self.inner.awaiting_buffer()
    }

    fn wants_shutdown(&self) -> bool {
        let ended = self.closing || (self.inner_failed && self.inner.wants_shutdown());
        self.is_drained() && (self.failed.is_some() || ended)
    }

    fn is_done(&self) -> bool {
        let ended = (self.closing || self.inner_failed) && self.inner.is_done();
        self.is_drained() && (self.failed.is_some() || ended)
    }

    fn is_receiving(&self) -> bool {
        self.open && (!self.records.at_boundary() || self.inner.is_receiving())
    }

    fn is_idle(&self) -> bool {
        self.open
            && self.inner.is_idle()
            && self.is_drained()
            && self.records.at_boundary()
            && self.taken == self.filled
            && !self.plain
    }

    fn provide_key(
        &mut self,
        answer: Result<Candidates<'_>, KeyRejection>,
        now: Instant,
    ) -> Result<(), KeyError> {
        self.in_doubt = true;
        self.inner.provide_key(answer, now)
    }

    /// Nothing: it is bound to this connection.
    fn bind_channel(&mut self, _exporter: &[u8; 32], _now: Instant) {}

    fn split(&mut self) -> (&[u8], Outbox<'_>) {
        self.inner.split()
    }

    fn split_peer(&mut self) -> Option<(Peer<'_>, Outbox<'_>)> {
        let (mut peer, outbox) = self.inner.split_peer()?;
        peer.authenticated |= self.verified;
        Some((peer, outbox))
    }

    fn consume(&mut self, now: Instant) {
        self.chunk = false;
        self.inner.consume(now);
    }

    fn finish(&mut self, now: Instant) {
        self.inner.finish(now);
    }

    fn abort(&mut self, why: CloseReason, now: Instant) {
        self.in_doubt = true;
        self.inner.abort(why, now);
    }

    fn recv_space(&mut self) -> &mut [u8] {
        self.offered = self.wants_read();
        if !self.offered {
            // Time in which we do not read is not the peer's.
            self.receive_by = None;
            return &mut [];
        }
        self.input.resize(INPUT_LEN, 0);
        &mut self.input
    }

    fn handle_received(&mut self, n: usize, now: Instant) {
        if !std::mem::take(&mut self.offered) {
            return;
        }
        (self.filled, self.taken) = (n.min(self.input.len()), 0);
        let progress = self.records.pass(&self.input[..self.filled]);
        self.watch_records(now, progress);
        if self.filled == 0 {
            self.forget_input();
        }
    }

    fn handle_eof(&mut self, _now: Instant) {
        self.eof = true;
        self.receive_by = None;
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.in_doubt = true;
        self.inner.handle_timeout(now);
        self.hurry(now);
        if self.send_by.is_some_and(|at| at <= now) {
            if !self.closing && !self.has_failed() {
                self.fail(Error::TimedOut(TimedOut::Send), now);
            }
            // Behind half a record nothing can be said.
            self.closing = true;
            self.forget_output();
        }
        if self.receive_by.is_some_and(|at| at <= now) && !self.has_failed() {
            self.fail(Error::TimedOut(TimedOut::Receive), now);
        }
    }

    fn poll_event(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        while !self.open {
            if self.inner.is_done() {
                // Its deadline is over, or it was aborted.
                return self.poll_inner(now);
            }
            if !self.tls.is_handshaking() {
                self.begin(now)?;
            } else if !self.decrypt() {
                return match self.broken {
                    Some(error) => Err(self.fail(error, now)),
                    None if self.eof => Err(self.fail(Error::Truncated(Truncated::Handshake), now)),
                    None => Ok(None),
                };
            }
        }
        loop {
            if let Some(event) = self.poll_inner(now)? {
                return Ok(Some(event));
            }
            // Nothing is decrypted before the inner machine has taken what there was.
            if !self.deliver(now) && (self.plain || !self.decrypt()) {
                break;
            }
        }
        if self.wants_read() {
            // From here on the rest of a record is the peer's to send, whether or not it is read at once.
            self.watch_records(now, false);
        }
        self.end(now)?;
        Ok(None)
    }

    fn poll_transmit(&mut self, now: Instant) -> &[u8] {
        self.encrypt(now);
        self.hurry(now);
        &self.output[self.sent..]
    }

    fn handle_transmitted(&mut self, n: usize, now: Instant) {
        self.sent = (self.sent + n).min(self.output.len());
        if self.sent == self.output.len() {
            self.settle(now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.inner.poll_timeout(), self.send_by, self.receive_by].into_iter().flatten().min()
    }
}
