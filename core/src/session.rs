//! One connection: a handshake, then messages.

use core::fmt;
use core::time::Duration;

use crate::config::Config;
use crate::error::{ConfigError, Error, KeyError, Reason, Refuse, TimedOut, Truncated};
use crate::framing::{Decoder, Encoder, Limits};
use crate::handshake::{Exchange, Handshake, Input, Outcome};
use crate::key::Candidates;
use crate::machine::{Event, KeyRequest, Machine, Peer, Role};
use crate::nonce::Nonce;
use crate::outbox::{Outbox, Queue};
use crate::receive::{Found, Receiver};
use crate::storage::{Buffers, Storage};
use crate::time::Instant;
use crate::timer::{Timer, Timers};

/// One end of one connection, from its first byte to its last.
///
/// ```text
///                 KeyNeeded ⇄ provide_key
///                    │
/// client/server ─▶ Handshake ─ Established ─▶ Open ─ Closed ─▶ done
///                    │                         │
///                    └──────── an Error ───────┴─▶ Failed: queued bytes drain, then done
/// ```
/// In `Open` the two directions end apart: `PeerFinished` ends the peer's, [`Machine::finish`]
/// ours; `Closed` is when both have.
pub struct Session<B: Storage> {
    state: State,
    role: Role,
    outcome: Option<Outcome>,
    exchange: Exchange<B>,
    receiver: Receiver<B>,
    queue: Queue,
    send: B,
    timers: Timers,
    stall_timeout: Duration,
    /// Of the bytes last shown to be transmitted, how many have not been reported.
    shown: usize,
    /// Of the bytes that waited when the send timer was set, how many still do.
    overdue: usize,
    key_asked: bool,
    peer_finished: bool,
    closed: bool,
}

#[derive(Debug)]
enum State {
    Handshake(Handshake),
    Open,
    Failed(Error),
}

impl<B: Storage> Session<B> {
    /// The end that connected.
    ///
    /// # Errors
    /// Every [`ConfigError`].
    pub fn client(
        config: &Config,
        nonce: Nonce,
        buffers: Buffers<B>,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        Self::new(config, Role::Client, nonce, buffers, now)
    }

    /// The end that was connected to.
    ///
    /// # Errors
    /// Every [`ConfigError`].
    pub fn server(
        config: &Config,
        nonce: Nonce,
        buffers: Buffers<B>,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        Self::new(config, Role::Server, nonce, buffers, now)
    }

    fn new(
        config: &Config,
        role: Role,
        nonce: Nonce,
        buffers: Buffers<B>,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        let Buffers { mut handshake, receive, send } = buffers;
        let needed = Config::MIN_BUFFER;
        if receive.capacity() < needed || send.capacity() < needed {
            return Err(ConfigError::Buffer { needed });
        }
        let needed = config.handshake_len();
        if handshake.capacity() < needed {
            return Err(ConfigError::HandshakeBuffer { needed });
        }
        if !handshake.lease() {
            return Err(ConfigError::Busy);
        }
        let encoder = Encoder::new(config.framing);
        let limits = Limits {
            // What is received must fit its own buffer with its header, and the send buffer once
            // a service sends it on.
            max_part: receive.capacity().min(send.capacity()) - encoder.overhead(),
            max_frame: config.max_frame,
        };
        let mut exchange = Exchange::new(handshake, config.scheme);
        let handshake = Handshake::new(config.scheme, role, nonce, &mut exchange);
        let mut timers = Timers::default();
        timers.set(Timer::Handshake, now.saturating_add(config.handshake_timeout));
        Ok(Self {
            state: State::Handshake(handshake),
            role,
            outcome: None,
            exchange,
            receiver: Receiver::new(receive, Decoder::new(config.framing), limits),
            queue: Queue::new(encoder),
            send,
            timers,
            stall_timeout: config.stall_timeout,
            shown: 0,
            overdue: 0,
            key_asked: false,
            peer_finished: false,
            closed: false,
        })
    }

    /// Which end this is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    fn is_drained(&self) -> bool {
        self.exchange.is_drained() && self.queue.is_drained()
    }

    /// Ends the session with `error`, unless it has ended.
    fn fail(&mut self, error: Error) {
        if self.closed || matches!(self.state, State::Failed(_)) {
            return;
        }
        self.state = State::Failed(error);
        if self.outcome.is_none() {
            // No scheme's handshake has a last word, and half a challenge is none. A stranger who
            // does not read costs no more than the handshake's deadline.
            self.discard();
        }
        self.timers.clear(Timer::Handshake);
        self.timers.clear(Timer::Receive);
        self.receiver.release();
        self.queue.end(&mut self.send);
        self.settle_exchange();
    }

    /// Drops what waits to be transmitted.
    fn discard(&mut self) {
        self.exchange.release();
        self.queue.discard(&mut self.send);
        self.shown = 0;
        self.timers.clear(Timer::Send);
    }

    /// What now waits to be transmitted has to leave by the stall timeout. Not a byte of it: all;
    /// else a peer could hold a lease for days, a byte at a time.
    fn watch_send(&mut self, now: Instant) {
        self.overdue = self.exchange.pending_len() + self.queue.len();
        if self.overdue == 0 {
            self.timers.clear(Timer::Send);
        } else if !matches!(self.state, State::Failed(_)) || !self.timers.is_set(Timer::Send) {
            self.timers.set(Timer::Send, now.saturating_add(self.stall_timeout));
        }
    }

    /// Gives the handshake's buffer back once nothing needs it.
    fn settle_exchange(&mut self) {
        if !matches!(self.state, State::Handshake(_)) && self.exchange.is_drained() {
            self.exchange.release();
        }
    }

    /// Feeds the handshake.
    fn step(&mut self, input: Input<'_>) {
        let handshake = match core::mem::replace(&mut self.state, State::Open) {
            State::Handshake(handshake) => handshake,
            other => {
                self.state = other;
                return;
            }
        };
        let (received, mut out) = self.exchange.split();
        match handshake.step(input, received, &mut out) {
            Ok(next) => self.state = State::Handshake(next),
            Err(error) => self.fail(error),
        }
    }

    /// One event of the handshake, or `None` when it waits.
    fn poll_handshake(&mut self) -> Option<Event> {
        loop {
            let State::Handshake(handshake) = &self.state else { return None };
            if let Handshake::Complete(outcome) = handshake {
                self.outcome = Some(*outcome);
                self.state = State::Open;
                self.timers.clear(Timer::Handshake);
                self.queue.open();
                self.settle_exchange();
                return Some(Event::Established);
            }
            if handshake.needs_key() {
                let asked = core::mem::replace(&mut self.key_asked, true);
                return (!asked).then_some(Event::KeyNeeded);
            }
            if self.exchange.received_len() < handshake.want() {
                if self.receiver.eof() {
                    self.fail(Error::Truncated(Truncated::Handshake));
                }
                return None;
            }
            self.step(Input::Received);
        }
    }

    /// One event of the open session, or `None` when it waits.
    fn poll_open(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        if self.closed {
            return Ok(None);
        }
        if let Some(why) = self.queue.aborted() {
            return Err(Error::Aborted(why));
        }
        if self.queue.take_writable(&mut self.send) {
            return Ok(Some(Event::Writable));
        }
        if !self.peer_finished {
            match self.receiver.find()? {
                Found::Part { first, rest } => {
                    self.timers.clear(Timer::Receive);
                    return Ok(Some(Event::Message { first, rest }));
                }
                Found::Nothing { begun: true } if self.receiver.eof() => {
                    return Err(Error::Truncated(Truncated::Message));
                }
                // The peer owes the rest, unless it is we who do not read.
                Found::Nothing { begun: true } => {
                    if !self.receiver.starved() && !self.timers.is_set(Timer::Receive) {
                        self.timers.set(Timer::Receive, now.saturating_add(self.stall_timeout));
                    }
                }
                Found::Nothing { begun: false } => {
                    if self.receiver.eof() && !self.receiver.has_part() {
                        self.peer_finished = true;
                        self.receiver.release();
                        return Ok(Some(Event::PeerFinished));
                    }
                }
            }
        }
        if self.peer_finished && self.queue.is_finished() && self.is_drained() {
            self.closed = true;
            self.queue.settle(&mut self.send);
            return Ok(Some(Event::Closed));
        }
        Ok(None)
    }
}

/// Says where the session is, and nothing of its bytes.
impl<B: Storage> fmt::Debug for Session<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("role", &self.role)
            .field("state", &self.state)
            .field("timers", &self.timers)
            .field("peer_finished", &self.peer_finished)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl<B: Storage> Machine for Session<B> {
    fn peer(&self) -> Option<Peer<'_>> {
        self.outcome.as_ref().map(Outcome::peer)
    }

    fn key_request(&self) -> Option<KeyRequest<'_>> {
        match &self.state {
            State::Handshake(handshake) => handshake.key_request(self.exchange.received()),
            _ => None,
        }
    }

    fn wants_read(&self) -> bool {
        match &self.state {
            State::Handshake(handshake) => {
                !self.receiver.eof() && self.exchange.received_len() < handshake.want()
            }
            State::Open => self.receiver.wants_read(),
            State::Failed(_) => false,
        }
    }

    fn wants_write(&self) -> bool {
        !self.is_drained()
    }

    fn starved(&self) -> bool {
        self.receiver.starved() || self.queue.starved()
    }

    fn wants_shutdown(&self) -> bool {
        self.is_drained()
            && match self.state {
                State::Handshake(_) => false,
                State::Open => self.queue.is_finished(),
                State::Failed(_) => true,
            }
    }

    fn is_done(&self) -> bool {
        self.closed || (matches!(self.state, State::Failed(_)) && self.is_drained())
    }

    fn is_idle(&self) -> bool {
        matches!(self.state, State::Open)
            && !self.closed
            && !self.receiver.has_part()
            && self.receiver.at_boundary()
            && self.queue.at_boundary()
            && self.is_drained()
    }

    fn provide_key(
        &mut self,
        answer: Result<Candidates<'_>, Refuse>,
        _now: Instant,
    ) -> Result<(), KeyError> {
        let request = self.key_request().ok_or(KeyError::NotAsked)?;
        if let Ok(candidates) = &answer {
            candidates.check(request.digest)?;
        }
        self.key_asked = false;
        self.step(Input::Key(answer));
        Ok(())
    }

    fn split(&mut self) -> (&[u8], Outbox<'_>) {
        (self.receiver.part(), Outbox::new(&mut self.queue, &mut self.send))
    }

    fn split_peer(&mut self) -> Option<(Peer<'_>, Outbox<'_>)> {
        let peer = self.outcome.as_ref()?.peer();
        Some((peer, Outbox::new(&mut self.queue, &mut self.send)))
    }

    fn consume(&mut self, _now: Instant) {
        self.receiver.consume();
    }

    fn finish(&mut self, _now: Instant) {
        self.queue.finish(&mut self.send);
    }

    fn abort(&mut self, why: Reason, _now: Instant) {
        self.fail(Error::Aborted(why));
    }

    fn recv_space(&mut self) -> &mut [u8] {
        match &self.state {
            State::Handshake(_) if self.receiver.eof() => &mut [],
            State::Handshake(handshake) => self.exchange.space(handshake.want()),
            State::Open => {
                let space = self.receiver.space();
                if space.is_empty() {
                    // Time in which we do not read is not the peer's.
                    self.timers.clear(Timer::Receive);
                }
                space
            }
            State::Failed(_) => &mut [],
        }
    }

    fn handle_received(&mut self, n: usize, _now: Instant) {
        match &self.state {
            State::Handshake(_) => self.exchange.commit(n),
            State::Open => self.receiver.commit(n),
            State::Failed(_) => {}
        }
    }

    fn handle_eof(&mut self, _now: Instant) {
        self.exchange.handle_eof();
        self.receiver.handle_eof();
        self.timers.clear(Timer::Receive);
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.take_expired(now) {
            let what = match timer {
                Timer::Handshake => TimedOut::Handshake,
                Timer::Receive => TimedOut::Receive,
                Timer::Send => {
                    // Also after an error, where this ends the last word.
                    self.discard();
                    TimedOut::Send
                }
            };
            self.fail(Error::TimedOut(what));
        }
    }

    fn poll_event(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        if let Some(event) = self.poll_handshake() {
            return Ok(Some(event));
        }
        match self.state {
            State::Handshake(_) => Ok(None),
            State::Open => self.poll_open(now).inspect_err(|&error| self.fail(error)),
            State::Failed(error) => Err(error),
        }
    }

    fn poll_transmit(&mut self, now: Instant) -> &[u8] {
        if !self.timers.is_set(Timer::Send) {
            self.watch_send(now);
        }
        let pending = if self.exchange.is_drained() {
            self.queue.pending(&mut self.send)
        } else {
            self.exchange.pending()
        };
        self.shown = pending.len();
        pending
    }

    fn handle_transmitted(&mut self, n: usize, now: Instant) {
        let n = n.min(self.shown);
        self.shown -= n;
        if n == 0 {
            return;
        }
        if self.exchange.is_drained() {
            self.queue.handle_transmitted(n, &mut self.send);
        } else {
            self.exchange.handle_transmitted(n);
            self.settle_exchange();
        }
        self.overdue = self.overdue.saturating_sub(n);
        if self.overdue == 0 {
            self.watch_send(now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }
}

#[cfg(test)]
mod tests;
