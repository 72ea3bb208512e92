//! The interface between a protocol and whatever drives it.

use crate::crypto::keys::Candidates;
use crate::error::{CloseReason, Error, KeyError, KeyRejection};
use crate::event::Event;
use crate::key_request::KeyRequest;
use crate::outbox::Outbox;
use crate::peer::Peer;
use crate::time::Instant;

/// A protocol as a pure state machine: bytes and moments in, bytes and events out.
///
/// Methods are of four classes. *Getters* answer from what is known. The *application* answers
/// key requests and messages. The *driver* reports with `handle_*` what happened and asks with
/// `poll_*` (and [`recv_space`](Self::recv_space)) what to do next. The order of a turn is in the
/// [crate's documentation](crate).
///
/// Every answer goes stale with the next call that takes `&mut self`. [`poll_event`] is the only
/// parser: nothing that arrives has an effect before it is called, and it is to be called until it
/// returns `Ok(None)` or an error before anything is waited for.
///
/// [`poll_event`]: Self::poll_event
pub trait Protocol {
    /// Who the peer is, from [`Event::Established`] on, after an error too.
    fn peer(&self) -> Option<Peer<'_>>;

    /// The open key request, from [`Event::KeyNeeded`] until [`provide_key`](Self::provide_key).
    fn key_request(&self) -> Option<KeyRequest<'_>>;

    /// Whether more of the peer's bytes are of use now. Takes no lease.
    fn wants_read(&self) -> bool;

    /// Whether there are bytes to transmit. Takes no lease.
    fn wants_write(&self) -> bool;

    /// Whether progress waits for a lease that was not to be had. Whoever lends wakes the driver.
    fn awaiting_buffer(&self) -> bool;

    /// Whether the transport's write side is to be shut: all that will ever be sent is sent.
    fn wants_shutdown(&self) -> bool;

    /// Whether nothing more comes or goes, in order or after an error: shut the write side if
    /// [`wants_shutdown`](Self::wants_shutdown), then close.
    fn is_done(&self) -> bool;

    /// Whether a frame, of a session whose handshake is over, has begun to arrive and is not all
    /// there.
    fn is_receiving(&self) -> bool;

    /// Whether both directions are between messages and nothing waits, received or sent: a good
    /// moment to [`finish`](Self::finish).
    fn is_idle(&self) -> bool;

    /// Answers the open key request, on either side.
    ///
    /// # Errors
    /// [`KeyError::NotAsked`] with no request open, [`KeyError::Purpose`] when a candidate was made
    /// for another purpose. Nothing has changed then, and the deadline runs on.
    fn provide_key(
        &mut self,
        answer: Result<Candidates<'_>, KeyRejection>,
        now: Instant,
    ) -> Result<(), KeyError>;

    /// Ties a session that was configured for it to the TLS connection that it is in: `exporter` is
    /// the connection's channel binding (RFC 9266, section 4.2). Until then the session is silent,
    /// while its deadline runs. Changes nothing in any other session, or if called again.
    fn bind_channel(&mut self, exporter: &[u8; 32], now: Instant);

    /// The part at hand, empty if there is none, and where to answer it.
    fn split(&mut self) -> (&[u8], Outbox<'_>);

    /// The peer, and where to greet it; `None` where [`peer`](Self::peer) is.
    fn split_peer(&mut self) -> Option<(Peer<'_>, Outbox<'_>)>;

    /// Done with the part at hand.
    fn consume(&mut self, now: Instant);

    /// No more messages from this side. Idempotent. Within a message that is sent in parts, the
    /// peer will see it cut off.
    fn finish(&mut self, now: Instant);

    /// Ends the session with [`Error::Aborted`], unless it has ended. Queued bytes still go out.
    fn abort(&mut self, why: CloseReason, now: Instant);

    /// Where to read the peer's bytes to, as many as are wanted; empty when none are, or when no
    /// lease is to be had ([`awaiting_buffer`](Self::awaiting_buffer)): then do not read. Each non-empty answer is
    /// to be followed by [`handle_received`](Self::handle_received).
    fn recv_space(&mut self) -> &mut [u8];

    /// `n` bytes were read to the front of the last [`recv_space`](Self::recv_space), 0 if none
    /// were to be had. More than its length counts as its length.
    fn handle_received(&mut self, n: usize, now: Instant);

    /// The peer has shut its write side: `read` returned 0.
    fn handle_eof(&mut self, now: Instant);

    /// Lets time pass. To be called when [`poll_timeout`](Self::poll_timeout) is due; spurious
    /// calls are harmless.
    fn handle_timeout(&mut self, now: Instant);

    /// What has happened.
    ///
    /// A part that a [`Event::Chunk`] announces stays until [`consume`](Self::consume); until
    /// then there is no other Message and no PeerFinished, but there may be a Writable or an error.
    ///
    /// # Errors
    /// The session has ended, and every later call says so in the same words. Bytes that were
    /// queued can still be transmitted.
    fn poll_event(&mut self, now: Instant) -> Result<Option<Event>, Error>;

    /// Bytes to write to the transport, empty if none; after an error too.
    fn poll_transmit(&mut self, now: Instant) -> &[u8];

    /// The first `n` bytes of the last [`poll_transmit`](Self::poll_transmit) were written. More
    /// than its length counts as its length.
    fn handle_transmitted(&mut self, n: usize, now: Instant);

    /// When to call [`handle_timeout`](Self::handle_timeout), if time alone would change anything.
    fn poll_timeout(&self) -> Option<Instant>;
}
