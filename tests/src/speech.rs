use std::time::Duration;

use countersign::{
    Candidates, CloseReason, Config, Digest, Event, Framing, Instant, Key, KeyRejection,
    KeyRequest, Multiprocessing, Mutual, Name, Nonce, ProcessId, Protocol, Remaining, Role, Scheme,
    Session,
};

use crate::{Pools, Region, python};

/// The key of both ends.
pub const SECRET: &[u8] = b"the key of both ends";
/// A key that no other end has.
pub const ANOTHER_SECRET: &[u8] = b"another key than that";
/// What ties ends to their TLS connection where they are in one.
pub const EXPORTER: [u8; 32] = [0xeb; 32];
/// The key id that mutual clients use.
pub const KID: &str = "k1";

/// The framings that schemes can have in place of their own.
pub const FRAMINGS: [Framing; 3] = [Framing::Raw, Framing::U32, Framing::Multiprocessing];

/// What two ends speak: a scheme, what goes with it, and a framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// The scheme `none`.
    None(Framing),
    /// The scheme `challenge`.
    Challenge(Digest, Framing),
    /// The scheme `multiprocessing`.
    Multiprocessing(Policy, Framing),
    /// The scheme `mutual`.
    Mutual(Cover),
}

/// Which proofs ends of `multiprocessing` give and take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Over this digest, and no others.
    Strict(Digest),
    /// Whatever Python would: what the server asks for, and the client.
    Compatible(Digest, Digest),
}

impl Policy {
    /// That of an end of `role`.
    #[must_use]
    pub const fn of(self, role: Role) -> Multiprocessing {
        match (self, role) {
            (Self::Strict(digest), _) => Multiprocessing::new(digest),
            (Self::Compatible(asked, _), Role::Server)
            | (Self::Compatible(_, asked), Role::Client) => {
                Multiprocessing::new(asked).compatible()
            }
        }
    }
}

/// What an end has to answer key requests with.
pub type Ring = Result<Vec<Key>, KeyRejection>;

/// What `ring` answers: the key that was made for what is asked, whatever id it is asked for by.
///
/// # Errors
/// That there is none.
pub fn answer<'a>(
    ring: &'a Ring,
    request: &KeyRequest<'_>,
) -> Result<Candidates<'a>, KeyRejection> {
    let keys = ring.as_ref().map_err(|&why| why)?;
    let key = keys.iter().find(|key| key.purpose() == request.purpose);
    key.map(Candidates::one).ok_or(KeyRejection::Unknown)
}

/// What protects the frames of `mutual`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cover {
    /// Their tags.
    Tags,
    /// Their tags, in a session that is bound to a TLS connection.
    Bound,
    /// That TLS connection alone.
    Untagged,
}

impl Cover {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Tags, Self::Bound, Self::Untagged];
}

/// The other role.
#[must_use]
pub const fn other(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

/// What the end of `role` calls itself, where ends have names.
#[must_use]
pub const fn name(role: Role) -> &'static str {
    match role {
        Role::Client => "the-client",
        Role::Server => "the-server",
    }
}

impl Speech {
    /// How bytes become messages.
    #[must_use]
    pub const fn framing(self) -> Framing {
        match self {
            Self::None(framing)
            | Self::Challenge(_, framing)
            | Self::Multiprocessing(_, framing) => framing,
            Self::Mutual(_) => Framing::Sealed,
        }
    }

    /// Whether it is the scheme `mutual`.
    #[must_use]
    pub const fn is_mutual(self) -> bool {
        matches!(self, Self::Mutual(_))
    }

    /// Whether both ends are inside TLS.
    #[must_use]
    pub const fn is_bound(self) -> bool {
        matches!(self, Self::Mutual(Cover::Bound | Cover::Untagged))
    }

    /// Whether frames say what only a holder of the key can say.
    #[must_use]
    pub const fn is_tagged(self) -> bool {
        matches!(self, Self::Mutual(Cover::Tags | Cover::Bound))
    }

    /// Whether the peer of an end of `role` has to prove itself.
    #[must_use]
    pub const fn proves_to(self, role: Role) -> bool {
        match self {
            Self::None(_) => false,
            Self::Challenge(..) => matches!(role, Role::Server),
            Self::Multiprocessing(..) | Self::Mutual(_) => true,
        }
    }

    /// What an end of `role` is configured with; `heartbeat` where there are any.
    #[must_use]
    pub fn config(self, role: Role, heartbeat: Duration) -> Config {
        let (cover, framing) = match self {
            Self::None(framing) => return Config::new(Scheme::None).with_framing(framing),
            Self::Challenge(digest, framing) => {
                return Config::new(Scheme::Challenge { digest }).with_framing(framing);
            }
            Self::Multiprocessing(policy, framing) => {
                let scheme = Scheme::Multiprocessing(policy.of(role));
                return Config::new(scheme).with_framing(framing);
            }
            Self::Mutual(cover) => (cover, Framing::Sealed),
        };
        let instance = ProcessId::from_bytes(&[role as u8; ProcessId::LEN]);
        let mutual = Mutual::new(Name::new(name(role)).unwrap(), instance)
            .with_key_id(KID.parse().unwrap())
            .with_heartbeat(heartbeat);
        let mutual = match cover {
            Cover::Tags => mutual,
            Cover::Bound => mutual.with_channel_binding(),
            Cover::Untagged => mutual.with_channel_binding().without_tags(),
        };
        Config::new(Scheme::Mutual(mutual)).with_framing(framing)
    }

    /// Keys for it, made of `secret`, where it has any.
    ///
    /// # Errors
    /// That there are none.
    pub fn ring(self, secret: &[u8]) -> Ring {
        let challenge = |digest| Key::challenge(digest, secret).unwrap();
        match self {
            Self::None(_) => Err(KeyRejection::Unknown),
            Self::Challenge(digest, _) => Ok(vec![challenge(digest)]),
            Self::Multiprocessing(policy, _) => {
                Ok(policy.of(Role::Server).digests().map(challenge).collect())
            }
            Self::Mutual(_) => Ok(vec![Key::mutual(secret).unwrap()]),
        }
    }

    /// Whether an end of `role` is to take whoever says what it `heard` for who says `honest`.
    #[must_use]
    pub fn proves(self, role: Role, honest: &[u8], heard: &[u8]) -> bool {
        let Self::Multiprocessing(policy, _) = self else { return heard.starts_with(honest) };
        let config = self.config(role, Honest::HEARTBEAT);
        let end = self.begin(role, &config, &Pools::default(), (64, 64));
        python::proves(policy.of(role), role, end.challenge().unwrap(), (honest, heard))
    }

    /// What an end of `role` says unasked.
    #[must_use]
    pub fn greeting(self, role: Role) -> Vec<u8> {
        let config = self.config(role, Honest::HEARTBEAT);
        let mut end = self.end(role, &config, &Pools::default(), (config.receive_len(), 64));
        drain(&mut end, Instant::EPOCH)
    }

    /// The bytes that every end of `role` draws as its nonce: the same bytes in give the same out.
    #[must_use]
    pub const fn nonce(role: Role) -> [u8; Nonce::LEN] {
        [0x6e + role as u8; Nonce::LEN]
    }

    /// An end of `role` at its beginning.
    #[must_use]
    pub fn begin(
        self,
        role: Role,
        config: &Config,
        pools: &Pools,
        (receive, send): (usize, usize),
    ) -> Session<Region> {
        let make = match role {
            Role::Client => Session::client,
            Role::Server => Session::server,
        };
        let nonce = Nonce::from_bytes(Self::nonce(role));
        make(config, nonce, pools.buffers(receive, send), Instant::EPOCH).unwrap()
    }

    /// The same, bound if it is to be.
    #[must_use]
    pub fn end(
        self,
        role: Role,
        config: &Config,
        pools: &Pools,
        sizes: (usize, usize),
    ) -> Session<Region> {
        let mut session = self.begin(role, config, pools, sizes);
        if self.is_bound() {
            session.bind_channel(&EXPORTER, Instant::EPOCH);
        }
        session
    }
}

/// What an honest peer says once the handshake is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say {
    /// A message.
    Message(Vec<u8>),
    /// The first part of one, where there are such.
    Chunk(Vec<u8>),
    /// That it is there.
    Ping,
    /// That this was all.
    Finish,
    /// That it ends the session.
    Close(CloseReason),
}

/// The honest peer of a session under test: it holds the key, and says what the test wants.
#[derive(Debug)]
pub struct Honest {
    /// Its own session.
    pub session: Session<Region>,
    speech: Speech,
    ring: Ring,
    now: Instant,
    said: Vec<u8>,
}

/// All that an honest peer sends.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How many of them are the handshake's.
    pub handshake: usize,
    /// What is said in them, joined.
    pub said: Vec<u8>,
}

impl Honest {
    /// How often it gives a sign of life, if it is a server; a client does as it is told.
    pub const HEARTBEAT: Duration = Duration::from_secs(1);

    /// At its beginning.
    #[must_use]
    pub fn new(speech: Speech, role: Role) -> Self {
        let config = speech
            .config(role, Self::HEARTBEAT)
            .with_handshake_timeout(Duration::MAX)
            .with_stall_timeout(Duration::MAX);
        let session = speech.end(role, &config, &Pools::default(), (4096, 4096));
        Self { session, speech, ring: speech.ring(SECRET), now: Instant::EPOCH, said: Vec::new() }
    }

    /// The peer of `tested` once both have done their handshake; what it said until then.
    pub fn met(speech: Speech, tested: &mut Session<Region>) -> (Self, Vec<u8>) {
        let mut peer = Self::new(speech, other(tested.role()));
        let mut said = Vec::new();
        for _ in 0..9 {
            let bytes = peer.sent();
            hear(tested, &peer.ring, &bytes, Instant::EPOCH);
            said.extend(bytes);
            peer.hear(&drain(tested, Instant::EPOCH));
            if peer.session.peer().is_some() && tested.peer().is_some() {
                return (peer, said);
            }
        }
        panic!("no handshake: {peer:?} {tested:?}");
    }

    /// What `tested`, which consumes all and answers nothing, hears when each of `says` is said.
    #[must_use]
    pub fn stream(speech: Speech, mut tested: Session<Region>, says: &[Say]) -> Stream {
        let (mut peer, mut bytes) = Self::met(speech, &mut tested);
        let handshake = bytes.len();
        for say in says {
            let sent = peer.say(say);
            hear(&mut tested, &peer.ring, &sent, Instant::EPOCH);
            peer.hear(&drain(&mut tested, Instant::EPOCH));
            bytes.extend(sent);
        }
        Stream { bytes, handshake, said: peer.said }
    }

    /// Takes `bytes` in, all of them; returns what happened, and the parts.
    pub fn hear(&mut self, bytes: &[u8]) -> Vec<(Event, Vec<u8>)> {
        hear(&mut self.session, &self.ring, bytes, self.now)
    }

    /// All that waits to be sent.
    pub fn sent(&mut self) -> Vec<u8> {
        drain(&mut self.session, self.now)
    }

    /// The bytes of `say`; none where it cannot be said.
    pub fn say(&mut self, say: &Say) -> Vec<u8> {
        let mutual = self.speech.is_mutual();
        match say {
            Say::Message(message) => return self.message(message),
            Say::Chunk(chunk) if mutual => {
                let mut out = self.session.split().1;
                let chunk = &chunk[..chunk.len().min(out.max_chunk())];
                // Refused behind the end.
                if out.send_chunk(chunk, Remaining::Unknown).is_ok() {
                    self.said.extend_from_slice(chunk);
                }
            }
            Say::Ping if mutual => {
                self.now = self.now.saturating_add(Self::HEARTBEAT);
                self.session.handle_timeout(self.now);
            }
            Say::Finish if mutual => self.session.finish(self.now),
            Say::Close(why) if mutual => self.session.abort(*why, self.now),
            _ => {}
        }
        self.sent()
    }

    fn message(&mut self, message: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut left = message;
        loop {
            let mut out = self.session.split().1;
            let (chunk, more) = left.split_at(left.len().min(out.max_chunk()));
            let remaining =
                if more.is_empty() { Remaining::End } else { Remaining::Bytes(more.len() as u64) };
            if out.send_chunk(chunk, remaining).is_err() {
                return bytes;
            }
            self.said.extend_from_slice(chunk);
            bytes.extend(self.sent());
            if remaining == Remaining::End {
                return bytes;
            }
            left = more;
        }
    }
}

/// Has `session` hear `bytes`, all of them or as many as it wants, and consume every part. Returns
/// what happened, and the parts.
pub fn hear<M: Protocol + ?Sized>(
    session: &mut M,
    ring: &Ring,
    mut bytes: &[u8],
    now: Instant,
) -> Vec<(Event, Vec<u8>)> {
    let mut heard = Vec::new();
    loop {
        while let Ok(Some(event)) = session.poll_event(now) {
            if event == Event::KeyNeeded {
                let answer = answer(ring, &session.key_request().unwrap());
                session.provide_key(answer, now).unwrap();
                continue;
            }
            heard.push((event, session.split().0.to_vec()));
            session.consume(now);
        }
        let space = session.recv_space();
        let n = space.len().min(bytes.len());
        if n == 0 {
            session.handle_received(0, now);
            return heard;
        }
        space[..n].copy_from_slice(&bytes[..n]);
        session.handle_received(n, now);
        bytes = &bytes[n..];
    }
}

/// All that `session` has to transmit.
pub fn drain<M: Protocol + ?Sized>(session: &mut M, now: Instant) -> Vec<u8> {
    let mut sent = Vec::new();
    loop {
        let bytes = session.poll_transmit(now).to_vec();
        if bytes.is_empty() {
            return sent;
        }
        session.handle_transmitted(bytes.len(), now);
        sent.extend(bytes);
    }
}
