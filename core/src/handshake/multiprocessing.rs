//! The scheme `multiprocessing` (docs/PROTOCOL.md, "multiprocessing"): what CPython's
//! `multiprocessing.connection` does. Each end challenges the other, the server first.
//!
//! ```text
//! server                                           client
//! Response ── #CHALLENGE# and a message ─────────▶ Challenge
//!                                                  Answer            KeyNeeded
//! Verify ◀─── response ─────────────────────────── Verdict
//! KeyNeeded
//! Challenge ─ #WELCOME# ─────────────────────────▶
//!          ◀─ #CHALLENGE# and a message ────────── Response
//! Answer                                                             KeyNeeded
//! Verdict ─── response ──────────────────────────▶ Verify
//!                                                  KeyNeeded
//! Complete ◀─ #WELCOME# ────────────────────────── Complete
//! ```
//! A wrong response is told `#FAILURE#` in place of `#WELCOME#`. A key request names the digest that
//! the peer chose, where our policy leaves it a choice.

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
use crate::peer::Role;

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
const FAILURE: &[u8] = b"#FAILURE#";
/// The same as a frame.
pub(super) const FAILURE_FRAME: &[u8] = b"\0\0\0\x09#FAILURE#";

/// Length of the header of the frames that we send, in bytes.
const HEADER_LEN: usize = 4;
/// The longest frame to take, its header not counted, in bytes.
const MAX_FRAME: u64 = 256;
/// The shortest message to answer; just as long, it is from before messages named their digest.
const LEGACY_MESSAGE_LEN: usize = 20;
/// Length of a response that names no digest: HMAC-MD5, bare.
const LEGACY_RESPONSE_LEN: usize = 16;
/// The longest name of a digest with what is around it: `{sha3_256}`.
const MAX_LABEL: usize = 10;
/// The longest message that we send.
const MAX_MESSAGE: usize = MAX_LABEL + Nonce::LEN;
/// The longest tag.
const MAX_TAG: usize = 48;

/// The most that is received, in bytes: challenge, response and verdict.
pub(super) const RECEIVE_LEN: usize = 3 * (MultiprocessingPrefix::MAX_LEN + MAX_FRAME as usize);
/// The most that is transmitted: the same three.
pub(super) const TRANSMIT_LEN: usize =
    3 * HEADER_LEN + CHALLENGE.len() + MAX_MESSAGE + MAX_LABEL + MAX_TAG + WELCOME.len();

/// Whether `bytes` begin as a server's first frame does.
pub(super) fn is_greeting(bytes: &[u8]) -> bool {
    bytes.get(HEADER_LEN..).is_some_and(|frame| frame.starts_with(CHALLENGE))
}

/// How `digest` is named in messages; `None` if it is not.
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

/// What messages and responses without a name mean: MD5, where it is known.
#[cfg(feature = "digests")]
const LEGACY: Option<Digest> = Some(Digest::Md5);
#[cfg(not(feature = "digests"))]
const LEGACY: Option<Digest> = None;

/// The digest that `message` names, and what follows its name.
fn labelled(message: &[u8]) -> Result<(Digest, &[u8]), Error> {
    let named = Digest::ALL
        .iter()
        .find_map(|&digest| Some((digest, message.strip_prefix(label(digest)?)?)));
    match named {
        Some(named) => Ok(named),
        None if message.starts_with(b"{") => Err(Error::Incompatible),
        None => Err(Error::Malformed),
    }
}

/// The digest to answer the challenge `message` with, and whether the response is to name it.
fn asked(message: &[u8]) -> Result<(Digest, bool), Error> {
    match message.len() {
        ..LEGACY_MESSAGE_LEN => Err(Error::Malformed),
        // Whatever it begins with: its bytes are random.
        LEGACY_MESSAGE_LEN => Ok((LEGACY.ok_or(Error::Incompatible)?, false)),
        _ => Ok((labelled(message)?.0, true)),
    }
}

/// The digest of `response`, and its tag.
fn given(response: &[u8]) -> Result<(Digest, &[u8]), Error> {
    if response.len() == LEGACY_RESPONSE_LEN {
        return Ok((LEGACY.ok_or(Error::Incompatible)?, response));
    }
    let (digest, tag) = labelled(response)?;
    if tag.len() == digest.tag_len() { Ok((digest, tag)) } else { Err(Error::Malformed) }
}

/// What is to be proved to us: the message of our challenge.
struct Message {
    bytes: [u8; MAX_MESSAGE],
    len: u8,
}

impl Message {
    /// One that has its response be over `digest`.
    fn new(digest: Digest, nonce: Nonce) -> Result<Self, ConfigError> {
        let label = label(digest).ok_or(ConfigError::Digest)?;
        let mut message = Self { bytes: [0; MAX_MESSAGE], len: 0 };
        let nonce: [u8; Nonce::LEN] = nonce.first();
        if LEGACY == Some(digest) {
            // What peers that know no other digest send, and all others take.
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
    /// Where the frame that is awaited, or was last, begins in what was received.
    start: u16,
    /// How many bytes to receive before the next step.
    want: u16,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The peer's challenge is not in.
    Challenge,
    /// It is in; the key will answer it.
    Answer { digest: Digest, named: bool },
    /// Our response is out, what the peer makes of it is not in.
    Verdict,
    /// Our challenge is out, the response is not in.
    Response,
    /// The response is in; the key will tell whether it is right.
    Verify { digest: Digest },
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
            state: State::Challenge,
        };
        Ok(match role {
            Role::Client => new,
            Role::Server => new.deliver(out),
        })
    }

    /// Challenges the peer.
    fn deliver(self, out: &mut Transmit<'_>) -> Self {
        put_frame(out, &[CHALLENGE, self.message.bytes()]);
        Self { state: State::Response, ..self }
    }

    pub(super) fn want(&self) -> usize {
        self.want.into()
    }

    pub(super) fn key_purpose(&self) -> Option<Purpose> {
        match self.state {
            State::Answer { digest, .. } | State::Verify { digest } => Some(Purpose::Mac(digest)),
            State::Challenge | State::Verdict | State::Response => None,
        }
    }

    pub(super) fn key_request<'a>(&'a self, received: &'a [u8]) -> Option<KeyRequest<'a>> {
        let (digest, challenge) = match self.state {
            State::Answer { digest, .. } => (digest, Challenge::Theirs(self.asked(received))),
            State::Verify { digest } => (digest, Challenge::Ours(self.message.bytes())),
            State::Challenge | State::Verdict | State::Response => return None,
        };
        Some(KeyRequest::challenge(self.role, digest, challenge))
    }

    /// Our challenge, as the peer has to answer it.
    pub(super) fn challenge(&self) -> &[u8] {
        self.message.bytes()
    }

    /// Whoever owes a response is told that it is wrong.
    pub(super) fn failure_alert(&self) -> FailureAlert {
        match self.state {
            State::Response | State::Verify { .. } => FailureAlert::MultiprocessingFailure,
            State::Challenge | State::Answer { .. } | State::Verdict => FailureAlert::None,
        }
    }

    /// Where the frame that was received last is, or will be when all of it is there.
    fn extent(&self, received: &[u8]) -> Result<Range<usize>, Error> {
        let start = usize::from(self.start);
        match MultiprocessingPrefix::read(received.get(start..).unwrap_or_default()) {
            Ok(Length::Need(n)) => Ok(start..start + n),
            Ok(Length::Known { header, len }) if len <= MAX_FRAME => {
                Ok(start + header..start + header + len as usize)
            }
            Ok(Length::Known { .. }) | Err(_) => Err(Error::Malformed),
        }
    }

    /// The frame that was received last.
    fn frame<'a>(&self, received: &'a [u8]) -> &'a [u8] {
        let extent = self.extent(received).unwrap_or_default();
        received.get(extent).unwrap_or_default()
    }

    /// The message that we are challenged with; empty while there is none.
    fn asked<'a>(&self, received: &'a [u8]) -> &'a [u8] {
        self.frame(received).strip_prefix(CHALLENGE).unwrap_or_default()
    }

    pub(super) fn step(
        self,
        input: Input<'_>,
        received: &[u8],
        out: &mut Transmit<'_>,
    ) -> Result<Handshake, Error> {
        let next = match (self.state, input) {
            (State::Challenge | State::Verdict | State::Response, Input::Received) => {
                let extent = self.extent(received)?;
                match received.get(extent.clone()) {
                    Some(frame) => return self.receive(frame, received.len(), out),
                    None => Self { want: extent.end as u16, ..self },
                }
            }
            (State::Answer { digest, named }, Input::Key(answer)) => {
                let keys = answer.map_err(Error::Refused)?;
                if let Some(mac) = keys.first.key.mac() {
                    let label = if named { label(digest).unwrap_or_default() } else { &[] };
                    put_frame(out, &[label, mac.tag(self.asked(received)).bytes()]);
                }
                self.await_frame(State::Verdict, received.len())
            }
            (State::Verify { .. }, Input::Key(answer)) => {
                return self.verify(answer.map_err(Error::Refused)?, received, out);
            }
            // An input that was not asked for changes nothing.
            _ => self,
        };
        Ok(Handshake::Multiprocessing(next))
    }

    /// `state` in place of ours, which awaits a frame behind the `received` bytes.
    fn await_frame(self, state: State, received: usize) -> Self {
        let start = received as u16;
        Self { state, start, want: start + HEADER_LEN as u16, ..self }
    }

    /// Fails unless a proof over `digest` may be given and taken.
    fn check(&self, digest: Digest) -> Result<(), Error> {
        if self.policy.allows(digest) { Ok(()) } else { Err(Error::Incompatible) }
    }

    /// A frame has arrived.
    fn receive(
        self,
        frame: &[u8],
        received: usize,
        out: &mut Transmit<'_>,
    ) -> Result<Handshake, Error> {
        let next = match self.state {
            State::Challenge => {
                let message = frame.strip_prefix(CHALLENGE).ok_or(Error::Malformed)?;
                if message == self.message.bytes() {
                    return Err(Error::Refused(KeyRejection::Reflected));
                }
                let (digest, named) = asked(message)?;
                self.check(digest)?;
                Self { state: State::Answer { digest, named }, ..self }
            }
            State::Response => {
                let (digest, _) = given(frame)?;
                self.check(digest)?;
                Self { state: State::Verify { digest }, ..self }
            }
            State::Verdict if frame == WELCOME => match self.role {
                Role::Server => return Ok(Handshake::Complete { authenticated: true }),
                Role::Client => self.await_frame(State::Response, received).deliver(out),
            },
            State::Verdict if frame == FAILURE => return Err(Error::Alert(Alert::Refused)),
            State::Verdict => return Err(Error::Malformed),
            State::Answer { .. } | State::Verify { .. } => self,
        };
        Ok(Handshake::Multiprocessing(next))
    }

    /// Says whether the response is right.
    fn verify(
        self,
        keys: Candidates<'_>,
        received: &[u8],
        out: &mut Transmit<'_>,
    ) -> Result<Handshake, Error> {
        let (_, tag) = given(self.frame(received))?;
        let right = keys.verify(self.message.bytes(), tag);
        if !bool::from(right) {
            return Err(Error::WrongKey);
        }
        put_frame(out, &[WELCOME]);
        Ok(match self.role {
            Role::Client => Handshake::Complete { authenticated: true },
            Role::Server => {
                Handshake::Multiprocessing(self.await_frame(State::Challenge, received.len()))
            }
        })
    }
}

/// Queues a frame that consists of `parts`.
fn put_frame(out: &mut Transmit<'_>, chunks: &[&[u8]]) {
    let len: usize = chunks.iter().map(|chunk| chunk.len()).sum();
    out.put(&(len as u32).to_be_bytes());
    chunks.iter().for_each(|chunk| out.put(chunk));
}

impl core::fmt::Debug for Multiprocessing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Multiprocessing").field(&self.state).finish()
    }
}

impl config::Multiprocessing {
    /// The digests that keys may be asked for, [`Purpose::Mac`](crate::Purpose::Mac) of each.
    pub fn digests(self) -> impl Iterator<Item = Digest> {
        let known = |digest: &Digest| label(*digest).is_some();
        Digest::ALL.iter().copied().filter(known).filter(move |&digest| self.allows(digest))
    }
}

#[cfg(test)]
mod tests;
