//! Handshakes: one file per scheme, and here what they share.
//!
//! A handshake is a value that each input consumes and turns into the next: bytes when all that it
//! [wants](Handshake::want) have arrived, a key when it has [asked](Handshake::key_request). It
//! never sees a byte too many: what follows the handshake stays in the transport until the
//! handshake is over, so nothing needs to be carried across.

mod challenge;

use crate::config::Scheme;
use crate::error::{Error, Refuse};
use crate::key::Candidates;
use crate::machine::{KeyRequest, Peer, Role};
use crate::nonce::Nonce;
use crate::storage::Storage;

use challenge::Challenge;

/// A handshake in progress.
#[derive(Debug)]
pub(crate) enum Handshake {
    Challenge(Challenge),
    /// It is over, and this came of it.
    Complete(Outcome),
}

/// What a handshake has found out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// The peer holds the key.
    pub(crate) authenticated: bool,
}

impl Outcome {
    pub(crate) fn peer(&self) -> Peer<'_> {
        Peer { authenticated: self.authenticated, name: None, kid: None }
    }
}

/// What a handshake is given, beside the bytes that it received last.
pub(crate) enum Input<'a> {
    /// All the bytes it wanted have arrived.
    Received,
    /// The answer to its key request.
    Key(Result<Candidates<'a>, Refuse>),
}

impl Handshake {
    pub(crate) fn new<B: Storage>(
        scheme: Scheme,
        role: Role,
        nonce: Nonce,
        exchange: &mut Exchange<B>,
    ) -> Self {
        match scheme {
            Scheme::None => Self::Complete(Outcome { authenticated: false }),
            Scheme::Challenge { digest } => {
                Self::Challenge(Challenge::new(digest, role, nonce, &mut exchange.transmit()))
            }
        }
    }

    /// How many bytes are to have arrived, from the handshake's first on, for the next step; 0 if it
    /// waits for none.
    pub(crate) fn want(&self) -> usize {
        match self {
            Self::Challenge(challenge) => challenge.want(),
            Self::Complete(_) => 0,
        }
    }

    /// What a key is needed for, given the bytes received last; `None` if no key is.
    pub(crate) fn key_request<'a>(&'a self, received: &'a [u8]) -> Option<KeyRequest<'a>> {
        match self {
            Self::Challenge(challenge) => challenge.key_request(received),
            Self::Complete(_) => None,
        }
    }

    pub(crate) fn needs_key(&self) -> bool {
        self.key_request(&[]).is_some()
    }

    pub(crate) fn step(
        self,
        input: Input<'_>,
        received: &[u8],
        out: &mut Transmit<'_>,
    ) -> Result<Self, Error> {
        match self {
            Self::Challenge(challenge) => challenge.step(input, received, out),
            complete @ Self::Complete(_) => Ok(complete),
        }
    }
}

/// The most bytes that one step of `scheme` takes, of either role.
pub(crate) const fn receive_len(scheme: Scheme) -> usize {
    match scheme {
        Scheme::None => 0,
        Scheme::Challenge { digest } => challenge::longest(digest),
    }
}

/// The most bytes that wait to be transmitted in `scheme`, in either role.
pub(crate) const fn transmit_len(scheme: Scheme) -> usize {
    receive_len(scheme)
}

/// The buffer of a handshake: what was received for the next step in front, what waits to be
/// transmitted behind. Leased from construction until the last byte is out.
pub(crate) struct Exchange<B> {
    storage: B,
    /// Where the transmit part begins.
    boundary: usize,
    received: usize,
    /// Length of the space last offered.
    offered: usize,
    /// Of the transmit part, the bytes from `sent` to `queued` wait.
    sent: usize,
    queued: usize,
}

impl<B: Storage> Exchange<B> {
    /// `storage` must be leased and long enough.
    pub(crate) fn new(storage: B, scheme: Scheme) -> Self {
        Self { storage, boundary: receive_len(scheme), received: 0, offered: 0, sent: 0, queued: 0 }
    }

    /// Room for what is missing of `want` bytes.
    pub(crate) fn space(&mut self, want: usize) -> &mut [u8] {
        let end = want.min(self.boundary);
        let start = self.received.min(end);
        self.offered = end - start;
        &mut self.storage.bytes_mut()[start..end]
    }

    /// `n` bytes were written to the space last offered.
    pub(crate) fn commit(&mut self, n: usize) {
        self.received += n.min(core::mem::take(&mut self.offered));
    }

    /// The space last offered will not be written to.
    pub(crate) fn handle_eof(&mut self) {
        self.offered = 0;
    }

    pub(crate) fn received(&self) -> &[u8] {
        &self.storage.bytes()[..self.received]
    }

    pub(crate) fn received_len(&self) -> usize {
        self.received
    }

    /// What was received, and where to write the answer.
    pub(crate) fn split(&mut self) -> (&[u8], Transmit<'_>) {
        let (front, back) = self.storage.bytes_mut().split_at_mut(self.boundary);
        (&front[..self.received], Transmit { bytes: back, queued: &mut self.queued })
    }

    fn transmit(&mut self) -> Transmit<'_> {
        self.split().1
    }

    pub(crate) fn pending(&self) -> &[u8] {
        if self.is_drained() {
            return &[];
        }
        &self.storage.bytes()[self.boundary..][self.sent..self.queued]
    }

    pub(crate) fn pending_len(&self) -> usize {
        self.queued - self.sent
    }

    /// `n` of the [`pending`](Self::pending) bytes are out.
    pub(crate) fn handle_transmitted(&mut self, n: usize) {
        self.sent += n;
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.sent == self.queued
    }

    pub(crate) fn release(&mut self) {
        self.sent = self.queued;
        (self.received, self.offered) = (0, 0);
        self.storage.release();
    }
}

/// Where a handshake writes what is to be transmitted.
pub(crate) struct Transmit<'a> {
    bytes: &'a mut [u8],
    queued: &'a mut usize,
}

impl Transmit<'_> {
    /// Queues `bytes`. The buffer was sized by [`transmit_len`], so there is room.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes[*self.queued..][..bytes.len()].copy_from_slice(bytes);
        *self.queued += bytes.len();
    }
}
