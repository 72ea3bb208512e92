//! One session in either role, whose peer sends arbitrary bytes in arbitrary chunks, and whose
//! application and driver make arbitrary calls. Nothing may panic; no peer is authenticated without
//! the key; an error stays; the session sends what it accepted, and an honest peer can read it; no
//! deadline lies in the past.
#![no_main]

mod common;

use std::time::Duration;

use arbitrary::Arbitrary;
use common::{EXPORTER, HEARTBEAT, KeySet, SessionSpec, connect, drain, receive};
use countersign::{
    Candidates, CloseReason, Error, Event, FrameError, Instant, KeyRejection, Protocol, Remaining,
    Role, SendError, Session,
};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Setup {
    server: bool,
    spec: SessionSpec,
    max_frame: u16,
    receive: u8,
    send: u8,
    /// The peer holds the key, and the steps start after the handshake.
    honest: bool,
}

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Receive(&'a [u8]),
    Eof,
    Transmit(u8),
    Events(u8),
    Consume,
    Send(&'a [u8], Tail),
    SendWith(u8, Tail),
    Finish,
    Abort(bool),
    Key(u8),
    Advance(u32),
    Bind(bool),
    /// An action of the honest peer, all of whose output arrives.
    Peer(Peer<'a>),
}

#[derive(Arbitrary, Debug)]
enum Peer<'a> {
    Sends(&'a [u8], Tail),
    Pings,
    Finishes,
    Aborts,
    Receives,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Tail {
    End,
    Bytes(u16),
    Unknown,
}

impl From<Tail> for Remaining {
    fn from(tail: Tail) -> Self {
        match tail {
            Tail::End => Self::End,
            Tail::Bytes(n) => Self::Bytes(n.into()),
            Tail::Unknown => Self::Unknown,
        }
    }
}

struct Fuzz {
    spec: SessionSpec,
    role: Role,
    session: Session<Vec<u8>>,
    peer: Option<Session<Vec<u8>>>,
    /// Transmitted bytes that the peer has not received.
    unreceived: Vec<u8>,
    now: Instant,
    keys: KeySet,
    error: Option<Error>,
    established: bool,
    closed: bool,
    holds_chunk: bool,
    /// A send returned `Full`, and `Writable` has not followed.
    full: bool,
    transmitted: usize,
    accepted: usize,
    /// Pending output was dropped because the peer does not read.
    dropped: bool,
}

impl Fuzz {
    fn event(&mut self, honest: bool) -> bool {
        match self.session.poll_event(self.now) {
            Ok(None) => {
                assert_eq!(self.error, None, "the error disappeared");
                return false;
            }
            Ok(Some(event)) => {
                assert_eq!(self.error, None, "an event after an error");
                assert!(!self.closed, "an event after Closed");
                match event {
                    Event::Established => {
                        assert!(!self.established);
                        self.established = true;
                        let peer = self.session.peer().expect("a peer");
                        let proved = honest && self.spec.authenticates_peer(self.role);
                        assert_eq!(peer.authenticated, proved, "authenticated without the key");
                    }
                    Event::Chunk { .. } => {
                        assert!(self.established && !self.holds_chunk);
                        self.holds_chunk = true;
                        let (chunk, outbox) = self.session.split();
                        assert!(chunk.len() <= outbox.max_chunk());
                    }
                    Event::Writable => {
                        assert!(self.full, "Writable without Full");
                        self.full = false;
                    }
                    Event::Closed => self.closed = true,
                    _ => {}
                }
            }
            Err(error) => {
                assert!(self.error.is_none_or(|before| before == error), "the error changed");
                assert!(!self.closed, "an error after Closed");
                // The peer reads no more.
                self.dropped |= matches!(error, Error::PeerClosed(_));
                self.error = Some(error);
                self.holds_chunk = false;
                return false;
            }
        }
        true
    }

    fn receive(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.session.recv_space();
            if space.is_empty() {
                return;
            }
            let n = bytes.len().min(space.len());
            space[..n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            self.session.handle_received(n, self.now);
        }
    }

    fn sent(&mut self, result: Result<usize, SendError>) {
        match result {
            Ok(n) => {
                assert!(self.established && self.error.is_none());
                self.accepted += n;
            }
            Err(SendError::Full) => self.full = true,
            Err(_) => {}
        }
    }

    fn step(&mut self, step: Step<'_>, honest: bool) {
        match step {
            Step::Receive(bytes) => self.receive(bytes),
            Step::Eof => self.session.handle_eof(self.now),
            Step::Transmit(n) => {
                let pending = self.session.poll_transmit(self.now);
                let n = pending.len().min(n.into());
                self.unreceived.extend_from_slice(&pending[..n]);
                self.session.handle_transmitted(n, self.now);
                self.transmitted += n;
            }
            Step::Events(n) => {
                for _ in 0..n {
                    if !self.event(honest) {
                        break;
                    }
                }
            }
            Step::Consume => {
                self.session.consume(self.now);
                self.holds_chunk = false;
            }
            Step::Send(bytes, tail) => {
                let sent = self.session.split().1.send_chunk(bytes, tail.into());
                self.sent(sent.map(|()| bytes.len()));
            }
            Step::SendWith(len, tail) => {
                let mut outbox = self.session.split().1;
                let sent = outbox.send_with(len.into(), tail.into(), |space| space.fill(7));
                self.sent(sent.map(|()| len.into()));
            }
            Step::Finish => self.session.finish(self.now),
            Step::Abort(false) => self.session.abort(CloseReason::Application, self.now),
            Step::Abort(true) => self.session.split().1.abort(CloseReason::Application),
            Step::Key(0) => {
                let _ = self.session.provide_key(Err(KeyRejection::Unknown), self.now);
            }
            Step::Key(_) => {
                let answer = match self.session.key_request() {
                    Some(request) => self.keys.answer(&request),
                    None => Ok(Candidates::one(self.keys.any())),
                };
                let _ = self.session.provide_key(answer, self.now);
            }
            Step::Advance(micros) => {
                self.now = self.now.saturating_add(Duration::from_micros(micros.into()));
                let pending = self.session.wants_write();
                self.session.handle_timeout(self.now);
                self.dropped |= pending && !self.session.wants_write();
                let next = self.session.poll_timeout();
                assert!(
                    next.is_none_or(|next| next > self.now),
                    "poll_timeout returns a past deadline"
                );
            }
            Step::Bind(right) => {
                let exporter = if right { EXPORTER } else { [0; 32] };
                self.session.bind_channel(&exporter, self.now);
            }
            Step::Peer(what) => {
                let Some(mut peer) = self.peer.take() else { return };
                match what {
                    Peer::Sends(bytes, tail) => {
                        let _ = peer.split().1.send_chunk(bytes, tail.into());
                    }
                    Peer::Pings => {
                        self.now = self.now.saturating_add(HEARTBEAT);
                        peer.handle_timeout(self.now);
                    }
                    Peer::Finishes => peer.finish(self.now),
                    Peer::Aborts => peer.abort(CloseReason::Application, self.now),
                    Peer::Receives => {
                        let unreceived = std::mem::take(&mut self.unreceived);
                        let received =
                            receive(&mut peer, &self.keys, &unreceived, self.now, &mut Vec::new());
                        if let Err(Error::Frame(what)) = received {
                            // The application may finish within a message.
                            assert_eq!(what, FrameError::Order, "the peer refuses our frame");
                        }
                    }
                }
                let sent = drain(&mut peer, self.now);
                self.receive(&sent);
                self.peer = Some(peer);
            }
        }
    }
}

fuzz_target!(|input: (Setup, Vec<Step<'_>>)| {
    let (setup, steps) = input;
    let Setup { spec, honest, .. } = setup;
    let role = if setup.server { Role::Server } else { Role::Client };
    let config = spec.config(role).with_max_frame(setup.max_frame.into());
    let session = spec.session(role, &config, (setup.receive.into(), setup.send.into()));
    let mut fuzz = Fuzz {
        spec,
        role,
        session,
        peer: None,
        unreceived: Vec::new(),
        now: Instant::EPOCH,
        keys: spec.keys(),
        error: None,
        established: false,
        closed: false,
        holds_chunk: false,
        full: false,
        transmitted: 0,
        accepted: 0,
        dropped: false,
    };
    if honest {
        let mut peer = spec.peer(role);
        fuzz.session.bind_channel(&EXPORTER, fuzz.now);
        connect(&mut fuzz.session, &mut peer, &fuzz.keys);
        let authenticated = fuzz.session.peer().is_some_and(|peer| peer.authenticated);
        assert_eq!(authenticated, spec.authenticates_peer(role));
        fuzz.established = true;
        fuzz.peer = Some(peer);
    }
    for step in steps {
        fuzz.step(step, honest);
    }
    while fuzz.event(honest) && !fuzz.holds_chunk {}
    loop {
        let pending = fuzz.session.poll_transmit(fuzz.now).len();
        if pending == 0 {
            break;
        }
        fuzz.session.handle_transmitted(pending, fuzz.now);
        fuzz.transmitted += pending;
    }
    // Accepted bytes are dropped only if the peer does not read.
    assert!(fuzz.dropped || fuzz.transmitted >= fuzz.accepted, "accepted bytes were lost");
});
