//! Ends, and the link between two.

use std::task::Waker;
use std::time::Duration;

use countersign::{
    Candidates, Config, Digest, Error, Event, Framing, Instant, Key, KeyRejection, Multiprocessing,
    Mutual, Outbox, ProcessId, Remaining, Role, Scheme, SendError,
};
use countersign_host::{
    BoxedProtocol, OutstandingChallenges, PoolOptions, Pools, ProtocolFactory, SessionFactory,
};
use countersign_tls::{Credentials, TlsFactory};

use crate::pki::{Ca, NAME, credentials};

pub(crate) const SECRET: &[u8] = b"a key that is long enough for anyone";

pub(crate) fn mutual(role: Role) -> Mutual {
    let (name, process) = match role {
        Role::Client => ("client", 1),
        Role::Server => ("server", 2),
    };
    Mutual::new(name.parse().unwrap(), ProcessId::from_bytes(&[process; ProcessId::LEN]))
        .with_heartbeat(Duration::ZERO)
}

/// What there is to be inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    None,
    Challenge,
    Multiprocessing,
    Mutual,
    /// Without tags of its own.
    Untagged,
    /// Nothing, not even frames.
    Raw,
}

impl Inside {
    pub(crate) const ALL: [Self; 6] = [
        Self::None,
        Self::Challenge,
        Self::Multiprocessing,
        Self::Mutual,
        Self::Untagged,
        Self::Raw,
    ];

    pub(crate) fn sessions(self, role: Role) -> SessionFactory {
        let scheme = match self {
            Self::None | Self::Raw => Scheme::None,
            Self::Challenge => Scheme::Challenge { digest: Digest::Sha256 },
            Self::Multiprocessing => Scheme::Multiprocessing(Multiprocessing::new(Digest::Sha256)),
            Self::Mutual => Scheme::Mutual(mutual(role)),
            Self::Untagged => Scheme::Mutual(mutual(role).with_channel_binding().without_tags()),
        };
        let pools = Pools::new(&PoolOptions::default());
        let mut config = Config::new(scheme);
        if self == Self::Raw {
            config = config.with_framing(Framing::Raw);
        }
        SessionFactory::new(config, pools).with_outstanding(OutstandingChallenges::new())
    }

    pub(crate) fn client(self, credentials: &Credentials, name: &str) -> BoxedProtocol {
        let sessions = self.sessions(Role::Client);
        let tls = TlsFactory::client(sessions, credentials, name).unwrap();
        tls.client(Waker::noop(), Instant::EPOCH).unwrap()
    }

    pub(crate) fn server(self, credentials: &Credentials) -> BoxedProtocol {
        let tls = TlsFactory::server(self.sessions(Role::Server), credentials).unwrap();
        tls.server(Waker::noop(), Instant::EPOCH).unwrap()
    }
}

/// A machine, and what became of it.
pub(crate) struct End {
    pub(crate) machine: BoxedProtocol,
    pub(crate) now: Instant,
    pub(crate) established: bool,
    pub(crate) heard: Vec<u8>,
    pub(crate) finished: bool,
    pub(crate) over: Option<Result<(), Error>>,
    /// It sends back what it hears, in capitals, and finishes when the peer does.
    pub(crate) answers: bool,
    /// It does not look at what has come, and this is what follows the part at hand.
    pub(crate) holds: bool,
    held: Option<Remaining>,
    pub(crate) secret: &'static [u8],
}

fn key(machine: &BoxedProtocol, secret: &[u8]) -> Result<Key, KeyRejection> {
    let request = machine.key_request().ok_or(KeyRejection::Unknown)?;
    Ok(Key::new(request.purpose, secret).unwrap())
}

impl End {
    pub(crate) fn new(machine: BoxedProtocol) -> Self {
        Self {
            machine,
            now: Instant::EPOCH,
            established: false,
            heard: Vec::new(),
            finished: false,
            over: None,
            answers: false,
            holds: false,
            held: None,
            secret: SECRET,
        }
    }

    pub(crate) fn answering(machine: BoxedProtocol) -> Self {
        Self { answers: true, ..Self::new(machine) }
    }

    /// Deals with all events that there are.
    pub(crate) fn poll(&mut self) {
        while self.over.is_none() {
            match self.machine.poll_event(self.now) {
                Ok(None) => break,
                Ok(Some(event)) => self.event(event),
                Err(error) => self.over = Some(Err(error)),
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::KeyNeeded => {
                let key = key(&self.machine, self.secret);
                let answer = key.as_ref().map(Candidates::one).map_err(|&why| why);
                self.machine.provide_key(answer, self.now).unwrap();
            }
            Event::Established => self.established = true,
            Event::Chunk { remaining, .. } => {
                self.held = Some(remaining);
                self.go_on();
            }
            Event::Writable => self.go_on(),
            Event::PeerFinished => {
                self.finished = true;
                if self.answers {
                    self.machine.finish(self.now);
                }
            }
            Event::Closed => self.over = Some(Ok(())),
            _ => {}
        }
    }

    /// Deals with the part at hand, if it looks at it and there is room for the answer.
    pub(crate) fn go_on(&mut self) {
        let Some(remaining) = self.held.filter(|_| !self.holds) else { return };
        let (chunk, mut out) = self.machine.split();
        if self.answers {
            match out.send_chunk(&chunk.to_ascii_uppercase(), remaining) {
                Err(SendError::Full) => return,
                sent => sent.unwrap(),
            }
        }
        self.held = None;
        self.heard.extend_from_slice(chunk);
        self.machine.consume(self.now);
    }

    pub(crate) fn out(&mut self) -> Outbox<'_> {
        self.machine.split().1
    }

    /// At most `limit` bytes that it has to say.
    pub(crate) fn said(&mut self, limit: usize) -> Vec<u8> {
        let bytes = self.machine.poll_transmit(self.now);
        let bytes = bytes[..bytes.len().min(limit)].to_vec();
        self.machine.handle_transmitted(bytes.len(), self.now);
        bytes
    }

    /// Has it read the front of `bytes`; how many of them.
    pub(crate) fn hears(&mut self, bytes: &[u8]) -> usize {
        let space = self.machine.recv_space();
        if space.is_empty() {
            return 0;
        }
        let n = space.len().min(bytes.len());
        space[..n].copy_from_slice(&bytes[..n]);
        self.machine.handle_received(n, self.now);
        n
    }

    /// Has it read all of `bytes`, or as many as it takes.
    pub(crate) fn hears_all(&mut self, mut bytes: &[u8]) {
        self.poll();
        while !bytes.is_empty() {
            match self.hears(bytes) {
                0 => return,
                n => bytes = &bytes[n..],
            }
            self.poll();
        }
    }

    pub(crate) fn ends(&mut self) {
        self.machine.handle_eof(self.now);
    }

    pub(crate) fn at(&mut self, seconds: u64) {
        self.now = Instant::from_micros(seconds * 1_000_000);
        self.machine.handle_timeout(self.now);
        self.poll();
    }

    pub(crate) fn error(&self) -> Error {
        self.over.unwrap().unwrap_err()
    }
}

/// Two ends, and the bytes on their way between them.
pub(crate) struct Link {
    pub(crate) client: End,
    pub(crate) server: End,
    up: Vec<u8>,
    down: Vec<u8>,
    shut: [bool; 2],
    /// The most that is read or written at once, in bytes.
    pub(crate) chunk: usize,
}

impl Link {
    pub(crate) fn new(client: BoxedProtocol, server: BoxedProtocol) -> Self {
        Self {
            client: End::new(client),
            server: End::answering(server),
            up: Vec::new(),
            down: Vec::new(),
            shut: [false; 2],
            chunk: usize::MAX,
        }
    }

    fn step(
        from: &mut End,
        to: &mut End,
        wire: &mut Vec<u8>,
        shut: &mut bool,
        chunk: usize,
    ) -> bool {
        from.poll();
        let said = from.said(chunk);
        let mut moved = !said.is_empty();
        wire.extend(said);
        let n = to.hears(&wire[..wire.len().min(chunk)]);
        wire.drain(..n);
        moved |= n > 0;
        to.poll();
        if from.machine.wants_shutdown() && !*shut {
            *shut = true;
            moved = true;
        }
        if *shut && wire.is_empty() && to.machine.wants_read() {
            to.ends();
            to.poll();
        }
        moved
    }

    /// Until nothing moves any more.
    pub(crate) fn run(&mut self) {
        loop {
            let Self { client, server, up, down, shut, chunk } = self;
            let [up_shut, down_shut] = shut;
            let moved = Self::step(client, server, up, up_shut, *chunk)
                | Self::step(server, client, down, down_shut, *chunk);
            if !moved {
                return;
            }
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.client.established && self.server.established
    }
}

/// A client and a server that trust one CA and have certificates of it.
pub(crate) fn link(inside: Inside) -> Link {
    let ca = Ca::new("a CA");
    let client = credentials(Some(&ca.sign("client")), Some(&ca.pem));
    let server = credentials(Some(&ca.sign(NAME)), Some(&ca.pem));
    Link::new(inside.client(&client, NAME), inside.server(&server))
}
