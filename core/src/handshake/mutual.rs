//! The scheme `mutual` (docs/PROTOCOL.md, "mutual"): SKID3 with names, roles and a key schedule.
//!
//! ```text
//! server                                                  client
//! AwaitBinding: inside TLS, until bind_channel            AwaitBinding
//! AwaitProof ────────── M1: versions, suites, nonce ────▶ AwaitHello
//!                                                         AwaitKey: KeyNeeded
//! AwaitVerificationKey ◀─ M2: key id, names, nonce, proof ─ AwaitServerProof
//!   KeyNeeded
//! Agreed ────────────── M3: name, limits, proof ────────▶ AwaitAuthorization
//!                                                           KeyNeeded: with the name of the server
//!                                                         Agreed
//! ```
//! Each end writes its messages to the handshake buffer when the handshake is created, with zeros for
//! the fields that are not known yet, and reads its own fields from there. Received messages stay in
//! the buffer too, because the proofs cover all of them.

mod message;

use subtle::Choice;

use super::buffer::{Transmit, View};
use super::{FailureAlert, Handshake, HandshakeOutput, Input, PeerInfo};
use crate::config;
use crate::crypto::key_schedule::{
    self, Fingerprint, HandshakeKeys, Imported, Master, Prk, Secret, SessionKeys, Transcript,
};
use crate::crypto::keys::{Candidate, Candidates, Purpose};
use crate::crypto::nonce::Nonce;
use crate::error::{ConfigError, Error, IdentityError, KeyRejection};
use crate::framing::SealingParams;
use crate::key_request::KeyRequest;
use crate::name::{KeyId, Name};
use crate::role::Role;
use message::{ClientProof, HEADER_LEN, MAC_LEN, ServerHello, ServerProof, VERSION, whole_len};

/// Suite 01: every frame carries a tag.
const TAGGED: u8 = 0x01;
/// Suite 00: no frame carries a tag; TLS protects them.
const UNTAGGED: u8 = 0x00;

/// The most bytes that are received: M2 by a server, M1 and M3 by a client.
pub(super) const RECEIVE_LEN: usize = max(message::MAX_M2, message::MAX_M1 + message::MAX_M3);
/// The most bytes that are transmitted.
pub(super) const TRANSMIT_LEN: usize = RECEIVE_LEN;

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// The alert that a server sends in place of its next message, for a handshake that fails with
/// `error`.
pub(super) const fn alert(error: Error) -> &'static [u8] {
    match error {
        Error::Incompatible => &const { message::alert(2) },
        Error::Aborted(_) => BUSY,
        Error::Malformed | Error::Truncated(_) => &const { message::alert(4) },
        Error::TimedOut(_) => &const { message::alert(5) },
        // One code for every failed authentication, so that a peer cannot tell an unknown key id from
        // a wrong proof or a refused name.
        _ => &const { message::alert(1) },
    }
}

/// Whether `bytes` begin like M1, except for its length.
pub(super) fn is_greeting(bytes: &[u8]) -> bool {
    bytes.get(HEADER_LEN..).is_some_and(message::is_hello)
}

/// The alert of a server at its limit of connections.
pub(super) const BUSY: &[u8] = &message::alert(3);

pub(crate) struct Mutual {
    role: Role,
    /// Whether suite [`UNTAGGED`] is allowed too.
    untagged: bool,
    /// The suite that the client chose.
    suite: u8,
    /// Where in the received bytes the current message begins.
    start: u16,
    /// Number of received bytes that the next step needs.
    want: u16,
    /// The channel binding, inside TLS.
    binding: Option<Secret>,
    state: State,
}

enum State {
    /// Waits for the channel binding.
    AwaitBinding { dummy: Prk },
    /// Server: has sent M1, waits for M2.
    AwaitProof { dummy: Prk },
    /// Server: has M2, waits for the keys to verify it.
    AwaitVerificationKey { dummy: Prk },
    /// Client: waits for M1.
    AwaitHello,
    /// Client: has M1, waits for the key to answer it.
    AwaitKey,
    /// Client: has sent M2, waits for M3.
    AwaitServerProof { key: Imported, fingerprint: Fingerprint },
    /// Client: has verified M3, asks whether the key may be used with this server.
    AwaitAuthorization(SessionSecrets),
    /// Complete.
    Agreed(SessionSecrets),
}

/// What both ends share after the handshake.
pub(crate) struct SessionSecrets {
    master: Master,
    session_id: [u8; 16],
    fingerprint: Fingerprint,
}

impl SessionSecrets {
    fn new(key: &HandshakeKeys, transcript: &Transcript, fingerprint: Fingerprint) -> Self {
        let th = transcript.hash();
        let mut session_id = [0; 16];
        session_id.copy_from_slice(&th[..16]);
        Self { master: key.master(&th), session_id, fingerprint }
    }
}

impl Mutual {
    pub(super) fn new(
        mutual: &config::Mutual,
        role: Role,
        nonce: Nonce,
        max_frame: u32,
        out: &mut Transmit<'_>,
    ) -> Result<Self, ConfigError> {
        if mutual.untagged && !mutual.bound {
            return Err(ConfigError::Unprotected);
        }
        let heartbeat_ms = mutual.heartbeat_ms()?;
        let (nonce, process_id) = (&nonce.first(), &mutual.process_id.id);
        let name = mutual.name.as_str();
        match role {
            Role::Server => {
                let suites: &[u8] = if mutual.untagged { &[UNTAGGED, TAGGED] } else { &[TAGGED] };
                let len = message::write_hello(out.draft(), suites, nonce);
                let server = message::Server { name, process_id, max_frame, heartbeat_ms };
                message::write_server(&mut out.draft()[len..], &server);
            }
            Role::Client => {
                let expected = mutual.expected.as_ref().map_or("", Name::as_str);
                let kid = mutual.key_id.as_str();
                let client = message::Client { kid, name, expected, process_id, max_frame, nonce };
                message::write_client(out.draft(), &client);
            }
        }
        let mut new = Self {
            role,
            untagged: mutual.untagged,
            suite: TAGGED,
            start: 0,
            want: 0,
            binding: None,
            state: State::AwaitBinding { dummy: Prk::dummy(&mutual.process_id.dummy) },
        };
        if !mutual.bound {
            new = new.begin(out);
        }
        Ok(new)
    }

    /// Leaves [`State::AwaitBinding`].
    fn begin(self, out: &mut Transmit<'_>) -> Self {
        let State::AwaitBinding { dummy } = self.state else { return self };
        let state = match self.role {
            Role::Client => State::AwaitHello,
            Role::Server => {
                let len = message::first(out.draft()).len();
                out.queue(len);
                State::AwaitProof { dummy }
            }
        };
        Self { state, want: HEADER_LEN as u16, ..self }
    }

    pub(super) fn want(&self) -> usize {
        self.want.into()
    }

    pub(super) fn key_purpose(&self) -> Option<Purpose> {
        let waits = matches!(
            self.state,
            State::AwaitVerificationKey { .. } | State::AwaitKey | State::AwaitAuthorization(_)
        );
        waits.then_some(Purpose::Derivation)
    }

    pub(super) fn needs_binding(&self) -> bool {
        matches!(self.state, State::AwaitBinding { .. })
    }

    pub(super) fn is_agreed(&self) -> bool {
        matches!(self.state, State::Agreed(_))
    }

    /// Only a server that has not sent M3 alerts: after M3 the client would parse an alert as a frame.
    pub(super) fn failure_alert(&self) -> FailureAlert {
        match self.role {
            Role::Server if !self.is_agreed() => FailureAlert::MutualAlert,
            Role::Server | Role::Client => FailureAlert::None,
        }
    }

    pub(super) fn key_request<'a>(&self, view: View<'a>) -> Option<KeyRequest<'a>> {
        let (kid, name) = match self.state {
            State::AwaitVerificationKey { .. } => {
                let m2 = ClientProof::parse(view.received).ok()?;
                (m2.kid, Some(m2.name))
            }
            State::AwaitKey => (ClientProof::parse(message::first(view.transmit)).ok()?.kid, None),
            State::AwaitAuthorization(_) => {
                let m2 = ClientProof::parse(message::first(view.transmit)).ok()?;
                (m2.kid, Some(ServerProof::parse(self.current_message(view.received)).ok()?.name))
            }
            _ => return None,
        };
        Some(KeyRequest::mutual(self.role, kid, name))
    }

    /// The received bytes of the current message.
    fn current_message<'a>(&self, received: &'a [u8]) -> &'a [u8] {
        received.get(self.start.into()..).unwrap_or_default()
    }

    pub(super) fn step(
        self,
        input: Input<'_>,
        received: &[u8],
        out: &mut Transmit<'_>,
    ) -> Result<Handshake, Error> {
        let next = match (&self.state, input) {
            (State::AwaitBinding { .. }, Input::Channel(exporter)) => {
                Self { binding: Some(Secret::new(*exporter)), ..self }.begin(out)
            }
            (
                State::AwaitProof { .. } | State::AwaitHello | State::AwaitServerProof { .. },
                Input::Received,
            ) => self.receive(received, out)?,
            (State::AwaitVerificationKey { .. }, Input::Key(answer)) => {
                self.verify(answer, received, out)?
            }
            (State::AwaitKey, Input::Key(answer)) => {
                self.prove(answer.map_err(Error::Refused)?, received, out)
            }
            (State::AwaitAuthorization(_), Input::Key(answer)) => {
                self.authorize(answer.map_err(Error::Refused)?)?
            }
            // Any other input has no effect.
            _ => self,
        };
        Ok(Handshake::Mutual(next))
    }

    /// Handles the header of a message, or the whole message.
    fn receive(self, received: &[u8], out: &mut Transmit<'_>) -> Result<Self, Error> {
        let message = self.current_message(received);
        if let Ok(header) = <[u8; HEADER_LEN]>::try_from(message) {
            let longest = match self.state {
                State::AwaitProof { .. } => message::MAX_M2,
                State::AwaitHello => message::MAX_M1,
                _ => message::MAX_M3,
            };
            let want = self.start + whole_len(header, longest)?;
            return Ok(Self { want, ..self });
        }
        // The suites that a server offers, and those that a client accepts.
        let untagged = self.untagged;
        let allowed = |suite| suite == TAGGED || (suite == UNTAGGED && untagged);
        match self.state {
            State::AwaitProof { dummy } => {
                let m2 = ClientProof::parse(message)?;
                if m2.version != VERSION || !allowed(m2.suite) {
                    return Err(Error::Incompatible);
                }
                Ok(Self { suite: m2.suite, state: State::AwaitVerificationKey { dummy }, ..self })
            }
            State::AwaitHello => {
                let m1 = ServerHello::parse(message)?;
                if !(m1.versions.0..=m1.versions.1).contains(&VERSION) {
                    return Err(Error::Incompatible);
                }
                // In the server's order of preference. The list is covered by both proofs, so an
                // attacker who removes a suite fails the handshake.
                let mut suites = m1.suites.iter().copied();
                let suite = suites.find(|&suite| allowed(suite)).ok_or(Error::Incompatible)?;
                message::choose(out.draft(), suite);
                Ok(Self { suite, state: State::AwaitKey, ..self })
            }
            State::AwaitServerProof { key, fingerprint } => {
                let m3 = ServerProof::parse(message)?;
                let (unproved, mac) = message::split_proof(message);
                let transcript = Transcript::new(self.binding.as_deref())
                    .absorb(&received[..self.start.into()])
                    .absorb(out.queued())
                    .absorb(unproved);
                let key = key.absorb();
                let proof = key.proof(Role::Server, &transcript.hash());
                if !bool::from(key_schedule::verify(&proof, m3.mac)) {
                    return Err(Error::WrongKey);
                }
                // Our own name or process id means that an attacker connected this process to itself.
                let me = ClientProof::parse(out.queued())?;
                if me.expected.is_empty() {
                    if m3.name == me.name {
                        return Err(Error::Identity(IdentityError::SameName));
                    }
                } else if m3.name != me.expected {
                    return Err(Error::Identity(IdentityError::UnexpectedServer));
                }
                if m3.process_id == me.process_id {
                    return Err(Error::Identity(IdentityError::SameProcess));
                }
                let agreed = SessionSecrets::new(&key, &transcript.absorb(mac), fingerprint);
                Ok(Self { state: State::AwaitAuthorization(agreed), ..self })
            }
            _ => Ok(self),
        }
    }

    /// Client: answers M1 with M2.
    fn prove(self, keys: Candidates<'_>, received: &[u8], out: &mut Transmit<'_>) -> Self {
        let Some(prk) = keys.first.prk() else { return self };
        let m2 = message::first_mut(out.draft());
        let key = prk.import(self.suite, ClientProof::parse(m2).map_or("", |m2| m2.kid));
        let (unproved, _) = message::split_proof(m2);
        let transcript = Transcript::new(self.binding.as_deref()).absorb(received).absorb(unproved);
        let proof = key.absorb().proof(Role::Client, &transcript.hash());
        let len = m2.len();
        m2[len - MAC_LEN..].copy_from_slice(proof.as_slice());
        out.queue(len);
        let start = received.len() as u16;
        let state = State::AwaitServerProof { key, fingerprint: prk.fingerprint() };
        Self { start, want: start + HEADER_LEN as u16, state, ..self }
    }

    /// Client: completes the handshake if the key may be used with this server. Decided for the key
    /// that the client proved itself with, which need not be the first candidate any more.
    fn authorize(self, keys: Candidates<'_>) -> Result<Self, Error> {
        let State::AwaitAuthorization(agreed) = self.state else { return Ok(self) };
        let used = [Some(keys.first), keys.second].into_iter().flatten().find(|candidate| {
            candidate.prk().is_some_and(|prk| prk.fingerprint() == agreed.fingerprint)
        });
        match used {
            Some(used) if used.allowed => Ok(Self { state: State::Agreed(agreed), ..self }),
            Some(_) => Err(Error::Identity(IdentityError::NameNotAllowed)),
            None => Err(Error::Refused(KeyRejection::Unknown)),
        }
    }

    /// Server: answers M2 with M3, or fails. The work is the same for every answer, so that time does
    /// not reveal whether the key id exists.
    fn verify(
        self,
        answer: Result<Candidates<'_>, KeyRejection>,
        received: &[u8],
        out: &mut Transmit<'_>,
    ) -> Result<Self, Error> {
        let State::AwaitVerificationKey { dummy } = &self.state else { return Ok(self) };
        let m2 = ClientProof::parse(received)?;
        let (unproved, mac) = message::split_proof(received);
        let transcript =
            Transcript::new(self.binding.as_deref()).absorb(out.queued()).absorb(unproved);

        let th = transcript.hash();

        // Always two candidates. A match with the dummy key is no match.
        let first = answer.as_ref().ok().map(|keys| keys.first);
        let second = answer.as_ref().ok().and_then(|keys| keys.second);
        let attempt = |key: Option<&Prk>| {
            let real = Choice::from(u8::from(key.is_some()));
            let key = key.unwrap_or(dummy);
            let imported = key.import(self.suite, m2.kid);
            let right = key_schedule::verify(&imported.absorb().proof(Role::Client, &th), m2.mac);
            (imported, right & real)
        };
        let (first_key, first_right) = attempt(first.and_then(Candidate::prk));
        let (second_key, second_right) = attempt(second.and_then(Candidate::prk));
        let key = Imported::select(&second_key, &first_key, first_right);
        let right = first_right | second_right;

        let chosen = [second, first][usize::from(first_right.unwrap_u8())];
        let fingerprint = chosen.and_then(Candidate::prk).map(Prk::fingerprint);
        answer.map_err(Error::Refused)?;
        let (Some(chosen), Some(fingerprint), true) = (chosen, fingerprint, right.into()) else {
            return Err(Error::WrongKey);
        };
        // Only after the proof, so that a peer without the key learns nothing about names. Our own
        // name or process id means that an attacker connected this process to itself.
        let me = ServerProof::parse(message::first(out.draft()))?;
        if !m2.expected.is_empty() && m2.expected != me.name {
            return Err(Error::Identity(IdentityError::WrongServer));
        }
        if m2.name == me.name {
            return Err(Error::Identity(IdentityError::SameName));
        }
        if !chosen.allowed {
            return Err(Error::Identity(IdentityError::NameNotAllowed));
        }
        if m2.process_id == me.process_id {
            return Err(Error::Identity(IdentityError::SameProcess));
        }

        let m3 = message::first_mut(out.draft());
        let transcript = transcript.absorb(mac).absorb(message::split_proof(m3).0);
        let key = key.absorb();
        let proof = key.proof(Role::Server, &transcript.hash());
        let len = m3.len();
        m3[len - MAC_LEN..].copy_from_slice(proof.as_slice());
        out.queue(len);
        let agreed = SessionSecrets::new(&key, &transcript.absorb(proof.as_slice()), fingerprint);
        Ok(Self { state: State::Agreed(agreed), ..self })
    }

    /// The result, once the handshake is complete.
    pub(super) fn output(&self, view: View<'_>) -> Option<HandshakeOutput> {
        let State::Agreed(agreed) = &self.state else { return None };
        let (m2, m3) = match self.role {
            Role::Client => (message::first(view.transmit), self.current_message(view.received)),
            Role::Server => {
                let m1 = message::first(view.transmit).len();
                (view.received, message::first(&view.transmit[m1..]))
            }
        };
        let (client, server) = (ClientProof::parse(m2).ok()?, ServerProof::parse(m3).ok()?);
        let (name, max_frame) = match self.role {
            Role::Client => (server.name, server.max_frame),
            Role::Server => (client.name, client.max_frame),
        };
        let SessionKeys { send, receive, exporter } = agreed.master.derive(self.role);
        let peer = PeerInfo {
            authenticated: true,
            name: Name::new(name).ok(),
            key_id: KeyId::new(client.kid).ok(),
            fingerprint: Some(agreed.fingerprint),
            session: Some((agreed.session_id, exporter)),
        };
        Some(HandshakeOutput {
            peer,
            sealing: Some(SealingParams { send, receive, tagged: self.suite == TAGGED, max_frame }),
            heartbeat_ms: server.heartbeat_ms,
        })
    }
}

impl core::fmt::Debug for Mutual {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let state = match self.state {
            State::AwaitBinding { .. } => "AwaitBinding",
            State::AwaitProof { .. } => "AwaitProof",
            State::AwaitVerificationKey { .. } => "AwaitVerificationKey",
            State::AwaitHello => "AwaitHello",
            State::AwaitKey => "AwaitKey",
            State::AwaitServerProof { .. } => "AwaitServerProof",
            State::AwaitAuthorization(_) => "AwaitAuthorization",
            State::Agreed(_) => "Agreed",
        };
        f.debug_struct("Mutual").field("role", &self.role).field("state", &state).finish()
    }
}

#[cfg(test)]
mod tests;
