//! What each side knows, and when (docs/PROTOCOL.md, "What each side knows"), as violations of it.

use std::collections::BTreeSet;

use crate::explorer::EndpointState;
use crate::world::{Endpoint, Side};

/// A state that breaks a promise of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Violation {
    /// A client is established, and no server has its session.
    NoPartner,
    /// Two clients, or two servers, have one session.
    SessionShared,
    /// A client is established with a server that answered another M2 than the client's, or the two
    /// have different names, key ids, keys or exporters.
    Disagreement,
    /// A server sent M3 for an M2 that no client sent.
    ServerDeceived,
    /// A server sent M3 for an M2 that two clients sent, or that two servers answered.
    M2Reused,
    /// A side received a message that its partner did not send, or received one twice.
    WrongMessage,
    /// A server answered a client of its own name or process id.
    SelfAtServer,
    /// A client is established with a server of its own name or process id.
    SelfAtClient,
    /// A server answered a client that expects another.
    WrongServerAnswered,
    /// A client is established with a server that it does not expect.
    WrongServerAccepted,
    /// A server answered a client that is in another TLS channel or holds none of the server's
    /// keys.
    WrongClientAnswered,
    /// A client is established with a server that is in another TLS channel.
    ChannelsDiffer,
}

fn on_side<'a>(
    side: Side,
    endpoints: &'a [Endpoint],
    states: &'a [&'a EndpointState],
) -> impl Iterator<Item = (usize, &'a Endpoint, &'a EndpointState)> + Clone {
    let all = endpoints.iter().zip(states).enumerate();
    all.filter(move |(_, (endpoint, _))| endpoint.side == side)
        .map(|(id, (endpoint, state))| (id, endpoint, *state))
}

fn share_session(a: &EndpointState, b: &EndpointState) -> bool {
    a.facts().zip(b.facts()).is_some_and(|(a, b)| a.session_id == b.session_id)
}

/// Returns the clients and servers that received all of each other's messages.
pub(crate) fn completed(endpoints: &[Endpoint], states: &[&EndpointState]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (c, client, at_client) in on_side(Side::Client, endpoints, states) {
        for (s, server, at_server) in on_side(Side::Server, endpoints, states) {
            if share_session(at_client, at_server)
                && at_client.report.received == server.messages()
                && at_server.report.received == client.messages()
            {
                pairs.push((c, s));
            }
        }
    }
    pairs
}

/// Returns the violations in a state of a world.
pub(crate) fn violations(endpoints: &[Endpoint], states: &[&EndpointState]) -> BTreeSet<Violation> {
    let mut found = BTreeSet::new();
    let clients = on_side(Side::Client, endpoints, states);
    let servers = on_side(Side::Server, endpoints, states);
    for (c, client, state) in clients.clone().filter(|(_, _, state)| state.facts().is_some()) {
        let mut partners = servers.clone().filter(|(_, _, server)| share_session(state, server));
        match partners.next() {
            None => _ = found.insert(Violation::NoPartner),
            Some((_, server, partner)) => {
                check_client((client, state), (server, partner), &mut found);
            }
        }
        let twin = clients.clone().any(|(other, _, twin)| other != c && share_session(state, twin));
        if partners.next().is_some() || twin {
            found.insert(Violation::SessionShared);
        }
    }
    for (s, server, state) in servers.clone() {
        let Some(m2) = &state.m2 else { continue };
        let mut senders = clients.clone().filter(|(_, _, client)| client.m2.as_ref() == Some(m2));
        match senders.next() {
            None => _ = found.insert(Violation::ServerDeceived),
            Some((_, client, partner)) => {
                check_server((client, partner), (server, state), &mut found);
            }
        }
        let twin =
            servers.clone().any(|(other, _, twin)| other != s && twin.m2.as_ref() == Some(m2));
        if senders.next().is_some() || twin {
            found.insert(Violation::M2Reused);
        }
    }
    found
}

fn is_self(a: &Endpoint, b: &Endpoint) -> bool {
    a.name == b.name || a.process_id == b.process_id
}

/// Whether `state` received only the messages of `partner`, each once and in order.
fn messages_match(state: &EndpointState, partner: &Endpoint, at_partner: &EndpointState) -> bool {
    let received = &state.report.received;
    received.is_empty()
        || (share_session(state, at_partner) && partner.messages().starts_with(received))
}

/// Checks an established client against a server of the same session.
fn check_client(
    (client, at_client): (&Endpoint, &EndpointState),
    (server, at_server): (&Endpoint, &EndpointState),
    found: &mut BTreeSet<Violation>,
) {
    let agree = at_client.facts().zip(at_server.facts()).is_some_and(|(ours, theirs)| {
        ours.name == server.name
            && theirs.name == client.name
            && (&ours.key_id, ours.secret, ours.exporter)
                == (&theirs.key_id, theirs.secret, theirs.exporter)
    });
    if !agree || at_client.m2 != at_server.m2 {
        found.insert(Violation::Disagreement);
    }
    if !messages_match(at_client, server, at_server) {
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

/// Checks a server that sent M3 against the client whose M2 it answered.
fn check_server(
    (client, at_client): (&Endpoint, &EndpointState),
    (server, at_server): (&Endpoint, &EndpointState),
    found: &mut BTreeSet<Violation>,
) {
    if !messages_match(at_server, client, at_client) {
        found.insert(Violation::WrongMessage);
    }
    if is_self(client, server) {
        found.insert(Violation::SelfAtServer);
    }
    if client.expected.is_some_and(|name| name != server.name) {
        found.insert(Violation::WrongServerAnswered);
    }
    if client.channel != server.channel || !server.secrets.contains(&client.secrets[0]) {
        found.insert(Violation::WrongClientAnswered);
    }
}
