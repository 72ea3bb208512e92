//! One end of one connection: a handshake, then messages.

mod control_frames;
mod deadlines;
mod keepalive;
mod protocol;

use core::fmt;
use core::time::Duration;

use crate::config::{Config, Framing, Scheme};
use crate::crypto::nonce::Nonce;
use crate::error::{CloseReason, ConfigError, Error, TimedOut, Truncated};
use crate::event::Event;
use crate::framing::{self, Control, Decoder, Encoder, Limits};
use crate::handshake::{
    FailureAlert, Handshake, HandshakeBuffer, HandshakeOutput, Input, PeerInfo,
};
use crate::lease_term::LeaseTerm;
use crate::recv_buffer::{Received, RecvBuffer};
use crate::role::Role;
use crate::send_buffer::SendBuffer;
use crate::storage::{Buffers, Storage, UsedRange};
use crate::time::Instant;
use control_frames::ControlFrames;
use deadlines::{Deadline, Deadlines};
use keepalive::Keepalive;

/// How long the alert of a failed handshake may take to be transmitted.
const ALERT_TIMEOUT: Duration = Duration::from_secs(1);

/// One end of one connection, from its first byte to its last.
///
/// ```text
///                 KeyNeeded ⇄ provide_key
///                    │
/// client/server ─▶ Handshake ─ Established ─▶ Open ─ Closed ─▶ done
///                    │                         │
///                    └──────── an Error ───────┴─▶ Failed: queued bytes drain, then done
/// ```
/// In `Open` each direction ends separately: the peer's with `PeerFinished`, ours with
/// [`Protocol::finish`](crate::Protocol::finish). `Closed` follows when both have ended.
///
/// A session is driven through [`Protocol`](crate::Protocol); the [crate documentation](crate) has
/// the loop. Here it creates the first message of a handshake:
///
/// ```
/// use countersign::{Buffers, Config, Digest, Instant, Nonce, Protocol, Scheme, Session};
///
/// let config = Config::new(Scheme::Challenge { digest: Digest::Sha256 });
/// let nonce = Nonce::generate(&mut getrandom::SysRng).unwrap(); // one per session
/// let buffers = Buffers { handshake: [0; 1024], receive: [0; 1024], send: [0; 1024] };
/// let now = Instant::EPOCH;
/// let mut server = Session::server(&config, nonce, buffers, now)?;
/// let challenge = server.poll_transmit(now);
/// assert_eq!(challenge.len(), 32);
/// server.handle_transmitted(32, now);
/// # Ok::<(), countersign::ConfigError>(())
/// ```
pub struct Session<B: Storage> {
    state: State<B>,
    role: Role,
    recv_buffer: RecvBuffer<B>,
    send_buffer: SendBuffer,
    send: B,
    send_term: LeaseTerm,
    control_frames: ControlFrames,
    keepalive: Keepalive,
    deadlines: Deadlines,
    /// Length of the bytes last returned by `poll_transmit` that `handle_transmitted` has not
    /// reported.
    offered_len: u32,
    /// Number of bytes that must be transmitted before the send deadline expires.
    due_len: u32,
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
            Self::Open(peer) => Some(peer),
            Self::Failed { peer, .. } => peer.as_ref(),
        }
    }
}

impl<B: Storage> Session<B> {
    /// Creates the end that opened the connection, and starts its handshake deadline.
    ///
    /// `nonce` is used for this session only. `now` is the current time.
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

    /// Creates the end that accepted the connection, and starts its handshake deadline.
    ///
    /// `nonce` is used for this session only. `now` is the current time.
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
        let sealed = matches!(config.scheme, Scheme::Mutual(_));
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
        // From here on an error must release the lease.
        if !handshake.lease() {
            return Err(ConfigError::Busy);
        }
        let encoder = Encoder::new(config.framing);
        let sealed_max = framing::sealed_max_frame(UsedRange::capacity(&receive), config.max_frame);
        let limits = Limits {
            // A received chunk must fit the receive buffer with its header, and also the send buffer,
            // so that a service can send it on unchanged.
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
        let mut deadlines = Deadlines::new(config.stall_timeout);
        deadlines.set(Deadline::Peer, now.saturating_add(config.handshake_timeout));
        Ok(Self {
            state: State::Handshake { handshake, buffer },
            role,
            recv_buffer: RecvBuffer::new(receive, Decoder::new(config.framing), limits),
            send_buffer: SendBuffer::new(encoder, &send),
            send,
            send_term: LeaseTerm::NONE,
            control_frames: ControlFrames::new(),
            keepalive: Keepalive::default(),
            deadlines,
            offered_len: 0,
            due_len: 0,
            key_asked: false,
            peer_finished: false,
            closed: false,
        })
    }

    /// The role of this end.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// In the scheme `multiprocessing`, the challenge of this end, until the handshake is complete.
    ///
    /// Both ends of that scheme answer challenges with one key, so an attacker connected to two
    /// sessions of a process could obtain the response to the challenge of one from the other. The
    /// application prevents this reflection: no session may answer the challenge of another session
    /// of the process. See [`Challenge::Theirs`](crate::Challenge::Theirs).
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
            _ => self.send_buffer.is_drained() && self.control_frames.is_empty(&self.send_buffer),
        }
    }

    /// Number of bytes that wait to be transmitted.
    fn pending_len(&self) -> usize {
        match &self.state {
            State::Handshake { buffer, .. } => buffer.pending_len(),
            _ => self.control_frames.pending().len() + self.send_buffer.len(),
        }
    }

    /// Whether this end has finished and all of its bytes are transmitted.
    fn is_finished(&self) -> bool {
        self.send_buffer.is_finished() && self.is_drained()
    }

    /// Whether both ends have finished and our end is transmitted. Nothing may be sent from then
    /// on, because the driver may have shut the write side.
    fn both_finished(&self) -> bool {
        self.peer_finished && self.is_finished()
    }

    /// Drops queued PINGs and PONGs once both FINs are out: the peer needs no keepalive then, and
    /// may have closed its socket.
    fn drop_keepalives_after_fin(&mut self) {
        if self.send_buffer.is_finished()
            && self.send_buffer.is_drained()
            && self.control_frames.clear_after_fin()
        {
            self.offered_len = 0;
            self.deadlines.clear(Deadline::Send);
        }
    }

    /// Ends the session with `error`, unless it has ended.
    fn fail(&mut self, error: Error, now: Instant) {
        if self.closed || matches!(self.state, State::Failed { .. }) {
            return;
        }
        // After both FINs the write side may be shut, so no CLOSE is sent.
        let close_reason = if self.both_finished() { None } else { close_reason(error) };
        let failed = State::Failed { error, peer: None };
        match core::mem::replace(&mut self.state, failed) {
            State::Handshake { handshake, buffer } => {
                self.fail_handshake(error, handshake.failure_alert(), buffer, now);
            }
            State::Open(peer) => {
                self.state = State::Failed { error, peer: Some(peer) };
                match error {
                    // The peer has announced that it reads no more.
                    Error::PeerClosed(_) => self.discard(),
                    _ if self.send_buffer.is_sealed() => self.control_frames.close(close_reason),
                    _ => {}
                }
            }
            State::Failed { .. } => {}
        }
        self.end();
    }

    /// Gives back what was revoked, and ends the session if it has not ended.
    #[cold]
    fn return_leases(&mut self, now: Instant) {
        let discards = self.send.is_revoked();
        self.fail(Error::Overload, now);
        if discards {
            // With the CLOSE: behind a part of a frame it could not be parsed.
            self.discard();
        }
    }

    /// Ends the session with `error` and returns `error`.
    #[cold]
    fn fail_with(&mut self, error: Error, now: Instant) -> Error {
        self.fail(error, now);
        error
    }

    /// Stops receiving and accepting messages.
    fn end(&mut self) {
        for deadline in [Deadline::Receive, Deadline::Ping, Deadline::Peer] {
            self.deadlines.clear(deadline);
        }
        self.recv_buffer.release();
        self.send_buffer.end(&mut self.send);
        if self.is_drained() {
            self.deadlines.clear(Deadline::Send);
        }
    }

    /// Ends a failed handshake, with `alert` if all messages so far are transmitted.
    ///
    /// Otherwise drops the queued bytes: an alert behind half a message cannot be parsed, and a peer
    /// that does not read must not hold resources beyond the handshake deadline.
    fn fail_handshake(
        &mut self,
        error: Error,
        alert: FailureAlert,
        mut buffer: HandshakeBuffer<B>,
        now: Instant,
    ) {
        let bytes = if buffer.is_fully_transmitted() { alert.bytes(error) } else { &[] };
        buffer.release();
        self.discard();
        if !bytes.is_empty() {
            self.control_frames.queue_alert(bytes);
            self.due_len = self.control_frames.pending().len() as u32;
            self.deadlines.set(Deadline::Send, now.saturating_add(ALERT_TIMEOUT));
        }
    }

    /// Drops the bytes that wait to be transmitted.
    fn discard(&mut self) {
        self.control_frames.clear();
        self.send_buffer.discard(&mut self.send);
        self.offered_len = 0;
        self.deadlines.clear(Deadline::Send);
    }

    /// Starts the stall timeout for all bytes that wait now. It expires unless all of them are
    /// transmitted: if any progress extended it, a peer that reads a byte at a time could hold the
    /// lease for days.
    fn start_send_stall(&mut self, now: Instant) {
        self.due_len = self.pending_len() as u32;
        if self.due_len == 0 {
            self.deadlines.clear(Deadline::Send);
        } else if !matches!(self.state, State::Failed { .. })
            || !self.deadlines.is_set(Deadline::Send)
        {
            self.deadlines.start_stall(Deadline::Send, now);
        }
    }

    /// Passes an input to the handshake.
    fn step(&mut self, input: Input<'_>, now: Instant) {
        let State::Handshake { handshake, buffer } = &mut self.state else { return };
        let alert = handshake.failure_alert();
        let (received, mut out) = buffer.split();
        // `step` consumes the state, so a placeholder stands in the session meanwhile.
        let before = core::mem::replace(handshake, Handshake::InTransition);
        match before.step(input, received, &mut out) {
            Ok(next) => *handshake = next,
            Err(error) => {
                let failed = State::Failed { error, peer: None };
                if let State::Handshake { buffer, .. } = core::mem::replace(&mut self.state, failed)
                {
                    self.fail_handshake(error, alert, buffer, now);
                }
                self.end();
            }
        }
    }

    /// Advances the handshake to its next event; `None` when it waits.
    #[cold]
    fn poll_handshake(&mut self, now: Instant) -> Option<Event> {
        loop {
            let State::Handshake { handshake, buffer } = &mut self.state else { return None };
            if handshake.is_over() {
                // The handshake buffer is needed until its last byte is transmitted.
                if !buffer.is_drained() {
                    return None;
                }
                let output = handshake.output(buffer.view())?;
                buffer.release();
                self.open(output, now);
                return Some(Event::Established);
            }
            if handshake.key_purpose().is_some() {
                // One event per request, however often the driver polls.
                let asked = core::mem::replace(&mut self.key_asked, true);
                return (!asked).then_some(Event::KeyNeeded);
            }
            // Received bytes come first: the end of stream may be right behind the last message.
            if !handshake.needs_binding() && buffer.received_len() >= handshake.want() {
                self.step(Input::Received, now);
            } else if self.recv_buffer.eof() {
                self.fail(Error::Truncated(Truncated::Handshake), now);
            } else {
                return None;
            }
        }
    }

    /// Leaves the handshake with its output.
    fn open(&mut self, output: HandshakeOutput, now: Instant) {
        let HandshakeOutput { peer, sealing, heartbeat_ms } = output;
        self.state = State::Open(peer);
        self.deadlines.clear(Deadline::Peer);
        self.send_buffer.open(sealing.as_ref());
        if let Some(sealing) = sealing {
            // A chunk that is received can be sent on, also if this peer accepts only short frames.
            let max_chunk = self.recv_buffer.max_chunk().min(self.send_buffer.max_chunk());
            self.recv_buffer.open(&sealing, max_chunk);
            self.keepalive = Keepalive::new(heartbeat_ms);
            self.deadlines.set_or_clear(Deadline::Ping, self.keepalive.ping_at(now));
            self.reset_peer_timer(now);
        }
    }

    /// Restarts the keepalive timeout of the peer: it has sent a frame, or this end resumes
    /// reading. Not set for a peer that has shut its write side.
    fn reset_peer_timer(&mut self, now: Instant) {
        if !self.recv_buffer.eof() {
            self.deadlines.set_or_clear(Deadline::Peer, self.keepalive.peer_timeout_at(now));
        }
    }

    /// Advances the open session to its next event; `None` when it waits.
    fn poll_open(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        if self.closed {
            return Ok(None);
        }
        if let Some(why) = self.send_buffer.aborted() {
            return Err(self.fail_with(Error::Aborted(why), now));
        }
        if self.send_buffer.take_writable(&mut self.send) {
            return Ok(Some(Event::Writable));
        }
        // Checked before received bytes are parsed: a PONG must not follow the FIN to a write side
        // that may have been shut.
        if self.both_finished() {
            return Ok(Some(self.close()));
        }
        self.poll_received(now)
    }

    #[cold]
    fn close(&mut self) -> Event {
        self.closed = true;
        self.deadlines.clear_all();
        self.recv_buffer.release();
        self.send_buffer.release_if_idle(&mut self.send);
        Event::Closed
    }

    /// Parses received bytes up to the next event.
    fn poll_received(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        // After its FIN the peer still sends control frames. After the end of a raw stream nothing
        // follows.
        while !self.peer_finished || self.send_buffer.is_sealed() {
            let found = match self.recv_buffer.parse_next() {
                Ok(found) => found,
                Err(error) => return Err(self.fail_with(error, now)),
            };
            match found {
                Received::Chunk { first, remaining } => {
                    self.deadlines.clear(Deadline::Receive);
                    // The peer is not timed while this end does not read.
                    self.deadlines.clear(Deadline::Peer);
                    return Ok(Some(Event::Chunk { first, remaining }));
                }
                Received::Control(control) => {
                    if let event @ Some(_) = self.handle_control(control, now)? {
                        return Ok(event);
                    }
                }
                Received::Incomplete { started } => return self.handle_incomplete(started, now),
            }
        }
        Ok(None)
    }

    /// Handles a control frame.
    #[cold]
    fn handle_control(&mut self, control: Control, now: Instant) -> Result<Option<Event>, Error> {
        self.deadlines.clear(Deadline::Receive);
        self.reset_peer_timer(now);
        match control {
            Control::Ping(token) => self.control_frames.pong(token),
            Control::Pong(_) | Control::Other => {}
            Control::Fin => {
                self.peer_finished = true;
                self.drop_keepalives_after_fin();
                return Ok(Some(Event::PeerFinished));
            }
            Control::Close(why) => return Err(self.fail_with(Error::PeerClosed(why), now)),
        }
        Ok(None)
    }

    /// Handles the lack of a complete chunk; `started`: a chunk has been received in part.
    #[cold]
    fn handle_incomplete(&mut self, started: bool, now: Instant) -> Result<Option<Event>, Error> {
        if self.recv_buffer.has_chunk() {
            return Ok(None);
        }
        self.recv_buffer.check_term(now);
        if self.recv_buffer.eof() {
            if !self.recv_buffer.at_boundary() {
                return Err(self.fail_with(Error::Truncated(Truncated::Message), now));
            }
            if !self.peer_finished {
                if self.send_buffer.is_sealed() {
                    return Err(self.fail_with(Error::Truncated(Truncated::Stream), now));
                }
                self.peer_finished = true;
                self.recv_buffer.release();
                return Ok(Some(Event::PeerFinished));
            }
        } else if started
            && !self.recv_buffer.awaiting_buffer()
            && !self.deadlines.is_set(Deadline::Receive)
        {
            // Not set while this end has no buffer to read into: that time is not the peer's.
            self.deadlines.start_stall(Deadline::Receive, now);
        }
        Ok(None)
    }
}

/// The reason to send to the peer when `error` ends an open session.
fn close_reason(error: Error) -> Option<CloseReason> {
    match error {
        Error::Aborted(why) => Some(why),
        Error::Frame(_) | Error::FrameTooLong { .. } => Some(CloseReason::Protocol),
        Error::TimedOut(TimedOut::Receive | TimedOut::Peer) | Error::Overload => {
            Some(CloseReason::Timeout)
        }
        // Queued bytes are dropped, or the peer does not read any more.
        _ => None,
    }
}

/// Shows the state, but none of the bytes.
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
            .field("deadlines", &self.deadlines)
            .field("peer_finished", &self.peer_finished)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
