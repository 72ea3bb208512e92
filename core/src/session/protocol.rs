//! [`Protocol`] for [`Session`]: the calls of the driver and the application.

use super::deadlines::Deadline;
use super::{Session, State};
use crate::crypto::keys::Candidates;
use crate::error::{CloseReason, Error, KeyError, KeyRejection, TimedOut};
use crate::event::Event;
use crate::handshake::Input;
use crate::key_request::KeyRequest;
use crate::lease_term::LeaseTerm;
use crate::outbox::Outbox;
use crate::peer::Peer;
use crate::protocol::Protocol;

use crate::storage::Storage;
use crate::time::Instant;

impl<B: Storage> Protocol for Session<B> {
    fn peer(&self) -> Option<Peer<'_>> {
        self.state.peer_info().map(|info| info.peer(self.role.other()))
    }

    fn key_request(&self) -> Option<KeyRequest<'_>> {
        match &self.state {
            State::Handshake { handshake, buffer } => handshake.key_request(buffer.view()),
            _ => None,
        }
    }

    fn wants_read(&self) -> bool {
        match &self.state {
            State::Handshake { handshake, buffer } => {
                !self.recv_buffer.eof() && buffer.received_len() < handshake.want()
            }
            State::Open(_) => !self.closed && self.recv_buffer.wants_read(),
            State::Failed { .. } => false,
        }
    }

    fn wants_write(&self) -> bool {
        !self.is_drained()
    }

    fn awaiting_buffer(&self) -> bool {
        self.recv_buffer.awaiting_buffer() || self.send_buffer.awaiting_buffer()
    }

    fn wants_shutdown(&self) -> bool {
        self.is_drained()
            && match self.state {
                State::Handshake { .. } => false,
                // With a FIN frame the write side stays open for PONGs until the peer's FIN arrives.
                State::Open(_) => {
                    self.send_buffer.is_finished()
                        && (self.peer_finished || !self.send_buffer.is_sealed())
                }
                State::Failed { .. } => true,
            }
    }

    fn is_done(&self) -> bool {
        self.closed || (matches!(self.state, State::Failed { .. }) && self.is_drained())
    }

    fn is_receiving(&self) -> bool {
        matches!(self.state, State::Open(_))
            && !self.closed
            && !self.recv_buffer.has_chunk()
            && self.recv_buffer.in_frame()
    }

    fn is_idle(&self) -> bool {
        matches!(self.state, State::Open(_))
            && !self.closed
            && !self.recv_buffer.has_chunk()
            && self.recv_buffer.at_boundary()
            && self.send_buffer.at_boundary()
            && self.is_drained()
    }

    fn provide_key(
        &mut self,
        answer: Result<Candidates<'_>, KeyRejection>,
        now: Instant,
    ) -> Result<(), KeyError> {
        let State::Handshake { handshake, .. } = &self.state else {
            return Err(KeyError::NotAsked);
        };
        let purpose = handshake.key_purpose().ok_or(KeyError::NotAsked)?;
        if let Ok(candidates) = &answer {
            candidates.check(purpose)?;
        }
        self.key_asked = false;
        self.step(Input::Key(answer), now);
        Ok(())
    }

    fn bind_channel(&mut self, exporter: &[u8; 32], now: Instant) {
        self.step(Input::Channel(exporter), now);
    }

    fn split(&mut self) -> (&[u8], Outbox<'_>) {
        (self.recv_buffer.chunk(), Outbox::new(&mut self.send_buffer, &mut self.send))
    }

    fn split_peer(&mut self) -> Option<(Peer<'_>, Outbox<'_>)> {
        let peer = self.state.peer_info()?.peer(self.role.other());
        Some((peer, Outbox::new(&mut self.send_buffer, &mut self.send)))
    }

    fn consume(&mut self, now: Instant) {
        if self.recv_buffer.consume() {
            self.reset_peer_timer(now);
        }
    }

    fn finish(&mut self, _now: Instant) {
        self.send_buffer.finish(&mut self.send);
    }

    fn abort(&mut self, why: CloseReason, now: Instant) {
        self.fail(Error::Aborted(why), now);
    }

    fn recv_space(&mut self) -> &mut [u8] {
        match &mut self.state {
            State::Handshake { .. } if self.recv_buffer.eof() => &mut [],
            State::Handshake { handshake, buffer } => buffer.space(handshake.want()),
            State::Open(_) if !self.closed => {
                let space = self.recv_buffer.space();
                if space.is_empty() {
                    // Time in which this end does not read is not charged to the peer.
                    self.deadlines.clear(Deadline::Receive);
                    self.deadlines.clear(Deadline::Peer);
                }
                space
            }
            State::Open(_) | State::Failed { .. } => &mut [],
        }
    }

    fn handle_received(&mut self, n: usize, now: Instant) {
        match &mut self.state {
            State::Handshake { buffer, .. } => buffer.commit(n),
            State::Open(_) => {
                self.recv_buffer.commit(n, || self.deadlines.stall_end(now));
                // Only a deadline that back-pressure cleared is set again: bytes alone are no sign that
                // the peer is alive, a complete frame is.
                let listens = !self.closed && !self.recv_buffer.has_chunk();
                if listens && !self.deadlines.is_set(Deadline::Peer) {
                    self.reset_peer_timer(now);
                }
            }
            State::Failed { .. } => {}
        }
    }

    fn handle_eof(&mut self, _now: Instant) {
        if let State::Handshake { buffer, .. } = &mut self.state {
            buffer.handle_eof();
        }
        self.recv_buffer.handle_eof();
        self.deadlines.clear(Deadline::Receive);
        if let State::Open(_) = self.state {
            self.deadlines.clear(Deadline::Peer);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(deadline) = self.deadlines.take_expired(now) {
            let what = match deadline {
                Deadline::Receive => TimedOut::Receive,
                Deadline::Send => {
                    // After an error this limits how long the alert or CLOSE may take.
                    if !matches!(self.state, State::Handshake { .. }) {
                        self.discard();
                    }
                    TimedOut::Send
                }
                Deadline::Peer if matches!(self.state, State::Handshake { .. }) => {
                    TimedOut::Handshake
                }
                Deadline::Peer => TimedOut::Peer,
                Deadline::Ping => {
                    // Bytes that already wait serve as keepalive when they are transmitted.
                    if self.is_drained() && !self.both_finished() {
                        self.control_frames.ping();
                    }
                    self.deadlines.set_or_clear(Deadline::Ping, self.keepalive.ping_at(now));
                    continue;
                }
            };
            self.fail(Error::TimedOut(what), now);
        }
    }

    fn poll_event(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        if let State::Handshake { .. } = self.state
            && let Some(event) = self.poll_handshake(now)
        {
            return Ok(Some(event));
        }
        if self.recv_buffer.is_revoked() || self.send.is_revoked() {
            self.return_leases(now);
        }
        match self.state {
            State::Handshake { .. } => Ok(None),
            State::Open(_) => self.poll_open(now),
            State::Failed { error, .. } => Err(error),
        }
    }

    fn poll_transmit(&mut self, now: Instant) -> &[u8] {
        if !matches!(self.state, State::Handshake { .. }) {
            // Nobody polls the events of a session that has failed.
            if matches!(self.state, State::Failed { .. }) && self.send.is_revoked() {
                self.discard();
            }
            if self.is_drained() {
                // An idle session holds no lease.
                self.send_buffer.release_if_idle(&mut self.send);
                self.offered_len = 0;
                return &[];
            }
            self.control_frames.encode_next(&mut self.send_buffer);
        }
        if !self.deadlines.is_set(Deadline::Send) {
            self.start_send_stall(now);
        }
        let pending = match &self.state {
            State::Handshake { buffer, .. } => buffer.pending(),
            // A control frame that was begun goes first: frames must not interleave.
            _ => match self.control_frames.pending() {
                [] => {
                    self.send_term.begin(|| self.deadlines.stall_end(now));
                    self.send_term.check(now, &self.send);
                    if self.send_term.is_over() {
                        self.send_buffer.drain();
                    }
                    self.send_buffer.pending(&mut self.send)
                }
                pending => pending,
            },
        };
        self.offered_len = pending.len() as u32;
        pending
    }

    fn handle_transmitted(&mut self, n: usize, now: Instant) {
        let n = n.min(self.offered_len as usize);
        self.offered_len -= n as u32;
        if n == 0 {
            return;
        }
        match &mut self.state {
            State::Handshake { buffer, .. } => buffer.handle_transmitted(n),
            _ if !self.control_frames.pending().is_empty() => {
                self.control_frames.handle_transmitted(n);
                if self.peer_finished {
                    self.drop_keepalives_after_fin();
                }
            }
            _ => {
                self.send_buffer.handle_transmitted(n, &mut self.send);
                if self.send_buffer.is_drained() {
                    self.send_term = LeaseTerm::NONE;
                }
            }
        }
        if let State::Open(_) = self.state {
            self.deadlines.set_or_clear(Deadline::Ping, self.keepalive.ping_at(now));
        }
        self.due_len = self.due_len.saturating_sub(n as u32);
        // All bytes of the last deadline are out: later ones get a deadline of their own.
        if self.due_len == 0 {
            self.start_send_stall(now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.next()
    }
}
