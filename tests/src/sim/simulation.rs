//! The server, its clients, and virtual time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use countersign::{Config, Instant, Nonce, ProcessId, Role, Session};
use countersign_driver::Interest;
use countersign_host::{
    BoxedProtocol, LeaseHolder, MessageMemory, OutstandingChallenges, PoolOptions, Pools,
    ProtocolFactory, SessionFactory,
};

use super::clients::{ClientService, HostileClient};
use super::connection::{Connection, ConnectionEnd, Hold, ServerService, WakeFlag};
use super::network::{LinkConfig, Pipe, Socket};
use super::rng::Rng;
use crate::{ANOTHER_SECRET, EXPORTER, KeySet, SECRET, SessionSpec};

/// The deadline of every handshake.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(5);
/// The deadline of every stall.
pub(crate) const STALL: Duration = Duration::from_secs(30);
/// The longest message, in bytes.
const MAX_MESSAGE: usize = 4096;
/// Steps after which a run fails. Runs that make progress need fewer.
const MAX_STEPS: usize = 2_000_000;

/// Parameters of a run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The session of each connection.
    pub spec: SessionSpec,
    /// Wraps the protocol of each endpoint in another, for example TLS.
    pub wrap: Option<fn(Role, BoxedProtocol) -> BoxedProtocol>,
    /// Heartbeat interval in schemes with heartbeats; 0: none.
    pub heartbeat: Duration,
    /// Honest endpoints hold their first chunk for this time, or up to a quarter less.
    pub hold: Duration,
    /// Honest clients stay connected for this time after the handshake, or up to half of it less.
    pub linger: Duration,
    /// The server replies in upper case; otherwise it echoes.
    pub upper: bool,
    /// The service of the server receives whole messages; otherwise chunks.
    pub whole_messages: bool,
    /// Number of honest clients.
    pub honest: usize,
    /// Number of hostile clients.
    pub hostile: usize,
    /// A third of the honest clients' links is reset.
    pub resets: bool,
    /// Each honest client's link freezes in the second half of the time until then: nothing
    /// arrives.
    pub freeze_by: Option<Instant>,
    /// When the server stops.
    pub stop_at: Option<Instant>,
    /// Buffers of the server in each direction. With few of them, connections wait for each other.
    pub buffers: usize,
    /// Length of each buffer, in bytes.
    pub buffer_len: usize,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Honest clients whose link was neither reset nor frozen.
    pub served: Vec<ServedConnection>,
    /// Honest clients whose link was reset.
    pub reset: Vec<ServedConnection>,
    /// Honest clients whose link froze, and when.
    pub frozen: Vec<(ServedConnection, Instant)>,
    /// The server's endpoints of the connections of hostile clients.
    pub hostile: Vec<ConnectionEnd>,
    /// When the last connection ended.
    pub at: Instant,
    /// Buffers leased after the last connection ended.
    pub leased: usize,
}

/// An honest client, and how both endpoints of its connection ended.
#[derive(Debug)]
pub struct ServedConnection {
    /// The client's service.
    pub service: ClientService,
    /// The client's endpoint.
    pub client: ConnectionEnd,
    /// The server's endpoint.
    pub server: ConnectionEnd,
}

enum Client {
    Honest(Box<Connection<ClientService>>),
    /// Follows the protocol, with a wrong key.
    WrongKey(Box<Connection<ClientService>>),
    Hostile(HostileClient),
}

struct Keys {
    right: KeySet,
    wrong: KeySet,
}

/// A client, its connection to the server, and the link between them.
struct Pair {
    client: Client,
    server: Connection<ServerService>,
    up: Pipe,
    down: Pipe,
    link: LinkConfig,
    /// When the link is reset.
    reset_at: Option<Instant>,
    was_reset: bool,
    /// When the link freezes, and when it froze.
    freeze_at: Option<Instant>,
    frozen_at: Option<Instant>,
}

/// A run of the simulation.
pub struct Simulation {
    setup: Setup,
    rng: Rng,
    now: Instant,
    keys: Keys,
    pools: Pools,
    memory: MessageMemory,
    /// The server's challenges, and those of all clients. Each side stands for a process of its
    /// own.
    outstanding: [OutstandingChallenges; 2],
    pairs: Vec<Pair>,
    stopped: bool,
}

impl Simulation {
    /// Makes the run with this seed.
    ///
    /// # Panics
    /// If the sessions cannot be made.
    #[must_use]
    pub fn new(seed: u64, setup: Setup) -> Self {
        let Setup { spec, .. } = setup;
        let keys = Keys { right: spec.keys(SECRET), wrong: spec.keys(ANOTHER_SECRET) };
        let mut options = PoolOptions::default();
        options.handshakes = setup.honest + setup.hostile;
        options.receiving = setup.buffers;
        options.sending = setup.buffers;
        options.buffer_len = setup.buffer_len;
        let pools = Pools::new(&options);
        let rng = Rng::new(seed);
        let mut simulation = Self {
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
        for _ in 0..simulation.setup.honest {
            let pair = simulation.pair(true);
            simulation.pairs.push(pair);
        }
        for _ in 0..simulation.setup.hostile {
            let pair = simulation.pair(false);
            simulation.pairs.push(pair);
        }
        simulation
    }

    fn config(&mut self, role: Role) -> Config {
        let Setup { spec, heartbeat, .. } = self.setup;
        let mut config = spec.config(role, heartbeat);
        if role == Role::Client {
            // Each client is a process of its own.
            let process_id = self.rng.bytes(ProcessId::LEN).try_into().unwrap();
            config = config.with_process_id(ProcessId::from_bytes(&process_id));
        }
        config.with_handshake_timeout(HANDSHAKE).with_stall_timeout(STALL)
    }

    fn nonce(&mut self) -> Nonce {
        Nonce::from_bytes(self.rng.bytes(Nonce::LEN).try_into().unwrap())
    }

    fn hold(&mut self) -> Hold {
        match self.setup.hold.as_micros() as u64 {
            0 => Hold::Not,
            max => Hold::For(Duration::from_micros(self.rng.within(max / 4 * 3, max))),
        }
    }

    fn protocol(&mut self, role: Role, pools: &Pools, wake_flag: &Arc<WakeFlag>) -> BoxedProtocol {
        let (config, nonce) = (self.config(role), self.nonce());
        let holder = LeaseHolder::new(wake_flag.clone().into());
        if let SessionSpec::Multiprocessing(..) = self.setup.spec {
            // The sessions of adapters, which share their outstanding challenges. They draw their
            // own nonces, which affect only the bytes on the wire.
            let outstanding = self.outstanding[role as usize].clone();
            let sessions = SessionFactory::new(config, pools.clone()).with_outstanding(outstanding);
            let make = match role {
                Role::Client => ProtocolFactory::client,
                Role::Server => ProtocolFactory::server,
            };
            return self.wrap(role, make(&sessions, &holder, self.now).unwrap());
        }
        let make = match role {
            Role::Client => Session::client,
            Role::Server => Session::server,
        };
        let protocol = make(&config, nonce, pools.buffers(&holder), self.now).unwrap();
        self.wrap(role, Box::new(protocol))
    }

    /// Wraps `protocol` if the setup requires it.
    fn wrap(&self, role: Role, mut protocol: BoxedProtocol) -> BoxedProtocol {
        if let Some(wrap) = self.setup.wrap {
            return wrap(role, protocol);
        }
        protocol.bind_channel(&EXPORTER, self.now);
        protocol
    }

    fn server(&mut self) -> Connection<ServerService> {
        let wake_flag = Arc::new(WakeFlag::default());
        let protocol = self.protocol(Role::Server, &self.pools.clone(), &wake_flag);
        let service =
            ServerService::new(self.setup.upper, self.setup.whole_messages.then_some(&self.memory));
        Connection::new(protocol, service, self.hold(), wake_flag)
    }

    fn client(&mut self) -> Box<Connection<ClientService>> {
        let wake_flag = Arc::new(WakeFlag::default());
        let mut options = PoolOptions::default();
        options.buffer_len = 300;
        let protocol = self.protocol(Role::Client, &Pools::new(&options), &wake_flag);
        let (hold, rng) = (self.hold(), &mut self.rng);
        let messages = (0..rng.within(0, 12))
            .map(|_| {
                let len = if rng.one_in(4) { rng.within(0, 3000) } else { rng.within(0, 80) };
                rng.bytes(len as usize)
            })
            .collect();
        let linger = self.setup.linger.as_micros() as u64;
        let linger = (linger > 0).then(|| Duration::from_micros(rng.within(linger / 2, linger)));
        let service = ClientService::new(messages, rng.one_in(2), linger);
        Box::new(Connection::new(protocol, service, hold, wake_flag))
    }

    fn pair(&mut self, honest: bool) -> Pair {
        let server = self.server();
        let client = if honest {
            Client::Honest(self.client())
        } else if self.setup.spec.authenticates_peer(Role::Server) && self.rng.one_in(4) {
            Client::WrongKey(self.client())
        } else {
            Client::Hostile(HostileClient::random(&mut self.rng, self.now, self.setup.honest))
        };
        let rng = &mut self.rng;
        let link = LinkConfig {
            delay: Duration::from_micros(rng.within(0, 50_000)),
            // TLS sends more bytes, within the same deadlines.
            capacity: rng.within(if self.setup.wrap.is_some() { 1000 } else { 16 }, 5000) as usize,
            max_io: if rng.one_in(3) { rng.within(1, 8) } else { 4096 },
        };
        let reset_at = (self.setup.resets && honest && rng.one_in(3))
            .then(|| Instant::from_micros(rng.within(0, 500_000)));
        let freeze_at = self.setup.freeze_by.filter(|_| honest).map(|latest| {
            let latest = latest.as_micros();
            Instant::from_micros(rng.within(latest / 2, latest))
        });
        let (up, down) = (Pipe::default(), Pipe::default());
        Pair {
            client,
            server,
            up,
            down,
            link,
            reset_at,
            was_reset: false,
            freeze_at,
            frozen_at: None,
        }
    }

    /// Runs until every connection has ended at the server.
    ///
    /// # Panics
    /// If the run does not end: all connections wait for events that never happen, or are polled
    /// for ever.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        for _ in 0..MAX_STEPS {
            let mut moved = self.stop_if_due();
            let first = self.rng.next_u64() as usize;
            for i in 0..self.pairs.len() {
                let index = (first.wrapping_add(i)) % self.pairs.len();
                self.copy_replayed_bytes(index);
                let (rng, keys, now) = (&mut self.rng, &self.keys, self.now);
                moved |= self.pairs[index].step(rng, keys, now);
            }
            if moved {
                continue;
            }
            if self.pairs.iter().all(Pair::has_ended) {
                return self.outcome();
            }
            let stop = self.setup.stop_at.filter(|_| !self.stopped);
            let next = self.pairs.iter().filter_map(|pair| pair.next(self.now)).chain(stop).min();
            self.now = next.unwrap_or_else(|| {
                let waits: Vec<_> = self.pairs.iter().map(Pair::waits).collect();
                panic!("all connections wait for ever at {:?}: {waits:?}", self.now)
            });
        }
        panic!("the run has not ended at {:?}", self.now);
    }

    /// Passes the new bytes of a replayed client to the client that replays them.
    fn copy_replayed_bytes(&mut self, index: usize) {
        let Client::Hostile(HostileClient { replays: Some((of, copied)), .. }) =
            self.pairs[index].client
        else {
            return;
        };
        let bytes = self.pairs[of].up.sent()[copied..].to_vec();
        if let Client::Hostile(hostile) = &mut self.pairs[index].client {
            hostile.replays = Some((of, copied + bytes.len()));
            hostile.bytes.extend(bytes);
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
                pair.server.wake_flag.0.store(true, Ordering::Relaxed);
            }
        }
        due
    }

    fn outcome(self) -> Outcome {
        let mut outcome = Outcome {
            served: Vec::new(),
            reset: Vec::new(),
            frozen: Vec::new(),
            hostile: Vec::new(),
            at: self.now,
            leased: 0,
        };
        for pair in self.pairs {
            let (_, server) = pair.server.end.unwrap();
            let Client::Honest(client) = pair.client else {
                outcome.hostile.push(server);
                continue;
            };
            let (service, client) = client.end.unwrap();
            let served = ServedConnection { service, client, server };
            match pair.frozen_at {
                Some(at) => outcome.frozen.push((served, at)),
                None if pair.was_reset => outcome.reset.push(served),
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
    fn has_ended(&self) -> bool {
        let client = match &self.client {
            Client::Honest(client) | Client::WrongKey(client) => client.end.is_some(),
            Client::Hostile(_) => true,
        };
        client && self.server.end.is_some()
    }

    /// What the client and the server wait for.
    fn waits(&self) -> (Option<Interest>, Option<Interest>, bool) {
        let client = match &self.client {
            Client::Honest(client) | Client::WrongKey(client) => client.interest,
            Client::Hostile(_) => None,
        };
        (client, self.server.interest, self.was_reset)
    }

    fn next(&self, now: Instant) -> Option<Instant> {
        let client = match &self.client {
            Client::Honest(client) | Client::WrongKey(client) => client.next_timeout(now),
            Client::Hostile(hostile) => {
                let more = !hostile.bytes.is_empty() || (hostile.shuts && !hostile.shut);
                (more && self.server.end.is_none()).then_some(hostile.next_step)
            }
        };
        [
            client,
            self.server.next_timeout(now),
            self.up.next_arrival(now),
            self.down.next_arrival(now),
            self.reset_at,
            self.freeze_at,
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > now)
        .min()
    }

    /// Lets both endpoints make progress. Returns whether one did.
    fn step(&mut self, rng: &mut Rng, keys: &Keys, now: Instant) -> bool {
        let mut moved = false;
        if self.reset_at.is_some_and(|at| at <= now) {
            self.reset_at = None;
            self.was_reset = !self.has_ended();
            self.up.reset();
            self.down.reset();
            moved = true;
        }
        if let Some(at) = self.freeze_at.filter(|at| *at <= now) {
            self.freeze_at = None;
            self.frozen_at = (!self.has_ended()).then_some(at);
            self.up.freeze();
            self.down.freeze();
            moved = true;
        }
        let link = &self.link;
        let (up, down) = (&mut self.up, &mut self.down);
        let mut socket = Socket { inbound: up, outbound: down, link, rng, now };
        moved |= self.server.poll(&mut socket, &keys.right);
        if self.server.end.is_some() {
            // The operating system closes the server's socket.
            socket.outbound.shut_once(link, socket.rng, now);
        }
        let Socket { inbound: outbound, outbound: inbound, rng, .. } = socket;
        let mut socket = Socket { inbound, outbound, link, rng, now };
        let honest = matches!(self.client, Client::Honest(_));
        moved
            | match &mut self.client {
                Client::Honest(client) | Client::WrongKey(client) => {
                    let keys = if honest { &keys.right } else { &keys.wrong };
                    let polled = client.poll(&mut socket, keys);
                    if client.end.is_some() {
                        socket.outbound.shut_once(link, socket.rng, now);
                    }
                    polled
                }
                Client::Hostile(hostile) => hostile.act(&mut socket),
            }
    }
}

impl Pipe {
    fn shut_once(&mut self, link: &LinkConfig, rng: &mut Rng, now: Instant) {
        if !self.is_shut() {
            self.shut(link, rng, now);
        }
    }
}

impl HostileClient {
    /// Reads, and sends what is due. Returns whether either made progress.
    fn act(&mut self, socket: &mut Socket<'_>) -> bool {
        let mut moved = false;
        if self.reads && socket.inbound.is_readable(socket.now) {
            let mut scratch = [0; 256];
            let read = socket.inbound.read(&mut scratch, 256, socket.rng, socket.now);
            moved = read.is_some_and(|n| n > 0);
            if self.reflects {
                self.bytes.extend(&scratch[..read.unwrap_or(0)]);
            }
        }
        if self.next_step > socket.now {
            return moved;
        }
        if self.bytes.is_empty() {
            if self.shuts && !self.shut {
                self.shut = true;
                socket.outbound.shut_once(socket.link, socket.rng, socket.now);
                return true;
            }
            return moved;
        }
        let (first, _) = self.bytes.as_slices();
        let max = first.len().min(self.step_len);
        if let Some(n) = socket.outbound.send(&first[..max], socket.link, socket.rng, socket.now) {
            self.bytes.drain(..n);
            moved = true;
        }
        self.next_step = socket.now.saturating_add(self.interval);
        moved
    }
}
