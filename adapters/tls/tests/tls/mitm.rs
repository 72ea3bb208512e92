//! An attacker between the two endpoints: relaying between two TLS connections, or removing TLS.

use std::task::Waker;

use countersign::{Alert, Error, Instant, Role};
use countersign_host::ProtocolFactory;

use crate::endpoint::Endpoint;
use crate::inner::Inner;
use crate::link::Link;
use crate::pki::{Pki, Version};

/// An attacker with certificates that both sides trust terminates the client's TLS connection, opens
/// one to the server, and relays the plaintext in both directions. Returns the client and the server.
fn relay(
    pki: &Pki,
    inner: Inner,
    client_version: Version,
    server_version: Version,
) -> (Endpoint, Endpoint) {
    let mut front =
        Link::new(pki.client(inner, client_version), pki.server(Inner::Raw, client_version));
    let mut back =
        Link::new(pki.client(Inner::Raw, server_version), pki.server(inner, server_version));
    front.server.answers = false;
    for _ in 0..40 {
        front.run();
        back.run();
        let from_client = std::mem::take(&mut front.server.received);
        let from_server = std::mem::take(&mut back.client.received);
        // Sending fails on a connection that has ended.
        if !from_client.is_empty() {
            let _ = back.client.outbox().send(&from_client);
        }
        if !from_server.is_empty() {
            let _ = front.server.outbox().send(&from_server);
        }
    }
    (front.client, back.server)
}

fn for_all_versions(check: impl Fn(&Pki, Version, Version)) {
    let pki = Pki::new();
    for client_version in Version::ALL {
        for server_version in Version::ALL {
            check(&pki, client_version, server_version);
        }
    }
}

#[test]
fn mutual_cannot_be_relayed_between_tls_connections() {
    for_all_versions(|pki, client_version, server_version| {
        for inner in [Inner::Mutual, Inner::Untagged] {
            let (client, server) = relay(pki, inner, client_version, server_version);
            assert!(!client.established && !server.established);
            let versions = format!("{inner:?} {client_version:?} {server_version:?}");
            assert_eq!(server.error(), Error::WrongKey, "{versions}");
            assert_eq!(client.error(), Error::Alert(Alert::Refused));
        }
    });
}

/// They have no channel binding. This also shows that the relay works.
#[test]
fn unbound_schemes_can_be_relayed() {
    for_all_versions(|pki, client_version, server_version| {
        for inner in [Inner::Challenge, Inner::Multiprocessing] {
            let (client, server) = relay(pki, inner, client_version, server_version);
            let versions = format!("{inner:?} {client_version:?} {server_version:?}");
            assert!(client.established && server.established, "{versions}");
        }
    });
}

/// A `mutual` session without TLS.
fn plain_endpoint(role: Role) -> Endpoint {
    let sessions = Inner::Mutual.sessions(role);
    let protocol = match role {
        Role::Client => sessions.client(&Waker::noop().into(), Instant::EPOCH),
        Role::Server => sessions.server(&Waker::noop().into(), Instant::EPOCH),
    };
    Endpoint::new(protocol.unwrap())
}

#[test]
fn bound_and_unbound_endpoints_do_not_authenticate() {
    let pki = Pki::new();
    for version in Version::ALL {
        // The attacker uses TLS with the client only.
        let mut front =
            Link::new(pki.client(Inner::Mutual, version), pki.server(Inner::Raw, version));
        let mut server = plain_endpoint(Role::Server);
        front.server.answers = false;
        for _ in 0..10 {
            front.run();
            server.receive_all(&std::mem::take(&mut front.server.received));
            let from_server = server.transmit();
            if !from_server.is_empty() {
                let _ = front.server.outbox().send(&from_server);
            }
        }
        assert!(!front.client.established && !server.established);
        assert_eq!(server.error(), Error::WrongKey);

        // The attacker uses TLS with the server only.
        let mut back =
            Link::new(pki.client(Inner::Raw, version), pki.server(Inner::Mutual, version));
        let mut client = plain_endpoint(Role::Client);
        for _ in 0..10 {
            back.run();
            client.receive_all(&std::mem::take(&mut back.client.received));
            let from_client = client.transmit();
            if !from_client.is_empty() {
                let _ = back.client.outbox().send(&from_client);
            }
        }
        assert!(!client.established && !back.server.established);
        assert_eq!(back.server.error(), Error::WrongKey);
    }
}
