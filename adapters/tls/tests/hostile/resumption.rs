//! What is never offered and never taken: resumption, early data, protocols by name.

use std::io::{Read, Write};
use std::sync::Arc;
use std::task::Waker;

use countersign::{Instant, Role};
use countersign_drive::{BoxedMachine, Protocol};
use countersign_tls::TlsSessions;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

use crate::common::{End, Inside};
use crate::versions::{NAME, Pki, Version};

/// What a client of the test's own, by rustls, makes of a server that answers in capitals.
fn visit(config: &Arc<ClientConfig>, server: BoxedMachine) -> ClientConnection {
    let mut server = End::answering(server);
    let name = ServerName::try_from(NAME).unwrap();
    let mut client = ClientConnection::new(config.clone(), name).unwrap();
    client.writer().write_all(b"\0\0\0\x05hello").unwrap();
    let mut heard = Vec::new();
    for _ in 0..10 {
        let mut said = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut said).unwrap();
        }
        let mut said = &said[..];
        while !said.is_empty() {
            said = &said[server.hears(said)..];
            server.poll();
        }
        let answer = server.said(usize::MAX);
        let mut answer = &answer[..];
        while !answer.is_empty() {
            client.read_tls(&mut answer).unwrap();
            client.process_new_packets().unwrap();
        }
        let _ = client.reader().read_to_end(&mut heard);
    }
    assert_eq!(heard, b"\0\0\0\x05HELLO");
    client
}

#[test]
fn a_server_resumes_nothing_however_it_was_configured() {
    for version in Version::ALL {
        let pki = Pki::new();
        let mut config = pki.server_config(version);
        config.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
        config.send_tls13_tickets = 4;
        config.max_early_data_size = u32::MAX;
        config.alpn_protocols = Vec::new();
        let sessions = Inside::None.sessions(Role::Server);
        let server = TlsSessions::with_server_config(sessions, config);
        let mut config = pki.client_config(version);
        config.enable_early_data = true;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let config = Arc::new(config);
        for _ in 0..3 {
            let client = visit(&config, server.server(Waker::noop(), Instant::EPOCH).unwrap());
            assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full), "{version:?}");
            assert!(!client.is_early_data_accepted());
            assert_eq!(client.alpn_protocol(), None);
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
        let client = TlsSessions::with_client_config(sessions, config, name);
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
