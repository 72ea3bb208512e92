//! The scheme `multiprocessing` (docs/PROTOCOL.md, "multiprocessing"): the handshake of CPython's
//! `multiprocessing.connection`. Each end challenges the other, the server first.
//!
//! ```text
//! server                                                  client
//! AwaitResponse ──── #CHALLENGE# message ───────────────▶ AwaitChallenge
//!                                                         AwaitKey: KeyNeeded
//! AwaitVerificationKey ◀───────────────────── response ── AwaitVerdict
//!   KeyNeeded
//! AwaitChallenge ─── #WELCOME# ─────────────────────────▶
//!                ◀────────────────── #CHALLENGE# message ── AwaitResponse
//! AwaitKey: KeyNeeded
//! AwaitVerdict ───── response ──────────────────────────▶ AwaitVerificationKey
//!                                                           KeyNeeded
//! Complete ◀──────────────────────────────── #WELCOME# ── Complete
//! ```
//! A wrong response is answered with `#FAILURE#` instead of `#WELCOME#`. The key request has the
//! digest that the peer chose, if the configuration allows a choice.

use core::ops::Range;

use super::buffer::Transmit;
use super::{FailureAlert, Handshake, Input};
use crate::config;
use crate::crypto::keys::{Candidates, Purpose};
use crate::crypto::mac::Digest;
use crate::crypto::nonce::Nonce;
use crate::error::{Alert, ConfigError, Error, KeyRejection};
use crate::framing::{Length, MultiprocessingPrefix, Prefix};
use crate::key_request::{Challenge, KeyRequest};
use crate::role::Role;

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
const FAILURE: &[u8] = b"#FAILURE#";
/// `FAILURE` as a frame.
pub(super) const FAILURE_FRAME: &[u8] = b"\0\0\0\x09#FAILURE#";

/// Length of the header of the frames that we send, in bytes.
const HEADER_LEN: usize = 4;
/// Length of the longest frame to accept, without its header, in bytes.
const MAX_FRAME: u64 = 256;
/// Length of the shortest challenge to accept, in bytes. A challenge of exactly this length is from
/// CPython 3.11 or earlier and names no digest.
const LEGACY_MESSAGE_LEN: usize = 20;
/// Length of a response of CPython 3.11 or earlier, in bytes: HMAC-MD5 without a label.
const LEGACY_RESPONSE_LEN: usize = 16;
/// Length of the longest label, in bytes: `{sha3_256}`.
const MAX_LABEL: usize = 10;
/// Length of the longest challenge that we send, in bytes.
const MAX_MESSAGE: usize = MAX_LABEL + Nonce::LEN;
/// Length of the longest tag, in bytes.
const MAX_TAG: usize = 48;

/// The most bytes that are received: a challenge, a response and a verdict.
pub(super) const RECEIVE_LEN: usize = 3 * (MultiprocessingPrefix::MAX_LEN + MAX_FRAME as usize);
/// The most bytes that are transmitted: the same three messages.
pub(super) const TRANSMIT_LEN: usize =
    3 * HEADER_LEN + CHALLENGE.len() + MAX_MESSAGE + MAX_LABEL + MAX_TAG + WELCOME.len();

/// Whether `bytes` begin like the first frame of a server.
pub(super) fn is_greeting(bytes: &[u8]) -> bool {
    bytes.get(HEADER_LEN..).is_some_and(|frame| frame.starts_with(CHALLENGE))
}

/// The label of `digest` in messages; `None` if the scheme does not support it.
pub(crate) const fn label(digest: Digest) -> Option<&'static [u8]> {
    match digest {
        Digest::Sha256 => Some(b"{sha256}"),
        #[cfg(feature = "digests")]
        Digest::Md5 => Some(b"{md5}"),
        #[cfg(feature = "digests")]
        Digest::Sha384 => Some(b"{sha384}"),
        #[cfg(feature = "digests")]
        Digest::Sha3_256 => Some(b"{sha3_256}"),
        #[cfg(feature = "digests")]
        Digest::Sha3_384 => Some(b"{sha3_384}"),
        #[cfg(feature = "digests")]
        Digest::Sha1 | Digest::Sha512 => None,
    }
}

/// The digest of challenges and responses without a label: MD5, if this build has it.
#[cfg(feature = "digests")]
const LEGACY: Option<Digest> = Some(Digest::Md5);
#[cfg(not(feature = "digests"))]
const LEGACY: Option<Digest> = None;

/// Splits `message` into the digest of its label and the rest.
fn split_label(message: &[u8]) -> Result<(Digest, &[u8]), Error> {
    let named = Digest::ALL
        .iter()
        .find_map(|&digest| Some((digest, message.strip_prefix(label(digest)?)?)));
    match named {
        Some(named) => Ok(named),
        None if message.starts_with(b"{") => Err(Error::Incompatible),
        None => Err(Error::Malformed),
    }
}

/// Parses the challenge `message`: the digest of the response, and whether to label it.
fn parse_challenge(message: &[u8]) -> Result<(Digest, bool), Error> {
    match message.len() {
        ..LEGACY_MESSAGE_LEN => Err(Error::Malformed),
        // Even if it begins like a label: its bytes are random.
        LEGACY_MESSAGE_LEN => Ok((LEGACY.ok_or(Error::Incompatible)?, false)),
        _ => Ok((split_label(message)?.0, true)),
    }
}

/// Parses `response`: its digest and tag.
fn parse_response(response: &[u8]) -> Result<(Digest, &[u8]), Error> {
    if response.len() == LEGACY_RESPONSE_LEN {
        return Ok((LEGACY.ok_or(Error::Incompatible)?, response));
    }
    let (digest, tag) = split_label(response)?;
    if tag.len() == digest.tag_len() { Ok((digest, tag)) } else { Err(Error::Malformed) }
}

/// The challenge of this end.
struct Message {
    bytes: [u8; MAX_MESSAGE],
    len: u8,
}

impl Message {
    /// A challenge that requests a response with `digest`.
    fn new(digest: Digest, nonce: Nonce) -> Result<Self, ConfigError> {
        let label = label(digest).ok_or(ConfigError::Digest)?;
        let mut message = Self { bytes: [0; MAX_MESSAGE], len: 0 };
        let nonce: [u8; Nonce::LEN] = nonce.first();
        if LEGACY == Some(digest) {
            // The form of CPython 3.11 and earlier, which every version accepts.
            message.push(&nonce[..LEGACY_MESSAGE_LEN]);
        } else {
            message.push(label);
            message.push(&nonce);
        }
        Ok(message)
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len.into()..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len.into()]
    }
}

pub(crate) struct Multiprocessing {
    policy: config::Multiprocessing,
    role: Role,
    message: Message,
    /// Where in the received bytes the current frame begins.
    start: u16,
    /// Number of received bytes that the next step needs.
    want: u16,
    state: State,
}

#[derive(Clone, Copy, Debug)]
// All states of this scheme wait for an input; the names are those of `mutual`.
#[allow(clippy::enum_variant_names)]
enum State {
    /// Waits for the challenge of the peer.
    AwaitChallenge,
    /// Has the challenge, waits for the key to answer it.
    AwaitKey { digest: Digest, named: bool },
    /// Has sent the response, waits for the verdict of the peer.
    AwaitVerdict,
    /// Has sent its challenge, waits for the response.
    AwaitResponse,
    /// Has the response, waits for the key to verify it.
    AwaitVerificationKey { digest: Digest },
}

impl Multiprocessing {
    pub(super) fn new(
        policy: config::Multiprocessing,
        role: Role,
        nonce: Nonce,
        out: &mut Transmit<'_>,
    ) -> Result<Self, ConfigError> {
        let message = Message::new(policy.digest, nonce)?;
        let new = Self {
            policy,
            role,
            message,
            start: 0,
            want: HEADER_LEN as u16,
            state: State::AwaitChallenge,
        };
        Ok(match role {
            Role::Client => new,
            Role::Server => new.send_challenge(out),
        })
    }

    /// Sends the challenge of this end.
    fn send_challenge(self, out: &mut Transmit<'_>) -> Self {
        write_frame(out, &[CHALLENGE, self.message.bytes()]);
        Self { state: State::AwaitResponse, ..self }
    }

    pub(super) fn want(&self) -> usize {
        self.want.into()
    }

    pub(super) fn key_purpose(&self) -> Option<Purpose> {
        match self.state {
            State::AwaitKey { digest, .. } | State::AwaitVerificationKey { digest } => {
                Some(Purpose::Mac(digest))
            }
            State::AwaitChallenge | State::AwaitVerdict | State::AwaitResponse => None,
        }
    }

    pub(super) fn key_request<'a>(&'a self, received: &'a [u8]) -> Option<KeyRequest<'a>> {
        let (digest, challenge) = match self.state {
            State::AwaitKey { digest, .. } => {
                (digest, Challenge::Theirs(self.peer_challenge(received)))
            }
            State::AwaitVerificationKey { digest } => {
                (digest, Challenge::Ours(self.message.bytes()))
            }
            State::AwaitChallenge | State::AwaitVerdict | State::AwaitResponse => return None,
        };
        Some(KeyRequest::challenge(self.role, digest, challenge))
    }

    /// The challenge of this end.
    pub(super) fn challenge(&self) -> &[u8] {
        self.message.bytes()
    }

    /// Only an end that expects a response sends `#FAILURE#`.
    pub(super) fn failure_alert(&self) -> FailureAlert {
        match self.state {
            State::AwaitResponse | State::AwaitVerificationKey { .. } => {
                FailureAlert::MultiprocessingFailure
            }
            State::AwaitChallenge | State::AwaitKey { .. } | State::AwaitVerdict => {
                FailureAlert::None
            }
        }
    }

    /// Where in the received bytes the body of the current frame is, as far as its header is known.
    fn frame_range(&self, received: &[u8]) -> Result<Range<usize>, Error> {
        let start = usize::from(self.start);
        match MultiprocessingPrefix::read(received.get(start..).unwrap_or_default()) {
            Ok(Length::Need(n)) => Ok(start..start + n),
            Ok(Length::Known { header, len }) if len <= MAX_FRAME => {
                Ok(start + header..start + header + len as usize)
            }
            Ok(Length::Known { .. }) | Err(_) => Err(Error::Malformed),
        }
    }

    /// The body of the current frame.
    fn frame<'a>(&self, received: &'a [u8]) -> &'a [u8] {
        let frame_range = self.frame_range(received).unwrap_or_default();
        received.get(frame_range).unwrap_or_default()
    }

    /// The challenge of the peer in the current frame.
    fn peer_challenge<'a>(&self, received: &'a [u8]) -> &'a [u8] {
        self.frame(received).strip_prefix(CHALLENGE).unwrap_or_default()
    }

    pub(super) fn step(
        self,
        input: Input<'_>,
        received: &[u8],
        out: &mut Transmit<'_>,
    ) -> Result<Handshake, Error> {
        let next = match (self.state, input) {
            (
                State::AwaitChallenge | State::AwaitVerdict | State::AwaitResponse,
                Input::Received,
            ) => {
                let frame_range = self.frame_range(received)?;
                match received.get(frame_range.clone()) {
                    Some(frame) => return self.receive(frame, received.len(), out),
                    None => Self { want: frame_range.end as u16, ..self },
                }
            }
            (State::AwaitKey { digest, named }, Input::Key(answer)) => {
                let keys = answer.map_err(Error::Refused)?;
                if let Some(mac) = keys.first.key.mac() {
                    let label = if named { label(digest).unwrap_or_default() } else { &[] };
                    write_frame(out, &[label, mac.tag(self.peer_challenge(received)).bytes()]);
                }
                self.await_frame(State::AwaitVerdict, received.len())
            }
            (State::AwaitVerificationKey { .. }, Input::Key(answer)) => {
                return self.verify(answer.map_err(Error::Refused)?, received, out);
            }
            // Any other input has no effect.
            _ => self,
        };
        Ok(Handshake::Multiprocessing(next))
    }

    /// Enters `state`, which waits for a frame after the `received` bytes.
    fn await_frame(self, state: State, received: usize) -> Self {
        let start = received as u16;
        Self { state, start, want: start + HEADER_LEN as u16, ..self }
    }

    /// Fails unless the configuration allows proofs with `digest`.
    fn check(&self, digest: Digest) -> Result<(), Error> {
        if self.policy.allows(digest) { Ok(()) } else { Err(Error::Incompatible) }
    }

    /// Handles a complete frame.
    fn receive(
        self,
        frame: &[u8],
        received: usize,
        out: &mut Transmit<'_>,
    ) -> Result<Handshake, Error> {
        let next = match self.state {
            State::AwaitChallenge => {
                let message = frame.strip_prefix(CHALLENGE).ok_or(Error::Malformed)?;
                // An attacker that reflects our own challenge would get the response that it owes us.
                if message == self.message.bytes() {
                    return Err(Error::Refused(KeyRejection::Reflected));
                }
                let (digest, named) = parse_challenge(message)?;
                self.check(digest)?;
                Self { state: State::AwaitKey { digest, named }, ..self }
            }
            State::AwaitResponse => {
                let (digest, _) = parse_response(frame)?;
                self.check(digest)?;
                Self { state: State::AwaitVerificationKey { digest }, ..self }
            }
            State::AwaitVerdict if frame == WELCOME => match self.role {
                Role::Server => return Ok(Handshake::Complete { authenticated: true }),
                Role::Client => {
                    self.await_frame(State::AwaitResponse, received).send_challenge(out)
                }
            },
            State::AwaitVerdict if frame == FAILURE => return Err(Error::Alert(Alert::Refused)),
            State::AwaitVerdict => return Err(Error::Malformed),
            State::AwaitKey { .. } | State::AwaitVerificationKey { .. } => self,
        };
        Ok(Handshake::Multiprocessing(next))
    }

    /// Verifies the response of the peer and sends the verdict.
    fn verify(
        self,
        keys: Candidates<'_>,
        received: &[u8],
        out: &mut Transmit<'_>,
    ) -> Result<Handshake, Error> {
        let (_, tag) = parse_response(self.frame(received))?;
        let valid = keys.verify(self.message.bytes(), tag);
        if !bool::from(valid) {
            return Err(Error::WrongKey);
        }
        write_frame(out, &[WELCOME]);
        Ok(match self.role {
            Role::Client => Handshake::Complete { authenticated: true },
            Role::Server => {
                Handshake::Multiprocessing(self.await_frame(State::AwaitChallenge, received.len()))
            }
        })
    }
}

/// Queues a frame with the concatenation of `parts` as its body.
fn write_frame(out: &mut Transmit<'_>, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    out.write(&(len as u32).to_be_bytes());
    parts.iter().for_each(|part| out.write(part));
}

impl core::fmt::Debug for Multiprocessing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Multiprocessing").field(&self.state).finish()
    }
}

impl config::Multiprocessing {
    /// The digests that key requests of this configuration may have: for each, a key with
    /// [`Purpose::Mac`] may be needed.
    pub fn digests(self) -> impl Iterator<Item = Digest> {
        let known = |digest: &Digest| label(*digest).is_some();
        Digest::ALL.iter().copied().filter(known).filter(move |&digest| self.allows(digest))
    }
}

#[cfg(test)]
mod tests;
