//! Ten thousand clients at once, held by one thread. Prints what one costs; `bench/memory.rs` does so for
//! every adapter and scheme.

#![cfg(test)]

mod common;
#[allow(dead_code, reason = "shared with a benchmark that needs more of it")]
#[path = "common/crowd.rs"]
mod crowd;

use std::io::Read;
use std::net::TcpStream;

use common::{At, PATIENCE, Scratch, Server, allow_files};
use crowd::{Crowd, KEY, sessions};

const CLIENTS: usize = 10_000;

fn hold(scheme: &str) {
    if !allow_files(CLIENTS as u64 + 200) {
        return;
    }
    let scratch = Scratch::new();
    let args = ["--listen", "127.0.0.1:0", "--max-connections", "11000", "--scheme", scheme];
    let server = Server::start(&scratch, KEY, &args);
    let crowd = Crowd::new(&server.at[0], scheme, sessions(scheme));
    // The first pays for what every server needs.
    crowd.ask(&mut crowd.enter(1), "first of all");
    let before = server.memory();

    let mut clients = crowd.enter(CLIENTS);
    crowd.ask(&mut clients, "once");
    crowd.ask(&mut clients, "again");

    let grown = server.memory().saturating_sub(before);
    let each = grown / CLIENTS as u64;
    println!("memory per idle connection of {scheme}: {each} bytes");
    assert!(each < 1024, "{each} bytes");
}

/// Ten thousand strangers who hear the server's first message and say nothing.
fn half_open() {
    if !allow_files(CLIENTS as u64 + 200) {
        return;
    }
    let scratch = Scratch::new();
    let args = ["--listen", "127.0.0.1:0", "--max-connections", "11000", "--scheme", "mutual"];
    let server =
        Server::start(&scratch, KEY, &[&args[..], &["--max-handshakes", "11000"]].concat());
    let At::Tcp(at) = &server.at[0] else { panic!("not listening on TCP") };
    let before = server.memory();
    let mut strangers: Vec<TcpStream> =
        (0..CLIENTS).map(|_| TcpStream::connect(at).unwrap()).collect();
    for stranger in &mut strangers {
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        stranger.read_exact(&mut [0; 45]).unwrap();
    }
    let each = server.memory().saturating_sub(before) / CLIENTS as u64;
    println!("memory per half-open connection of mutual: {each} bytes");
    assert!(each < 3 * 1024, "{each} bytes");

    let crowd = Crowd::new(&server.at[0], "mutual", sessions("mutual"));
    let mut honest = crowd.enter(1);
    crowd.ask(&mut honest, "among strangers");
    for mut stranger in strangers {
        let mut rest = Vec::new();
        stranger.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"\0\0\0\x02\x7f\x05", "not told that it was too slow");
    }
    crowd.ask(&mut honest, "still there");
}

#[test]
fn ten_thousand_at_once_cost_little_whether_they_talk_or_say_nothing() {
    // One after the other: both need all the files there are.
    for scheme in ["mutual", "challenge"] {
        hold(scheme);
    }
    half_open();
}
