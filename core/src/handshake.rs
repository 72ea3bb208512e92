//! Handshakes: one file per scheme, and here what they share.
//!
//! A handshake is a value that each input consumes and turns into the next: bytes when all that it
//! [wants](Handshake::want) have arrived, a key when it has [asked](Handshake::key_request). It
//! never sees a byte too many: what follows the handshake stays in the transport until the
//! handshake is over, so nothing needs to be carried across.

mod buffer;
mod challenge;
mod multiprocessing;
mod mutual;

use crate::config::{Config, Scheme};
use crate::crypto::key_schedule::{Fingerprint, Secret};
use crate::crypto::keys::{Candidates, Purpose};
use crate::crypto::nonce::Nonce;
use crate::error::{ConfigError, Error, KeyRejection};
use crate::framing::SealingParams;
use crate::key_request::KeyRequest;
use crate::name::{KeyId, Name};
use crate::peer::{Peer, Role};
use crate::storage::Storage;

pub(crate) use buffer::HandshakeBuffer;
use buffer::{Transmit, View};
use challenge::Challenge;
use multiprocessing::Multiprocessing;
use mutual::Mutual;

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
    InTransition,
}

/// What a handshake has found out.
#[derive(Default)]
pub(crate) struct HandshakeOutput {
    pub(crate) peer: PeerInfo,
    /// The keys and limits of the frames that follow, where they are sealed.
    pub(crate) sealing: Option<SealingParams>,
    /// The heartbeat of both ends in milliseconds; 0 for none.
    pub(crate) heartbeat_ms: u32,
}

/// What is known of the peer.
#[derive(Default)]
pub(crate) struct PeerInfo {
    /// It holds the key.
    pub(crate) authenticated: bool,
    pub(crate) name: Option<Name>,
    pub(crate) key_id: Option<KeyId>,
    pub(crate) fingerprint: Option<Fingerprint>,
    /// The session's id and exporter.
    pub(crate) session: Option<([u8; 16], Secret)>,
}

impl PeerInfo {
    /// It, as the end that is `role`.
    pub(crate) fn peer(&self, role: Role) -> Peer<'_> {
        Peer {
            role,
            authenticated: self.authenticated,
            name: self.name.as_ref().map(Name::as_str),
            key_id: self.key_id.as_ref().map(KeyId::as_str),
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
    Key(Result<Candidates<'a>, KeyRejection>),
    /// The channel binding of the TLS connection that it is in.
    Channel(&'a [u8; 32]),
}

impl Handshake {
    pub(crate) fn new<B: Storage>(
        config: &Config,
        role: Role,
        nonce: Nonce,
        max_frame: u32,
        buffer: &mut HandshakeBuffer<B>,
    ) -> Result<Self, ConfigError> {
        let out = &mut buffer.transmit();
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
            Self::Complete { .. } | Self::InTransition => 0,
        }
    }

    /// What a key is needed for; `None` if no key is.
    pub(crate) fn key_request<'a>(&'a self, view: View<'a>) -> Option<KeyRequest<'a>> {
        match self {
            Self::Challenge(challenge) => challenge.key_request(view.received),
            Self::Multiprocessing(multiprocessing) => multiprocessing.key_request(view.received),
            Self::Mutual(mutual) => mutual.key_request(view),
            Self::Complete { .. } | Self::InTransition => None,
        }
    }

    /// What the key that it needs must be made for; `None` if it needs none.
    pub(crate) fn key_purpose(&self) -> Option<Purpose> {
        match self {
            Self::Challenge(challenge) => challenge.key_purpose(),
            Self::Multiprocessing(multiprocessing) => multiprocessing.key_purpose(),
            Self::Mutual(mutual) => mutual.key_purpose(),
            Self::Complete { .. } | Self::InTransition => None,
        }
    }

    /// The challenge that the peer is to answer, or will be, where an end in either role could.
    pub(crate) fn challenge(&self) -> Option<&[u8]> {
        match self {
            Self::Multiprocessing(multiprocessing) => Some(multiprocessing.challenge()),
            Self::Challenge(_) | Self::Mutual(_) | Self::Complete { .. } | Self::InTransition => {
                None
            }
        }
    }

    /// Whether it waits for the channel binding, and for nothing else.
    pub(crate) fn needs_binding(&self) -> bool {
        match self {
            Self::Mutual(mutual) => mutual.needs_binding(),
            Self::Challenge(_)
            | Self::Multiprocessing(_)
            | Self::Complete { .. }
            | Self::InTransition => false,
        }
    }

    /// Whether nothing more is to be received.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Challenge(_) | Self::Multiprocessing(_) | Self::InTransition => false,
            Self::Mutual(mutual) => mutual.is_agreed(),
            Self::Complete { .. } => true,
        }
    }

    /// What came of it, once it [is over](Self::is_over).
    pub(crate) fn output(&self, view: View<'_>) -> Option<HandshakeOutput> {
        match self {
            Self::Challenge(_) | Self::Multiprocessing(_) | Self::InTransition => None,
            Self::Mutual(mutual) => mutual.output(view),
            Self::Complete { authenticated } => {
                let peer = PeerInfo { authenticated: *authenticated, ..PeerInfo::default() };
                Some(HandshakeOutput { peer, sealing: None, heartbeat_ms: 0 })
            }
        }
    }

    /// How it ends if it fails now.
    pub(crate) fn failure_alert(&self) -> FailureAlert {
        match self {
            Self::Challenge(_) | Self::Complete { .. } | Self::InTransition => FailureAlert::None,
            Self::Multiprocessing(multiprocessing) => multiprocessing.failure_alert(),
            Self::Mutual(mutual) => mutual.failure_alert(),
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
            Self::InTransition => Err(Error::Transport),
        }
    }
}

/// How a handshake takes leave of its peer when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureAlert {
    /// Without a word.
    None,
    /// As a server of the scheme `mutual`, with a code.
    MutualAlert,
    /// As whoever has sent a challenge in the scheme `multiprocessing`, if the response was wrong.
    MultiprocessingFailure,
}

impl FailureAlert {
    /// What it says when `error` is why.
    pub(crate) fn bytes(self, error: Error) -> &'static [u8] {
        match self {
            Self::MutualAlert => mutual::alert(error),
            Self::MultiprocessingFailure if error.is_authentication_failure() => {
                multiprocessing::FAILURE_FRAME
            }
            Self::MultiprocessingFailure
                if matches!(error, Error::Malformed | Error::Incompatible) =>
            {
                multiprocessing::FAILURE_FRAME
            }
            Self::MultiprocessingFailure | Self::None => &[],
        }
    }
}

/// Whether `bytes`, the first that a client received, are a server's of another scheme than
/// `challenge`, whose own first bytes are random.
fn is_greeting(bytes: &[u8]) -> bool {
    mutual::is_greeting(bytes) || multiprocessing::is_greeting(bytes)
}

impl Config {
    /// The shortest handshake buffer, in bytes. 1024 are enough for every scheme.
    #[must_use]
    pub const fn handshake_len(&self) -> usize {
        receive_len(&self.scheme) + transmit_len(&self.scheme)
    }

    /// What a server sends, before closing, to a client that it has no room for: an alert in the
    /// scheme `mutual`, otherwise nothing.
    #[must_use]
    pub const fn busy(&self) -> &'static [u8] {
        match &self.scheme {
            Scheme::Mutual(_) => mutual::BUSY,
            Scheme::None | Scheme::Challenge { .. } | Scheme::Multiprocessing(_) => &[],
        }
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
