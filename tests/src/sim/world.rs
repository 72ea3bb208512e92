//! The crowd, its server, and time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use countersign::{Config, Instant, Nonce, ProcessId, Role, Session};
use countersign_driver::Interest;
use countersign_host::{
    BoxedProtocol, MessageMemory, OutstandingChallenges, PoolOptions, Pools, ProtocolFactory,
    SessionFactory,
};

use super::driven::{Answer, Driven, Ended, Hold, Woken};
use super::network::{Pipe, Quality, Socket};
use super::peers::{Script, Stranger};
use super::rng::Rng;
use crate::{ANOTHER_SECRET, EXPORTER, Ring, SECRET, Speech};

/// The deadline of every handshake.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(5);
/// The deadline of every stall.
pub(crate) const STALL: Duration = Duration::from_secs(30);
/// The longest message, in bytes.
const MAX_MESSAGE: usize = 4096;
/// Enough steps for every run that gets anywhere.
const STEPS: usize = 2_000_000;

/// What a run is about.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What both ends speak.
    pub speech: Speech,
    /// Puts the end of this role inside something else, TLS for one.
    pub inside: Option<fn(Role, BoxedProtocol) -> BoxedProtocol>,
    /// How often they give a sign of life, where they do; 0: never.
    pub heartbeat: Duration,
    /// For how long at most, and three quarters of it at least, honest ends hold their first part.
    pub hold: Duration,
    /// For how long at most, and half of it at least, an honest client stays when all is said.
    pub stay: Duration,
    /// The server answers in capitals rather than as it was told.
    pub upper: bool,
    /// The server takes whole messages rather than chunks.
    pub whole: bool,
    /// Honest clients.
    pub honest: usize,
    /// Others.
    pub strangers: usize,
    /// Honest clients' links break now and then.
    pub resets: bool,
    /// Honest clients' links fall silent before that moment, in its second half: nothing gets through.
    pub freezes: Option<Instant>,
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
    pub served: Vec<ServedConnection>,
    /// The honest clients whose link did.
    pub reset: Vec<ServedConnection>,
    /// The honest clients whose link fell silent, and when.
    pub frozen: Vec<(ServedConnection, Instant)>,
    /// The server's ends of strangers' connections.
    pub strangers: Vec<Ended>,
    /// When the last connection ended.
    pub at: Instant,
    /// Buffers still leased then.
    pub leased: usize,
}

/// An honest client and the two ends of its connection.
#[derive(Debug)]
pub struct ServedConnection {
    /// The client.
    pub script: Script,
    /// Its end.
    pub client: Ended,
    /// The server's.
    pub server: Ended,
}

enum Client {
    Honest(Box<Driven<Script>>),
    /// As honest, but for the key.
    Keyless(Box<Driven<Script>>),
    Stranger(Stranger),
}

/// The keys of those who have the right one, and of others.
struct Keys {
    right: Ring,
    wrong: Ring,
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
    /// When it falls silent.
    freezes: Option<Instant>,
    frozen: Option<Instant>,
}

/// A run.
pub struct World {
    setup: Setup,
    rng: Rng,
    now: Instant,
    keys: Keys,
    pools: Pools,
    memory: MessageMemory,
    /// The server's challenges, and those of all clients: each side plays a process of its own.
    outstanding: [OutstandingChallenges; 2],
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
        let Setup { speech, .. } = setup;
        let keys = Keys { right: speech.ring(SECRET), wrong: speech.ring(ANOTHER_SECRET) };
        let mut options = PoolOptions::default();
        options.handshakes = setup.honest + setup.strangers;
        options.receiving = setup.buffers;
        options.sending = setup.buffers;
        options.buffer_len = setup.buffer_len;
        let pools = Pools::new(&options);
        let rng = Rng::new(seed);
        let mut world = Self {
            setup,
            rng,
            now: Instant::EPOCH,
            keys,
            pools,
            memory: MessageMemory::new(MAX_MESSAGE, usize::MAX),
            outstanding: [OutstandingChallenges::new(), OutstandingChallenges::new()],
            pairs: Vec::new(),
            stopped: false,
        };
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

    fn config(&mut self, role: Role) -> Config {
        let Setup { speech, heartbeat, .. } = self.setup;
        let mut config = speech.config(role, heartbeat);
        if role == Role::Client {
            // Each is a process of its own.
            let instance = self.rng.bytes(ProcessId::LEN).try_into().unwrap();
            config = config.with_process_id(ProcessId::from_bytes(&instance));
        }
        config.with_handshake_timeout(HANDSHAKE).with_stall_timeout(STALL)
    }

    fn nonce(&mut self) -> Nonce {
        Nonce::from_bytes(self.rng.bytes(Nonce::LEN).try_into().unwrap())
    }

    fn hold(&mut self) -> Hold {
        match self.setup.hold.as_micros() as u64 {
            0 => Hold::Not,
            most => Hold::For(Duration::from_micros(self.rng.within(most / 4 * 3, most))),
        }
    }

    fn machine(&mut self, role: Role, pools: &Pools, woken: &Arc<Woken>) -> BoxedProtocol {
        let (config, nonce, wake) = (self.config(role), self.nonce(), Waker::from(woken.clone()));
        if let Speech::Multiprocessing(..) = self.setup.speech {
            // Those of adapters, which know each other's challenges. They draw their nonces
            // themselves, and nothing but bytes on the wire depends on these.
            let outstanding = self.outstanding[role as usize].clone();
            let sessions = SessionFactory::new(config, pools.clone()).with_outstanding(outstanding);
            let make = match role {
                Role::Client => ProtocolFactory::client,
                Role::Server => ProtocolFactory::server,
            };
            return self.put(role, make(&sessions, &wake, self.now).unwrap());
        }
        let make = match role {
            Role::Client => Session::client,
            Role::Server => Session::server,
        };
        let machine = make(&config, nonce, pools.buffers(&wake), self.now).unwrap();
        self.put(role, Box::new(machine))
    }

    /// Where it is to be.
    fn put(&self, role: Role, mut machine: BoxedProtocol) -> BoxedProtocol {
        if let Some(inside) = self.setup.inside {
            return inside(role, machine);
        }
        machine.bind_channel(&EXPORTER, self.now);
        machine
    }

    fn server(&mut self) -> Driven<Answer> {
        let woken = Arc::new(Woken::default());
        let machine = self.machine(Role::Server, &self.pools.clone(), &woken);
        let answer = Answer::new(self.setup.upper, self.setup.whole.then_some(&self.memory));
        Driven::new(machine, answer, self.hold(), woken)
    }

    fn client(&mut self) -> Box<Driven<Script>> {
        let woken = Arc::new(Woken::default());
        let mut options = PoolOptions::default();
        options.buffer_len = 300;
        let machine = self.machine(Role::Client, &Pools::new(&options), &woken);
        let (hold, rng) = (self.hold(), &mut self.rng);
        let messages = (0..rng.within(0, 12))
            .map(|_| {
                let len = if rng.one_in(4) { rng.within(0, 3000) } else { rng.within(0, 80) };
                rng.bytes(len as usize)
            })
            .collect();
        let stay = self.setup.stay.as_micros() as u64;
        let stay = (stay > 0).then(|| Duration::from_micros(rng.within(stay / 2, stay)));
        let script = Script::new(messages, rng.one_in(2), stay);
        Box::new(Driven::new(machine, script, hold, woken))
    }

    fn pair(&mut self, honest: bool) -> Pair {
        let server = self.server();
        let client = if honest {
            Client::Honest(self.client())
        } else if self.setup.speech.proves_to(Role::Server) && self.rng.one_in(4) {
            Client::Keyless(self.client())
        } else {
            Client::Stranger(Stranger::random(&mut self.rng, self.now, self.setup.honest))
        };
        let rng = &mut self.rng;
        let quality = Quality {
            delay: Duration::from_micros(rng.within(0, 50_000)),
            // What is around a session has more to say, in no more time.
            capacity: rng.within(if self.setup.inside.is_some() { 1000 } else { 16 }, 5000)
                as usize,
            piece: if rng.one_in(3) { rng.within(1, 8) } else { 4096 },
        };
        let breaks = (self.setup.resets && honest && rng.one_in(3))
            .then(|| Instant::from_micros(rng.within(0, 500_000)));
        let freezes = self.setup.freezes.filter(|_| honest).map(|latest| {
            let latest = latest.as_micros();
            Instant::from_micros(rng.within(latest / 2, latest))
        });
        let (up, down) = (Pipe::default(), Pipe::default());
        Pair { client, server, up, down, quality, breaks, broken: false, freezes, frozen: None }
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
                self.listen_in(index);
                let (rng, keys, now) = (&mut self.rng, &self.keys, self.now);
                moved |= self.pairs[index].step(rng, keys, now);
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

    /// A parrot hears what another client says.
    fn listen_in(&mut self, index: usize) {
        let Client::Stranger(Stranger { parrots: Some((whom, heard)), .. }) =
            self.pairs[index].client
        else {
            return;
        };
        let said = self.pairs[whom].up.carried()[heard..].to_vec();
        if let Client::Stranger(stranger) = &mut self.pairs[index].client {
            stranger.parrots = Some((whom, heard + said.len()));
            stranger.bytes.extend(said);
        }
    }

    fn stop_if_due(&mut self) -> bool {
        let due = !self.stopped && self.setup.stop_at.is_some_and(|at| at <= self.now);
        if due {
            self.stopped = true;
            for pair in &mut self.pairs {
                if let Some(connection) = &mut pair.server.connection {
                    connection.driver_mut().stop();
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
            frozen: Vec::new(),
            strangers: Vec::new(),
            at: self.now,
            leased: 0,
        };
        for pair in self.pairs {
            let (_, server) = pair.server.over.unwrap();
            let Client::Honest(client) = pair.client else {
                outcome.strangers.push(server);
                continue;
            };
            let (script, client) = client.over.unwrap();
            let served = ServedConnection { script, client, server };
            match pair.frozen {
                Some(at) => outcome.frozen.push((served, at)),
                None if pair.broken => outcome.reset.push(served),
                None => outcome.served.push(served),
            }
        }
        for outstanding in self.outstanding {
            let none = format!("{:?}", OutstandingChallenges::new());
            assert_eq!(format!("{outstanding:?}"), none, "challenges outlive their sessions");
        }
        let Pools { handshake, receive, send, .. } = self.pools;
        outcome.leased = handshake.leased() + receive.leased() + send.leased();
        outcome
    }
}

impl Pair {
    fn is_over(&self) -> bool {
        let client = match &self.client {
            Client::Honest(client) | Client::Keyless(client) => client.over.is_some(),
            Client::Stranger(_) => true,
        };
        client && self.server.over.is_some()
    }

    /// What the client and the server wait for.
    fn waits(&self) -> (Option<Interest>, Option<Interest>, bool) {
        let client = match &self.client {
            Client::Honest(client) | Client::Keyless(client) => client.wait,
            Client::Stranger(_) => None,
        };
        (client, self.server.wait, self.broken)
    }

    fn next(&self, now: Instant) -> Option<Instant> {
        let client = match &self.client {
            Client::Honest(client) | Client::Keyless(client) => client.next(now),
            Client::Stranger(stranger) => {
                let more = !stranger.bytes.is_empty() || (stranger.shuts && !stranger.shut);
                (more && self.server.over.is_none()).then_some(stranger.at)
            }
        };
        [
            client,
            self.server.next(now),
            self.up.next(now),
            self.down.next(now),
            self.breaks,
            self.freezes,
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > now)
        .min()
    }

    /// Lets both ends do what they have reason to. Returns whether one did.
    fn step(&mut self, rng: &mut Rng, keys: &Keys, now: Instant) -> bool {
        let mut moved = false;
        if self.breaks.is_some_and(|at| at <= now) {
            self.breaks = None;
            self.broken = !self.is_over();
            self.up.reset();
            self.down.reset();
            moved = true;
        }
        if let Some(at) = self.freezes.filter(|at| *at <= now) {
            self.freezes = None;
            self.frozen = (!self.is_over()).then_some(at);
            self.up.freeze();
            self.down.freeze();
            moved = true;
        }
        let quality = &self.quality;
        let (up, down) = (&mut self.up, &mut self.down);
        let mut socket = Socket { inbound: up, outbound: down, quality, rng, now };
        moved |= self.server.turn(&mut socket, &keys.right);
        if self.server.over.is_some() {
            // Its system closes the socket: what the peer still sends meets nobody.
            socket.outbound.shut_once(quality, socket.rng, now);
        }
        let Socket { inbound: outbound, outbound: inbound, rng, .. } = socket;
        let mut socket = Socket { inbound, outbound, quality, rng, now };
        let honest = matches!(self.client, Client::Honest(_));
        moved
            | match &mut self.client {
                Client::Honest(client) | Client::Keyless(client) => {
                    let ring = if honest { &keys.right } else { &keys.wrong };
                    let turned = client.turn(&mut socket, ring);
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
            if self.mirrors {
                self.bytes.extend(&scratch[..read.unwrap_or(0)]);
            }
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
        let (first, _) = self.bytes.as_slices();
        let most = first.len().min(self.step);
        if let Some(n) =
            socket.outbound.send(&first[..most], socket.quality, socket.rng, socket.now)
        {
            self.bytes.drain(..n);
            moved = true;
        }
        self.at = socket.now.saturating_add(self.every);
        moved
    }
}
