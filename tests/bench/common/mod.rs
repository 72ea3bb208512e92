//! What the benchmarks share: two ends in memory, and what carries bytes from one to the other.
//! Nothing here allocates once the ends' buffers are made.
// No benchmark uses all of it.
#![allow(dead_code)]

use std::hint::black_box;

use countersign::{
    Buffers, Candidates, Config, Digest, Event, Framing, Instant, Key, Multiprocessing, Mutual,
    Nonce, ProcessId, Protocol, Purpose, Scheme, Session,
};

/// Nothing here takes time.
pub(crate) const NOW: Instant = Instant::EPOCH;
/// What both ends hold.
pub(crate) const SECRET: &[u8] = b"a key that is long enough for anyone";
/// The channel binding of the ways that have one.
const EXPORTER: [u8; 32] = [9; 32];

pub(crate) type End = Session<Box<[u8]>>;

/// How two ends are configured, and the keys they hold, ready to be lent.
pub(crate) struct Way {
    client: Config,
    server: Config,
    keys: Vec<Key>,
    bound: bool,
}

impl Way {
    fn new(client: Scheme, server: Scheme, purposes: &[Purpose]) -> Self {
        let key = |purpose: &Purpose| Key::new(*purpose, SECRET).unwrap();
        let keys = purposes.iter().map(key).collect();
        Self { client: Config::new(client), server: Config::new(server), keys, bound: false }
    }

    /// No handshake.
    pub(crate) fn none(framing: Framing) -> Self {
        let way = Self::new(Scheme::None, Scheme::None, &[]);
        let [client, server] = [way.client, way.server].map(|it| it.with_framing(framing));
        Self { client, server, ..way }
    }

    pub(crate) fn challenge() -> Self {
        let digest = Digest::Sha256;
        let scheme = Scheme::Challenge { digest };
        Self::new(scheme.clone(), scheme, &[Purpose::Mac(digest)])
    }

    /// Strict ends, of sha256.
    pub(crate) fn strict() -> Self {
        let scheme = Scheme::Multiprocessing(Multiprocessing::new(Digest::Sha256));
        Self::new(scheme.clone(), scheme, &[Purpose::Mac(Digest::Sha256)])
    }

    /// Compatible ends: the client asks for md5, as Python did up to 3.11, the server for sha256.
    pub(crate) fn compatible() -> Self {
        let [client, server] =
            [Digest::Md5, Digest::Sha256].map(|digest| Multiprocessing::new(digest).compatible());
        let purposes: Vec<_> = server.digests().map(Purpose::Mac).collect();
        Self::new(Scheme::Multiprocessing(client), Scheme::Multiprocessing(server), &purposes)
    }

    pub(crate) fn mutual() -> Self {
        Self::named(|mutual| mutual)
    }

    /// As inside TLS, which is not there, with frames that carry no tags.
    pub(crate) fn untagged() -> Self {
        let way = Self::named(|mutual| mutual.with_channel_binding().without_tags());
        Self { bound: true, ..way }
    }

    fn named(with: fn(Mutual) -> Mutual) -> Self {
        let [client, server] = [("client", 1), ("server", 2)].map(|(name, process)| {
            let instance = ProcessId::from_bytes(&[process; ProcessId::LEN]);
            Scheme::Mutual(with(Mutual::new(name.parse().unwrap(), instance)))
        });
        Self::new(client, server, &[Purpose::Derivation])
    }

    /// Whether frames have tags, by which no two of a session are alike.
    pub(crate) fn is_tagged(&self) -> bool {
        matches!(self.client.scheme(), Scheme::Mutual(_)) && !self.bound
    }

    /// A client and a server that have said nothing yet.
    pub(crate) fn begin(&self, [client, server]: [Buffers<Box<[u8]>>; 2]) -> [End; 2] {
        let nonce = |byte| Nonce::from_bytes([byte; Nonce::LEN]);
        let mut client = Session::client(&self.client, nonce(1), client, NOW).unwrap();
        let mut server = Session::server(&self.server, nonce(2), server, NOW).unwrap();
        if self.bound {
            client.bind_channel(&EXPORTER, NOW);
            server.bind_channel(&EXPORTER, NOW);
        }
        [client, server]
    }

    /// Has two ends that have said nothing yet come to an agreement.
    pub(crate) fn establish(&self, [client, server]: &mut [End; 2]) {
        // A handshake is over when an end is polled behind its last byte.
        while !(client.is_idle() && server.is_idle()) {
            self.events(server);
            self.carry(server, client);
            self.events(client);
            self.carry(client, server);
        }
    }

    /// Has `to` take what `from` has to send.
    pub(crate) fn carry(&self, from: &mut End, to: &mut End) {
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
            self.events(to);
        }
    }

    /// Deals with all that `end` has, and returns how many bytes of messages there were.
    pub(crate) fn events(&self, end: &mut End) -> usize {
        let mut taken = 0;
        while let Some(event) = end.poll_event(NOW).unwrap() {
            match event {
                Event::KeyNeeded => {
                    let purpose = end.key_request().unwrap().purpose;
                    let key = self.keys.iter().find(|key| key.purpose() == purpose).unwrap();
                    end.provide_key(Ok(Candidates::one(key)), NOW).unwrap();
                }
                Event::Chunk { .. } => {
                    taken += black_box(end.split().0).len();
                    end.consume(NOW);
                }
                _ => {}
            }
        }
        taken
    }
}

/// The buffers of a client and a server, of which each can send or receive `len` bytes at once.
pub(crate) fn buffers(len: usize) -> [Buffers<Box<[u8]>>; 2] {
    let buffer = |len: usize| vec![0; len].into_boxed_slice();
    [(); 2].map(|()| Buffers { handshake: buffer(1024), receive: buffer(len), send: buffer(len) })
}

/// Two ends that are established.
pub(crate) fn established(way: &Way, len: usize) -> [End; 2] {
    let mut ends = way.begin(buffers(len));
    way.establish(&mut ends);
    ends
}
