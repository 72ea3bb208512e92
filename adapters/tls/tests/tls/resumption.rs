//! Resumption, early data and ALPN are neither offered nor accepted.

use std::io::Write;
use std::sync::Arc;
use std::task::Waker;

use countersign::{Instant, Role};
use countersign_host::ProtocolFactory;
use countersign_tls::TlsFactory;
use rustls::pki_types::ServerName;
use rustls::{HandshakeKind, ServerConnection};

use crate::endpoint::Endpoint;
use crate::inner::Inner;
use crate::pki::{NAME, Pki, Version};
use crate::rustls_peer::{RustlsPeer, client, receive, transmit};

/// A server that is configured for resumption does not resume the session that a client has from
/// another server with the same keys, tickets and session storage.
fn assert_no_resumption(version: Version, tickets: bool) {
    let pki = Pki::new();
    let mut config = pki.server_config(version);
    if tickets {
        config.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
    }
    config.send_tls13_tickets = 4;
    config.max_early_data_size = u32::MAX;
    let other_config = Arc::new(config.clone());
    let mut client_config = pki.client_config(version);
    client_config.enable_early_data = true;
    client_config.alpn_protocols = vec![b"h2".to_vec()];
    let client_config = Arc::new(client_config);
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut other = ServerConnection::new(other_config.clone()).unwrap().into();
        let mut earlier = client(&client_config).into();
        for _ in 0..4 {
            receive(&mut other, &transmit(&mut earlier));
            receive(&mut earlier, &transmit(&mut other));
        }
        assert_eq!(earlier.handshake_kind(), Some(kind), "{version:?}");
    }
    let sessions = Inner::None.sessions(Role::Server);
    let factory = TlsFactory::with_server_config(sessions, config);
    for _ in 0..3 {
        let mut client = client(&client_config);
        let early = client.early_data();
        // rustls's tickets do not allow early data.
        assert_eq!(early.is_some(), version == Version::Tls13 && !tickets);
        if let Some(mut early) = early {
            early.write_all(b"\0\0\0\x05early").unwrap();
        }
        let server =
            Endpoint::answering(factory.server(&Waker::noop().into(), Instant::EPOCH).unwrap());
        let mut peer = RustlsPeer::connect(client, server);
        let hello = peer.records(b"hello");
        peer.server.receive_all(&hello);
        peer.exchange();
        assert_eq!(peer.server.received, b"hello");
        assert_eq!(peer.received(), b"\0\0\0\x05HELLO");
        assert_eq!(peer.tls.handshake_kind(), Some(HandshakeKind::Full), "{version:?}");
        assert_eq!(peer.tls.alpn_protocol(), None);
    }
}

#[test]
fn server_never_resumes_whatever_its_configuration() {
    for version in Version::ALL {
        for tickets in [true, false] {
            assert_no_resumption(version, tickets);
        }
    }
}

/// The extensions of the ClientHello in the record `bytes`.
fn extensions(bytes: &[u8]) -> Vec<u16> {
    let u16_at = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    // Skip the headers, the version and the random; then session id, cipher suites, compression.
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
fn client_hello_offers_no_resumption_or_early_data() {
    let (alpn, master_secret, ticket, pre_shared, early) = (16, 23, 35, 41, 42);
    for version in Version::ALL {
        let pki = Pki::new();
        let mut config = pki.client_config(version);
        config.enable_early_data = true;
        let name = ServerName::try_from(NAME).unwrap();
        let sessions = Inner::None.sessions(Role::Client);
        let factory = TlsFactory::with_client_config(sessions, config, name);
        for _ in 0..2 {
            let protocol = factory.client(&Waker::noop().into(), Instant::EPOCH).unwrap();
            let found = extensions(&Endpoint::new(protocol).transmit());
            for unwanted in [alpn, ticket, pre_shared, early] {
                assert!(!found.contains(&unwanted), "{version:?}: {unwanted} in {found:?}");
            }
            let required = version == Version::Tls12;
            assert!(found.contains(&master_secret) || !required, "{found:?}");
        }
    }
}
