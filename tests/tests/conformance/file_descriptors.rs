//! A server without free file descriptors. It runs in a process of its own, so that the limit
//! affects no other test.

use std::env;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use countersign_driver::services::Echo;
use countersign_host::{Address, ConnectionHandle, Streams};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::adapters::Adapter;
use crate::protocol_spec::ProtocolSpec;
use crate::server::ServerSetup;
use crate::socket_peer::SocketPeer;
use crate::{TEST_TIMEOUT, for_each_concurrently, wait_until};

on_every_adapter! {
    server_without_descriptors_keeps_serving,
}

/// Number of clients at the end of the queue of the listener.
const LATE: usize = 10;
/// Set in the server process, to its limit of file descriptors.
const LIMIT_VARIABLE: &str = "COUNTERSIGN_CONFORMANCE_SERVE";
/// Precedes each address in the output of the server process.
const ADDRESS_PREFIX: &str = "serves at ";
/// Printed by the server process after each command.
const DONE: &str = "done";

fn server_without_descriptors_keeps_serving<A: Adapter>() {
    if let Some(files) = env::var_os(LIMIT_VARIABLE) {
        return serve::<A>(files.to_str().unwrap().parse().unwrap());
    }
    // The name of the thread is that of this test.
    let test = thread::current().name().unwrap().to_owned();
    // A connection takes up to three descriptors. With these limits a different one of them is
    // missing.
    for_each_concurrently([60, 61, 62], |files| test_server_with(*files, &test));
}

/// Runs `test` as the server process with this limit of file descriptors, and tests the server.
fn test_server_with(files: u64, test: &str) {
    const CROWD: usize = 100;
    let mut child = Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(LIMIT_VARIABLE, files.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut stdin = child.stdin.take().unwrap();
    let mut toggle_own_files = |lines: &mut BufReader<ChildStdout>| {
        writeln!(stdin).unwrap();
        while !lines.by_ref().lines().next().unwrap().unwrap().contains(DONE) {}
    };
    let addresses = [0, 1].map(|_| -> Address {
        loop {
            let mut line = String::new();
            assert!(
                lines.read_line(&mut line).unwrap() > 0,
                "the server process prints no address"
            );
            if let Some((_, address)) = line.trim_end().split_once(ADDRESS_PREFIX) {
                return address.parse().unwrap();
            }
        }
    });
    for address in addresses {
        let send_and_receive = |peer: &SocketPeer, message: &[u8]| {
            peer.send(message);
            assert_eq!(peer.read(message.len()), message);
        };
        let old = SocketPeer::connect_with_challenge(&address);
        send_and_receive(&old, b"old");
        let mut crowd: Vec<_> = (0..CROWD).map(|_| SocketPeer::connect(&address)).collect();
        // The server has no descriptors for the clients at the end of the queue.
        let late = crowd.split_off(CROWD - LATE);
        for _ in 0..10 {
            send_and_receive(&old, b"old");
        }
        assert!(!late.iter().any(has_challenge));
        // Descriptors become free without an event, and the server has to notice by itself.
        let served = || crowd.iter().filter(|peer| has_challenge(peer)).count();
        let mut before = served();
        loop {
            thread::sleep(Duration::from_millis(300));
            match served() {
                now if now == before => break,
                now => before = now,
            }
        }
        toggle_own_files(&mut lines);
        wait_until("more clients are accepted", || served() > before);
        drop(crowd);
        for peer in &late {
            let challenge = peer.read(32);
            peer.send(&crate::socket_peer::response(&challenge));
            send_and_receive(peer, b"late");
        }
        send_and_receive(&old, b"old");
        drop((old, late));
        toggle_own_files(&mut lines);
    }
    drop(stdin);
    let mut output = String::new();
    lines.read_to_string(&mut output).unwrap();
    assert!(child.wait().unwrap().success(), "{output}");
}

/// Whether the peer's challenge has arrived.
fn has_challenge(peer: &SocketPeer) -> bool {
    peer.0.set_nonblocking(true).unwrap();
    let peeked = peer.0.peek(&mut [std::mem::MaybeUninit::uninit()]);
    peer.0.set_nonblocking(false).unwrap();
    // A client that the server cannot accept yet waits.
    assert!(!matches!(peeked, Ok(0)), "the server disconnected a waiting client");
    peeked.is_ok()
}

/// Serves with this limit of file descriptors until the end of the standard input. Opens some files
/// of its own; each line of the input closes them or opens them again.
fn serve<A: Adapter>(files: u64) {
    const OWN_FILES: usize = 20;
    let open_own_files =
        || -> Vec<_> { (0..OWN_FILES).map_while(|_| File::open("/dev/null").ok()).collect() };
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), ..limit }).unwrap();
    let mut own_files = open_own_files();
    let mut setup = ServerSetup::new(ProtocolSpec::CHALLENGE);
    // No connection times out.
    setup.config = |config| config.with_handshake_timeout(10 * TEST_TIMEOUT);
    let server = setup.start::<A>(Streams(|_: ConnectionHandle| Echo));
    for address in &server.addresses {
        let mut out = std::io::stdout();
        // The test harness may have printed the start of this line.
        writeln!(out, "\n{ADDRESS_PREFIX}{address}").unwrap();
        out.flush().unwrap();
    }
    for line in std::io::stdin().lines() {
        line.unwrap();
        own_files = if own_files.is_empty() { open_own_files() } else { Vec::new() };
        println!("{DONE}");
    }
    wait_until("all clients have disconnected", || server.connection_limit.open() == 0);
}
