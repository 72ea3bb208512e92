//! A machine inside TLS against a peer that is rustls alone, and says what no machine of ours would.
#![allow(clippy::unwrap_used, clippy::panic)]

#[allow(dead_code)]
mod common;

use std::io::Write;
use std::sync::Arc;
use std::task::Waker;

use common::{Ca, End, Inside, Link, Pem, credentials};
use countersign::{BadTls, Error, Event, Instant, Rest, Role, TimedOut};
use countersign_drive::{Protocol, StartError};
use countersign_tls::{Tls, TlsSessions};
use rustls::crypto::{CipherSuiteCommon, CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, SupportedCipherSuite,
    SupportedProtocolVersion, Tls12CipherSuite,
};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificate(pem: &Pem) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.certificate.as_bytes()).unwrap()
}

/// One that shows no certificate.
fn client_config(
    ca: &Ca,
    version: &'static SupportedProtocolVersion,
    provider: Arc<CryptoProvider>,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&ca.pem)).unwrap();
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[version]).unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

/// One that asks for none.
fn server_config(
    own: &Pem,
    version: &'static SupportedProtocolVersion,
    provider: Arc<CryptoProvider>,
) -> ServerConfig {
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[version]).unwrap().with_no_client_auth();
    builder.with_single_cert(vec![certificate(own)], key).unwrap()
}

/// Has `to` hear all that `from` has to say.
fn pass(from: &mut Connection, to: &mut Connection) {
    let mut said = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut said).unwrap();
    }
    let mut rest = &said[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets().unwrap();
    }
}

/// A client that is rustls alone, and a server that has let it in.
struct Peer {
    tls: Connection,
    server: End,
}

impl Peer {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let ca = Ca::new("a CA");
        let own = ca.sign("server.example");
        let server = Inside::None.server(&credentials(Some(&own), None));
        let config = Arc::new(client_config(&ca, version, provider()));
        Self::meet(&config, End::answering(server))
    }

    fn meet(config: &Arc<ClientConfig>, server: End) -> Self {
        let name = "server.example".try_into().unwrap();
        let tls = ClientConnection::new(config.clone(), name).unwrap().into();
        let mut peer = Self { tls, server };
        for _ in 0..4 {
            let said = peer.said();
            peer.tell(&said);
            let answer = peer.server.said(usize::MAX);
            let mut rest = &answer[..];
            while !rest.is_empty() {
                peer.tls.read_tls(&mut rest).unwrap();
                peer.tls.process_new_packets().unwrap();
            }
        }
        assert!(peer.server.established);
        peer
    }

    fn said(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut said).unwrap();
        }
        said
    }

    /// Has the server hear `bytes`.
    fn tell(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let n = self.server.hears(bytes);
            self.server.poll();
            if n == 0 {
                break;
            }
            bytes = &bytes[n..];
        }
        self.server.poll();
    }

    fn message(&mut self, message: &[u8]) -> Vec<u8> {
        let frame = [&(message.len() as u32).to_be_bytes(), message].concat();
        self.tls.writer().write_all(&frame).unwrap();
        self.said()
    }
}

/// A client and a server inside TLS, open.
fn link(inside: Inside) -> Link {
    let ca = Ca::new("a CA");
    let client = credentials(Some(&ca.sign("client")), Some(&ca.pem));
    let server = credentials(Some(&ca.sign("server.example")), Some(&ca.pem));
    let mut link = Link::new(inside.client(&client, "server.example"), inside.server(&server));
    link.run();
    assert!(link.is_open());
    link
}

#[test]
fn what_comes_behind_close_notify_is_ignored() {
    for version in VERSIONS {
        let mut peer = Peer::new(version);
        let mut bytes = peer.message(b"hello");
        peer.tls.send_close_notify();
        bytes.extend(peer.said());
        // More than rustls takes at once.
        bytes.extend([0; 8000]);
        peer.tell(&bytes);
        assert_eq!(peer.server.heard, b"hello");
        assert!(peer.server.finished && peer.server.over.is_none());
        assert!(!peer.server.said(usize::MAX).is_empty());
        peer.server.poll();
        peer.server.said(usize::MAX);
        peer.server.poll();
        assert_eq!(peer.server.over, Some(Ok(())));
    }
}

#[test]
fn what_came_before_a_bad_record_counts_however_it_was_cut() {
    for version in VERSIONS {
        for cut in [true, false] {
            let mut peer = Peer::new(version);
            let good = peer.message(b"hello");
            let bad = [&[23, 3, 3, 0, 40][..], &[1; 40]].concat();
            if cut {
                peer.tell(&good);
                peer.tell(&bad);
            } else {
                peer.tell(&[good, bad].concat());
            }
            assert_eq!(peer.server.heard, b"hello", "{cut}");
            assert_eq!(peer.server.error(), Error::Tls(BadTls::Broken));
        }
    }
}

#[test]
fn a_part_at_hand_is_dealt_with_before_the_end_is_found_to_be_none() {
    let mut link = link(Inside::None);
    for message in [b"one", b"two"] {
        link.client.out().send(message).unwrap();
    }
    let bytes = link.client.said(usize::MAX);
    let End { mut machine, now, .. } = link.server;
    let space = machine.recv_space();
    space[..bytes.len()].copy_from_slice(&bytes);
    machine.handle_received(bytes.len(), now);
    let whole = Event::Message { first: true, rest: Rest::End };
    assert_eq!(machine.poll_event(now), Ok(Some(whole)));
    machine.handle_eof(now);
    assert_eq!(machine.poll_event(now), Ok(None));
    assert_eq!(machine.split().0, b"one");
    machine.consume(now);
    assert_eq!(machine.poll_event(now), Ok(Some(whole)));
    assert_eq!(machine.split().0, b"two");
    machine.consume(now);
    assert!(matches!(machine.poll_event(now), Err(Error::Truncated(_))));
}

#[test]
fn an_end_that_the_inner_peer_has_announced_needs_no_close_notify() {
    let mut link = link(Inside::Mutual);
    link.server.answers = false;
    link.client.machine.finish(link.client.now);
    let fin = link.client.said(usize::MAX);
    link.server.hears(&fin);
    link.server.poll();
    link.server.ends();
    link.server.poll();
    assert!(link.server.finished && link.server.over.is_none());
    link.server.out().send(b"still here").unwrap();
    assert!(!link.server.said(usize::MAX).is_empty());
}

#[test]
fn half_a_record_has_thirty_seconds_and_is_not_idle() {
    let mut link = link(Inside::None);
    link.client.out().send(&[b'a'; 16_000]).unwrap();
    let record = link.client.said(usize::MAX);
    let (most, last) = record.split_at(record.len() - 1);
    link.server.hears(most);
    link.server.poll();
    let server = &mut link.server;
    assert!(!server.machine.is_idle() && server.machine.is_receiving());
    assert_eq!(server.machine.poll_timeout().unwrap().as_micros(), 30_000_000);
    server.at(29);
    server.hears(last);
    server.poll();
    assert_eq!(server.heard.len(), 16_000);
    server.said(usize::MAX);
    assert_eq!(server.machine.poll_timeout(), None);
    server.hears(&record[..1]);
    server.poll();
    server.at(59);
    assert_eq!(server.error(), Error::TimedOut(TimedOut::Receive));
}

#[test]
fn what_tls_itself_has_to_say_has_thirty_seconds_to_leave() {
    let ca = Ca::new("a CA");
    let own = ca.sign("server.example");
    let client = credentials(Some(&ca.sign("client")), Some(&ca.pem));
    let mut client = End::new(Inside::None.client(&client, "server.example"));
    let mut server = End::new(Inside::None.server(&credentials(Some(&own), Some(&ca.pem))));
    server.hears(&client.said(usize::MAX));
    server.poll();
    client.hears(&server.said(usize::MAX));
    client.poll();
    assert!(client.established);
    // Its last flight is stuck.
    assert_eq!(client.said(1).len(), 1);
    client.out().send(b"hello").unwrap();
    assert_eq!(client.machine.poll_timeout().unwrap().as_micros(), 30_000_000);
    client.at(30);
    assert_eq!(client.error(), Error::TimedOut(TimedOut::Send));
    assert!(client.machine.is_done() && client.machine.wants_shutdown());
}

#[test]
fn a_report_that_nobody_asked_for_changes_nothing() {
    let mut link = link(Inside::None);
    link.server.answers = false;
    let mut bytes = Vec::new();
    for _ in 0..4 {
        link.client.out().send(&[b'a'; 3000]).unwrap();
        bytes.extend(link.client.said(usize::MAX));
    }
    assert_eq!(link.server.hears(&bytes), bytes.len());
    let machine = &mut link.server.machine;
    assert!(matches!(machine.poll_event(Instant::EPOCH), Ok(Some(Event::Message { .. }))));
    assert!(machine.recv_space().is_empty());
    machine.handle_received(0, Instant::EPOCH);
    machine.consume(Instant::EPOCH);
    link.server.poll();
    assert_eq!(link.server.heard.len(), 9000);
}

#[test]
fn a_stranger_is_heard_for_so_many_bytes_and_no_more() {
    let ca = Ca::new("a CA");
    let own = credentials(Some(&ca.sign("server.example")), None);
    let mut server = End::new(Inside::Mutual.server(&own));
    // A ClientHello that does not end.
    let hello = [&[1, 0, 0xff, 0][..], &[0; 0xff00]].concat();
    let mut taken = 0;
    for fragment in hello.chunks(1 << 14) {
        let header = [&[22, 3, 1][..], &(fragment.len() as u16).to_be_bytes()].concat();
        let record = [&header, fragment].concat();
        let mut rest = &record[..];
        while !rest.is_empty() && server.over.is_none() {
            let n = server.hears(rest);
            server.poll();
            rest = &rest[n..];
            taken += n;
        }
    }
    assert_eq!(server.error(), Error::Tls(BadTls::Broken));
    assert!(taken <= (32 << 10) + (17 << 10), "{taken}");
}

#[test]
fn no_session_is_taken_up_again_whoever_made_the_ticket() {
    for version in VERSIONS {
        let ca = Ca::new("a CA");
        let own = ca.sign("server.example");
        let mut config = server_config(&own, version, provider());
        config.ticketer = ring::Ticketer::new().unwrap();
        // A service of somebody else's, with the same key for its tickets.
        let mut other: Connection =
            rustls::ServerConnection::new(Arc::new(config.clone())).unwrap().into();
        let client = Arc::new(client_config(&ca, version, provider()));
        let name = "server.example".try_into().unwrap();
        let mut first: Connection = ClientConnection::new(client.clone(), name).unwrap().into();
        for _ in 0..4 {
            pass(&mut first, &mut other);
            pass(&mut other, &mut first);
        }
        let sessions = Inside::None.sessions(Role::Server);
        let ours = TlsSessions::with_server_config(sessions, config);
        for _ in 0..2 {
            let server = End::answering(ours.server(Waker::noop(), Instant::EPOCH).unwrap());
            let peer = Peer::meet(&client, server);
            assert_eq!(peer.tls.handshake_kind(), Some(rustls::HandshakeKind::Full));
        }
    }
}

#[test]
fn keys_that_are_used_up_are_an_error_and_not_an_end() {
    let SupportedCipherSuite::Tls12(suite) =
        ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    else {
        panic!("not of TLS 1.2")
    };
    let limit = 60;
    let common = CipherSuiteCommon {
        suite: suite.common.suite,
        hash_provider: suite.common.hash_provider,
        confidentiality_limit: limit,
    };
    let suite: &'static Tls12CipherSuite = Box::leak(Box::new(Tls12CipherSuite {
        common,
        prf_provider: suite.prf_provider,
        kx: suite.kx,
        sign: suite.sign,
        aead_alg: suite.aead_alg,
    }));
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![SupportedCipherSuite::Tls12(suite)];
    let provider = Arc::new(provider);
    let ca = Ca::new("a CA");
    let client = client_config(&ca, &TLS12, provider.clone());
    let server = server_config(&ca.sign("server.example"), &TLS12, provider);
    let name = "server.example".try_into().unwrap();
    let client = TlsSessions::with_client_config(Inside::None.sessions(Role::Client), client, name);
    let server = TlsSessions::with_server_config(Inside::None.sessions(Role::Server), server);
    let mut link = Link::new(
        client.client(Waker::noop(), Instant::EPOCH).unwrap(),
        server.server(Waker::noop(), Instant::EPOCH).unwrap(),
    );
    link.server.answers = false;
    link.run();
    let mut accepted = 0;
    while link.client.over.is_none() {
        accepted += u64::from(link.client.out().send(b"x").is_ok());
        link.run();
        assert!(accepted < limit, "there is no end");
    }
    assert_eq!(link.client.error(), Error::Tls(BadTls::KeysUsedUp));
    assert!(link.client.machine.is_done());
    // All but the one that it failed with.
    assert_eq!(link.server.heard.len() as u64, accepted - 1);
    assert!(matches!(link.server.error(), Error::Truncated(_)));
}

#[test]
fn tls_that_has_no_channel_binding_is_not_begun() {
    let ca = Ca::new("a CA");
    let inner = || Inside::Mutual.sessions(Role::Server).server(Waker::noop(), Instant::EPOCH);
    let server = Arc::new(server_config(&ca.sign("server.example"), &TLS12, provider()));
    let begun = Tls::server(server, inner().unwrap());
    assert!(matches!(begun, Err(StartError::Channel)));
    let client = Arc::new(client_config(&ca, &TLS12, provider()));
    let begun = Tls::client(client, "server.example".try_into().unwrap(), inner().unwrap());
    assert!(matches!(begun, Err(StartError::Channel)));
}
