//! Ten thousand clients at once, held by one thread. Prints what an idle one costs.

#![cfg(test)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::{At, PATIENCE, Scratch, Server, allow_files};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const CLIENTS: usize = 10_000;
/// How many shake hands at once.
const BATCH: usize = 1_000;
const KEY: &str = "a key that is long enough for anyone";

fn connect(at: &At) -> TcpStream {
    let At::Tcp(at) = at else { panic!("not listening on TCP: {at}") };
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn authenticate(mut client: &TcpStream) {
    let mut challenge = [0; 32];
    client.read_exact(&mut challenge).unwrap();
    let mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    client.write_all(&mac.chain_update(challenge).finalize().into_bytes()).unwrap();
}

/// All ask before any reads its answer.
fn ask(clients: &[TcpStream], round: &str) {
    let message = |index| format!("client {index}, {round}");
    for (index, mut client) in clients.iter().enumerate() {
        client.write_all(message(index).as_bytes()).unwrap();
    }
    for (index, mut client) in clients.iter().enumerate() {
        let expected = message(index).to_uppercase();
        let mut answer = vec![0; expected.len()];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, expected.as_bytes());
    }
}

#[test]
fn ten_thousand_clients_at_once_are_all_answered_and_cost_little_when_idle() {
    if !allow_files(CLIENTS as u64 + 200) {
        return;
    }
    let scratch = Scratch::new();
    let args = ["--listen", "127.0.0.1:0", "--max-connections", "11000", "--workers", "1"];
    let server = Server::start(&scratch, KEY, &args);
    // The first pays for what every server needs.
    let first = connect(&server.at[0]);
    authenticate(&first);
    ask(&[first], "first of all");
    let before = server.memory();

    let mut clients = Vec::new();
    while clients.len() < CLIENTS {
        let batch: Vec<_> = (0..BATCH).map(|_| connect(&server.at[0])).collect();
        batch.iter().for_each(authenticate);
        clients.extend(batch);
    }
    ask(&clients, "once");
    ask(&clients, "again");

    let grown = server.memory().saturating_sub(before);
    let each = grown / CLIENTS as u64;
    println!("memory per idle connection: {each} bytes");
    assert!(each < 1024, "{each} bytes");
}
