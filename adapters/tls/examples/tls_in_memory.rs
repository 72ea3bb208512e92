//! A session of the scheme `mutual` inside TLS, between two protocols in memory: certificates, the key
//! exchange with both names, one message and its answer, and an orderly end.
//!
//! `cargo run -p countersign-tls --example tls_in_memory`

use std::error::Error;
use std::task::Waker;

use countersign::{Candidates, Config, Event, Instant, Key, Mutual, ProcessId, Protocol, Scheme};
use countersign_tls::{
    Credentials, PoolOptions, Pools, ProtocolFactory, SessionFactory, TlsFactory,
};
use rcgen::{CertificateParams, KeyPair};

/// A self-signed certificate for `name`, and its private key, in PEM.
fn self_signed(name: &str) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![name.into()])?.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Plain sessions of an endpoint called `name`.
fn sessions(name: &str, process: u8) -> Result<SessionFactory, Box<dyn Error>> {
    // One process plays both endpoints here. Programs use `ProcessId::generate` once, at their start.
    let process = ProcessId::from_bytes(&[process; ProcessId::LEN]);
    let config = Config::new(Scheme::Mutual(Mutual::new(name.parse()?, process)));
    Ok(SessionFactory::new(config, Pools::new(&PoolOptions::default())))
}

/// Handles all events of `protocol`. A client sends one message and finishes when it has the answer; a
/// server answers each message in upper case.
fn handle_events(
    protocol: &mut dyn Protocol,
    key: &Key,
    is_client: bool,
) -> Result<(), Box<dyn Error>> {
    let now = Instant::EPOCH; // a program asks its clock
    while let Some(event) = protocol.poll_event(now)? {
        match event {
            Event::KeyNeeded => protocol.provide_key(Ok(Candidates::one(key)), now)?,
            Event::Established => {
                if let Some(peer) = protocol.peer() {
                    println!("authenticated {}", peer.name.unwrap_or("a peer without a name"));
                }
                if is_client {
                    protocol.split().1.send(b"hello")?;
                }
            }
            Event::Chunk { .. } => {
                let (chunk, mut outbox) = protocol.split();
                println!("received {}", String::from_utf8_lossy(chunk));
                if is_client {
                    outbox.finish();
                } else {
                    outbox.send(&chunk.to_ascii_uppercase())?;
                }
                protocol.consume(now);
            }
            Event::PeerFinished => protocol.finish(now),
            _ => {}
        }
    }
    Ok(())
}

/// Moves bytes from one protocol to the other, through the buffer `in_flight`, which a socket has too.
/// Returns whether any moved.
fn transfer(from: &mut dyn Protocol, in_flight: &mut Vec<u8>, to: &mut dyn Protocol) -> bool {
    let bytes = from.poll_transmit(Instant::EPOCH);
    let sent = bytes.len();
    in_flight.extend_from_slice(bytes);
    from.handle_transmitted(sent, Instant::EPOCH);

    let space = to.recv_space();
    let read = in_flight.len().min(space.len());
    space[..read].copy_from_slice(&in_flight[..read]);
    in_flight.drain(..read);
    to.handle_received(read, Instant::EPOCH);
    sent + read > 0
}

fn main() -> Result<(), Box<dyn Error>> {
    let (server_certificate, server_key) = self_signed("server.example")?;
    let (client_certificate, client_key) = self_signed("client.example")?;
    // Each endpoint pins the other's certificate. With a CA, both would trust the CA's instead.
    let server_credentials = Credentials::new()
        .with_certificate(server_certificate.as_bytes(), server_key.as_bytes())?
        .with_trust(client_certificate.as_bytes())?;
    let client_credentials = Credentials::new()
        .with_certificate(client_certificate.as_bytes(), client_key.as_bytes())?
        .with_trust(server_certificate.as_bytes())?;

    let servers = TlsFactory::server(sessions("server", 1)?, &server_credentials)?;
    let clients =
        TlsFactory::client(sessions("client", 2)?, &client_credentials, "server.example")?;
    let mut server = servers.server(&Waker::noop().into(), Instant::EPOCH)?;
    let mut client = clients.client(&Waker::noop().into(), Instant::EPOCH)?;

    let key = Key::mutual(b"a key that both endpoints hold")?;
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    loop {
        // A protocol reads only after all its events are handled.
        handle_events(&mut *client, &key, true)?;
        handle_events(&mut *server, &key, false)?;
        let sent = transfer(&mut *client, &mut to_server, &mut *server);
        let answered = transfer(&mut *server, &mut to_client, &mut *client);
        if !sent && !answered {
            break;
        }
    }
    assert!(client.is_done() && server.is_done());
    println!("both directions ended in order");
    Ok(())
}
