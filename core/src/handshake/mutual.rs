//! The scheme `mutual` (docs/PROTOCOL.md, "mutual"): SKID3 with names, roles and a key schedule.
//!
//! ```text
//! server                                          client
//! Bind                                            Bind             inside TLS: until bind_channel
//! ServerHello ──── M1: versions, suites, nonce ───────▶ AwaitHello
//!                                                 AwaitKey            KeyNeeded
//! Verify ◀── M2: kid, names, nonce, proof ─────── AwaitServerProof
//! KeyNeeded
//! Agreed ─── M3: name, limits, proof ───────────▶ AwaitAuthorization            KeyNeeded: with this name?
//!                                                 Agreed
//! ```
//! What each end will say is written to the handshake's buffer at the start, with room for what is
//! not known yet, and looked up there; what it hears is kept there too, to be hashed.

mod message;

use subtle::Choice;

use super::buffer::{Transmit, View};
use super::{FailureAlert, Handshake, HandshakeOutput, Input, PeerInfo};
use crate::config;
use crate::crypto::key_schedule::{
    self, Absorbed, Derived, Fingerprint, Imported, Master, Prk, Secret, Transcript,
};
use crate::crypto::keys::{Candidate, Candidates, Purpose};
use crate::crypto::nonce::Nonce;
use crate::error::{ConfigError, Error, IdentityError, KeyRejection};
use crate::framing::SealingParams;
use crate::key_request::KeyRequest;
use crate::name::{KeyId, Name};
use crate::peer::Role;
use message::{ClientProof, HEADER_LEN, MAC_LEN, ServerHello, ServerProof, VERSION, whole_len};

/// Every frame carries a tag.
const TAGGED: u8 = 0x01;
/// None does: TLS protects them.
const UNTAGGED: u8 = 0x00;

/// The most that is received, in bytes: by a server M2, by a client M1 and M3.
pub(super) const RECEIVE_LEN: usize = max(message::MAX_M2, message::MAX_M1 + message::MAX_M3);
/// The most that is transmitted.
pub(super) const TRANSMIT_LEN: usize = RECEIVE_LEN;

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// What a server says in place of its next message for this reason.
pub(super) const fn alert(error: Error) -> &'static [u8] {
    match error {
        Error::Incompatible => &const { message::alert(2) },
        Error::Aborted(_) => BUSY,
        Error::Malformed | Error::Truncated(_) => &const { message::alert(4) },
        Error::TimedOut(_) => &const { message::alert(5) },
        // Whatever the reason, a failed authentication has one face.
        _ => &const { message::alert(1) },
    }
}

/// Whether `bytes` begin as M1 does: what comes behind its N.
pub(super) fn is_greeting(bytes: &[u8]) -> bool {
    bytes.get(HEADER_LEN..).is_some_and(message::is_hello)
}

/// What a server says to whom it has no room for.
pub(super) const BUSY: &[u8] = &message::alert(3);

pub(crate) struct Mutual {
    role: Role,
    /// Suite [`UNTAGGED`] is allowed too.
    untagged: bool,
    /// What was chosen, once it was.
    suite: u8,
    /// Where the message that is awaited begins in what was received.
    start: u16,
    /// How many bytes to receive before the next step.
    want: u16,
    /// What ties us to the TLS connection that we are in, if we are in one.
    binding: Option<Secret>,
    state: State,
}

enum State {
    /// The channel binding is not known.
    AwaitBinding { dummy: Prk },
    /// Server: M1 is out, M2 is not in.
    AwaitProof { dummy: Prk },
    /// Server: M2 is in; the keys will tell whether it is right.
    AwaitVerificationKey { dummy: Prk },
    /// Client: M1 is not in.
    AwaitHello,
    /// Client: M1 is in; the key will answer it.
    AwaitKey,
    /// Client: M2 is out, M3 is not in.
    AwaitServerProof { key: Imported, fingerprint: Fingerprint },
    /// Client: M3 is right; whoever holds the key will tell whether it is for this server.
    AwaitAuthorization(Agreed),
    /// It is over.
    Agreed(Agreed),
}

/// What both ends have now.
pub(crate) struct Agreed {
    master: Master,
    session_id: [u8; 16],
    fingerprint: Fingerprint,
}

impl Agreed {
    fn new(key: &Absorbed, transcript: &Transcript, fingerprint: Fingerprint) -> Self {
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

    /// Behind M3 an alert would be a bad frame.
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
                (m2.kid, Some(ServerProof::parse(self.awaited(view.received)).ok()?.name))
            }
            _ => return None,
        };
        Some(KeyRequest::mutual(self.role, kid, name))
    }

    /// The message that was awaited last.
    fn awaited<'a>(&self, received: &'a [u8]) -> &'a [u8] {
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
                self.admit(answer.map_err(Error::Refused)?)?
            }
            // An input that was not asked for changes nothing.
            _ => self,
        };
        Ok(Handshake::Mutual(next))
    }

    /// A header has arrived, or the message behind it.
    fn receive(self, received: &[u8], out: &mut Transmit<'_>) -> Result<Self, Error> {
        let message = self.awaited(received);
        if let Ok(header) = <[u8; HEADER_LEN]>::try_from(message) {
            let longest = match self.state {
                State::AwaitProof { .. } => message::MAX_M2,
                State::AwaitHello => message::MAX_M1,
                _ => message::MAX_M3,
            };
            let want = self.start + whole_len(header, longest)?;
            return Ok(Self { want, ..self });
        }
        // What a server offers in M1, and what a client takes of an offer.
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
                let agreed = Agreed::new(&key, &transcript.absorb(mac), fingerprint);
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

    /// Client: the holder of the key has been told the server's name. What it says of the key that
    /// we proved ourselves with is what counts, whichever is the first by now.
    fn admit(self, keys: Candidates<'_>) -> Result<Self, Error> {
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

    /// Server: answers M2 with M3, or not. The same work is done whatever the keys.
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

        // Two candidates always; a match with one that stands in for a key is none.
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
        let agreed = Agreed::new(&key, &transcript.absorb(proof.as_slice()), fingerprint);
        Ok(Self { state: State::Agreed(agreed), ..self })
    }

    /// What came of it, once it is over.
    pub(super) fn output(&self, view: View<'_>) -> Option<HandshakeOutput> {
        let State::Agreed(agreed) = &self.state else { return None };
        let (m2, m3) = match self.role {
            Role::Client => (message::first(view.transmit), self.awaited(view.received)),
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
        let Derived { send, receive, exporter } = agreed.master.derive(self.role);
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
