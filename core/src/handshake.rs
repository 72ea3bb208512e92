//! Handshakes: one file per scheme, and here the types they share.
//!
//! A handshake is a value that [`step`](Handshake::step) consumes and turns into the next state: when
//! the bytes that it [wants](Handshake::want) have arrived, or when the application has answered its
//! [key request](Handshake::key_request). It never reads beyond its last byte: later bytes stay in the
//! transport until the handshake is complete, so none have to be handed over to the framing.

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
use crate::peer::Peer;
use crate::role::Role;
use crate::storage::Storage;

pub(crate) use buffer::HandshakeBuffer;
use buffer::{Transmit, View};
use challenge::Challenge;
use multiprocessing::Multiprocessing;
use mutual::Mutual;

/// The state of a handshake.
#[derive(Debug)]
pub(crate) enum Handshake {
    Challenge(Challenge),
    Multiprocessing(Multiprocessing),
    Mutual(Mutual),
    /// The handshake of a scheme without further results is complete.
    Complete {
        authenticated: bool,
    },
    /// Placeholder while `step` owns the state. Left behind if `step` panics; every operation on it
    /// fails.
    InTransition,
}

/// The result of a handshake.
#[derive(Default)]
pub(crate) struct HandshakeOutput {
    pub(crate) peer: PeerInfo,
    /// The keys and limits of sealed frames.
    pub(crate) sealing: Option<SealingParams>,
    /// The heartbeat of both ends in milliseconds; 0 for none.
    pub(crate) heartbeat_ms: u32,
}

/// What the handshake has learned about the peer.
#[derive(Default)]
pub(crate) struct PeerInfo {
    /// The peer has proved possession of the key.
    pub(crate) authenticated: bool,
    pub(crate) name: Option<Name>,
    pub(crate) key_id: Option<KeyId>,
    pub(crate) fingerprint: Option<Fingerprint>,
    /// The session id and the exporter secret.
    pub(crate) session: Option<([u8; 16], Secret)>,
}

impl PeerInfo {
    /// The public view, for a peer in the role `role`.
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

/// An input of a handshake.
pub(crate) enum Input<'a> {
    /// The wanted bytes have arrived.
    Received,
    /// The application has answered the key request.
    Key(Result<Candidates<'a>, KeyRejection>),
    /// The channel binding of the TLS connection.
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

    /// Number of received bytes, from the first of the handshake, that the next step needs. Not
    /// more than have been received while the handshake waits for another input.
    pub(crate) fn want(&self) -> usize {
        match self {
            Self::Challenge(challenge) => challenge.want(),
            Self::Multiprocessing(multiprocessing) => multiprocessing.want(),
            Self::Mutual(mutual) => mutual.want(),
            Self::Complete { .. } | Self::InTransition => 0,
        }
    }

    /// The open key request.
    pub(crate) fn key_request<'a>(&'a self, view: View<'a>) -> Option<KeyRequest<'a>> {
        match self {
            Self::Challenge(challenge) => challenge.key_request(view.received),
            Self::Multiprocessing(multiprocessing) => multiprocessing.key_request(view.received),
            Self::Mutual(mutual) => mutual.key_request(view),
            Self::Complete { .. } | Self::InTransition => None,
        }
    }

    /// The purpose of the open key request.
    pub(crate) fn key_purpose(&self) -> Option<Purpose> {
        match self {
            Self::Challenge(challenge) => challenge.key_purpose(),
            Self::Multiprocessing(multiprocessing) => multiprocessing.key_purpose(),
            Self::Mutual(mutual) => mutual.key_purpose(),
            Self::Complete { .. } | Self::InTransition => None,
        }
    }

    /// The challenge that this end sends in the scheme `multiprocessing`, where either end could be
    /// made to answer it.
    pub(crate) fn challenge(&self) -> Option<&[u8]> {
        match self {
            Self::Multiprocessing(multiprocessing) => Some(multiprocessing.challenge()),
            Self::Challenge(_) | Self::Mutual(_) | Self::Complete { .. } | Self::InTransition => {
                None
            }
        }
    }

    /// Whether the handshake waits for the channel binding.
    pub(crate) fn needs_binding(&self) -> bool {
        match self {
            Self::Mutual(mutual) => mutual.needs_binding(),
            Self::Challenge(_)
            | Self::Multiprocessing(_)
            | Self::Complete { .. }
            | Self::InTransition => false,
        }
    }

    /// Whether the handshake has received and verified everything that it needs.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Challenge(_) | Self::Multiprocessing(_) | Self::InTransition => false,
            Self::Mutual(mutual) => mutual.is_agreed(),
            Self::Complete { .. } => true,
        }
    }

    /// The result, once the handshake [is over](Self::is_over).
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

    /// What to send if the handshake fails in this state.
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

/// What a failed handshake sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureAlert {
    /// Nothing.
    None,
    /// The alert of a server of the scheme `mutual`.
    MutualAlert,
    /// `#FAILURE#` of the scheme `multiprocessing`, from an end that expects a response.
    MultiprocessingFailure,
}

impl FailureAlert {
    /// The bytes to send after `error`.
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

/// Whether `bytes`, the first that a client of the scheme `challenge` received, are the first message
/// of another scheme.
fn is_greeting(bytes: &[u8]) -> bool {
    mutual::is_greeting(bytes) || multiprocessing::is_greeting(bytes)
}

impl Config {
    /// The least length of the handshake buffer, in bytes. 1024 suffice for every scheme.
    #[must_use]
    pub const fn handshake_len(&self) -> usize {
        receive_len(&self.scheme) + transmit_len(&self.scheme)
    }

    /// The bytes that a server at its limit of connections sends to a client before it closes the
    /// connection: an alert in the scheme `mutual`, otherwise nothing.
    #[must_use]
    pub const fn busy(&self) -> &'static [u8] {
        match &self.scheme {
            Scheme::Mutual(_) => mutual::BUSY,
            Scheme::None | Scheme::Challenge { .. } | Scheme::Multiprocessing(_) => &[],
        }
    }
}

// `Config::handshake_len` promises that this suffices.
const _: () = assert!(mutual::RECEIVE_LEN + mutual::TRANSMIT_LEN <= 1024);
const _: () = assert!(multiprocessing::RECEIVE_LEN + multiprocessing::TRANSMIT_LEN <= 1024);

/// The most bytes that a handshake of `scheme` receives, in either role.
pub(crate) const fn receive_len(scheme: &Scheme) -> usize {
    match scheme {
        Scheme::None => 0,
        Scheme::Challenge { digest } => challenge::longest(*digest),
        Scheme::Multiprocessing(_) => multiprocessing::RECEIVE_LEN,
        Scheme::Mutual(_) => mutual::RECEIVE_LEN,
    }
}

/// The most bytes that a handshake of `scheme` transmits, in either role.
pub(crate) const fn transmit_len(scheme: &Scheme) -> usize {
    match scheme {
        Scheme::None => 0,
        Scheme::Challenge { digest } => challenge::longest(*digest),
        Scheme::Multiprocessing(_) => multiprocessing::TRANSMIT_LEN,
        Scheme::Mutual(_) => mutual::TRANSMIT_LEN,
    }
}
