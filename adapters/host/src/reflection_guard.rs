//! Protection against reflected challenges in the scheme `multiprocessing`.
//!
//! The scheme has one key and no roles. So an attacker without the key could forward the challenge of one
//! of our sessions to another one, and return its response.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use countersign::{
    Candidates, Challenge, CloseReason, Error, Event, Instant, KeyError, KeyRejection, KeyRequest,
    Outbox, Peer, Protocol, Session, Storage,
};

/// The outstanding challenges of the sessions of a process. No session responds to one of them.
///
/// All sessions of a process share one set. So two ends in one process refuse each other: a test that runs
/// both gives each its own set.
#[derive(Clone, Default)]
pub struct OutstandingChallenges(Arc<Mutex<HashSet<Box<[u8]>>>>);

impl OutstandingChallenges {
    /// An empty set, separate from that of the process.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The set of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        static SHARED: LazyLock<OutstandingChallenges> = LazyLock::new(OutstandingChallenges::new);
        SHARED.clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Box<[u8]>>> {
        // No code that runs under the lock can leave the set inconsistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for OutstandingChallenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutstandingChallenges").field("len", &self.lock().len()).finish()
    }
}

/// A session that does not respond to outstanding challenges.
pub(crate) struct ReflectionGuard<B: Storage> {
    session: Session<B>,
    outstanding: OutstandingChallenges,
    /// The challenge of this session, while it is outstanding.
    own: Option<Box<[u8]>>,
}

impl<B: Storage> ReflectionGuard<B> {
    /// Guards a new session.
    pub(crate) fn new(session: Session<B>, outstanding: OutstandingChallenges) -> Self {
        let own: Option<Box<[u8]>> = session.challenge().map(Into::into);
        if let Some(own) = &own {
            outstanding.lock().insert(own.clone());
        }
        Self { session, outstanding, own }
    }

    /// Removes our challenge: it was answered, or never will be.
    fn remove_own(&mut self) {
        if let Some(own) = self.own.take() {
            self.outstanding.lock().remove(&own);
        }
    }
}

impl<B: Storage> Drop for ReflectionGuard<B> {
    fn drop(&mut self) {
        self.remove_own();
    }
}

impl<B: Storage> Protocol for ReflectionGuard<B> {
    fn provide_key(
        &mut self,
        answer: Result<Candidates<'_>, KeyRejection>,
        now: Instant,
    ) -> Result<(), KeyError> {
        let answer = match self.session.key_request().and_then(|request| request.challenge) {
            Some(Challenge::Theirs(challenge)) if self.outstanding.lock().contains(challenge) => {
                Err(KeyRejection::Reflected)
            }
            _ => answer,
        };
        self.session.provide_key(answer, now)
    }

    fn poll_event(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        let event = self.session.poll_event(now);
        if matches!(event, Ok(Some(Event::Established)) | Err(_)) {
            self.remove_own();
        }
        event
    }

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
        self.session.finish(now);
    }

    fn abort(&mut self, why: CloseReason, now: Instant) {
        self.session.abort(why, now);
    }

    fn recv_space(&mut self) -> &mut [u8] {
        self.session.recv_space()
    }

    fn handle_received(&mut self, n: usize, now: Instant) {
        self.session.handle_received(n, now);
    }

    fn handle_eof(&mut self, now: Instant) {
        self.session.handle_eof(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.session.handle_timeout(now);
    }

    fn poll_transmit(&mut self, now: Instant) -> &[u8] {
        self.session.poll_transmit(now)
    }

    fn handle_transmitted(&mut self, n: usize, now: Instant) {
        self.session.handle_transmitted(n, now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.session.poll_timeout()
    }
}
