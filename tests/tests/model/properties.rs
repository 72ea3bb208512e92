//! What each side knows, and when (docs/PROTOCOL.md, "What each side knows"), as what must not be.

use std::collections::BTreeSet;

use crate::explorer::Local;
use crate::world::{Side, Spec};

/// What must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Violation {
    /// A client is established, and no server has its session.
    NobodyThere,
    /// Two clients, or two servers, have one session.
    SessionShared,
    /// A client is established with a server that answered another M2 than the client sent, or the
    /// two know different names, key ids, keys or exporters.
    Disagreement,
    /// A server sent M3 for an M2 that no client sent.
    ServerFooled,
    /// A server sent M3 for an M2 that two clients sent, or that two servers answered.
    ClientDoubled,
    /// A side took a message that its partner did not send, or took one twice.
    WrongMessage,
    /// A server answered a client of its own name or instance.
    SelfAtServer,
    /// A client is established with a server of its own name or instance.
    SelfAtClient,
    /// A server answered a client that expects another.
    WrongServerAnswers,
    /// A client is established with a server that it does not expect.
    WrongServerAccepted,
    /// A server answered a client that is in another channel, or holds no key of the server's.
    StrangerAnswered,
    /// A client is established with a server that is in another channel.
    ChannelsDiffer,
}

fn of<'a>(
    side: Side,
    machines: &'a [Spec],
    locals: &'a [&'a Local],
) -> impl Iterator<Item = (usize, &'a Spec, &'a Local)> + Clone {
    let all = machines.iter().zip(locals).enumerate();
    all.filter(move |(_, (spec, _))| spec.side == side)
        .map(|(id, (spec, local))| (id, spec, *local))
}

fn one_session(a: &Local, b: &Local) -> bool {
    a.facts().zip(b.facts()).is_some_and(|(a, b)| a.session_id == b.session_id)
}

/// Which clients and servers have heard all that the other says.
pub(crate) fn completed(machines: &[Spec], locals: &[&Local]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (c, client, at_client) in of(Side::Client, machines, locals) {
        for (s, server, at_server) in of(Side::Server, machines, locals) {
            if one_session(at_client, at_server)
                && at_client.report.heard == server.says()
                && at_server.report.heard == client.says()
            {
                pairs.push((c, s));
            }
        }
    }
    pairs
}

/// All that is so and must not be.
pub(crate) fn violations(machines: &[Spec], locals: &[&Local]) -> BTreeSet<Violation> {
    let mut found = BTreeSet::new();
    let clients = of(Side::Client, machines, locals);
    let servers = of(Side::Server, machines, locals);
    for (c, client, local) in clients.clone().filter(|(_, _, local)| local.facts().is_some()) {
        let mut partners = servers.clone().filter(|(_, _, server)| one_session(local, server));
        match partners.next() {
            None => _ = found.insert(Violation::NobodyThere),
            Some((_, server, partner)) => {
                check_client((client, local), (server, partner), &mut found);
            }
        }
        let twin = clients.clone().any(|(other, _, twin)| other != c && one_session(local, twin));
        if partners.next().is_some() || twin {
            found.insert(Violation::SessionShared);
        }
    }
    for (s, server, local) in servers.clone() {
        let Some(m2) = &local.m2 else { continue };
        let mut senders = clients.clone().filter(|(_, _, client)| client.m2.as_ref() == Some(m2));
        match senders.next() {
            None => _ = found.insert(Violation::ServerFooled),
            Some((_, client, partner)) => {
                check_server((client, partner), (server, local), &mut found);
            }
        }
        let twin =
            servers.clone().any(|(other, _, twin)| other != s && twin.m2.as_ref() == Some(m2));
        if senders.next().is_some() || twin {
            found.insert(Violation::ClientDoubled);
        }
    }
    found
}

fn is_self(a: &Spec, b: &Spec) -> bool {
    a.name == b.name || a.instance == b.instance
}

/// Whether `local` took nothing but the messages of `partner`, each once and in their order.
fn heard_right(local: &Local, partner: &Spec, at_partner: &Local) -> bool {
    let heard = &local.report.heard;
    heard.is_empty() || (one_session(local, at_partner) && partner.says().starts_with(heard))
}

/// An established client, and a server of the same session.
fn check_client(
    (client, at_client): (&Spec, &Local),
    (server, at_server): (&Spec, &Local),
    found: &mut BTreeSet<Violation>,
) {
    let agree = at_client.facts().zip(at_server.facts()).is_some_and(|(ours, theirs)| {
        ours.peer == server.name
            && theirs.peer == client.name
            && (&ours.key_id, ours.secret, ours.exporter)
                == (&theirs.key_id, theirs.secret, theirs.exporter)
    });
    if !agree || at_client.m2 != at_server.m2 {
        found.insert(Violation::Disagreement);
    }
    if !heard_right(at_client, server, at_server) {
        found.insert(Violation::WrongMessage);
    }
    if is_self(client, server) {
        found.insert(Violation::SelfAtClient);
    }
    if client.expected.is_some_and(|name| name != server.name) {
        found.insert(Violation::WrongServerAccepted);
    }
    if client.channel != server.channel {
        found.insert(Violation::ChannelsDiffer);
    }
}

/// A server that sent M3, and the client that sent the M2 which it answered.
fn check_server(
    (client, at_client): (&Spec, &Local),
    (server, at_server): (&Spec, &Local),
    found: &mut BTreeSet<Violation>,
) {
    if !heard_right(at_server, client, at_client) {
        found.insert(Violation::WrongMessage);
    }
    if is_self(client, server) {
        found.insert(Violation::SelfAtServer);
    }
    if client.expected.is_some_and(|name| name != server.name) {
        found.insert(Violation::WrongServerAnswers);
    }
    if client.channel != server.channel || !server.secrets.contains(&client.secrets[0]) {
        found.insert(Violation::StrangerAnswered);
    }
}
