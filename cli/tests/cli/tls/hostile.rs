//! Clients that break off, stall or send garbage inside TLS or instead of it, beside an honest client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::{Error, Truncated};
use countersign_host::ProtocolFactory;

use super::tls_client::{InnerScheme, TlsClient, clients, honest_client};
use super::{SERVER_TLS, serve, with_certs};
use crate::common::{Server, ServerAddr};
use crate::honest_client::Conversation;
use crate::peer::{Peer, frame};
use crate::process::in_parallel;

/// Runs `attack` against TLS servers with one and two workers, whose handshakes time out after `timeout`
/// seconds. An honest client must be served without delay at the same time.
fn beside_honest_client(
    inner: InnerScheme,
    timeout: &str,
    attack: impl Fn(&Server, &ServerAddr, &Arc<dyn ProtocolFactory>) + Sync,
) {
    let scheme = match inner {
        InnerScheme::None => "none",
        InnerScheme::Mutual => "mutual",
    };
    in_parallel(["1", "2"], |workers| {
        let dir = with_certs();
        let args = ["--scheme", scheme, "--workers", workers, "--handshake-timeout", timeout];
        let server = serve(&dir, &[&args, &SERVER_TLS[..]].concat());
        let clients = clients(&dir, inner);
        let honest = honest_client(&server.at[0], &clients);
        attack(&server, &server.at[0], &clients);
        honest.finish();
    });
}

/// The type of the last record. Fails unless `bytes` are complete records.
fn last_record(mut bytes: &[u8]) -> Option<u8> {
    let mut last = None;
    while let [kind, _, _, high, low, rest @ ..] = bytes {
        last = Some(*kind);
        bytes = &rest[usize::from(*high) << 8 | usize::from(*low)..];
    }
    assert!(bytes.is_empty(), "incomplete record");
    last
}

/// The type of an alert record.
const ALERT: u8 = 21;
/// The handshake timeout where a test waits for it.
const DEADLINE: Duration = Duration::from_secs(3);
/// A handshake timeout that no test reaches, in seconds.
const NO_TIMEOUT: &str = "600";

#[test]
fn partial_client_hello_times_out() {
    for inner in [InnerScheme::None, InnerScheme::Mutual] {
        beside_honest_client(inner, &DEADLINE.as_secs().to_string(), |server, at, clients| {
            let since = Instant::now();
            let silent = Peer::connect(at);
            let (half, bytes) = TlsClient::hello(at, &**clients);
            half.peer.send(&bytes[..bytes.len() / 2]);
            let (whole, bytes) = TlsClient::hello(at, &**clients);
            whole.peer.send(&bytes);
            let (three, bytes) = TlsClient::hello(at, &**clients);
            three.peer.send(&bytes[..3]);
            for (peer, plain) in
                [(silent, true), (half.peer, true), (three.peer, true), (whole.peer, false)]
            {
                // A client that has not sent a complete ClientHello gets no alert.
                let last = last_record(&peer.read_to_end());
                assert_eq!(last.is_none(), plain, "{last:?}");
                assert!(since.elapsed() >= DEADLINE * 9 / 10, "{:?}", since.elapsed());
            }
            server.wait_log("reason=handshake-timeout");
        });
    }
}

#[test]
fn tls_handshake_in_single_bytes_is_accepted() {
    for inner in [InnerScheme::None, InnerScheme::Mutual] {
        beside_honest_client(inner, NO_TIMEOUT, |_, at, clients| {
            let mut client = TlsClient::connect(at, &**clients);
            client.peer.0.set_tcp_nodelay(true).unwrap();
            client.max_write = 1;
            client.run_until(TlsClient::is_established);
            assert_eq!(client.request(b"hello"), b"HELLO");
            client.close();
        });
    }
}

#[test]
fn garbage_instead_of_tls_gets_an_alert() {
    let hello = |length: [u8; 3]| [&[22, 3, 1, 0, 4, 1][..], &length].concat();
    let garbage = [
        b"GET / HTTP/1.1\r\nHost: countersign.example\r\n\r\n".to_vec(),
        vec![0xff; 1000],
        vec![0; 1000],
        frame(b"hello"),
        // Application data before anything else.
        vec![23, 3, 3, 0, 5, 1, 2, 3, 4, 5],
        // A record longer than any.
        vec![22, 3, 1, 0xff, 0xff, 1, 0, 0xff, 0xfb],
        // An empty ClientHello.
        hello([0, 0, 0]),
        // The ClientHello of SSL 2.
        [&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10][..], &[0; 37]].concat(),
    ];
    beside_honest_client(InnerScheme::None, NO_TIMEOUT, |server, at, _| {
        for bytes in &garbage {
            let peer = Peer::connect(at);
            peer.send(bytes);
            assert_eq!(last_record(&peer.read_to_end()), Some(ALERT), "{bytes:?}");
        }
        server.wait_log("scheme=tls+none reason=tls-broken");
        // A ClientHello with an excessive length is rejected at its header, without an alert.
        let peer = Peer::connect(at);
        peer.send(&hello([0xff, 0xff, 0xff]));
        assert!(peer.read_to_end().is_empty());
    });
}

#[test]
fn end_without_close_notify_is_truncation() {
    beside_honest_client(InnerScheme::None, NO_TIMEOUT, |server, at, clients| {
        let truncate = |peer: &Peer, reason: &str| {
            peer.finish();
            // The server may send an alert, close_notify or nothing before it closes.
            peer.read_to_end();
            let from = peer.0.local_addr().unwrap().as_socket().unwrap();
            server.wait_log(&format!("peer={from} scheme=tls+none reason={reason}"));
        };
        truncate(&Peer::connect(at), "truncated-handshake");
        for len in [3, 40, usize::MAX] {
            let (client, bytes) = TlsClient::hello(at, &**clients);
            client.peer.send(&bytes[..bytes.len().min(len)]);
            truncate(&client.peer, "truncated-handshake");
        }
        let mut client = TlsClient::established(at, &**clients);
        assert_eq!(client.request(b"hello"), b"HELLO");
        truncate(&client.peer, "truncated-stream");

        let mut client = TlsClient::established(at, &**clients);
        client.queue_chunk(b"all", 2);
        client.flush();
        truncate(&client.peer, "truncated-message");

        // Within a record.
        let mut client = TlsClient::established(at, &**clients);
        client.queue(b"hello");
        let record = client.take_output();
        client.peer.send(&record[..record.len() - 1]);
        truncate(&client.peer, "truncated-stream");

        // After a complete message, with its reply in flight.
        let mut client = TlsClient::established(at, &**clients);
        client.queue(b"hello");
        client.flush();
        truncate(&client.peer, "truncated-stream");
    });
}

#[test]
fn modified_record_ends_only_its_connection() {
    beside_honest_client(InnerScheme::None, NO_TIMEOUT, |server, at, clients| {
        let mut client = TlsClient::established(at, &**clients);
        client.queue(b"hello");
        let mut record = client.take_output();
        *record.last_mut().unwrap() ^= 1;
        client.peer.send(&record);
        assert!(matches!(client.run_to_end(), Err(Error::Channel(_))), "{:?}", client.result);
        server.wait_log("scheme=tls+none reason=tls-broken");
    });
}

#[test]
fn tls_resets_do_not_disturb_other_clients() {
    for inner in [InnerScheme::None, InnerScheme::Mutual] {
        beside_honest_client(inner, NO_TIMEOUT, |_, at, clients| {
            for _ in 0..3 {
                Peer::connect(at).reset();
                let (client, bytes) = TlsClient::hello(at, &**clients);
                client.peer.send(&bytes[..bytes.len() / 2]);
                client.peer.reset();
                let (client, bytes) = TlsClient::hello(at, &**clients);
                client.peer.send(&bytes);
                client.peer.reset();
                TlsClient::established(at, &**clients).peer.reset();
                let mut client = TlsClient::established(at, &**clients);
                assert_eq!(client.request(b"hello"), b"HELLO");
                client.peer.reset();
                // With replies in flight that are never read.
                let mut client = TlsClient::established(at, &**clients);
                for _ in 0..20 {
                    client.queue(&[b'x'; 10_000]);
                    client.flush();
                }
                client.peer.reset();
            }
        });
    }
}

#[test]
fn killed_tls_server_is_truncation() {
    let dir = with_certs();
    let server = serve(&dir, &[&["--scheme", "none"], &SERVER_TLS[..]].concat());
    let mut client = TlsClient::established(&server.at[0], &*clients(&dir, InnerScheme::None));
    assert_eq!(client.request(b"hello"), b"HELLO");
    // Killed, so it sends no close_notify.
    drop(server);
    assert_eq!(client.run_to_end(), Err(Error::Truncated(Truncated::Stream)));
}
