//! The endpoints of a world, what one of them did, and the worlds that are explored.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// One connection of one process.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// Index in its world. Its nonce and its messages are made from it.
    pub(crate) id: u8,
    pub(crate) side: Side,
    pub(crate) name: &'static str,
    pub(crate) process_id: u8,
    pub(crate) key_id: &'static str,
    pub(crate) expected: Option<&'static str>,
    /// Numbers of its secrets for its key id.
    pub(crate) secrets: &'static [u8],
    /// The TLS connection to which it is bound.
    pub(crate) channel: Option<u8>,
}

impl Endpoint {
    /// Returns the messages that its application sends as soon as it is established.
    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        vec![vec![self.id, 1], vec![self.id, 2]]
    }

    /// Whether this client and `server` establish a session if the network permits.
    fn matches(&self, server: &Self) -> bool {
        self.key_id == server.key_id
            && server.secrets.contains(&self.secrets[0])
            && self.channel == server.channel
            && self.name != server.name
            && self.process_id != server.process_id
            && self.expected.is_none_or(|name| name == server.name)
    }
}

/// Returns the secret with this number.
pub(crate) fn secret(number: u8) -> [u8; 32] {
    [0x80 | number; 32]
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} #{}", self.side, self.name, self.id)
    }
}

/// What an endpoint did and knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Report {
    /// All records that it sent.
    pub(crate) sent: Vec<Vec<u8>>,
    /// It has failed: no record has an effect on it.
    pub(crate) failed: bool,
    /// What it knows about its peer, once it is established.
    pub(crate) facts: Option<PeerFacts>,
    /// All messages that it accepted as its peer's.
    pub(crate) received: Vec<Vec<u8>>,
}

/// What an established endpoint knows about its peer and the session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PeerFacts {
    pub(crate) name: String,
    pub(crate) key_id: String,
    pub(crate) secret: u8,
    pub(crate) session_id: [u8; 16],
    pub(crate) exporter: [u8; 32],
}

/// Endpoints between which the attacker sits.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) name: &'static str,
    pub(crate) endpoints: Vec<Endpoint>,
}

impl World {
    fn new(name: &'static str, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        let mut endpoints: Vec<Endpoint> = endpoints.into_iter().collect();
        for (id, endpoint) in endpoints.iter_mut().enumerate() {
            endpoint.id = id as u8;
        }
        Self { name, endpoints }
    }

    /// Returns the clients and servers that establish sessions with each other, and no others.
    pub(crate) fn pairs(&self) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        for (c, client) in self.endpoints.iter().enumerate() {
            for (s, server) in self.endpoints.iter().enumerate() {
                if client.side == Side::Client
                    && server.side == Side::Server
                    && client.matches(server)
                {
                    pairs.push((c, s));
                }
            }
        }
        pairs
    }
}

const CLIENT: Endpoint = Endpoint {
    id: 0,
    side: Side::Client,
    name: "c",
    process_id: b'c',
    key_id: "k",
    expected: None,
    secrets: &[1],
    channel: None,
};
const SERVER: Endpoint = Endpoint { side: Side::Server, name: "s", process_id: b's', ..CLIENT };

/// Two connections of one client process, and two of one server.
pub(crate) fn two_and_two() -> World {
    World::new("two clients, two servers", [CLIENT, CLIENT, SERVER, SERVER])
}

/// Two connections of one client process and one of another, and two of a server.
pub(crate) fn three_and_two() -> World {
    let other = Endpoint { name: "d", process_id: b'd', ..CLIENT };
    World::new("three clients, two servers", [CLIENT, CLIENT, other, SERVER, SERVER])
}

/// Two connections of a client process, two of a server process and one of another.
pub(crate) fn two_and_three() -> World {
    let other = Endpoint { name: "t", process_id: b't', ..SERVER };
    World::new("two clients, three servers", [CLIENT, CLIENT, SERVER, SERVER, other])
}

/// Two connections of one client process and one of another, and the same on the server side.
pub(crate) fn three_and_three() -> World {
    let client = Endpoint { name: "d", process_id: b'd', ..CLIENT };
    let server = Endpoint { name: "t", process_id: b't', ..SERVER };
    let endpoints = [CLIENT, CLIENT, client, SERVER, SERVER, server];
    World::new("three clients, three servers", endpoints)
}

/// Two processes, each in both roles.
pub(crate) fn both_roles() -> World {
    let (a, b) = (("a", b'a'), ("b", b'b'));
    World::new("two nodes in both roles", nodes([(a, a), (b, b)]))
}

/// Two processes in both roles, with a name for each role.
pub(crate) fn one_process() -> World {
    let (a, b) = (b'a', b'b');
    let nodes = nodes([(("ac", a), ("as", a)), (("bc", b), ("bs", b))]);
    World::new("nodes in both roles under two names", nodes)
}

/// Two processes on each of two hosts, all named after their host.
pub(crate) fn one_name() -> World {
    let nodes = nodes([(("a", 1), ("a", 2)), (("b", 3), ("b", 4))]);
    World::new("two processes of each name", nodes)
}

/// Name and process id of a client and of a server.
type Node = ((&'static str, u8), (&'static str, u8));

fn nodes(nodes: [Node; 2]) -> impl Iterator<Item = Endpoint> {
    nodes.into_iter().flat_map(|(client, server)| {
        [
            Endpoint { name: client.0, process_id: client.1, ..CLIENT },
            Endpoint { name: server.0, process_id: server.1, ..SERVER },
        ]
    })
}

/// Two clients, one of which expects one server, and that server and another with the same key.
pub(crate) fn expectations() -> World {
    let expecting = Endpoint { expected: Some("s"), name: "d", process_id: b'd', ..CLIENT };
    let other = Endpoint { name: "t", process_id: b't', ..SERVER };
    World::new("a client that expects one of two servers", [CLIENT, expecting, SERVER, other])
}

/// A key is being rotated: clients with the old and the new one, servers with both, and a server
/// that has only the old one.
pub(crate) fn rotation() -> World {
    let new = Endpoint { name: "d", process_id: b'd', secrets: &[2, 1], ..CLIENT };
    let both = Endpoint { secrets: &[2, 1], ..SERVER };
    let other = Endpoint { name: "t", process_id: b't', secrets: &[1, 2], ..SERVER };
    let outdated = Endpoint { name: "u", process_id: b'u', ..SERVER };
    World::new("two keys of one id", [CLIENT, new, both, other, outdated])
}

/// An honest pair, and a process in both roles with another key under the same id.
pub(crate) fn other_key() -> World {
    let client = Endpoint { name: "x", process_id: b'x', secrets: &[3], ..CLIENT };
    let server = Endpoint { name: "y", process_id: b'y', secrets: &[3], ..SERVER };
    World::new("a node with another key", [CLIENT, client, SERVER, server])
}

/// The same secret under two ids.
pub(crate) fn two_ids() -> World {
    let client = Endpoint { key_id: "l", ..CLIENT };
    let server = Endpoint { key_id: "l", ..SERVER };
    World::new("one secret under two ids", [CLIENT, client, SERVER, server])
}

/// A man in the middle of TLS makes two channels of one. A second server is outside TLS.
pub(crate) fn channels() -> World {
    let client = |channel| Endpoint { channel, ..CLIENT };
    let server = |channel| Endpoint { channel, ..SERVER };
    let endpoints = [client(Some(1)), client(Some(2)), server(Some(2)), server(None)];
    World::new("channels that differ", endpoints)
}

/// Returns the worlds that are explored in well under a second.
pub(crate) fn small() -> Vec<World> {
    vec![
        two_and_two(),
        both_roles(),
        one_process(),
        one_name(),
        expectations(),
        other_key(),
        two_ids(),
        channels(),
    ]
}
