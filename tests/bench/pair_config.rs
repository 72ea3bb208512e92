//! [`PairConfig`]: two endpoints in memory, for several benchmarks. Once the buffers are made,
//! nothing here allocates.
// No benchmark uses all of it.
#![allow(dead_code)]

use std::hint::black_box;

use countersign::{
    Buffers, Candidates, Config, Digest, Event, Framing, Instant, Key, Multiprocessing, Mutual,
    Nonce, ProcessId, Protocol, Purpose, Scheme, Session,
};

/// The time, which does not advance.
pub(crate) const NOW: Instant = Instant::EPOCH;
/// The secret of both endpoints.
pub(crate) const SECRET: &[u8] = b"a key that is long enough for anyone";
/// The channel binding of endpoints that have one.
const EXPORTER: [u8; 32] = [9; 32];

/// One end of a pair.
pub(crate) type Endpoint = Session<Box<[u8]>>;

/// The configuration of a client and a server, and their keys.
pub(crate) struct PairConfig {
    client: Config,
    server: Config,
    keys: Vec<Key>,
    /// Both sessions get a channel binding.
    bound: bool,
}

impl PairConfig {
    fn new(client: Scheme, server: Scheme, purposes: &[Purpose]) -> Self {
        let key = |purpose: &Purpose| Key::new(*purpose, SECRET).unwrap();
        let keys = purposes.iter().map(key).collect();
        Self { client: Config::new(client), server: Config::new(server), keys, bound: false }
    }

    /// The scheme `none`, with this framing.
    pub(crate) fn none(framing: Framing) -> Self {
        let pair = Self::new(Scheme::None, Scheme::None, &[]);
        let [client, server] = [pair.client, pair.server].map(|end| end.with_framing(framing));
        Self { client, server, ..pair }
    }

    pub(crate) fn challenge() -> Self {
        let digest = Digest::Sha256;
        let scheme = Scheme::Challenge { digest };
        Self::new(scheme.clone(), scheme, &[Purpose::Mac(digest)])
    }

    /// Strict endpoints with sha256.
    pub(crate) fn multiprocessing_strict() -> Self {
        let scheme = Scheme::Multiprocessing(Multiprocessing::new(Digest::Sha256));
        Self::new(scheme.clone(), scheme, &[Purpose::Mac(Digest::Sha256)])
    }

    /// Compatible endpoints: the client's challenge uses md5, as Python's did up to 3.11, and the
    /// server's uses sha256.
    pub(crate) fn multiprocessing_compatible() -> Self {
        let [client, server] =
            [Digest::Md5, Digest::Sha256].map(|digest| Multiprocessing::new(digest).compatible());
        let purposes: Vec<_> = server.digests().map(Purpose::Mac).collect();
        Self::new(Scheme::Multiprocessing(client), Scheme::Multiprocessing(server), &purposes)
    }

    pub(crate) fn mutual() -> Self {
        Self::mutual_with(|mutual| mutual)
    }

    /// `mutual` with a channel binding, as inside TLS, and frames without tags.
    pub(crate) fn untagged() -> Self {
        let pair = Self::mutual_with(|mutual| mutual.with_channel_binding().without_tags());
        Self { bound: true, ..pair }
    }

    fn mutual_with(change: fn(Mutual) -> Mutual) -> Self {
        let [client, server] = [("client", 1), ("server", 2)].map(|(name, process)| {
            let process = ProcessId::from_bytes(&[process; ProcessId::LEN]);
            Scheme::Mutual(change(Mutual::new(name.parse().unwrap(), process)))
        });
        Self::new(client, server, &[Purpose::Derivation])
    }

    /// Whether frames have tags, so that each frame of a session differs from all others.
    pub(crate) fn is_tagged(&self) -> bool {
        matches!(self.client.scheme(), Scheme::Mutual(_)) && !self.bound
    }

    /// A client and a server at the start of their handshake.
    pub(crate) fn new_pair(&self, [client, server]: [Buffers<Box<[u8]>>; 2]) -> [Endpoint; 2] {
        let nonce = |byte| Nonce::from_bytes([byte; Nonce::LEN]);
        let mut client = Session::client(&self.client, nonce(1), client, NOW).unwrap();
        let mut server = Session::server(&self.server, nonce(2), server, NOW).unwrap();
        if self.bound {
            client.bind_channel(&EXPORTER, NOW);
            server.bind_channel(&EXPORTER, NOW);
        }
        [client, server]
    }

    /// Runs the handshake of a new pair.
    pub(crate) fn establish(&self, [client, server]: &mut [Endpoint; 2]) {
        // An endpoint is established only when it is polled after its last handshake byte.
        while !(client.is_idle() && server.is_idle()) {
            self.handle_events(server);
            self.transfer(server, client);
            self.handle_events(client);
            self.transfer(client, server);
        }
    }

    /// Transfers all output of `from` to `to`.
    pub(crate) fn transfer(&self, from: &mut Endpoint, to: &mut Endpoint) {
        loop {
            let bytes = from.poll_transmit(NOW);
            if bytes.is_empty() {
                return;
            }
            let space = to.recv_space();
            let n = bytes.len().min(space.len());
            space[..n].copy_from_slice(&bytes[..n]);
            to.handle_received(n, NOW);
            from.handle_transmitted(n, NOW);
            self.handle_events(to);
        }
    }

    /// Handles all events of `endpoint`, and returns the number of message bytes consumed.
    pub(crate) fn handle_events(&self, endpoint: &mut Endpoint) -> usize {
        let mut consumed = 0;
        while let Some(event) = endpoint.poll_event(NOW).unwrap() {
            match event {
                Event::KeyNeeded => {
                    let purpose = endpoint.key_request().unwrap().purpose;
                    let key = self.keys.iter().find(|key| key.purpose() == purpose).unwrap();
                    endpoint.provide_key(Ok(Candidates::one(key)), NOW).unwrap();
                }
                Event::Chunk { .. } => {
                    consumed += black_box(endpoint.split().0).len();
                    endpoint.consume(NOW);
                }
                _ => {}
            }
        }
        consumed
    }
}

/// The buffers of a client and a server. Each receives and sends up to `len` bytes at once.
pub(crate) fn buffers(len: usize) -> [Buffers<Box<[u8]>>; 2] {
    let buffer = |len: usize| vec![0; len].into_boxed_slice();
    [(); 2].map(|()| Buffers { handshake: buffer(1024), receive: buffer(len), send: buffer(len) })
}

/// A client and a server that are established.
pub(crate) fn established_pair(config: &PairConfig, len: usize) -> [Endpoint; 2] {
    let mut pair = config.new_pair(buffers(len));
    config.establish(&mut pair);
    pair
}
