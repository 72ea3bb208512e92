//! Faults of peers, drivers and configurations.

use std::sync::Arc;
use std::task::Waker;

use countersign::{Error, Event, Instant, Remaining, Role, TimedOut};
use countersign_host::{ProtocolFactory, StartError};
use countersign_tls::{Tls, TlsError, TlsFactory};
use rustls::crypto::{CipherSuiteCommon, ring};
use rustls::{SupportedCipherSuite, Tls12CipherSuite};

use crate::endpoint::Endpoint;
use crate::inner::Inner;
use crate::link::Link;
use crate::pki::{NAME, Pki, Version};
use crate::rustls_peer::{RustlsPeer, transmit};

fn established(inner: Inner) -> Link {
    let mut link = Link::with_shared_ca(inner);
    link.run();
    assert!(link.is_established());
    link
}

#[test]
fn data_after_close_notify_is_ignored() {
    for version in Version::ALL {
        let mut peer = RustlsPeer::new(version);
        let mut bytes = peer.records(b"hello");
        peer.tls.send_close_notify();
        bytes.extend(transmit(&mut peer.tls));
        // More than rustls reads at once.
        bytes.extend([0; 8000]);
        peer.server.receive_all(&bytes);
        assert_eq!(peer.server.received, b"hello");
        assert!(peer.server.peer_finished && peer.server.result.is_none());
        assert!(!peer.server.transmit().is_empty());
        peer.server.poll();
        peer.server.transmit();
        peer.server.poll();
        assert_eq!(peer.server.result, Some(Ok(())));
    }
}

#[test]
fn data_before_a_bad_record_is_delivered() {
    for version in Version::ALL {
        for separate in [true, false] {
            let mut peer = RustlsPeer::new(version);
            let good = peer.records(b"hello");
            let bad = [&[23, 3, 3, 0, 40][..], &[1; 40]].concat();
            if separate {
                peer.server.receive_all(&good);
                peer.server.receive_all(&bad);
            } else {
                peer.server.receive_all(&[good, bad].concat());
            }
            assert_eq!(peer.server.received, b"hello", "{separate}");
            assert_eq!(peer.server.error(), Error::from(TlsError::Broken));
        }
    }
}

/// With debug assertions, rustls panics here: see the documentation of the crate.
#[test]
fn bad_record_after_our_close_notify_is_an_error() {
    let mut link = established(Inner::Raw);
    link.server.protocol.finish(link.server.now);
    assert!(!link.server.transmit().is_empty());
    link.client.outbox().send(b"hello").unwrap();
    let mut record = link.client.transmit();
    *record.last_mut().unwrap() ^= 1;
    link.server.receive_all(&record);
    assert_eq!(link.server.error(), Error::from(TlsError::Broken));
    assert!(link.server.received.is_empty());
}

#[test]
fn pending_chunks_are_consumed_before_truncation() {
    let mut link = established(Inner::None);
    for message in [b"one", b"two"] {
        link.client.outbox().send(message).unwrap();
    }
    let bytes = link.client.transmit();
    let Endpoint { mut protocol, now, .. } = link.server;
    let space = protocol.recv_space();
    space[..bytes.len()].copy_from_slice(&bytes);
    protocol.handle_received(bytes.len(), now);
    let whole = Event::Chunk { first: true, remaining: Remaining::End };
    assert_eq!(protocol.poll_event(now), Ok(Some(whole)));
    protocol.handle_eof(now);
    assert_eq!(protocol.poll_event(now), Ok(None));
    assert_eq!(protocol.split().0, b"one");
    protocol.consume(now);
    assert_eq!(protocol.poll_event(now), Ok(Some(whole)));
    assert_eq!(protocol.split().0, b"two");
    protocol.consume(now);
    assert!(matches!(protocol.poll_event(now), Err(Error::Truncated(_))));
}

#[test]
fn eof_after_inner_fin_needs_no_close_notify() {
    let mut link = established(Inner::Mutual);
    link.server.answers = false;
    link.client.protocol.finish(link.client.now);
    let fin = link.client.transmit();
    link.server.receive(&fin);
    link.server.poll();
    link.server.receive_eof();
    link.server.poll();
    assert!(link.server.peer_finished && link.server.result.is_none());
    link.server.outbox().send(b"still here").unwrap();
    assert!(!link.server.transmit().is_empty());
}

#[test]
fn unsent_tls_flight_times_out_after_30_seconds() {
    let Link { mut client, mut server, .. } = Link::with_shared_ca(Inner::None);
    server.receive_all(&client.transmit());
    client.receive_all(&server.transmit());
    assert!(client.established);
    // The client's last flight does not leave.
    assert_eq!(client.transmit_at_most(1).len(), 1);
    client.outbox().send(b"hello").unwrap();
    assert_eq!(client.protocol.poll_timeout().unwrap().as_micros(), 30_000_000);
    client.set_time(30);
    assert_eq!(client.error(), Error::TimedOut(TimedOut::Send));
    assert!(client.protocol.is_done() && client.protocol.wants_shutdown());
}

#[test]
fn unsolicited_handle_received_is_ignored() {
    let mut link = established(Inner::None);
    link.server.answers = false;
    let mut bytes = Vec::new();
    for _ in 0..4 {
        link.client.outbox().send(&[b'a'; 3000]).unwrap();
        bytes.extend(link.client.transmit());
    }
    assert_eq!(link.server.receive(&bytes), bytes.len());
    let protocol = &mut link.server.protocol;
    assert!(matches!(protocol.poll_event(Instant::EPOCH), Ok(Some(Event::Chunk { .. }))));
    assert!(protocol.recv_space().is_empty());
    protocol.handle_received(0, Instant::EPOCH);
    protocol.consume(Instant::EPOCH);
    link.server.poll();
    assert_eq!(link.server.received.len(), 9000);
}

#[test]
fn handshake_bytes_from_a_peer_are_limited() {
    let mut server = Link::with_shared_ca(Inner::Mutual).server;
    // A ClientHello that does not end.
    let hello = [&[1, 0, 0xff, 0][..], &[0; 0xff00]].concat();
    let mut read = 0;
    for fragment in hello.chunks(1 << 14) {
        let header = [&[22, 3, 1][..], &(fragment.len() as u16).to_be_bytes()].concat();
        let record = [&header, fragment].concat();
        let mut remaining = &record[..];
        while !remaining.is_empty() && server.result.is_none() {
            let n = server.receive(remaining);
            server.poll();
            remaining = &remaining[n..];
            read += n;
        }
    }
    assert_eq!(server.error(), Error::from(TlsError::Broken));
    assert!(read <= (32 << 10) + (17 << 10), "{read}");
}

#[test]
fn exhausted_tls12_keys_are_an_error() {
    let SupportedCipherSuite::Tls12(suite) =
        ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    else {
        panic!("not a suite of TLS 1.2")
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
    let pki = Pki::new();
    let client = pki.client_config_with(provider.clone(), Version::Tls12);
    let server = pki.server_config_with(provider, Version::Tls12);
    let name = NAME.try_into().unwrap();
    let client = TlsFactory::with_client_config(Inner::None.sessions(Role::Client), client, name);
    let server = TlsFactory::with_server_config(Inner::None.sessions(Role::Server), server);
    let mut link = Link::new(
        client.client(&Waker::noop().into(), Instant::EPOCH).unwrap(),
        server.server(&Waker::noop().into(), Instant::EPOCH).unwrap(),
    );
    link.server.answers = false;
    link.run();
    let mut accepted = 0;
    while link.client.result.is_none() {
        accepted += u64::from(link.client.outbox().send(b"x").is_ok());
        link.run();
        assert!(accepted < limit, "the limit has no effect");
    }
    assert_eq!(link.client.error(), Error::from(TlsError::KeysExhausted));
    assert!(link.client.protocol.is_done());
    // The last message was accepted, but found the keys exhausted.
    assert_eq!(link.server.received.len() as u64, accepted - 1);
    assert!(matches!(link.server.error(), Error::Truncated(_)));
}

#[test]
fn config_without_extended_master_secret_is_refused() {
    let pki = Pki::new();
    let inner =
        || Inner::Mutual.sessions(Role::Server).server(&Waker::noop().into(), Instant::EPOCH);
    let server = Arc::new(pki.server_config(Version::Tls12));
    let result = Tls::server(server, inner().unwrap());
    assert!(matches!(result, Err(StartError::Channel)));
    let client = Arc::new(pki.client_config(Version::Tls12));
    let result = Tls::client(client, NAME.try_into().unwrap(), inner().unwrap());
    assert!(matches!(result, Err(StartError::Channel)));
}
