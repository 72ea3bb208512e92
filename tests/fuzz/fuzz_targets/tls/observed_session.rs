//! A session that records what passes through it.

use std::cell::RefCell;
use std::rc::Rc;

use countersign::{
    Candidates, CloseReason, Error, Event, Instant, KeyError, KeyRejection, KeyRequest, Outbox,
    Peer, Protocol, Session,
};

/// What passed through a session.
#[derive(Default)]
pub struct Log {
    pub sent: Vec<u8>,
    /// How much of `sent` was reported as transmitted. The rest is what was offered last.
    transmitted: usize,
    pub received: Vec<u8>,
    /// It reported the end of the peer's messages.
    pub finished: bool,
    /// The end of the stream was reported to it before that.
    pub eof: bool,
    /// Its application finished, and did not abort before everything was sent.
    pub finish_intended: bool,
    failed: bool,
}

/// A session and its log.
pub struct ObservedSession {
    session: Session<Vec<u8>>,
    space: Vec<u8>,
    pub log: Rc<RefCell<Log>>,
}

impl ObservedSession {
    pub fn new(session: Session<Vec<u8>>) -> Self {
        Self { session, space: Vec::new(), log: Rc::default() }
    }
}

impl Protocol for ObservedSession {
    fn peer(&self) -> Option<Peer<'_>> {
        self.session.peer()
    }

    fn key_request(&self) -> Option<KeyRequest<'_>> {
        self.session.key_request()
    }

    fn wants_read(&self) -> bool {
        self.session.wants_read()
    }

    fn wants_write(&self) -> bool {
        self.session.wants_write()
    }

    fn awaiting_buffer(&self) -> bool {
        self.session.awaiting_buffer()
    }

    fn wants_shutdown(&self) -> bool {
        self.session.wants_shutdown()
    }

    fn is_done(&self) -> bool {
        self.session.is_done()
    }

    fn is_receiving(&self) -> bool {
        self.session.is_receiving()
    }

    fn is_idle(&self) -> bool {
        self.session.is_idle()
    }

    fn provide_key(
        &mut self,
        answer: Result<Candidates<'_>, KeyRejection>,
        now: Instant,
    ) -> Result<(), KeyError> {
        self.session.provide_key(answer, now)
    }

    fn bind_channel(&mut self, exporter: &[u8; 32], now: Instant) {
        self.session.bind_channel(exporter, now);
    }

    fn split(&mut self) -> (&[u8], Outbox<'_>) {
        self.session.split()
    }

    fn split_peer(&mut self) -> Option<(Peer<'_>, Outbox<'_>)> {
        self.session.split_peer()
    }

    fn consume(&mut self, now: Instant) {
        self.session.consume(now);
    }

    fn finish(&mut self, now: Instant) {
        let mut log = self.log.borrow_mut();
        log.finish_intended |= !log.failed;
        self.session.finish(now);
    }

    fn abort(&mut self, why: CloseReason, now: Instant) {
        let mut log = self.log.borrow_mut();
        log.finish_intended &= self.session.wants_shutdown();
        log.failed = true;
        self.session.abort(why, now);
    }

    fn recv_space(&mut self) -> &mut [u8] {
        let len = self.session.recv_space().len();
        self.space.resize(len, 0);
        &mut self.space
    }

    fn handle_received(&mut self, n: usize, now: Instant) {
        self.log.borrow_mut().received.extend_from_slice(&self.space[..n]);
        self.session.recv_space()[..n].copy_from_slice(&self.space[..n]);
        self.session.handle_received(n, now);
    }

    fn handle_eof(&mut self, now: Instant) {
        let mut log = self.log.borrow_mut();
        log.eof |= !log.finished;
        self.session.handle_eof(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.session.handle_timeout(now);
    }

    fn poll_event(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        let event = self.session.poll_event(now);
        let mut log = self.log.borrow_mut();
        log.finished |= event == Ok(Some(Event::PeerFinished));
        log.failed |= event.is_err();
        event
    }

    fn poll_transmit(&mut self, now: Instant) -> &[u8] {
        let bytes = self.session.poll_transmit(now);
        let mut log = self.log.borrow_mut();
        // TLS may take less than it is offered, and polls again for the rest.
        let left = log.transmitted;
        log.sent.truncate(left);
        log.sent.extend_from_slice(bytes);
        bytes
    }

    fn handle_transmitted(&mut self, n: usize, now: Instant) {
        let mut log = self.log.borrow_mut();
        let (from, to) = (log.transmitted, log.transmitted + n);
        // What the session would offer now.
        let pending = self.session.poll_transmit(now);
        assert!(pending.starts_with(&log.sent[from..to]), "reported bytes that were not offered");
        log.transmitted = to;
        self.session.handle_transmitted(n, now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.session.poll_timeout()
    }
}
