//! What is never offered and never taken: resumption, early data, protocols by name.

use std::io::Write;
use std::sync::Arc;
use std::task::Waker;

use countersign::{Instant, Role};
use countersign_host::ProtocolFactory;
use countersign_tls::TlsFactory;
use rustls::pki_types::ServerName;
use rustls::{HandshakeKind, ServerConnection};

use crate::ends::{End, Inside};
use crate::peer::{Peer, client, hears, said};
use crate::pki::{NAME, Pki, Version};

/// A server that takes up no session, though it was configured to, and with a client that has `another`
/// service's, which shares all there is to share with it.
fn takes_up_nothing(version: Version, tickets: bool) {
    let pki = Pki::new();
    let mut config = pki.server_config(version);
    if tickets {
        config.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
    }
    config.send_tls13_tickets = 4;
    config.max_early_data_size = u32::MAX;
    let another = Arc::new(config.clone());
    let mut visitor = pki.client_config(version);
    visitor.enable_early_data = true;
    visitor.alpn_protocols = vec![b"h2".to_vec()];
    let visitor = Arc::new(visitor);
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut other = ServerConnection::new(another.clone()).unwrap().into();
        let mut visit = client(&visitor).into();
        for _ in 0..4 {
            hears(&mut other, &said(&mut visit));
            hears(&mut visit, &said(&mut other));
        }
        assert_eq!(visit.handshake_kind(), Some(kind), "{version:?}");
    }
    let sessions = Inside::None.sessions(Role::Server);
    let ours = TlsFactory::with_server_config(sessions, config);
    for _ in 0..3 {
        let mut client = client(&visitor);
        let early = client.early_data();
        // rustls gives none with tickets.
        assert_eq!(early.is_some(), version == Version::Tls13 && !tickets);
        if let Some(mut early) = early {
            early.write_all(b"\0\0\0\x05early").unwrap();
        }
        let server = End::answering(ours.server(Waker::noop(), Instant::EPOCH).unwrap());
        let mut peer = Peer::meet(client, server);
        let hello = peer.message(b"hello");
        peer.server.hears_all(&hello);
        peer.exchange();
        assert_eq!(peer.server.heard, b"hello");
        assert_eq!(peer.heard(), b"\0\0\0\x05HELLO");
        assert_eq!(peer.tls.handshake_kind(), Some(HandshakeKind::Full), "{version:?}");
        assert_eq!(peer.tls.alpn_protocol(), None);
    }
}

#[test]
fn no_session_is_taken_up_again_whoever_remembers_it_and_however_the_server_was_configured() {
    for version in Version::ALL {
        for tickets in [true, false] {
            takes_up_nothing(version, tickets);
        }
    }
}

/// The extensions of the ClientHello in the record `bytes`.
fn extensions(bytes: &[u8]) -> Vec<u16> {
    let u16_at = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    // Headers, version and random; session id; suites; compression.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(bytes[at]);
    at += 2 + usize::from(u16_at(at));
    at += 1 + usize::from(bytes[at]);
    let end = at + 2 + usize::from(u16_at(at));
    assert_eq!(end, bytes.len());
    at += 2;
    let mut found = Vec::new();
    while at < end {
        found.push(u16_at(at));
        at += 4 + usize::from(u16_at(at + 2));
    }
    found
}

#[test]
fn a_client_asks_for_no_resumption_no_early_data_and_no_protocol_and_for_the_master_secret() {
    let (alpn, master_secret, ticket, pre_shared, early) = (16, 23, 35, 41, 42);
    for version in Version::ALL {
        let pki = Pki::new();
        let mut config = pki.client_config(version);
        config.enable_early_data = true;
        let name = ServerName::try_from(NAME).unwrap();
        let sessions = Inside::None.sessions(Role::Client);
        let client = TlsFactory::with_client_config(sessions, config, name);
        for _ in 0..2 {
            let machine = client.client(Waker::noop(), Instant::EPOCH).unwrap();
            let mut end = End::new(machine);
            let found = extensions(&end.said(usize::MAX));
            for never in [alpn, ticket, pre_shared, early] {
                assert!(!found.contains(&never), "{version:?}: {never} in {found:?}");
            }
            let old = version == Version::Tls12;
            assert!(found.contains(&master_secret) || !old, "{found:?}");
        }
    }
}
