//! Ends that are driven by hand: an attacker is between any two.

use std::time::Duration;

use countersign::{
    Buffers, Candidate, Candidates, Config, ConfigError, Error, Event, Instant, Key, KeyRejection,
    Mutual, Nonce, ProcessId, Protocol, Remaining, Role, Scheme, Session,
};

pub(crate) const SECRET: &[u8] = b"a secret of both ends, long enough";
pub(crate) const OTHER: &[u8] = b"another secret, as long as the one";

/// What an end is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who {
    pub(crate) role: Role,
    pub(crate) name: &'static str,
    pub(crate) instance: u8,
    pub(crate) kid: &'static str,
    pub(crate) expected: Option<&'static str>,
    /// What it has for its kid, or why it says that it has nothing.
    pub(crate) secrets: Result<&'static [&'static [u8]], KeyRejection>,
    /// Whether it admits the name that the peer gives.
    pub(crate) admits: bool,
    pub(crate) nonce: u8,
    pub(crate) channel: Option<u8>,
    pub(crate) untagged: bool,
    pub(crate) heartbeat_ms: u64,
    pub(crate) max_frame: u64,
}

impl Who {
    pub(crate) const fn client() -> Self {
        Self {
            role: Role::Client,
            name: "alice",
            instance: b'a',
            kid: "k1",
            expected: None,
            secrets: Ok(&[SECRET]),
            admits: true,
            nonce: 0xa1,
            channel: None,
            untagged: false,
            heartbeat_ms: 15_000,
            max_frame: 1000,
        }
    }

    pub(crate) const fn server() -> Self {
        Self { role: Role::Server, name: "bob", instance: b'b', nonce: 0xb1, ..Self::client() }
    }

    pub(crate) fn config(&self) -> Config {
        let instance = ProcessId::from_bytes(&[self.instance; ProcessId::LEN]);
        let mut mutual = Mutual::new(self.name.parse().unwrap(), instance)
            .with_key_id(self.kid.parse().unwrap())
            .with_heartbeat(Duration::from_millis(self.heartbeat_ms));
        if let Some(name) = self.expected {
            mutual = mutual.with_expected_server(name.parse().unwrap());
        }
        if self.channel.is_some() {
            mutual = mutual.with_channel_binding();
        }
        if self.untagged {
            mutual = mutual.without_tags();
        }
        Config::new(Scheme::Mutual(mutual)).with_max_frame(self.max_frame)
    }

    /// The end, which has said what it says unasked.
    pub(crate) fn start(&self) -> End {
        self.start_with(Nonce::from_bytes([self.nonce; Nonce::LEN]))
    }

    pub(crate) fn start_with(&self, nonce: Nonce) -> End {
        let mut end = End::with_nonce(&self.config(), self.role, nonce, self.keyring());
        if let Some(channel) = self.channel {
            end.session.bind_channel(&[channel; 32], end.now);
        }
        end.turn();
        end
    }

    pub(crate) fn keyring(&self) -> Keyring {
        let key = |secret: &&[u8]| Key::mutual(secret).unwrap();
        Keyring {
            kid: Some(self.kid),
            keys: self.secrets.map(|secrets| secrets.iter().map(key).collect()),
            admits: self.admits,
        }
    }
}

/// What an end has for whoever asks for this kid: of the keys made for what is asked, the first two.
#[derive(Debug)]
pub(crate) struct Keyring {
    pub(crate) kid: Option<&'static str>,
    pub(crate) keys: Result<Vec<Key>, KeyRejection>,
    pub(crate) admits: bool,
}

/// A session at its beginning, if it can be configured so.
pub(crate) fn begin(
    config: &Config,
    role: Role,
    nonce: Nonce,
) -> Result<Session<Vec<u8>>, ConfigError> {
    let buffers = Buffers { handshake: vec![0; 1024], receive: vec![0; 1200], send: vec![0; 1200] };
    match role {
        Role::Client => Session::client(config, nonce, buffers, Instant::EPOCH),
        Role::Server => Session::server(config, nonce, buffers, Instant::EPOCH),
    }
}

/// A session, and what became of it.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) session: Session<Vec<u8>>,
    keyring: Keyring,
    pub(crate) now: Instant,
    /// All that it transmitted and nobody took.
    sent: Vec<u8>,
    /// All that happened, but for messages.
    pub(crate) events: Vec<Event>,
    /// Every part of a message that it took for its peer's.
    pub(crate) heard: Vec<Vec<u8>>,
    pub(crate) error: Option<Error>,
}

impl End {
    pub(crate) fn new(config: &Config, role: Role, nonce: u8, keyring: Keyring) -> Self {
        Self::with_nonce(config, role, Nonce::from_bytes([nonce; Nonce::LEN]), keyring)
    }

    fn with_nonce(config: &Config, role: Role, nonce: Nonce, keyring: Keyring) -> Self {
        let now = Instant::EPOCH;
        let session = begin(config, role, nonce);
        Self {
            session: session.unwrap(),
            keyring,
            now,
            sent: Vec::new(),
            events: Vec::new(),
            heard: Vec::new(),
            error: None,
        }
    }

    /// Gives it bytes; those that it does not want are lost. Returns how many it took.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut remaining = bytes;
        while !remaining.is_empty() && self.session.wants_read() {
            let space = self.session.recv_space();
            let n = space.len().min(remaining.len());
            space[..n].copy_from_slice(&remaining[..n]);
            self.session.handle_received(n, self.now);
            remaining = &remaining[n..];
            self.turn();
        }
        bytes.len() - remaining.len()
    }

    /// Gives it bytes and takes what it sends.
    pub(crate) fn answer(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.feed(bytes);
        self.sent()
    }

    pub(crate) fn eof(&mut self) {
        self.session.handle_eof(self.now);
        self.turn();
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time);
        self.session.handle_timeout(self.now);
        self.turn();
    }

    /// Takes what it has sent.
    pub(crate) fn sent(&mut self) -> Vec<u8> {
        self.turn();
        std::mem::take(&mut self.sent)
    }

    /// What it sends when its application says this.
    pub(crate) fn say(&mut self, message: &[u8]) -> Vec<u8> {
        self.session.split().1.send(message).unwrap();
        self.sent()
    }

    /// What it sends when its application says this and has not ended the message.
    pub(crate) fn say_part(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.session.split().1.send_chunk(chunk, Remaining::More).unwrap();
        self.sent()
    }

    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.session.finish(self.now);
        self.sent()
    }

    pub(crate) fn is_established(&self) -> bool {
        assert_eq!(self.session.peer().is_some(), self.events.contains(&Event::Established));
        self.session.peer().is_some()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.events.contains(&Event::Closed)
    }

    pub(crate) fn session_id(&self) -> [u8; 16] {
        *self.session.peer().unwrap().session_id.unwrap()
    }

    fn turn(&mut self) {
        loop {
            match self.session.poll_event(self.now) {
                Ok(Some(Event::KeyNeeded)) => {
                    self.events.push(Event::KeyNeeded);
                    self.provide_key();
                }
                Ok(Some(Event::Chunk { .. })) => {
                    self.heard.push(self.session.split().0.to_vec());
                    self.session.consume(self.now);
                }
                Ok(Some(event)) => self.events.push(event),
                polled => {
                    self.error = polled.err();
                    let bytes = self.session.poll_transmit(self.now);
                    let n = bytes.len();
                    self.sent.extend_from_slice(bytes);
                    self.session.handle_transmitted(n, self.now);
                    if n == 0 {
                        break;
                    }
                }
            }
        }
    }

    fn provide_key(&mut self) {
        let request = self.session.key_request().unwrap();
        let Keyring { kid, keys, admits } = &self.keyring;
        let answer =
            if request.key_id == *kid { keys.as_deref() } else { Err(&KeyRejection::Unknown) };
        let candidate = |key| match admits {
            true => Candidate::new(key),
            false => Candidate::name_not_allowed(key),
        };
        let answer = answer.map_err(|&why| why).and_then(|keys| {
            let mut fit = keys.iter().filter(|key| key.purpose() == request.purpose).map(candidate);
            let first = fit.next().ok_or(KeyRejection::Unknown)?;
            Ok(Candidates::new(first, fit.next()))
        });
        self.session.provide_key(answer, self.now).unwrap();
    }
}

/// The handshake of two ends, message by message, as far as it gets.
pub(crate) struct Handshake {
    pub(crate) m1: Vec<u8>,
    pub(crate) m2: Vec<u8>,
    /// Or the alert in its place.
    pub(crate) m3: Vec<u8>,
}

pub(crate) fn introduce(client: &mut End, server: &mut End) -> Handshake {
    let m1 = server.sent();
    let m2 = client.answer(&m1);
    let m3 = server.answer(&m2);
    assert_eq!(client.answer(&m3), b"");
    Handshake { m1, m2, m3 }
}

/// Two ends that are established with each other.
pub(crate) fn pair(client: &Who, server: &Who) -> (End, End, Handshake) {
    let (mut client, mut server) = (client.start(), server.start());
    let handshake = introduce(&mut client, &mut server);
    assert!(client.is_established() && server.is_established());
    assert_eq!(client.session_id(), server.session_id());
    (client, server, handshake)
}

pub(crate) fn honest() -> (End, End, Handshake) {
    pair(&Who::client(), &Who::server())
}

/// `bytes` with each of its bits flipped in turn, and which byte it is in.
pub(crate) fn flips(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> + '_ {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        (bit / 8, flipped)
    })
}

/// What a server says that refuses.
pub(crate) const fn alert(code: u8) -> [u8; 6] {
    [0, 0, 0, 2, 0x7f, code]
}
