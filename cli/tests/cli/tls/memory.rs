//! Limits and prints the memory of the server for each connection inside TLS.

use std::sync::Arc;

use countersign_host::ProtocolFactory;

use super::tls_client::{InnerScheme, TlsClient, clients};
use super::{SERVER_TLS, serve, with_certs};
use crate::common::{Server, ServerAddr, allow_files};
use crate::honest_client::Conversation;
use crate::peer::Peer;
use crate::process::in_parallel;

const CONNECTIONS: usize = 2_000;
/// The limit for an idle connection, in bytes.
const MAX_IDLE: u64 = 16 << 10;
/// The limit for an unfinished handshake, in bytes.
const MAX_HANDSHAKE: u64 = 96 << 10;

/// Makes an unfinished connection.
type Make<'a> = dyn Fn(&ServerAddr, &Arc<dyn ProtocolFactory>) -> Peer + 'a;

/// The memory of the server for each of [`CONNECTIONS`] connections made by `make`, after it has processed all
/// input.
fn cost<T>(inner: InnerScheme, make: impl Fn(&ServerAddr, &Arc<dyn ProtocolFactory>) -> T) -> u64 {
    let scheme = if inner == InnerScheme::Mutual { "mutual" } else { "none" };
    let dir = with_certs();
    // No connection may time out while the others are made.
    let args = ["--scheme", scheme, "--handshake-timeout", "600", "--max-handshakes", "11000"];
    // The adapter std has a thread for each connection.
    let server = serve(&dir, &[&args, &SERVER_TLS[..], &["--adapter", "mio"]].concat());
    let (at, clients) = (&server.at[0], clients(&dir, inner));
    // The first connection pays for one-time allocations. Later it shows that all input is processed.
    let mut first = TlsClient::established(at, &*clients);
    assert_eq!(first.request(b"first"), b"FIRST");
    let one = make(at, &clients);
    let before = settled_memory(&server, &mut first);
    let all: Vec<T> = (0..CONNECTIONS).map(|_| make(at, &clients)).collect();
    let each = settled_memory(&server, &mut first).saturating_sub(before) / CONNECTIONS as u64;
    drop((one, all));
    first.close();
    each
}

/// The memory of the server after it has processed all input: it serves every ready connection before it
/// serves one again.
fn settled_memory(server: &Server, client: &mut TlsClient) -> u64 {
    for _ in 0..10 {
        assert_eq!(client.request(b"and now"), b"AND NOW");
    }
    server.memory()
}

fn idle(inner: InnerScheme) -> u64 {
    cost(inner, |at, clients| {
        let mut client = TlsClient::established(at, &**clients);
        assert_eq!(client.request(b"hello"), b"HELLO");
        // A long record must not leave a buffer behind.
        assert_eq!(client.request(&[b'a'; 16_000]), [b'A'; 16_000]);
        client
    })
}

/// A client that sends its side of the handshake except for the last byte.
fn all_but_finished(at: &ServerAddr, clients: &Arc<dyn ProtocolFactory>) -> Peer {
    let (mut client, hello) = TlsClient::hello(at, &**clients);
    client.peer.send(&hello);
    let mut flight = Vec::new();
    // The flight with the certificate, not the change_cipher_spec of six bytes before it.
    while flight.len() < 300 {
        client.read();
        flight.extend(client.take_output());
    }
    client.peer.send(&flight[..flight.len() - 1]);
    client.peer
}

/// An unfinished handshake message of the maximum length.
fn longest_message() -> Vec<u8> {
    let mut message = vec![1, 0, 0xff, 0xf0];
    message.resize(0xfff0, 0);
    let records = message.chunks(1 << 14);
    records
        .flat_map(|chunk| [&[22, 3, 1], &(chunk.len() as u16).to_be_bytes()[..], chunk].concat())
        .collect()
}

#[test]
fn tls_connections_use_bounded_memory() {
    if !allow_files(CONNECTIONS as u64 * 4 + 200) {
        return;
    }
    in_parallel([InnerScheme::None, InnerScheme::Mutual], |inner| {
        let each = idle(inner);
        println!("memory per idle connection inside TLS, {inner:?}: {each} bytes");
        assert!(each <= MAX_IDLE, "{each} bytes");
    });
    let hello = |at: &ServerAddr, clients: &Arc<dyn ProtocolFactory>, divisor: usize| {
        let (client, hello) = TlsClient::hello(at, &**clients);
        client.peer.send(&hello[..hello.len() / divisor]);
        client.peer
    };
    let unfinished: [(&str, &Make<'_>); 5] = [
        ("that sends nothing", &|at, _| Peer::connect(at)),
        ("with half a ClientHello", &|at, clients| hello(at, clients, 2)),
        ("with a ClientHello", &|at, clients| hello(at, clients, 1)),
        ("without Finished", &|at, clients| all_but_finished(at, clients)),
        ("with an unfinished message", &|at, _| {
            let peer = Peer::connect(at);
            peer.send(&longest_message());
            peer
        }),
    ];
    for (what, make) in unfinished {
        let each = cost(InnerScheme::Mutual, make);
        println!("memory per connection inside TLS {what}: {each} bytes");
        assert!(each <= MAX_HANDSHAKE, "{each} bytes");
    }
}
