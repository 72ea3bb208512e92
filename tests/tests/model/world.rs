//! Who is there: the machines of a world, what is known of one, and the worlds that are explored.

/// Which end a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// One machine.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// Its place in its world. Its nonce and its messages are made of it.
    pub(crate) id: u8,
    pub(crate) side: Side,
    pub(crate) name: &'static str,
    pub(crate) instance: u8,
    pub(crate) key_id: &'static str,
    pub(crate) expected: Option<&'static str>,
    /// Numbers of the secrets that it has for its kid.
    pub(crate) secrets: &'static [u8],
    /// The TLS connection that it is in, if it is bound to one.
    pub(crate) channel: Option<u8>,
}

impl Spec {
    /// The messages that its application sends as soon as it is established.
    pub(crate) fn says(&self) -> Vec<Vec<u8>> {
        vec![vec![self.id, 1], vec![self.id, 2]]
    }

    /// Whether the two are to come together if the network lets them.
    fn fits(&self, server: &Self) -> bool {
        self.key_id == server.key_id
            && server.secrets.contains(&self.secrets[0])
            && self.channel == server.channel
            && self.name != server.name
            && self.instance != server.instance
            && self.expected.is_none_or(|name| name == server.name)
    }
}

/// The secret of this number.
pub(crate) fn secret(number: u8) -> [u8; 32] {
    [0x80 | number; 32]
}

/// What a machine did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Report {
    /// All records that it sent.
    pub(crate) emitted: Vec<Vec<u8>>,
    /// It has failed, and nothing has an effect any more.
    pub(crate) over: bool,
    /// What it knows of its peer, if it was established.
    pub(crate) facts: Option<Facts>,
    /// All messages that it took for its peer's.
    pub(crate) heard: Vec<Vec<u8>>,
}

/// What a machine knows when it is established.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Facts {
    pub(crate) peer: String,
    pub(crate) key_id: String,
    pub(crate) secret: u8,
    pub(crate) session_id: [u8; 16],
    pub(crate) exporter: [u8; 32],
}

/// The machines between which the attacker sits.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) name: &'static str,
    pub(crate) machines: Vec<Spec>,
}

impl World {
    fn new(name: &'static str, machines: impl IntoIterator<Item = Spec>) -> Self {
        let mut machines: Vec<Spec> = machines.into_iter().collect();
        for (id, machine) in machines.iter_mut().enumerate() {
            machine.id = id as u8;
        }
        Self { name, machines }
    }

    /// Which clients and servers are to come together, and no others.
    pub(crate) fn pairs(&self) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        for (c, client) in self.machines.iter().enumerate() {
            for (s, server) in self.machines.iter().enumerate() {
                if client.side == Side::Client && server.side == Side::Server && client.fits(server)
                {
                    pairs.push((c, s));
                }
            }
        }
        pairs
    }
}

const CLIENT: Spec = Spec {
    id: 0,
    side: Side::Client,
    name: "c",
    instance: b'c',
    key_id: "k",
    expected: None,
    secrets: &[1],
    channel: None,
};
const SERVER: Spec = Spec { side: Side::Server, name: "s", instance: b's', ..CLIENT };

/// Two connections of one client process, and two of one server.
pub(crate) fn two_and_two() -> World {
    World::new("two clients, two servers", [CLIENT, CLIENT, SERVER, SERVER])
}

/// Two connections of one client process and one of another, and two of a server.
pub(crate) fn three_and_two() -> World {
    let other = Spec { name: "d", instance: b'd', ..CLIENT };
    World::new("three clients, two servers", [CLIENT, CLIENT, other, SERVER, SERVER])
}

/// Two connections of a client, two of a server and one of another.
pub(crate) fn two_and_three() -> World {
    let other = Spec { name: "t", instance: b't', ..SERVER };
    World::new("two clients, three servers", [CLIENT, CLIENT, SERVER, SERVER, other])
}

/// Two connections of one client process and one of another, and the like of servers.
pub(crate) fn three_and_three() -> World {
    let client = Spec { name: "d", instance: b'd', ..CLIENT };
    let server = Spec { name: "t", instance: b't', ..SERVER };
    let machines = [CLIENT, CLIENT, client, SERVER, SERVER, server];
    World::new("three clients, three servers", machines)
}

/// Two programs, each of which plays both roles.
pub(crate) fn both_roles() -> World {
    let (a, b) = (("a", b'a'), ("b", b'b'));
    World::new("two nodes in both roles", nodes([(a, a), (b, b)]))
}

/// One program of which each role has a name of its own, and one like it.
pub(crate) fn one_process() -> World {
    let (a, b) = (b'a', b'b');
    let nodes = nodes([(("ac", a), ("as", a)), (("bc", b), ("bs", b))]);
    World::new("nodes in both roles under two names", nodes)
}

/// Two programs on each of two hosts; what runs on a host has its name.
pub(crate) fn one_name() -> World {
    let nodes = nodes([(("a", 1), ("a", 2)), (("b", 3), ("b", 4))]);
    World::new("two processes of each name", nodes)
}

/// Name and instance of a client, and of a server.
type Node = ((&'static str, u8), (&'static str, u8));

fn nodes(nodes: [Node; 2]) -> impl Iterator<Item = Spec> {
    nodes.into_iter().flat_map(|(client, server)| {
        [
            Spec { name: client.0, instance: client.1, ..CLIENT },
            Spec { name: server.0, instance: server.1, ..SERVER },
        ]
    })
}

/// Clients of which one expects a certain server, and that server and another of the same key.
pub(crate) fn expectations() -> World {
    let picky = Spec { expected: Some("s"), name: "d", instance: b'd', ..CLIENT };
    let other = Spec { name: "t", instance: b't', ..SERVER };
    World::new("a client that expects one of two servers", [CLIENT, picky, SERVER, other])
}

/// A key is being replaced: clients with the old and the new one, servers with both, and one that
/// was forgotten.
pub(crate) fn rotation() -> World {
    let new = Spec { name: "d", instance: b'd', secrets: &[2, 1], ..CLIENT };
    let both = Spec { secrets: &[2, 1], ..SERVER };
    let other = Spec { name: "t", instance: b't', secrets: &[1, 2], ..SERVER };
    let forgotten = Spec { name: "u", instance: b'u', ..SERVER };
    World::new("two keys of one id", [CLIENT, new, both, other, forgotten])
}

/// An honest pair, and a node that has another key under the same id and plays both roles.
pub(crate) fn strangers() -> World {
    let client = Spec { name: "x", instance: b'x', secrets: &[3], ..CLIENT };
    let server = Spec { name: "y", instance: b'y', secrets: &[3], ..SERVER };
    World::new("a node with another key", [CLIENT, client, SERVER, server])
}

/// The same secret under two ids.
pub(crate) fn two_ids() -> World {
    let client = Spec { key_id: "l", ..CLIENT };
    let server = Spec { key_id: "l", ..SERVER };
    World::new("one secret under two ids", [CLIENT, client, SERVER, server])
}

/// Somebody ends a client's TLS and begins his own to the server: two channels. And a server
/// outside TLS.
pub(crate) fn channels() -> World {
    let client = |channel| Spec { channel, ..CLIENT };
    let server = |channel| Spec { channel, ..SERVER };
    let machines = [client(Some(1)), client(Some(2)), server(Some(2)), server(None)];
    World::new("channels that differ", machines)
}

/// All worlds that are small.
pub(crate) fn small() -> Vec<World> {
    vec![
        two_and_two(),
        both_roles(),
        one_process(),
        one_name(),
        expectations(),
        strangers(),
        two_ids(),
        channels(),
    ]
}
