//! The scheme `challenge` (docs/PROTOCOL.md, "challenge"): HMAC challenge-response, client to server.
//!
//! ```text
//! server                                             client
//! AwaitResponse ─── 32 random bytes ───────────────▶ AwaitChallenge
//!                                                    AwaitKey: KeyNeeded
//! AwaitVerificationKey ◀─ HMAC(key, the 32 bytes) ── Complete
//!   KeyNeeded
//! Complete, or closed without an answer
//! ```

use super::buffer::Transmit;
use super::{Handshake, Input};
use crate::crypto::keys::Purpose;
use crate::crypto::mac::Digest;
use crate::crypto::nonce::Nonce;
use crate::error::Error;
use crate::key_request;
use crate::key_request::KeyRequest;
use crate::role::Role;

/// Length of a challenge, in bytes.
const CHALLENGE_LEN: usize = 32;

/// Length of the longer message, in bytes.
pub(super) const fn longest(digest: Digest) -> usize {
    if digest.tag_len() > CHALLENGE_LEN { digest.tag_len() } else { CHALLENGE_LEN }
}

#[derive(Debug)]
pub(crate) struct Challenge {
    digest: Digest,
    state: State,
}

#[derive(Debug)]
// All states of this scheme wait for an input; the names are those of `mutual`.
#[allow(clippy::enum_variant_names)]
enum State {
    /// Server: has sent the challenge, waits for the response.
    AwaitResponse { challenge: [u8; CHALLENGE_LEN] },
    /// Server: has the response, waits for the key to verify it.
    AwaitVerificationKey { challenge: [u8; CHALLENGE_LEN] },
    /// Client: waits for the challenge.
    AwaitChallenge,
    /// Client: has the challenge, waits for the key to answer it.
    AwaitKey,
}

impl Challenge {
    pub(super) fn new(digest: Digest, role: Role, nonce: Nonce, out: &mut Transmit<'_>) -> Self {
        let state = match role {
            Role::Client => State::AwaitChallenge,
            Role::Server => {
                let challenge = nonce.first();
                out.write(&challenge);
                State::AwaitResponse { challenge }
            }
        };
        Self { digest, state }
    }

    pub(super) fn want(&self) -> usize {
        match self.state {
            State::AwaitResponse { .. } => self.digest.tag_len(),
            State::AwaitChallenge => CHALLENGE_LEN,
            State::AwaitVerificationKey { .. } | State::AwaitKey => 0,
        }
    }

    pub(super) fn key_purpose(&self) -> Option<Purpose> {
        let waits = matches!(self.state, State::AwaitVerificationKey { .. } | State::AwaitKey);
        waits.then_some(Purpose::Mac(self.digest))
    }

    pub(super) fn key_request<'a>(&'a self, received: &'a [u8]) -> Option<KeyRequest<'a>> {
        let (role, challenge) = match &self.state {
            State::AwaitVerificationKey { challenge } => {
                (Role::Server, key_request::Challenge::Ours(challenge))
            }
            State::AwaitKey => (Role::Client, key_request::Challenge::Theirs(received)),
            State::AwaitResponse { .. } | State::AwaitChallenge => return None,
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
            (State::AwaitResponse { challenge }, Input::Received) => {
                State::AwaitVerificationKey { challenge }
            }
            // A response to a server of another scheme would help an attacker to guess the key. A
            // random challenge looks like such a server's message with a probability of 2^-40.
            (State::AwaitChallenge, Input::Received) if super::is_greeting(received) => {
                return Err(Error::Malformed);
            }
            (State::AwaitChallenge, Input::Received) => State::AwaitKey,
            (State::AwaitVerificationKey { challenge }, Input::Key(answer)) => {
                let keys = answer.map_err(Error::Refused)?;
                let valid = keys.verify(&challenge, received).into();
                return if valid { complete(true) } else { Err(Error::WrongKey) };
            }
            (State::AwaitKey, Input::Key(answer)) => {
                let keys = answer.map_err(Error::Refused)?;
                if let Some(mac) = keys.first.key.mac() {
                    out.write(mac.tag(received).bytes());
                }
                return complete(false);
            }
            // Any other input has no effect.
            (state, _) => state,
        };
        Ok(Handshake::Challenge(Self { digest, state }))
    }
}

#[cfg(test)]
mod tests;
