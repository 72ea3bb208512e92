//! A session that is checked after every call.

use countersign::{
    Candidates, CloseReason, Digest, Error, Event, Instant, Key, KeyError, KeyRejection, Protocol,
    Purpose, Role, SendError, Session,
};
use countersign_tests::{ANOTHER_SECRET, EXPORTER, LeasedBuffer, Pools, SECRET, SessionSpec};

use crate::call::{Answer, Call};
use crate::setup::{Setup, session};

/// A session, and what follows from its answers so far.
pub(crate) struct CheckedSession {
    session: Session<LeasedBuffer>,
    pools: Pools,
    setup: Setup,
    /// How many of the peer's bytes were read, and what the session received.
    read: usize,
    received: Vec<u8>,
    now: Instant,
    error: Option<Error>,
    keys_requested: usize,
    /// Whether the first binding was that of the peer.
    bound: Option<bool>,
    pub(crate) established: bool,
    peer_finished: bool,
    finished: bool,
    closed: bool,
    chunk: bool,
    full: bool,
    done: bool,
    shutdown: bool,
}

impl CheckedSession {
    pub(crate) fn new(setup: Setup) -> Self {
        let pools = Pools::default();
        Self {
            session: session(setup.spec, setup.role, &pools, false),
            pools,
            setup,
            read: 0,
            received: Vec::new(),
            now: Instant::EPOCH,
            error: None,
            keys_requested: 0,
            bound: None,
            established: false,
            peer_finished: false,
            finished: false,
            closed: false,
            chunk: false,
            full: false,
            done: false,
            shutdown: false,
        }
    }

    pub(crate) fn call(&mut self, call: &Call) {
        match call {
            Call::PollEvent => self.poll_event(),
            Call::ProvideKey(answer) => self.provide_key(*answer),
            Call::Send(message) => {
                let result = self.session.split().1.send(message);
                self.check_send(result);
            }
            Call::SendChunk(chunk, remaining) => {
                let result = self.session.split().1.send_chunk(chunk, *remaining);
                self.check_send(result);
            }
            Call::SendWith(len, remaining) => {
                let mut outbox = self.session.split().1;
                let mut filled = false;
                let result = outbox.send_with(*len, *remaining, |space| {
                    assert_eq!(space, vec![0; *len]);
                    space.fill(0xee);
                    filled = true;
                });
                assert_eq!(filled, result.is_ok());
                self.check_send(result);
            }
            Call::OutboxFinish => {
                self.session.split().1.finish();
                self.finished = true;
            }
            Call::Consume => {
                self.session.consume(self.now);
                self.chunk = false;
                assert_eq!(self.session.split().0, b"");
            }
            Call::Finish => {
                self.session.finish(self.now);
                self.finished = true;
            }
            Call::Abort(reason) => {
                self.session.abort(*reason, self.now);
                self.chunk = false;
            }
            Call::Read(n, extra) => self.read(*n, *extra),
            Call::Space => {
                self.session.recv_space();
            }
            Call::Received(n) => self.session.handle_received(*n, self.now),
            Call::Eof => self.session.handle_eof(self.now),
            Call::Timeout(by) => {
                self.now = self.now.saturating_add(*by);
                self.session.handle_timeout(self.now);
                let next = self.session.poll_timeout();
                assert!(
                    next.is_none_or(|next| next > self.now),
                    "poll_timeout returns a past deadline"
                );
            }
            Call::PollTransmit => {
                let wants_write = self.session.wants_write();
                assert_eq!(!self.session.poll_transmit(self.now).is_empty(), wants_write);
            }
            Call::Transmitted(n) => self.session.handle_transmitted(*n, self.now),
            Call::Exhausted(receive, send) => {
                self.pools.receive.set_exhausted(*receive);
                self.pools.send.set_exhausted(*send);
            }
            Call::Bind(right) => {
                let exporter = if *right { EXPORTER } else { [7; 32] };
                self.session.bind_channel(&exporter, self.now);
                if self.error.is_none() {
                    self.bound.get_or_insert(*right);
                }
            }
        }
        self.check();
    }

    fn poll_event(&mut self) {
        let event = self.session.poll_event(self.now);
        if let Some(error) = self.error {
            assert_eq!(event, Err(error), "the error has changed");
            return;
        }
        let event = match event {
            Ok(None) => return,
            Ok(Some(event)) => event,
            Err(error) => {
                assert!(!self.closed, "an error after Closed: {error:?}");
                assert_ne!(error, Error::Transport);
                self.error = Some(error);
                self.chunk = false;
                return;
            }
        };
        assert!(!self.closed, "{event:?} after Closed");
        match event {
            Event::KeyNeeded => {
                self.keys_requested += 1;
                let twice = match self.setup.spec {
                    SessionSpec::None(_) | SessionSpec::Challenge(..) => false,
                    SessionSpec::Multiprocessing(..) => true,
                    SessionSpec::Mutual(_) => self.setup.role == Role::Client,
                };
                assert!(self.keys_requested <= 1 + usize::from(twice) && !self.established);
                assert!(self.session.key_request().is_some());
            }
            Event::Established => {
                assert!(!self.established);
                self.established = true;
                let Setup { spec, role, handshake, .. } = &self.setup;
                let peer = self.session.peer().unwrap();
                assert_eq!(peer.authenticated, spec.authenticates_peer(*role));
                if spec.authenticates_peer(*role) {
                    let right = spec.must_accept(*role, handshake, &self.received);
                    assert!(right, "authenticated without the right proof");
                }
                assert!(
                    !spec.is_bound() || self.bound == Some(true),
                    "established on the wrong channel"
                );
                assert_eq!(peer.session_id.is_some(), spec.is_mutual());
            }
            Event::Chunk { .. } => {
                assert!(self.established && !self.chunk && !self.peer_finished);
                self.chunk = true;
            }
            Event::Writable => {
                assert!(self.full, "Writable without Full");
                self.full = false;
            }
            Event::PeerFinished => {
                assert!(self.established && !self.chunk && !self.peer_finished);
                self.peer_finished = true;
            }
            Event::Closed => {
                assert!(self.peer_finished && self.finished);
                self.closed = true;
            }
            event => panic!("unknown event: {event:?}"),
        }
    }

    fn provide_key(&mut self, answer: Answer) {
        // If no key is requested, any key will do.
        let keys_requested =
            self.session.key_request().map(|request| (request.role, request.purpose));
        let (role, purpose) = keys_requested.unwrap_or((self.setup.role, Purpose::Derivation));
        let key = |secret| Key::new(purpose, secret).unwrap();
        let (right, wrong) = (key(SECRET), key(ANOTHER_SECRET));
        let other = Key::challenge(Digest::Sha1, SECRET).unwrap();
        let answer = match answer {
            Answer::Right => Ok(Candidates::two(&right, &wrong)),
            Answer::RightSecond if role == Role::Server => Ok(Candidates::two(&wrong, &right)),
            Answer::RightSecond | Answer::Wrong => Ok(Candidates::one(&wrong)),
            Answer::OtherPurpose => Ok(Candidates::two(&right, &other)),
            Answer::KeyRejection => Err(KeyRejection::Unknown),
        };
        let result = self.session.provide_key(answer, self.now);
        match result {
            Ok(()) => assert!(keys_requested.is_some()),
            Err(KeyError::NotAsked) => assert!(keys_requested.is_none()),
            Err(KeyError::Purpose) => {
                assert!(keys_requested.is_some() && self.session.key_request().is_some());
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn check_send(&mut self, result: Result<(), SendError>) {
        match result {
            Ok(()) => assert!(self.established && !self.finished && self.error.is_none()),
            Err(SendError::Full) => self.full = true,
            Err(SendError::Finished) => assert!(self.finished),
            Err(SendError::NotEstablished) => assert!(!self.established),
            Err(_) => {}
        }
    }

    fn read(&mut self, n: usize, extra: usize) {
        let wants = self.session.wants_read();
        let space = self.session.recv_space();
        assert!(wants || space.is_empty());
        if space.is_empty() {
            return;
        }
        let n = n.min(space.len()).min(self.setup.stream.len() - self.read);
        space[..n].copy_from_slice(&self.setup.stream[self.read..][..n]);
        let claimed = n.saturating_add(extra);
        self.received.extend_from_slice(&space[..claimed.min(space.len())]);
        self.read += n;
        self.session.handle_received(claimed, self.now);
    }

    /// Checks what holds after every call.
    fn check(&mut self) {
        let session = &self.session;
        assert!(!self.done || session.is_done(), "is_done became false");
        assert!(!self.shutdown || session.wants_shutdown(), "wants_shutdown became false");
        (self.done, self.shutdown) = (session.is_done(), session.wants_shutdown());
        assert_eq!(session.peer().is_some(), self.established);
        if self.setup.spec.is_bound() && self.bound.is_none() {
            assert!(!session.wants_read() && !session.wants_write(), "active before the binding");
        }
        assert!(!session.wants_shutdown() || !session.wants_write());
        if self.done {
            assert!(!session.wants_read() && !session.wants_write());
            assert!(session.wants_shutdown() && !session.awaiting_buffer());
            assert_eq!(session.poll_timeout(), None);
        }
        if self.error.is_some() {
            assert!(!session.wants_read() && session.key_request().is_none());
            assert!(self.session.split().0.is_empty() && self.session.recv_space().is_empty());
        }
    }

    /// Aborts the session, transmits everything, and checks that nothing is left.
    pub(crate) fn end(mut self) {
        self.call(&Call::Abort(CloseReason::Application));
        loop {
            self.call(&Call::PollTransmit);
            if !self.session.wants_write() {
                break;
            }
            self.call(&Call::Transmitted(7));
        }
        self.call(&Call::PollEvent);
        assert!(self.closed || self.error.is_some());
        assert!(self.session.is_done());
        assert_eq!(self.pools.held(), 0);
    }
}
