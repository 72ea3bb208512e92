use std::time::Duration;

use countersign::{CloseReason, Event, Instant, Protocol, Remaining, Role, Session};

use crate::{KeySet, LeasedBuffer, Pools, SECRET, SessionSpec, drain, peer_role, receive};

/// What an honest peer does after the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sends a message.
    Message(Vec<u8>),
    /// Sends a chunk of an unfinished message, where the framing supports it.
    Chunk(Vec<u8>),
    /// Sends a PING.
    Ping,
    /// Finishes.
    Finish,
    /// Sends a CLOSE.
    Close(CloseReason),
}

/// The honest peer of a session under test. It holds the key and does what the test chooses.
#[derive(Debug)]
pub struct HonestPeer {
    /// Its own session.
    pub session: Session<LeasedBuffer>,
    spec: SessionSpec,
    keys: KeySet,
    now: Instant,
    payload: Vec<u8>,
}

/// Everything that an honest peer sends.
#[derive(Clone, Debug)]
pub struct PeerStream {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Length of the handshake within them.
    pub handshake: usize,
    /// The payload within them, concatenated.
    pub payload: Vec<u8>,
}

impl HonestPeer {
    /// The server's heartbeat interval.
    pub const HEARTBEAT: Duration = Duration::from_secs(1);

    /// Makes a peer that has sent nothing yet.
    #[must_use]
    pub fn new(spec: SessionSpec, role: Role) -> Self {
        let config = spec
            .config(role, Self::HEARTBEAT)
            .with_handshake_timeout(Duration::MAX)
            .with_stall_timeout(Duration::MAX);
        let session = spec.session(role, &config, &Pools::default(), (4096, 4096));
        Self { session, spec, keys: spec.keys(SECRET), now: Instant::EPOCH, payload: Vec::new() }
    }

    /// Completes the handshake of `tested` with a new peer. Returns the peer and what it sent.
    pub fn connected(spec: SessionSpec, tested: &mut Session<LeasedBuffer>) -> (Self, Vec<u8>) {
        let mut peer = Self::new(spec, peer_role(tested.role()));
        let mut sent = Vec::new();
        for _ in 0..9 {
            let bytes = peer.output();
            receive(tested, &peer.keys, &bytes, Instant::EPOCH);
            sent.extend(bytes);
            peer.receive(&drain(tested, Instant::EPOCH));
            if peer.session.peer().is_some() && tested.peer().is_some() {
                return (peer, sent);
            }
        }
        panic!("the handshake did not complete: {peer:?} {tested:?}");
    }

    /// Returns what a peer sends to `tested` that performs `actions`, while `tested` consumes
    /// everything and answers nothing.
    #[must_use]
    pub fn stream(
        spec: SessionSpec,
        mut tested: Session<LeasedBuffer>,
        actions: &[Action],
    ) -> PeerStream {
        let (mut peer, mut bytes) = Self::connected(spec, &mut tested);
        let handshake = bytes.len();
        for action in actions {
            let sent = peer.perform(action);
            receive(&mut tested, &peer.keys, &sent, Instant::EPOCH);
            peer.receive(&drain(&mut tested, Instant::EPOCH));
            bytes.extend(sent);
        }
        PeerStream { bytes, handshake, payload: peer.payload }
    }

    /// Receives `bytes`, all of them. Returns the events and the chunk of each.
    pub fn receive(&mut self, bytes: &[u8]) -> Vec<(Event, Vec<u8>)> {
        receive(&mut self.session, &self.keys, bytes, self.now)
    }

    /// Returns everything that is ready to be sent.
    pub fn output(&mut self) -> Vec<u8> {
        drain(&mut self.session, self.now)
    }

    /// Performs `action`. Returns the bytes sent, which are none where the framing cannot express
    /// it.
    pub fn perform(&mut self, action: &Action) -> Vec<u8> {
        let mutual = self.spec.is_mutual();
        match action {
            Action::Message(message) => return self.message(message),
            Action::Chunk(chunk) if mutual => {
                let mut out = self.session.split().1;
                let chunk = &chunk[..chunk.len().min(out.max_chunk())];
                // Refused after the peer has finished.
                if out.send_chunk(chunk, Remaining::Unknown).is_ok() {
                    self.payload.extend_from_slice(chunk);
                }
            }
            Action::Ping if mutual => {
                self.now = self.now.saturating_add(Self::HEARTBEAT);
                self.session.handle_timeout(self.now);
            }
            Action::Finish if mutual => self.session.finish(self.now),
            Action::Close(why) if mutual => self.session.abort(*why, self.now),
            _ => {}
        }
        self.output()
    }

    fn message(&mut self, message: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut left = message;
        loop {
            let mut out = self.session.split().1;
            let (chunk, more) = left.split_at(left.len().min(out.max_chunk()));
            let remaining =
                if more.is_empty() { Remaining::End } else { Remaining::Bytes(more.len() as u64) };
            if out.send_chunk(chunk, remaining).is_err() {
                return bytes;
            }
            self.payload.extend_from_slice(chunk);
            bytes.extend(self.output());
            if remaining == Remaining::End {
                return bytes;
            }
            left = more;
        }
    }
}
