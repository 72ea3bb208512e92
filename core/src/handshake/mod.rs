//! Handshakes: one file per scheme, and here what they share.
//!
//! A handshake is a value that each input consumes and turns into the next: bytes when all that it
//! [wants](Handshake::want) have arrived, a key when it has [asked](Handshake::key_request). It
//! never sees a byte too many: what follows the handshake stays in the transport until the
//! handshake is over, so nothing needs to be carried across.

mod challenge;
mod multiprocessing;
mod mutual;

use crate::config::{Config, Scheme};
use crate::error::{ConfigError, Error, Refuse};
use crate::key::{Candidates, Purpose};
use crate::machine::{KeyRequest, Peer, Role};
use crate::name::{Kid, Name};
use crate::nonce::Nonce;
use crate::schedule::{Fingerprint, Secret};
use crate::storage::Storage;

use challenge::Challenge;
use multiprocessing::Multiprocessing;
use mutual::Mutual;

pub(crate) use multiprocessing::label;
pub(crate) use mutual::MIN_MAX_FRAME;

/// A handshake in progress.
#[derive(Debug)]
pub(crate) enum Handshake {
    Challenge(Challenge),
    Multiprocessing(Multiprocessing),
    Mutual(Mutual),
    /// It is over, with nothing to show for it but this.
    Complete {
        authenticated: bool,
    },
    /// Stands in while one is on its way into another; what is left of one that did not arrive.
    Underway,
}

/// What a handshake has found out.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) known: Known,
    /// What protects the frames that follow, where they are sealed.
    pub(crate) sealing: Option<Sealing>,
}

/// What is known of the peer.
#[derive(Default)]
pub(crate) struct Known {
    /// It holds the key.
    pub(crate) authenticated: bool,
    pub(crate) name: Option<Name>,
    pub(crate) kid: Option<Kid>,
    pub(crate) fingerprint: Option<Fingerprint>,
    /// The session's id and exporter.
    pub(crate) session: Option<([u8; 16], Secret)>,
}

/// What sealed frames need of the handshake.
pub(crate) struct Sealing {
    pub(crate) send: Secret,
    pub(crate) receive: Secret,
    /// Whether frames carry tags.
    pub(crate) tagged: bool,
    /// The largest N that the peer takes.
    pub(crate) max_frame: u32,
    /// 0: none.
    pub(crate) heartbeat_ms: u32,
}

impl Known {
    /// It, as the end that is `role`.
    pub(crate) fn peer(&self, role: Role) -> Peer<'_> {
        Peer {
            role,
            authenticated: self.authenticated,
            name: self.name.as_ref().map(Name::as_str),
            kid: self.kid.as_ref().map(Kid::as_str),
            fingerprint: self.fingerprint,
            session_id: self.session.as_ref().map(|(id, _)| id),
            exporter: self.session.as_ref().map(|(_, exporter)| &**exporter),
        }
    }
}

/// What a handshake is given, beside the bytes that it received.
pub(crate) enum Input<'a> {
    /// All the bytes it wanted have arrived.
    Received,
    /// The answer to its key request.
    Key(Result<Candidates<'a>, Refuse>),
    /// The channel binding of the TLS connection that it is in.
    Channel(&'a [u8; 32]),
}

/// Both parts of a handshake's buffer: all that was received, and what is or will be transmitted.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) received: &'a [u8],
    pub(crate) transmit: &'a [u8],
}

impl Handshake {
    pub(crate) fn new<B: Storage>(
        config: &Config,
        role: Role,
        nonce: Nonce,
        max_frame: u32,
        exchange: &mut Exchange<B>,
    ) -> Result<Self, ConfigError> {
        let out = &mut exchange.transmit();
        Ok(match &config.scheme {
            Scheme::None => Self::Complete { authenticated: false },
            Scheme::Challenge { digest } => {
                Self::Challenge(Challenge::new(*digest, role, nonce, out))
            }
            Scheme::Multiprocessing(policy) => {
                Self::Multiprocessing(Multiprocessing::new(*policy, role, nonce, out)?)
            }
            Scheme::Mutual(mutual) => {
                Self::Mutual(Mutual::new(mutual, role, nonce, max_frame, out)?)
            }
        })
    }

    /// How many bytes are to have arrived, from the handshake's first on, for the next step; no more
    /// than there are if it waits for none.
    pub(crate) fn want(&self) -> usize {
        match self {
            Self::Challenge(challenge) => challenge.want(),
            Self::Multiprocessing(multiprocessing) => multiprocessing.want(),
            Self::Mutual(mutual) => mutual.want(),
            Self::Complete { .. } | Self::Underway => 0,
        }
    }

    /// What a key is needed for; `None` if no key is.
    pub(crate) fn key_request<'a>(&'a self, view: View<'a>) -> Option<KeyRequest<'a>> {
        match self {
            Self::Challenge(challenge) => challenge.key_request(view.received),
            Self::Multiprocessing(multiprocessing) => multiprocessing.key_request(view.received),
            Self::Mutual(mutual) => mutual.key_request(view),
            Self::Complete { .. } | Self::Underway => None,
        }
    }

    /// What the key that it needs must be made for; `None` if it needs none.
    pub(crate) fn key_purpose(&self) -> Option<Purpose> {
        match self {
            Self::Challenge(challenge) => challenge.key_purpose(),
            Self::Multiprocessing(multiprocessing) => multiprocessing.key_purpose(),
            Self::Mutual(mutual) => mutual.key_purpose(),
            Self::Complete { .. } | Self::Underway => None,
        }
    }

    /// The challenge that the peer is to answer, or will be, where an end in either role could.
    pub(crate) fn challenge(&self) -> Option<&[u8]> {
        match self {
            Self::Multiprocessing(multiprocessing) => Some(multiprocessing.challenge()),
            Self::Challenge(_) | Self::Mutual(_) | Self::Complete { .. } | Self::Underway => None,
        }
    }

    /// Whether it waits for the channel binding, and for nothing else.
    pub(crate) fn needs_binding(&self) -> bool {
        match self {
            Self::Mutual(mutual) => mutual.needs_binding(),
            Self::Challenge(_)
            | Self::Multiprocessing(_)
            | Self::Complete { .. }
            | Self::Underway => false,
        }
    }

    /// Whether nothing more is to be received.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Challenge(_) | Self::Multiprocessing(_) | Self::Underway => false,
            Self::Mutual(mutual) => mutual.is_agreed(),
            Self::Complete { .. } => true,
        }
    }

    /// What came of it, once it [is over](Self::is_over).
    pub(crate) fn outcome(&self, view: View<'_>) -> Option<Outcome> {
        match self {
            Self::Challenge(_) | Self::Multiprocessing(_) | Self::Underway => None,
            Self::Mutual(mutual) => mutual.outcome(view),
            Self::Complete { authenticated } => {
                let known = Known { authenticated: *authenticated, ..Known::default() };
                Some(Outcome { known, sealing: None })
            }
        }
    }

    /// How it ends if it fails now.
    pub(crate) fn parting(&self) -> Parting {
        match self {
            Self::Challenge(_) | Self::Complete { .. } | Self::Underway => Parting::Silence,
            Self::Multiprocessing(multiprocessing) => multiprocessing.parting(),
            Self::Mutual(mutual) => mutual.parting(),
        }
    }

    pub(crate) fn step(
        self,
        input: Input<'_>,
        received: &[u8],
        out: &mut Transmit<'_>,
    ) -> Result<Self, Error> {
        match self {
            Self::Challenge(challenge) => challenge.step(input, received, out),
            Self::Multiprocessing(multiprocessing) => multiprocessing.step(input, received, out),
            Self::Mutual(mutual) => mutual.step(input, received, out),
            complete @ Self::Complete { .. } => Ok(complete),
            Self::Underway => Err(Error::Lost),
        }
    }
}

/// How a handshake takes leave of its peer when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// Without a word.
    Silence,
    /// As a server of the scheme `mutual`, with a code.
    Alert,
    /// As whoever has sent a challenge in the scheme `multiprocessing`, if the response was wrong.
    Failure,
}

impl Parting {
    /// What it says when `error` is why.
    pub(crate) fn word(self, error: Error) -> &'static [u8] {
        match self {
            Self::Alert => mutual::alert(error),
            Self::Failure if error.is_refusal() => multiprocessing::FAILURE_FRAME,
            Self::Failure if matches!(error, Error::Malformed | Error::NothingInCommon) => {
                multiprocessing::FAILURE_FRAME
            }
            Self::Failure | Self::Silence => &[],
        }
    }
}

/// Whether `bytes`, the first that a client received, are a server's of another scheme than
/// `challenge`, whose own first bytes are random.
fn is_greeting(bytes: &[u8]) -> bool {
    mutual::is_greeting(bytes) || multiprocessing::is_greeting(bytes)
}

/// What to send to a client for which there is no room.
pub(crate) const fn busy(scheme: &Scheme) -> &'static [u8] {
    match scheme {
        Scheme::Mutual(_) => mutual::BUSY,
        Scheme::None | Scheme::Challenge { .. } | Scheme::Multiprocessing(_) => &[],
    }
}

/// The most bytes that a handshake of `scheme` receives, in either role.
pub(crate) const fn receive_len(scheme: &Scheme) -> usize {
    match scheme {
        Scheme::None => 0,
        Scheme::Challenge { digest } => challenge::longest(*digest),
        Scheme::Multiprocessing(_) => multiprocessing::RECEIVE_LEN,
        Scheme::Mutual(_) => mutual::RECEIVE_LEN,
    }
}

/// The most bytes that one transmits, in either role.
pub(crate) const fn transmit_len(scheme: &Scheme) -> usize {
    match scheme {
        Scheme::None => 0,
        Scheme::Challenge { digest } => challenge::longest(*digest),
        Scheme::Multiprocessing(_) => multiprocessing::TRANSMIT_LEN,
        Scheme::Mutual(_) => mutual::TRANSMIT_LEN,
    }
}

/// The buffer of a handshake: what was received in front, what is to be transmitted behind. Leased
/// from construction until the handshake is over and its last byte is out.
pub(crate) struct Exchange<B> {
    storage: B,
    /// Where the transmit part begins.
    boundary: u16,
    /// Where it ends.
    end: u16,
    received: u16,
    /// Length of the space last offered.
    offered: u16,
    /// Of the transmit part, the bytes from `sent` to `queued` wait.
    sent: u16,
    queued: u16,
}

impl<B: Storage> Exchange<B> {
    /// `storage` must be leased and long enough.
    pub(crate) fn new(storage: B, scheme: &Scheme) -> Self {
        const { assert!(mutual::RECEIVE_LEN + mutual::TRANSMIT_LEN <= 1024) };
        const { assert!(multiprocessing::RECEIVE_LEN + multiprocessing::TRANSMIT_LEN <= 1024) };
        let boundary = receive_len(scheme) as u16;
        let end = boundary + transmit_len(scheme) as u16;
        Self { storage, boundary, end, received: 0, offered: 0, sent: 0, queued: 0 }
    }

    /// Room for what is missing of `want` bytes.
    pub(crate) fn space(&mut self, want: usize) -> &mut [u8] {
        let end = want.min(self.boundary.into());
        let start = self.received_len().min(end);
        self.offered = (end - start) as u16;
        &mut self.storage.bytes_mut()[start..end]
    }

    /// `n` bytes were written to the space last offered.
    pub(crate) fn commit(&mut self, n: usize) {
        let n = n.min(core::mem::take(&mut self.offered).into());
        self.received += n as u16;
    }

    /// The space last offered will not be written to.
    pub(crate) fn handle_eof(&mut self) {
        self.offered = 0;
    }

    pub(crate) fn view(&self) -> View<'_> {
        let (front, back) = self.storage.bytes()[..self.end.into()].split_at(self.boundary.into());
        View { received: &front[..self.received.into()], transmit: back }
    }

    pub(crate) fn received_len(&self) -> usize {
        self.received.into()
    }

    /// What was received, and where to write the answer.
    pub(crate) fn split(&mut self) -> (&[u8], Transmit<'_>) {
        let (front, back) =
            self.storage.bytes_mut()[..self.end.into()].split_at_mut(self.boundary.into());
        (&front[..self.received.into()], Transmit { bytes: back, queued: &mut self.queued })
    }

    fn transmit(&mut self) -> Transmit<'_> {
        self.split().1
    }

    pub(crate) fn pending(&self) -> &[u8] {
        &self.view().transmit[self.sent.into()..self.queued.into()]
    }

    pub(crate) fn pending_len(&self) -> usize {
        (self.queued - self.sent).into()
    }

    /// `n` of the [`pending`](Self::pending) bytes are out.
    pub(crate) fn handle_transmitted(&mut self, n: usize) {
        self.sent += n as u16;
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.sent == self.queued
    }

    /// Whether something was transmitted, and all that was to be.
    pub(crate) fn has_spoken(&self) -> bool {
        self.sent > 0 && self.is_drained()
    }

    /// Gives the buffer back. There was nothing secret in it.
    pub(crate) fn release(&mut self) {
        self.storage.release();
    }
}

/// Where a handshake writes what is to be transmitted.
pub(crate) struct Transmit<'a> {
    bytes: &'a mut [u8],
    queued: &'a mut u16,
}

impl Transmit<'_> {
    /// Queues `bytes`. The buffer was sized by [`transmit_len`], so there is room.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.draft()[..bytes.len()].copy_from_slice(bytes);
        self.queue(bytes.len());
    }

    /// What was queued so far, from the first byte on.
    pub(crate) fn queued(&self) -> &[u8] {
        &self.bytes[..usize::from(*self.queued)]
    }

    /// What is not queued yet.
    pub(crate) fn draft(&mut self) -> &mut [u8] {
        &mut self.bytes[usize::from(*self.queued)..]
    }

    /// Queues the first `len` bytes of the [`draft`](Self::draft).
    pub(crate) fn queue(&mut self, len: usize) {
        *self.queued += len as u16;
    }
}
