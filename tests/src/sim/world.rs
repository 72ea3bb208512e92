//! The crowd, its server, and time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use countersign::{Buffers, Config, Framing, Instant, Key, Nonce, Outbox, Peer, Scheme, Session};
use countersign_drive::services::{Echo, Upper};
use countersign_drive::{
    BoxedMachine, Connection, Failure, Flow, Part, PoolOptions, Pools, Service, Turn, Wait,
};

use super::network::{Pipe, Quality, Reset, Socket};
use super::peers::{Script, Stranger};
use super::rng::Rng;

/// The deadline of every handshake.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(5);
/// The deadline of every stall.
pub(crate) const STALL: Duration = Duration::from_secs(30);
/// Enough steps for every run that gets anywhere.
const STEPS: usize = 2_000_000;

/// What a run is about.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What both ends speak.
    pub scheme: Scheme,
    /// Their framing.
    pub framing: Framing,
    /// The server answers in capitals rather than as it was told.
    pub upper: bool,
    /// Honest clients.
    pub honest: usize,
    /// Others.
    pub strangers: usize,
    /// Honest clients' links break now and then.
    pub resets: bool,
    /// When the server stops.
    pub stop_at: Option<Instant>,
    /// The server's buffers; few of them make connections wait for each other.
    pub buffers: usize,
    /// Length of each in bytes.
    pub buffer_len: usize,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The honest clients whose link did not break.
    pub served: Vec<Script>,
    /// The honest clients whose link did.
    pub reset: Vec<Script>,
    /// How the server's ends of strangers' connections ended, whether they were ever established,
    /// and when.
    pub strangers: Vec<(Result<(), Failure<Reset>>, bool, Instant)>,
    /// When the last connection ended.
    pub at: Instant,
    /// Buffers still leased then.
    pub leased: usize,
}

/// Either service of the server.
#[derive(Debug)]
enum Answer {
    Echo(Echo),
    Upper(Upper),
}

impl Service for Answer {
    fn on_open(&mut self, peer: &Peer<'_>, out: &mut Outbox<'_>, now: Instant) {
        match self {
            Self::Echo(echo) => echo.on_open(peer, out, now),
            Self::Upper(upper) => upper.on_open(peer, out, now),
        }
    }

    fn on_message(&mut self, part: Part<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow {
        match self {
            Self::Echo(echo) => echo.on_message(part, out, now),
            Self::Upper(upper) => upper.on_message(part, out, now),
        }
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection, and what it waits for; `None` once it is over.
struct Driven<S> {
    /// Dropped when it is over, as adapters do: what it has leased goes back.
    connection: Option<Connection<BoxedMachine, S>>,
    wait: Option<Wait>,
    woken: Arc<Woken>,
    over: Option<Over<S>>,
}

struct Over<S> {
    how: Result<(), Failure<Reset>>,
    established: bool,
    at: Instant,
    service: S,
}

impl<S: Service> Driven<S> {
    fn new(machine: BoxedMachine, service: S, woken: Arc<Woken>) -> Self {
        // The first turn needs no reason.
        let wait = Some(Wait { read: true, write: true, until: Some(Instant::EPOCH) });
        Self { connection: Some(Connection::new(machine, service)), wait, woken, over: None }
    }

    /// Takes a turn if there is a reason to.
    fn turn(&mut self, socket: &mut Socket<'_>, key: &Key) -> bool {
        let (Some(wait), Some(connection)) = (self.wait, &mut self.connection) else {
            return false;
        };
        let woken = self.woken.0.swap(false, Ordering::Relaxed);
        let due = woken
            || (wait.read && socket.inbound.is_readable(socket.now))
            || (wait.write && socket.outbound.is_writable(socket.quality))
            || wait.until.is_some_and(|at| at <= socket.now);
        if !due {
            return false;
        }
        if woken {
            connection.wake();
        }
        self.wait = match connection.turn(socket, key, socket.now) {
            Turn::Again => Some(Wait { until: Some(Instant::EPOCH), ..wait }),
            Turn::Wait(wait) => Some(wait),
            Turn::Over(how) => {
                let established = connection.established();
                self.over = self
                    .connection
                    .take()
                    .map(Connection::into_service)
                    .map(|service| Over { how, established, at: socket.now, service });
                None
            }
        };
        true
    }

    fn next(&self, now: Instant) -> Option<Instant> {
        self.wait?.until.filter(|at| *at > now)
    }
}

enum Client {
    Honest(Box<Driven<Script>>),
    Stranger(Stranger),
}

struct Pair {
    client: Client,
    server: Driven<Answer>,
    up: Pipe,
    down: Pipe,
    quality: Quality,
    /// When the link breaks.
    breaks: Option<Instant>,
    broken: bool,
}

/// A run.
pub struct World {
    setup: Setup,
    rng: Rng,
    now: Instant,
    key: Key,
    pools: Pools,
    pairs: Vec<Pair>,
    stopped: bool,
}

impl World {
    /// The run of `seed`.
    ///
    /// # Panics
    /// If the sessions cannot be made.
    #[must_use]
    pub fn new(seed: u64, setup: Setup) -> Self {
        let digest = match setup.scheme {
            Scheme::Challenge { digest } => digest,
            _ => countersign::Digest::Sha256,
        };
        let key = Key::challenge(digest, b"a key that strangers do not hold").unwrap();
        let mut options = PoolOptions::default();
        options.handshakes = setup.honest + setup.strangers;
        options.receiving = setup.buffers;
        options.sending = setup.buffers;
        options.buffer_len = setup.buffer_len;
        let pools = Pools::new(&options);
        let rng = Rng::new(seed);
        let mut world =
            Self { setup, rng, now: Instant::EPOCH, key, pools, pairs: Vec::new(), stopped: false };
        for _ in 0..world.setup.honest {
            let pair = world.pair(true);
            world.pairs.push(pair);
        }
        for _ in 0..world.setup.strangers {
            let pair = world.pair(false);
            world.pairs.push(pair);
        }
        world
    }

    fn pair(&mut self, honest: bool) -> Pair {
        let rng = &mut self.rng;
        let config = Config::new(self.setup.scheme.clone())
            .with_framing(self.setup.framing)
            .with_handshake_timeout(HANDSHAKE)
            .with_stall_timeout(STALL);
        let mut nonce = || Nonce::from_bytes(rng.bytes(Nonce::LEN).try_into().unwrap());
        let woken = Arc::new(Woken::default());
        let buffers = self.pools.buffers(&Waker::from(woken.clone()));
        let machine = Session::server(&config, nonce(), buffers, self.now).unwrap();
        let answer = if self.setup.upper { Answer::Upper(Upper) } else { Answer::Echo(Echo) };
        let server = Driven::new(Box::new(machine), answer, woken);
        let client = if honest {
            let buffers =
                Buffers { handshake: vec![0; 1024], receive: vec![0; 300], send: vec![0; 300] };
            let machine = Session::client(&config, nonce(), buffers, self.now).unwrap();
            let messages = (0..rng.within(0, 12))
                .map(|_| {
                    let len = if rng.one_in(4) { rng.within(0, 3000) } else { rng.within(0, 80) };
                    rng.bytes(len as usize)
                })
                .collect();
            let script = Script::new(messages, rng.one_in(2));
            Client::Honest(Box::new(Driven::new(Box::new(machine), script, Arc::default())))
        } else {
            Client::Stranger(Stranger::random(rng, self.now))
        };
        let quality = Quality {
            delay: Duration::from_micros(rng.within(0, 50_000)),
            capacity: rng.within(16, 5000) as usize,
            piece: if rng.one_in(3) { rng.within(1, 8) } else { 4096 },
        };
        let breaks = (self.setup.resets && honest && rng.one_in(3))
            .then(|| Instant::from_micros(rng.within(0, 500_000)));
        let (up, down) = (Pipe::default(), Pipe::default());
        Pair { client, server, up, down, quality, breaks, broken: false }
    }

    /// Runs until every connection is over at the server.
    ///
    /// # Panics
    /// If it does not come to an end: everyone waits for something that will not happen, or nobody
    /// ever waits.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        for _ in 0..STEPS {
            let mut moved = self.stop_if_due();
            let first = self.rng.any() as usize;
            for i in 0..self.pairs.len() {
                let index = (first.wrapping_add(i)) % self.pairs.len();
                let (rng, key, now) = (&mut self.rng, &self.key, self.now);
                moved |= self.pairs[index].step(rng, key, now);
            }
            if moved {
                continue;
            }
            if self.pairs.iter().all(Pair::is_over) {
                return self.outcome();
            }
            let stop = self.setup.stop_at.filter(|_| !self.stopped);
            let next = self.pairs.iter().filter_map(|pair| pair.next(self.now)).chain(stop).min();
            self.now = next.unwrap_or_else(|| {
                let waits: Vec<_> = self.pairs.iter().map(Pair::waits).collect();
                panic!("at {:?} everyone waits, for ever: {waits:?}", self.now)
            });
        }
        panic!("no end in sight at {:?}", self.now);
    }

    fn stop_if_due(&mut self) -> bool {
        let due = !self.stopped && self.setup.stop_at.is_some_and(|at| at <= self.now);
        if due {
            self.stopped = true;
            for pair in &mut self.pairs {
                if let Some(connection) = &mut pair.server.connection {
                    connection.stop();
                }
                pair.server.woken.0.store(true, Ordering::Relaxed);
            }
        }
        due
    }

    fn outcome(self) -> Outcome {
        let mut outcome = Outcome {
            served: Vec::new(),
            reset: Vec::new(),
            strangers: Vec::new(),
            at: self.now,
            leased: 0,
        };
        for pair in self.pairs {
            let server = pair.server.over.unwrap();
            match pair.client {
                Client::Honest(client) => {
                    let script = client.over.unwrap().service;
                    if pair.broken { &mut outcome.reset } else { &mut outcome.served }.push(script);
                }
                Client::Stranger(_) => {
                    outcome.strangers.push((server.how, server.established, server.at));
                }
            }
        }
        let Pools { handshake, receive, send, .. } = self.pools;
        outcome.leased = handshake.leased() + receive.leased() + send.leased();
        outcome
    }
}

impl Pair {
    fn is_over(&self) -> bool {
        let client = match &self.client {
            Client::Honest(client) => client.over.is_some(),
            Client::Stranger(_) => true,
        };
        client && self.server.over.is_some()
    }

    /// What the client and the server wait for.
    fn waits(&self) -> (Option<Wait>, Option<Wait>, bool) {
        let client = match &self.client {
            Client::Honest(client) => client.wait,
            Client::Stranger(_) => None,
        };
        (client, self.server.wait, self.broken)
    }

    fn next(&self, now: Instant) -> Option<Instant> {
        let client = match &self.client {
            Client::Honest(client) => client.next(now),
            Client::Stranger(stranger) => {
                let more = !stranger.bytes.is_empty() || (stranger.shuts && !stranger.shut);
                (more && self.server.over.is_none()).then_some(stranger.at)
            }
        };
        [client, self.server.next(now), self.up.next(now), self.down.next(now), self.breaks]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }

    /// Lets both ends do what they have reason to. Returns whether one did.
    fn step(&mut self, rng: &mut Rng, key: &Key, now: Instant) -> bool {
        let mut moved = false;
        if self.breaks.is_some_and(|at| at <= now) {
            self.breaks = None;
            self.broken = !self.is_over();
            self.up.reset();
            self.down.reset();
            moved = true;
        }
        let quality = &self.quality;
        let (up, down) = (&mut self.up, &mut self.down);
        let mut socket = Socket { inbound: up, outbound: down, quality, rng, now };
        moved |= self.server.turn(&mut socket, key);
        if self.server.over.is_some() {
            // Its system closes the socket: what the peer still sends meets nobody.
            socket.outbound.shut_once(quality, socket.rng, now);
        }
        let Socket { inbound: outbound, outbound: inbound, rng, .. } = socket;
        let mut socket = Socket { inbound, outbound, quality, rng, now };
        moved
            | match &mut self.client {
                Client::Honest(client) => {
                    let turned = client.turn(&mut socket, key);
                    if client.over.is_some() {
                        socket.outbound.shut_once(quality, socket.rng, now);
                    }
                    turned
                }
                Client::Stranger(stranger) => stranger.act(&mut socket),
            }
    }
}

impl Pipe {
    fn shut_once(&mut self, quality: &Quality, rng: &mut Rng, now: Instant) {
        if !self.is_shut() {
            self.shut(quality, rng, now);
        }
    }
}

impl Stranger {
    fn act(&mut self, socket: &mut Socket<'_>) -> bool {
        let mut moved = false;
        if self.reads && socket.inbound.is_readable(socket.now) {
            let mut scratch = [0; 256];
            let read = socket.inbound.read(&mut scratch, 256, socket.rng, socket.now);
            moved = read.is_some_and(|n| n > 0);
        }
        if self.at > socket.now {
            return moved;
        }
        if self.bytes.is_empty() {
            if self.shuts && !self.shut {
                self.shut = true;
                socket.outbound.shut_once(socket.quality, socket.rng, socket.now);
                return true;
            }
            return moved;
        }
        let most = self.bytes.len().min(self.step);
        if let Some(n) =
            socket.outbound.send(&self.bytes[..most], socket.quality, socket.rng, socket.now)
        {
            self.bytes.drain(..n);
            moved = true;
        }
        self.at = socket.now.saturating_add(self.every);
        moved
    }
}
