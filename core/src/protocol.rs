//! The interface between a protocol and its driver.

use crate::crypto::keys::Candidates;
use crate::error::{CloseReason, Error, KeyError, KeyRejection};
use crate::event::Event;
use crate::key_request::KeyRequest;
use crate::outbox::Outbox;
use crate::peer::Peer;
use crate::time::Instant;

/// A protocol as a state machine without I/O: bytes and times in, bytes and events out.
///
/// [`Session`](crate::Session) implements it; a wrapper such as a TLS adapter implements it around
/// another protocol. A driver can therefore be written once, against this trait.
///
/// | class | methods | caller |
/// |---|---|---|
/// | getters | `peer`, `key_request`, `wants_*`, `is_*`, `awaiting_buffer` | both |
/// | application | `provide_key`, `bind_channel`, `split`, `split_peer`, `consume`, `finish`, `abort` | application |
/// | driver | `poll_*`, `handle_*`, `recv_space` | driver |
///
/// # Contract
///
/// - The order of the calls is that of the drive loop in the [crate documentation](crate).
/// - Every returned value becomes stale with the next call that takes `&mut self`.
/// - [`poll_event`] is the only parser: received bytes have no effect before it is called. The
///   driver calls it until it returns `Ok(None)` or an error, and only then waits.
/// - All times come from one clock; see [`Instant`].
///
/// [`poll_event`]: Self::poll_event
///
/// ```
/// use countersign::{Instant, Protocol};
///
/// /// Passes as many bytes of `input` to the protocol as it wants now; returns their number.
/// fn receive(protocol: &mut dyn Protocol, input: &[u8], now: Instant) -> usize {
///     let space = protocol.recv_space();
///     let n = space.len().min(input.len());
///     space[..n].copy_from_slice(&input[..n]);
///     protocol.handle_received(n, now);
///     n
/// }
///
/// /// Takes the bytes to transmit. A driver of a real transport reports only what was written.
/// fn transmit(protocol: &mut dyn Protocol, output: &mut Vec<u8>, now: Instant) {
///     let bytes = protocol.poll_transmit(now);
///     output.extend_from_slice(bytes);
///     let n = bytes.len();
///     protocol.handle_transmitted(n, now);
/// }
/// # let _ = (receive, transmit);
/// ```
pub trait Protocol {
    /// The peer. `Some` from [`Event::Established`] on, also after an error.
    fn peer(&self) -> Option<Peer<'_>>;

    /// The open key request. `Some` from [`Event::KeyNeeded`] until
    /// [`provide_key`](Self::provide_key).
    fn key_request(&self) -> Option<KeyRequest<'_>>;

    /// Whether the protocol can use more received bytes now. Takes no lease.
    fn wants_read(&self) -> bool;

    /// Whether there are bytes to transmit. Takes no lease.
    fn wants_write(&self) -> bool;

    /// Whether progress waits for a lease that [`Storage::lease`](crate::Storage::lease) refused.
    /// The owner of the buffers wakes the driver when a lease is available.
    fn awaiting_buffer(&self) -> bool;

    /// Whether the driver is to shut the write side of the transport: all bytes are sent and no
    /// more will follow.
    fn wants_shutdown(&self) -> bool;

    /// Whether the connection can be closed: nothing more is received or sent, after an orderly end
    /// or after an error. The driver shuts the write side if
    /// [`wants_shutdown`](Self::wants_shutdown), then closes the transport.
    fn is_done(&self) -> bool;

    /// Whether the handshake is complete and a frame has been received in part.
    fn is_receiving(&self) -> bool;

    /// Whether the session is established, both directions are between messages and no received or
    /// queued byte is pending: a good moment to [`finish`](Self::finish).
    fn is_idle(&self) -> bool;

    /// Answers the open key request.
    ///
    /// # Errors
    /// [`KeyError::NotAsked`] if no request is open; [`KeyError::Purpose`] if a candidate was made
    /// for another purpose. After an error the request is still open, and the handshake deadline
    /// does not change.
    fn provide_key(
        &mut self,
        answer: Result<Candidates<'_>, KeyRejection>,
        now: Instant,
    ) -> Result<(), KeyError>;

    /// Binds the session to the TLS connection that carries it. `exporter` is the channel binding
    /// of that connection (`tls-exporter`: RFC 9266, section 4.2).
    ///
    /// A session configured with
    /// [`Mutual::with_channel_binding`](crate::Mutual::with_channel_binding) sends nothing before
    /// this call, while its handshake deadline runs. No effect on other sessions, and none when
    /// called again.
    fn bind_channel(&mut self, exporter: &[u8; 32], now: Instant);

    /// The current chunk, empty if there is none, and the [`Outbox`] to answer it.
    fn split(&mut self) -> (&[u8], Outbox<'_>);

    /// The peer and the [`Outbox`]. `Some` whenever [`peer`](Self::peer) is.
    fn split_peer(&mut self) -> Option<(Peer<'_>, Outbox<'_>)>;

    /// Releases the current chunk. No effect if there is none.
    fn consume(&mut self, now: Instant);

    /// Ends the sending direction: no more messages from this end. Queued messages are still sent.
    /// Idempotent. If the last message is incomplete, the peer sees it truncated.
    fn finish(&mut self, now: Instant);

    /// Ends the session, in both directions, with [`Error::Aborted`]. Queued bytes are still sent.
    /// No effect if the session has ended.
    fn abort(&mut self, why: CloseReason, now: Instant);

    /// The space to read received bytes into, exactly as long as the protocol wants.
    ///
    /// Empty if no bytes are wanted, or if no lease is available
    /// ([`awaiting_buffer`](Self::awaiting_buffer)): the driver must not read then. After each
    /// non-empty space the driver calls [`handle_received`](Self::handle_received).
    fn recv_space(&mut self) -> &mut [u8];

    /// Reports that `n` bytes were read to the front of the last [`recv_space`](Self::recv_space);
    /// 0 if none were available. A larger `n` counts as the length of that space.
    fn handle_received(&mut self, n: usize, now: Instant);

    /// Reports that the peer has shut its write side: a read returned 0 bytes.
    fn handle_eof(&mut self, now: Instant);

    /// Advances the timers. The driver calls it when [`poll_timeout`](Self::poll_timeout) is due;
    /// earlier calls are harmless.
    fn handle_timeout(&mut self, now: Instant);

    /// The next event, or `None` when the protocol waits for bytes, time or the application.
    ///
    /// The chunk of an [`Event::Chunk`] stays until [`consume`](Self::consume). Until then there is
    /// no other `Chunk` and no `PeerFinished`, but there may be a `Writable` or an error.
    ///
    /// # Errors
    /// The [`Error`] that ended the session. Every later call returns the same error. Queued bytes
    /// can still be transmitted.
    fn poll_event(&mut self, now: Instant) -> Result<Option<Event>, Error>;

    /// The bytes to write to the transport, empty if there are none. Also after an error.
    fn poll_transmit(&mut self, now: Instant) -> &[u8];

    /// Reports that the first `n` bytes of the last [`poll_transmit`](Self::poll_transmit) were
    /// written. A larger `n` counts as the length of those bytes.
    fn handle_transmitted(&mut self, n: usize, now: Instant);

    /// The time of the next [`handle_timeout`](Self::handle_timeout); `None` if no timer is set.
    fn poll_timeout(&self) -> Option<Instant>;
}
