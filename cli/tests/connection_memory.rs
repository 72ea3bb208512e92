//! Limits and prints the memory of the server for each of 10,000 connections. `bench/memory.rs` measures
//! every adapter and scheme.

#![cfg(test)]

#[path = "common/common.rs"]
mod common;
#[allow(dead_code, reason = "shared with a benchmark that needs more of it")]
#[path = "common/many_clients.rs"]
mod many_clients;

use std::io::Read;
use std::net::TcpStream;

use common::{PATIENCE, Server, ServerAddr, TempDir, allow_files};
use many_clients::{KEY, ManyClients, sessions};

const CLIENTS: usize = 10_000;

/// Checks the memory of idle connections.
fn check_idle(scheme: &str) {
    if !allow_files(CLIENTS as u64 + 200) {
        return;
    }
    let dir = TempDir::new();
    let args = ["--listen", "127.0.0.1:0", "--max-connections", "11000", "--scheme", scheme];
    let server = Server::start(&dir, KEY, &args);
    let many = ManyClients::new(&server.at[0], scheme, sessions(scheme));
    // The first connection pays for one-time allocations.
    many.request(&mut many.connect(1), "first of all");
    let before = server.memory();

    let mut clients = many.connect(CLIENTS);
    many.request(&mut clients, "once");
    many.request(&mut clients, "again");

    let grown = server.memory().saturating_sub(before);
    let each = grown / CLIENTS as u64;
    println!("memory per idle connection of {scheme}: {each} bytes");
    assert!(each < 1024, "{each} bytes");
}

/// Checks the memory of clients that receive the first message of the server and send nothing.
fn check_half_open() {
    if !allow_files(CLIENTS as u64 + 200) {
        return;
    }
    let dir = TempDir::new();
    let args = ["--listen", "127.0.0.1:0", "--max-connections", "11000", "--scheme", "mutual"];
    let server = Server::start(&dir, KEY, &[&args[..], &["--max-handshakes", "11000"]].concat());
    let ServerAddr::Tcp(at) = &server.at[0] else { panic!("not listening on TCP") };
    let before = server.memory();
    let mut silent: Vec<TcpStream> =
        (0..CLIENTS).map(|_| TcpStream::connect(at).unwrap()).collect();
    for stream in &mut silent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_exact(&mut [0; 45]).unwrap();
    }
    let each = server.memory().saturating_sub(before) / CLIENTS as u64;
    println!("memory per half-open connection of mutual: {each} bytes");
    assert!(each < 2 * 1024, "{each} bytes");

    let many = ManyClients::new(&server.at[0], "mutual", sessions("mutual"));
    let mut honest = many.connect(1);
    many.request(&mut honest, "among half-open ones");
    for mut stream in silent {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"\0\0\0\x02\x7f\x05", "no alert about the timeout");
    }
    many.request(&mut honest, "still there");
}

#[test]
fn ten_thousand_connections_use_little_memory() {
    // In succession: each needs most of the allowed open files.
    for scheme in ["mutual", "challenge"] {
        check_idle(scheme);
    }
    check_half_open();
}
