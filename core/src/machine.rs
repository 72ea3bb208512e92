//! The interface between a protocol and whatever drives it.

use crate::error::{Error, KeyError, Reason, Refuse};
use crate::key::{Candidates, Purpose};
use crate::mac::Digest;
use crate::outbox::Outbox;
use crate::schedule::Fingerprint;
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
pub trait Machine {
    /// Who the peer is, from [`Event::Established`] on, after an error too.
    fn peer(&self) -> Option<Peer<'_>>;

    /// The open key request, from [`Event::KeyNeeded`] until [`provide_key`](Self::provide_key).
    fn key_request(&self) -> Option<KeyRequest<'_>>;

    /// Whether more of the peer's bytes are of use now. Takes no lease.
    fn wants_read(&self) -> bool;

    /// Whether there are bytes to transmit. Takes no lease.
    fn wants_write(&self) -> bool;

    /// Whether progress waits for a lease that was not to be had. Whoever lends wakes the driver.
    fn starved(&self) -> bool;

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
        answer: Result<Candidates<'_>, Refuse>,
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
    fn abort(&mut self, why: Reason, now: Instant);

    /// Where to read the peer's bytes to, as many as are wanted; empty when none are, or when no
    /// lease is to be had ([`starved`](Self::starved)): then do not read. Each non-empty answer is
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
    /// A part that a [`Event::Message`] announces stays until [`consume`](Self::consume); until
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

/// What has happened on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// The handshake needs a key: see [`Machine::key_request`]. A client of the scheme `mutual` asks
    /// twice: to prove itself, and when it knows the server's name, whether the key is for such a
    /// peer. Either end of the scheme `multiprocessing` does: to prove itself, and to verify.
    KeyNeeded,
    /// The handshake is over and messages may be sent. Once.
    Established,
    /// A message, or a part of one, is at hand: see [`Machine::split`].
    Message {
        /// Whether it is the message's first part.
        first: bool,
        /// What follows it.
        rest: Rest,
    },
    /// There is room for what [`SendError::Full`](crate::SendError::Full) turned away.
    Writable,
    /// The peer sends no more messages. Once.
    PeerFinished,
    /// Both sides have finished and all is sent. The last event.
    Closed,
}

/// What of a message is still to come after a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rest {
    /// Nothing: this part is the last, or the only one.
    End,
    /// That many bytes.
    Bytes(u64),
    /// Something; how much is not known yet.
    More,
    /// In a byte stream, which has no messages: perhaps nothing.
    Unknown,
}

/// Which end of a connection a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The one that connected.
    Client,
    /// The one that was connected to.
    Server,
}

impl Role {
    /// The end at the other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Peer<'a> {
    /// Which end it is.
    pub role: Role,
    /// Whether it has proved that it holds the key, or in the scheme `multiprocessing` that it can
    /// have it used; inside TLS also whether it has shown a certificate that is trusted. Otherwise
    /// not so for any peer of the scheme `none`, nor for the server of a `challenge`.
    pub authenticated: bool,
    /// What it calls itself, in schemes that have names. Whoever holds the key can take any name
    /// that the key's holder admits; see [`KeyRequest::name`].
    pub name: Option<&'a str>,
    /// The id of the key that was used, in schemes that have them.
    pub kid: Option<&'a str>,
    /// Which of the keys of that id it was: its [`Key::fingerprint`](crate::Key::fingerprint).
    pub fingerprint: Option<Fingerprint>,
    /// What both ends, and nobody else's session, have in common; public, for logs. In the scheme
    /// `mutual`.
    pub session_id: Option<&'a [u8; 16]>,
    /// A secret of both ends of this session, to derive the keys of other protocols from. In the
    /// scheme `mutual`; a secret from all who do not hold the key.
    pub exporter: Option<&'a [u8; 32]>,
}

impl core::fmt::Debug for Peer<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Peer")
            .field("role", &self.role)
            .field("authenticated", &self.authenticated)
            .field("name", &self.name)
            .field("kid", &self.kid)
            .field("session_id", &self.session_id)
            .finish_non_exhaustive()
    }
}

/// What a key is needed for.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyRequest<'a> {
    /// Which end we are.
    pub role: Role,
    /// What the key must be made for.
    pub purpose: Purpose,
    /// The id of the key, in schemes that have them.
    pub kid: Option<&'a str>,
    /// What the peer calls itself, where that is known: a key that is not for such a peer is to be
    /// given as [`Candidate::name_refused`](crate::Candidate::name_refused). A client that does not
    /// know the server's name yet will ask again when it does.
    pub name: Option<&'a str>,
    /// The challenge that is to be answered, or that was; `None` in the scheme `mutual`, whose proofs
    /// are about more.
    pub challenge: Option<Challenge<'a>>,
}

/// A challenge, and whose answer a key is needed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Challenge<'a> {
    /// Our own: the key will tell whether the peer's answer is right.
    Ours(&'a [u8]),
    /// The peer's: the key is to answer it. In the scheme `multiprocessing`, if it is
    /// [`Session::challenge`](crate::Session::challenge) of any other session in this process, refuse
    /// it: [`Refuse::Reflected`].
    Theirs(&'a [u8]),
}

impl<'a> KeyRequest<'a> {
    /// What the schemes `challenge` and `multiprocessing` ask; also to try holders of keys with.
    #[must_use]
    pub const fn challenge(role: Role, digest: Digest, challenge: Challenge<'a>) -> Self {
        let challenge = Some(challenge);
        Self { role, purpose: Purpose::Mac(digest), kid: None, name: None, challenge }
    }

    /// What the scheme `mutual` asks; also to try holders of keys with.
    #[must_use]
    pub const fn mutual(role: Role, kid: &'a str, name: Option<&'a str>) -> Self {
        Self { role, purpose: Purpose::Derivation, kid: Some(kid), name, challenge: None }
    }
}

impl core::fmt::Debug for KeyRequest<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("KeyRequest")
            .field("role", &self.role)
            .field("purpose", &self.purpose)
            .field("kid", &self.kid)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
