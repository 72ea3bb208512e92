//! What peers and drivers do wrong, and what is done about it.

use std::sync::Arc;
use std::task::Waker;

use countersign::{Error, Event, Instant, Remaining, Role, TimedOut};
use countersign_host::{ProtocolFactory, StartError};
use countersign_tls::{Tls, TlsError, TlsFactory};
use rustls::crypto::{CipherSuiteCommon, ring};
use rustls::{SupportedCipherSuite, Tls12CipherSuite};

use crate::ends::{End, Inside, Link, link};
use crate::peer::{Peer, said};
use crate::pki::{NAME, Pki, Version};

fn open(inside: Inside) -> Link {
    let mut link = link(inside);
    link.run();
    assert!(link.is_open());
    link
}

#[test]
fn what_comes_behind_close_notify_is_ignored() {
    for version in Version::ALL {
        let mut peer = Peer::new(version);
        let mut bytes = peer.message(b"hello");
        peer.tls.send_close_notify();
        bytes.extend(said(&mut peer.tls));
        // More than rustls takes at once.
        bytes.extend([0; 8000]);
        peer.server.hears_all(&bytes);
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
    for version in Version::ALL {
        for cut in [true, false] {
            let mut peer = Peer::new(version);
            let good = peer.message(b"hello");
            let bad = [&[23, 3, 3, 0, 40][..], &[1; 40]].concat();
            if cut {
                peer.server.hears_all(&good);
                peer.server.hears_all(&bad);
            } else {
                peer.server.hears_all(&[good, bad].concat());
            }
            assert_eq!(peer.server.heard, b"hello", "{cut}");
            assert_eq!(peer.server.error(), Error::from(TlsError::Broken));
        }
    }
}

/// With its debug assertions on, rustls panics here: see the documentation of the crate.
#[test]
fn a_bad_record_behind_our_close_notify_is_an_error_like_any_other() {
    let mut link = open(Inside::Raw);
    link.server.machine.finish(link.server.now);
    assert!(!link.server.said(usize::MAX).is_empty());
    link.client.out().send(b"hello").unwrap();
    let mut record = link.client.said(usize::MAX);
    *record.last_mut().unwrap() ^= 1;
    link.server.hears_all(&record);
    assert_eq!(link.server.error(), Error::from(TlsError::Broken));
    assert!(link.server.heard.is_empty());
}

#[test]
fn a_part_at_hand_is_dealt_with_before_the_end_is_found_to_be_none() {
    let mut link = open(Inside::None);
    for message in [b"one", b"two"] {
        link.client.out().send(message).unwrap();
    }
    let bytes = link.client.said(usize::MAX);
    let End { mut machine, now, .. } = link.server;
    let space = machine.recv_space();
    space[..bytes.len()].copy_from_slice(&bytes);
    machine.handle_received(bytes.len(), now);
    let whole = Event::Chunk { first: true, remaining: Remaining::End };
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
    let mut link = open(Inside::Mutual);
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
fn what_tls_itself_has_to_say_has_thirty_seconds_to_leave() {
    let Link { mut client, mut server, .. } = link(Inside::None);
    server.hears_all(&client.said(usize::MAX));
    client.hears_all(&server.said(usize::MAX));
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
    let mut link = open(Inside::None);
    link.server.answers = false;
    let mut bytes = Vec::new();
    for _ in 0..4 {
        link.client.out().send(&[b'a'; 3000]).unwrap();
        bytes.extend(link.client.said(usize::MAX));
    }
    assert_eq!(link.server.hears(&bytes), bytes.len());
    let machine = &mut link.server.machine;
    assert!(matches!(machine.poll_event(Instant::EPOCH), Ok(Some(Event::Chunk { .. }))));
    assert!(machine.recv_space().is_empty());
    machine.handle_received(0, Instant::EPOCH);
    machine.consume(Instant::EPOCH);
    link.server.poll();
    assert_eq!(link.server.heard.len(), 9000);
}

#[test]
fn a_stranger_is_heard_for_so_many_bytes_and_no_more() {
    let mut server = link(Inside::Mutual).server;
    // A ClientHello that does not end.
    let hello = [&[1, 0, 0xff, 0][..], &[0; 0xff00]].concat();
    let mut taken = 0;
    for fragment in hello.chunks(1 << 14) {
        let header = [&[22, 3, 1][..], &(fragment.len() as u16).to_be_bytes()].concat();
        let record = [&header, fragment].concat();
        let mut remaining = &record[..];
        while !remaining.is_empty() && server.over.is_none() {
            let n = server.hears(remaining);
            server.poll();
            remaining = &remaining[n..];
            taken += n;
        }
    }
    assert_eq!(server.error(), Error::from(TlsError::Broken));
    assert!(taken <= (32 << 10) + (17 << 10), "{taken}");
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
    let pki = Pki::new();
    let client = pki.client_config_by(provider.clone(), Version::Tls12);
    let server = pki.server_config_by(provider, Version::Tls12);
    let name = NAME.try_into().unwrap();
    let client = TlsFactory::with_client_config(Inside::None.sessions(Role::Client), client, name);
    let server = TlsFactory::with_server_config(Inside::None.sessions(Role::Server), server);
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
    assert_eq!(link.client.error(), Error::from(TlsError::KeysExhausted));
    assert!(link.client.machine.is_done());
    // All but the one that it failed with.
    assert_eq!(link.server.heard.len() as u64, accepted - 1);
    assert!(matches!(link.server.error(), Error::Truncated(_)));
}

#[test]
fn tls_that_has_no_channel_binding_is_not_begun() {
    let pki = Pki::new();
    let inner = || Inside::Mutual.sessions(Role::Server).server(Waker::noop(), Instant::EPOCH);
    let server = Arc::new(pki.server_config(Version::Tls12));
    let begun = Tls::server(server, inner().unwrap());
    assert!(matches!(begun, Err(StartError::Channel)));
    let client = Arc::new(pki.client_config(Version::Tls12));
    let begun = Tls::client(client, NAME.try_into().unwrap(), inner().unwrap());
    assert!(matches!(begun, Err(StartError::Channel)));
}
