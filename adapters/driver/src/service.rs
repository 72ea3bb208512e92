//! Applications, and who holds their keys.

use countersign::{
    Candidates, Error, Instant, Key, KeyRejection, KeyRequest, Mutual, Outbox, Peer, Remaining,
};

/// What became of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// It is dealt with.
    Consumed,
    /// Not yet. The same part comes again after [`Service::on_writable`] or
    /// [`Service::on_wake`]; until then the peer is not read beyond one buffer.
    Backpressure,
}

/// A message, or a part of one.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Its bytes. No part is longer than [`Outbox::max_chunk`].
    pub bytes: &'a [u8],
    /// Whether it is its message's first.
    pub first: bool,
    /// What of the message follows it.
    pub remaining: Remaining,
}

/// An application on one connection. Written once, it runs on every adapter.
///
/// Calls come in this order: `on_open` when the handshake is over; `on_message`, `on_writable`,
/// `on_wake`, `on_timeout` as things happen; `on_finished` once, after the last message;
/// `on_closed` once, last, and also when the handshake failed.
pub trait Service {
    /// The handshake is over.
    fn on_open(&mut self, peer: &Peer<'_>, out: &mut Outbox<'_>, now: Instant) {
        let _ = (peer, out, now);
    }

    /// A part has arrived.
    fn on_message(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow;

    /// There is room for what was [`Full`](countersign::SendError::Full).
    fn on_writable(&mut self, out: &mut Outbox<'_>, now: Instant) {
        let _ = (out, now);
    }

    /// Someone woke the connection's waker. May be called when no one did.
    fn on_wake(&mut self, out: &mut Outbox<'_>, now: Instant) {
        let _ = (out, now);
    }

    /// The peer sends no more messages. Unless told otherwise, neither do we.
    fn on_finished(&mut self, out: &mut Outbox<'_>, now: Instant) {
        let _ = now;
        out.finish();
    }

    /// [`poll_timeout`](Self::poll_timeout) is due.
    fn on_timeout(&mut self, out: &mut Outbox<'_>, now: Instant) {
        let _ = (out, now);
    }

    /// Whether no answer is owed that is still to come, by a wake or a timeout. An orderly stop
    /// waits for it.
    fn is_idle(&self) -> bool {
        true
    }

    /// When to call [`on_timeout`](Self::on_timeout).
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The connection has ended: in order, or with why it failed.
    fn on_closed(&mut self, why: Result<(), Error>) {
        let _ = why;
    }
}

/// Who answers key requests.
pub trait Keys {
    /// The keys for `request`.
    ///
    /// # Errors
    /// Why there are none; the handshake then fails.
    fn candidates(&self, request: &KeyRequest<'_>) -> Result<Candidates<'_>, KeyRejection>;

    /// Whether the key that a session with `peer` was authenticated by is still among them, and for
    /// such a peer: a session for which it is not is ended when keys are replaced.
    /// [`Peer::fingerprint`] tells keys of one id apart. Schemes in which it is `None` do not tell
    /// which key it was; no session of theirs should be ended.
    fn hold(&self, peer: &Peer<'_>) -> bool;
}

/// One key for everyone; in schemes with key ids, under the id `default` and no other.
impl Keys for Key {
    fn candidates(&self, request: &KeyRequest<'_>) -> Result<Candidates<'_>, KeyRejection> {
        // Whoever holds it could otherwise choose by which id we know it.
        match request.key_id {
            Some(kid) if kid != Mutual::DEFAULT_KEY_ID => Err(KeyRejection::Unknown),
            _ => Ok(Candidates::one(self)),
        }
    }

    fn hold(&self, peer: &Peer<'_>) -> bool {
        peer.fingerprint.is_none() || peer.fingerprint == self.fingerprint()
    }
}

/// A key, or none: then every request is refused, as befits schemes that ask for no key.
impl Keys for Option<Key> {
    fn candidates(&self, request: &KeyRequest<'_>) -> Result<Candidates<'_>, KeyRejection> {
        self.as_ref().ok_or(KeyRejection::Unknown)?.candidates(request)
    }

    fn hold(&self, peer: &Peer<'_>) -> bool {
        self.as_ref().map_or(peer.fingerprint.is_none(), |key| key.hold(peer))
    }
}
