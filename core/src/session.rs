//! One connection: a handshake, then messages.

mod control_queue;
mod keepalive;
mod protocol;
mod timers;

use core::fmt;
use core::time::Duration;

use crate::config::{Config, Framing};
use crate::crypto::nonce::Nonce;
use crate::error::{CloseReason, ConfigError, Error, TimedOut, Truncated};
use crate::event::Event;
use crate::framing::{self, Control, Decoder, Encoder, Limits};
use crate::handshake::{
    FailureAlert, Handshake, HandshakeBuffer, HandshakeOutput, Input, PeerInfo,
};
use crate::peer::Role;
use crate::recv_buffer::{Found, RecvBuffer};
use crate::send_buffer::SendBuffer;
use crate::storage::{Buffers, Span, Storage};
use crate::time::Instant;
use control_queue::ControlQueue;
use keepalive::Keepalive;
use timers::{Timer, Timers};

/// How long the last word of a failed handshake may take to leave.
const LAST_WORD: Duration = Duration::from_secs(1);

/// One end of one connection, from its first byte to its last.
///
/// ```text
///                 KeyNeeded ⇄ provide_key
///                    │
/// client/server ─▶ Handshake ─ Established ─▶ Open ─ Closed ─▶ done
///                    │                         │
///                    └──────── an Error ───────┴─▶ Failed: queued bytes drain, then done
/// ```
/// In `Open` the two directions end apart: `PeerFinished` ends the peer's, [`Protocol::finish`](crate::Protocol::finish)
/// ours; `Closed` is when both have.
pub struct Session<B: Storage> {
    state: State<B>,
    role: Role,
    recv_buffer: RecvBuffer<B>,
    send_buffer: SendBuffer,
    send: B,
    control_queue: ControlQueue,
    keepalive: Keepalive,
    timers: Timers,
    stall_timeout: Duration,
    /// Of the bytes last shown to be transmitted, how many have not been reported.
    shown: u32,
    /// Of the bytes that waited when the send timer was set, how many still do.
    overdue: u32,
    key_asked: bool,
    peer_finished: bool,
    closed: bool,
}

enum State<B> {
    Handshake { handshake: Handshake, buffer: HandshakeBuffer<B> },
    Open(PeerInfo),
    Failed { error: Error, peer: Option<PeerInfo> },
}

impl<B> State<B> {
    fn peer_info(&self) -> Option<&PeerInfo> {
        match self {
            Self::Handshake { .. } => None,
            Self::Open(known) => Some(known),
            Self::Failed { peer, .. } => peer.as_ref(),
        }
    }
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
        let sealed = matches!(config.scheme, crate::config::Scheme::Mutual(_));
        if sealed != (config.framing == Framing::Sealed) {
            return Err(ConfigError::Framing);
        }
        let needed = config.receive_len();
        if receive.capacity() < needed {
            return Err(ConfigError::Buffer { needed });
        }
        let needed = Config::MIN_BUFFER;
        if send.capacity() < needed {
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
        let sealed_max = framing::sealed_max_frame(Span::capacity(&receive), config.max_frame);
        let limits = Limits {
            // What is received must fit its own buffer with its header, and the send buffer once
            // a service sends it on.
            max_chunk: receive.capacity().min(send.capacity()) - encoder.overhead(),
            max_frame: if sealed { sealed_max.into() } else { config.max_frame },
        };
        let mut buffer = HandshakeBuffer::new(handshake, &config.scheme);
        let handshake = Handshake::new(config, role, nonce, sealed_max, &mut buffer);
        let handshake = match handshake {
            Ok(handshake) => handshake,
            Err(error) => {
                buffer.release();
                return Err(error);
            }
        };
        let mut timers = Timers::default();
        timers.set(Timer::Peer, now.saturating_add(config.handshake_timeout));
        Ok(Self {
            state: State::Handshake { handshake, buffer },
            role,
            recv_buffer: RecvBuffer::new(receive, Decoder::new(config.framing), limits),
            send_buffer: SendBuffer::new(encoder, &send),
            send,
            control_queue: ControlQueue::new(),
            keepalive: Keepalive::default(),
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

    /// In the scheme `multiprocessing`, our own challenge, from construction until the handshake is
    /// over. Either end answers challenges there, so whoever has two ends of one process for peers
    /// could have one answer for it what the other asks: no session is to answer the challenge of
    /// another. See [`Challenge::Theirs`](crate::Challenge::Theirs).
    #[must_use]
    pub fn challenge(&self) -> Option<&[u8]> {
        match &self.state {
            State::Handshake { handshake, .. } => handshake.challenge(),
            State::Open(_) | State::Failed { .. } => None,
        }
    }

    fn is_drained(&self) -> bool {
        match &self.state {
            State::Handshake { buffer, .. } => buffer.is_drained(),
            _ => self.send_buffer.is_drained() && self.control_queue.is_settled(&self.send_buffer),
        }
    }

    /// How many bytes wait to be transmitted.
    fn pending_len(&self) -> usize {
        match &self.state {
            State::Handshake { buffer, .. } => buffer.pending_len(),
            _ => self.control_queue.pending().len() + self.send_buffer.len(),
        }
    }

    /// Whether all our messages are out, and that they are all.
    fn is_finished(&self) -> bool {
        self.send_buffer.is_finished() && self.is_drained()
    }

    /// Whether both sides have finished, and ours is out: nothing is owed any more, for the write
    /// side may have been shut.
    fn is_over(&self) -> bool {
        self.peer_finished && self.is_finished()
    }

    /// The peer has finished. If our FIN is out as well, it needs no sign of life, and may no longer
    /// be there to take one.
    fn fall_silent(&mut self) {
        if self.send_buffer.is_finished()
            && self.send_buffer.is_drained()
            && self.control_queue.forget_behind_fin()
        {
            self.shown = 0;
            self.timers.clear(Timer::Send);
        }
    }

    /// Ends the session with `error`, unless it has ended.
    fn fail(&mut self, error: Error, now: Instant) {
        if self.closed || matches!(self.state, State::Failed { .. }) {
            return;
        }
        let last_word = if self.is_over() { None } else { last_word(error) };
        let failed = State::Failed { error, peer: None };
        match core::mem::replace(&mut self.state, failed) {
            State::Handshake { handshake, buffer } => {
                self.fail_handshake(error, handshake.failure_alert(), buffer, now);
            }
            State::Open(known) => {
                self.state = State::Failed { error, peer: Some(known) };
                match error {
                    // The peer has said that it reads no more.
                    Error::PeerClosed(_) => self.discard(),
                    _ if self.send_buffer.is_sealed() => self.control_queue.close(last_word),
                    _ => {}
                }
            }
            State::Failed { .. } => {}
        }
        self.end();
    }

    /// Ends the session with `error`, and returns it.
    #[cold]
    fn failed(&mut self, error: Error, now: Instant) -> Error {
        self.fail(error, now);
        error
    }

    /// Nothing more is received or queued.
    fn end(&mut self) {
        for timer in [Timer::Receive, Timer::Ping, Timer::Peer] {
            self.timers.clear(timer);
        }
        self.recv_buffer.release();
        self.send_buffer.end(&mut self.send);
        if self.is_drained() {
            self.timers.clear(Timer::Send);
        }
    }

    /// A handshake has failed, which takes leave by `parting`. What it had to say is dropped, for half
    /// a challenge is no last word, and a stranger who does not read shall cost no more than the
    /// handshake's deadline.
    fn fail_handshake(
        &mut self,
        error: Error,
        alert: FailureAlert,
        mut buffer: HandshakeBuffer<B>,
        now: Instant,
    ) {
        let word = if buffer.has_spoken() { alert.bytes(error) } else { &[] };
        buffer.release();
        self.discard();
        if !word.is_empty() {
            self.control_queue.say(word);
            self.overdue = self.control_queue.pending().len() as u32;
            self.timers.set(Timer::Send, now.saturating_add(LAST_WORD));
        }
    }

    /// Drops what waits to be transmitted.
    fn discard(&mut self) {
        self.control_queue.forget();
        self.send_buffer.discard(&mut self.send);
        self.shown = 0;
        self.timers.clear(Timer::Send);
    }

    /// What now waits to be transmitted has to leave by the stall timeout. Not a byte of it: all;
    /// else a peer could hold a lease for days, a byte at a time.
    fn watch_send(&mut self, now: Instant) {
        self.overdue = self.pending_len() as u32;
        if self.overdue == 0 {
            self.timers.clear(Timer::Send);
        } else if !matches!(self.state, State::Failed { .. }) || !self.timers.is_set(Timer::Send) {
            self.timers.set(Timer::Send, now.saturating_add(self.stall_timeout));
        }
    }

    /// Feeds the handshake.
    fn step(&mut self, input: Input<'_>, now: Instant) {
        let State::Handshake { handshake, buffer } = &mut self.state else { return };
        let parting = handshake.failure_alert();
        let (received, mut out) = buffer.split();
        let before = core::mem::replace(handshake, Handshake::InTransition);
        match before.step(input, received, &mut out) {
            Ok(next) => *handshake = next,
            Err(error) => {
                let failed = State::Failed { error, peer: None };
                if let State::Handshake { buffer, .. } = core::mem::replace(&mut self.state, failed)
                {
                    self.fail_handshake(error, parting, buffer, now);
                }
                self.end();
            }
        }
    }

    /// One event of the handshake, or `None` when it waits.
    #[cold]
    fn poll_handshake(&mut self, now: Instant) -> Option<Event> {
        loop {
            let State::Handshake { handshake, buffer } = &mut self.state else { return None };
            if handshake.is_over() {
                // Not before its last byte is out: until then it holds its lease.
                if !buffer.is_drained() {
                    return None;
                }
                let output = handshake.output(buffer.view())?;
                buffer.release();
                self.open(output, now);
                return Some(Event::Established);
            }
            if handshake.key_purpose().is_some() {
                let asked = core::mem::replace(&mut self.key_asked, true);
                return (!asked).then_some(Event::KeyNeeded);
            }
            if !handshake.needs_binding() && buffer.received_len() >= handshake.want() {
                self.step(Input::Received, now);
            } else if self.recv_buffer.eof() {
                self.fail(Error::Truncated(Truncated::Handshake), now);
            } else {
                return None;
            }
        }
    }

    /// The handshake is over, and this came of it.
    fn open(&mut self, output: HandshakeOutput, now: Instant) {
        let HandshakeOutput { peer, sealing, heartbeat_ms } = output;
        self.state = State::Open(peer);
        self.timers.clear(Timer::Peer);
        self.send_buffer.open(sealing.as_ref());
        if let Some(sealing) = sealing {
            let max_chunk = self.recv_buffer.max_chunk().min(self.send_buffer.max_chunk());
            self.recv_buffer.open(&sealing, max_chunk);
            self.keepalive = Keepalive::new(heartbeat_ms);
            self.timers.put(Timer::Ping, self.keepalive.ping_at(now));
            self.hear(now);
        }
    }

    /// The peer has given a sign of life, or it is only now that we listen for one. Of one that has
    /// shut its write side none is expected.
    fn hear(&mut self, now: Instant) {
        if !self.recv_buffer.eof() {
            self.timers.put(Timer::Peer, self.keepalive.give_up_at(now));
        }
    }

    /// One event of the open session, or `None` when it waits.
    fn poll_open(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        if self.closed {
            return Ok(None);
        }
        if let Some(why) = self.send_buffer.aborted() {
            return Err(self.failed(Error::Aborted(why), now));
        }
        if self.send_buffer.take_writable(&mut self.send) {
            return Ok(Some(Event::Writable));
        }
        // Before what was received: a PING there is not to be answered behind our last word.
        if self.is_over() {
            return Ok(Some(self.close()));
        }
        self.poll_received(now)
    }

    #[cold]
    fn close(&mut self) -> Event {
        self.closed = true;
        self.timers = Timers::default();
        self.recv_buffer.release();
        self.send_buffer.settle(&mut self.send);
        Event::Closed
    }

    /// What the received bytes say.
    fn poll_received(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        // Behind its FIN, the peer's signs of life still come; behind its end of stream, nothing.
        while !self.peer_finished || self.send_buffer.is_sealed() {
            let found = match self.recv_buffer.find() {
                Ok(found) => found,
                Err(error) => return Err(self.failed(error, now)),
            };
            match found {
                Found::Chunk { first, remaining } => {
                    self.timers.clear(Timer::Receive);
                    // Until it is consumed we do not listen.
                    self.timers.clear(Timer::Peer);
                    return Ok(Some(Event::Chunk { first, remaining }));
                }
                Found::Control(control) => {
                    if let event @ Some(_) = self.controlled(control, now)? {
                        return Ok(event);
                    }
                }
                Found::Nothing { begun } => return self.nothing_received(begun, now),
            }
        }
        Ok(None)
    }

    /// A control frame has come.
    #[cold]
    fn controlled(&mut self, control: Control, now: Instant) -> Result<Option<Event>, Error> {
        self.timers.clear(Timer::Receive);
        self.hear(now);
        match control {
            Control::Ping(token) => self.control_queue.pong(token),
            Control::Pong(_) | Control::Other => {}
            Control::Fin => {
                self.peer_finished = true;
                self.fall_silent();
                return Ok(Some(Event::PeerFinished));
            }
            Control::Close(why) => return Err(self.failed(Error::PeerClosed(why), now)),
        }
        Ok(None)
    }

    /// No part is whole; `begun`: one has begun.
    #[cold]
    fn nothing_received(&mut self, begun: bool, now: Instant) -> Result<Option<Event>, Error> {
        if self.recv_buffer.has_chunk() {
            return Ok(None);
        }
        if self.recv_buffer.eof() {
            if !self.recv_buffer.at_boundary() {
                return Err(self.failed(Error::Truncated(Truncated::Message), now));
            }
            if !self.peer_finished {
                if self.send_buffer.is_sealed() {
                    return Err(self.failed(Error::Truncated(Truncated::Stream), now));
                }
                self.peer_finished = true;
                self.recv_buffer.release();
                return Ok(Some(Event::PeerFinished));
            }
        } else if begun
            && !self.recv_buffer.awaiting_buffer()
            && !self.timers.is_set(Timer::Receive)
        {
            // The peer owes the rest, unless it is we who do not read.
            self.timers.set(Timer::Receive, now.saturating_add(self.stall_timeout));
        }
        Ok(None)
    }
}

/// What to tell the peer when `error` ends an open session.
fn last_word(error: Error) -> Option<CloseReason> {
    match error {
        Error::Aborted(why) => Some(why),
        Error::Frame(_) | Error::FrameTooLong { .. } => Some(CloseReason::Protocol),
        Error::TimedOut(TimedOut::Receive | TimedOut::Peer) => Some(CloseReason::Timeout),
        // What was queued is dropped, or nobody is there to be told.
        _ => None,
    }
}

/// Says where the session is, and nothing of its bytes.
impl<B: Storage> fmt::Debug for Session<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state: &dyn fmt::Debug = match &self.state {
            State::Handshake { handshake, .. } => handshake,
            State::Open(_) => &"Open",
            State::Failed { error, .. } => error,
        };
        f.debug_struct("Session")
            .field("role", &self.role)
            .field("state", state)
            .field("timers", &self.timers)
            .field("peer_finished", &self.peer_finished)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
