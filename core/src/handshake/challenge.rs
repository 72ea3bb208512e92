//! The scheme `challenge` (docs/PROTOCOL.md, "challenge"): the recipe.
//!
//! ```text
//! server                                    client
//! Respond ── 32 random bytes ─────────────▶ Challenged
//!                                           KeyNeeded: HMAC over them
//! Verify ◀─── HMAC(key, the 32 bytes) ───── Complete
//! KeyNeeded: compare
//! Complete, or closed without a word
//! ```

use super::buffer::Transmit;
use super::{Handshake, Input};
use crate::crypto::keys::Purpose;
use crate::crypto::mac::Digest;
use crate::crypto::nonce::Nonce;
use crate::error::Error;
use crate::key_request;
use crate::key_request::KeyRequest;
use crate::peer::Role;

/// Length of a challenge in bytes.
const CHALLENGE_LEN: usize = 32;

/// The longer of the two messages, in bytes.
pub(super) const fn longest(digest: Digest) -> usize {
    if digest.tag_len() > CHALLENGE_LEN { digest.tag_len() } else { CHALLENGE_LEN }
}

#[derive(Debug)]
pub(crate) struct Challenge {
    digest: Digest,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Server: the challenge is out, the response is not in.
    Respond { challenge: [u8; CHALLENGE_LEN] },
    /// Server: the response is in; the key will tell whether it is right.
    Verify { challenge: [u8; CHALLENGE_LEN] },
    /// Client: the challenge is not in.
    Challenged,
    /// Client: the challenge is in; the key will answer it.
    Answer,
}

impl Challenge {
    pub(super) fn new(digest: Digest, role: Role, nonce: Nonce, out: &mut Transmit<'_>) -> Self {
        let state = match role {
            Role::Client => State::Challenged,
            Role::Server => {
                let challenge = nonce.first();
                out.put(&challenge);
                State::Respond { challenge }
            }
        };
        Self { digest, state }
    }

    pub(super) fn want(&self) -> usize {
        match self.state {
            State::Respond { .. } => self.digest.tag_len(),
            State::Challenged => CHALLENGE_LEN,
            State::Verify { .. } | State::Answer => 0,
        }
    }

    pub(super) fn key_purpose(&self) -> Option<Purpose> {
        let waits = matches!(self.state, State::Verify { .. } | State::Answer);
        waits.then_some(Purpose::Mac(self.digest))
    }

    pub(super) fn key_request<'a>(&'a self, received: &'a [u8]) -> Option<KeyRequest<'a>> {
        let (role, challenge) = match &self.state {
            State::Verify { challenge } => (Role::Server, key_request::Challenge::Ours(challenge)),
            State::Answer => (Role::Client, key_request::Challenge::Theirs(received)),
            State::Respond { .. } | State::Challenged => return None,
        };
        Some(KeyRequest::challenge(role, self.digest, challenge))
    }

    pub(super) fn step(
        self,
        input: Input<'_>,
        received: &[u8],
        out: &mut Transmit<'_>,
    ) -> Result<Handshake, Error> {
        let digest = self.digest;
        let complete = |authenticated| Ok(Handshake::Complete { authenticated });
        let state = match (self.state, input) {
            (State::Respond { challenge }, Input::Received) => State::Verify { challenge },
            // To answer a server of another scheme would give away what a guesser could use, and 2^-40
            // is how often a challenge begins like its greeting.
            (State::Challenged, Input::Received) if super::is_greeting(received) => {
                return Err(Error::Malformed);
            }
            (State::Challenged, Input::Received) => State::Answer,
            (State::Verify { challenge }, Input::Key(answer)) => {
                let keys = answer.map_err(Error::Refused)?;
                let right = keys.verify(&challenge, received).into();
                return if right { complete(true) } else { Err(Error::WrongKey) };
            }
            (State::Answer, Input::Key(answer)) => {
                let keys = answer.map_err(Error::Refused)?;
                if let Some(mac) = keys.first.key.mac() {
                    out.put(mac.tag(received).bytes());
                }
                return complete(false);
            }
            // An input that was not asked for changes nothing.
            (state, _) => state,
        };
        Ok(Handshake::Challenge(Self { digest, state }))
    }
}

#[cfg(test)]
mod tests;
