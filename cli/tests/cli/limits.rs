//! Limits of the server: connections, handshakes, open files, queued bytes, failures of an address.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::KEY;
use crate::common::{PATIENCE, Server, ServerAddr, TempDir, allow_files, default_scheme};
use crate::honest_client::HonestClient;
use crate::peer::{Peer, PeerScheme};
use crate::process::{Process, in_parallel};

const SCHEME: PeerScheme = PeerScheme::Challenge(KEY);
/// TCP and Unix sockets, with one worker and with two.
const LISTENERS: [[&str; 4]; 4] = [
    ["--listen", "127.0.0.1:0", "--workers", "1"],
    ["--listen", "127.0.0.1:0", "--workers", "2"],
    ["--listen", "unix:s", "--workers", "1"],
    ["--listen", "unix:s", "--workers", "2"],
];

/// Connects repeatedly until the server accepts: it frees a slot some time after a client has left.
fn connect_until_served(at: &ServerAddr) -> Peer {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        let peer = Peer::connect(at);
        let mut challenge = [0; 32];
        if std::io::Read::read_exact(&mut &peer.0, &mut challenge).is_ok() {
            peer.send(&crate::peer::proof(KEY, &challenge));
            assert_eq!(peer.request(SCHEME, b"again"), b"AGAIN");
            return peer;
        }
    }
    panic!("no client was served");
}

#[test]
fn five_thousand_silent_clients_time_out() {
    const SILENT: usize = 5_000;
    if !allow_files(SILENT as u64 + 500) {
        return;
    }
    let dir = TempDir::new();
    // The adapter std allows fewer connections by default.
    let args = ["--listen", "127.0.0.1:0", "--handshake-timeout", "5", "--max-connections", "5500"];
    let args = [&args[..], &["--workers", "2"]].concat();
    let server = Server::start(&dir, KEY, &args);
    let at = &server.at[0];
    let honest = HonestClient::start(at, SCHEME);
    let silent: Vec<_> = (0..SILENT).map(|_| Peer::connect(at)).collect();
    for client in &silent {
        assert_eq!(client.challenge().len(), 32);
    }
    for client in &silent {
        assert!(client.read_to_end().is_empty());
    }
    honest.finish();
    let count = |log: &str| log.matches("reason=handshake-timeout").count();
    server.log.wait("a timeout of each client", |log, _| count(log) == SILENT);
}

#[test]
fn max_connections_is_enforced_and_slots_are_reused() {
    in_parallel(LISTENERS, |listener| {
        let dir = TempDir::new();
        let args = [&listener[..], &["--max-connections", "3"]].concat();
        let server = Server::start(&dir, KEY, &args);
        let at = &server.at[0];
        let mut clients: Vec<_> = (0..3).map(|_| Peer::authenticated(at, SCHEME)).collect();
        for client in &clients {
            assert_eq!(client.request(SCHEME, b"hello"), b"HELLO");
        }
        for _ in 0..5 {
            assert!(Peer::connect(at).read_to_end().is_empty());
        }
        server.wait_log("reason=overload");
        for client in &clients {
            assert_eq!(client.request(SCHEME, b"hello"), b"HELLO");
        }
        for leave in [Peer::reset as fn(Peer), drop] {
            leave(clients.remove(0));
            clients.push(connect_until_served(at));
            assert!(Peer::connect(at).read_to_end().is_empty());
        }
    });
}

#[test]
fn handshake_timeout_frees_a_connection_slot() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let dir = TempDir::new();
    let args = ["--listen", "127.0.0.1:0", "--max-connections", "1", "--handshake-timeout", "2"];
    let server = Server::start(&dir, KEY, &args);
    let since = Instant::now();
    let silent = Peer::connect(&server.at[0]);
    silent.challenge();
    let refused = Peer::connect(&server.at[0]).read_to_end().is_empty();
    // On a loaded machine the slot may be free already.
    assert!(refused || since.elapsed() >= TIMEOUT);
    connect_until_served(&server.at[0]);
    assert!(silent.read_to_end().is_empty());
}

#[test]
fn server_out_of_files_keeps_serving_and_recovers() {
    in_parallel(LISTENERS, |listener| {
        let dir = TempDir::new();
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n 40; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_countersign")]);
        shell
            .args(["serve", "--handshake-timeout", "60"])
            .args(listener)
            .args(default_scheme(&listener));
        shell.current_dir(dir.path()).env("COUNTERSIGN_KEY", KEY);
        let server = Server::spawn(shell, 1);
        let at = &server.at[0];
        server.wait_log("raise `ulimit -n`");
        let old = Peer::authenticated(at, SCHEME);
        assert_eq!(old.request(SCHEME, b"old"), b"OLD");
        let clients: Vec<_> = (0..80).map(|_| Peer::connect(at)).collect();
        server.wait_log("cannot accept");
        for _ in 0..10 {
            assert_eq!(old.request(SCHEME, b"old"), b"OLD");
        }
        // The last clients in the listen queue get their challenge when others have left.
        assert!(!clients[79].is_closed_within(Duration::from_millis(200)));
        let (first, last) = clients.split_at(60);
        first.iter().for_each(|peer| peer.0.shutdown(std::net::Shutdown::Both).unwrap());
        for peer in last {
            peer.0.set_read_timeout(Some(PATIENCE)).unwrap();
            peer.send(&crate::peer::proof(KEY, &peer.challenge()));
            assert_eq!(peer.request(SCHEME, b"late"), b"LATE");
        }
        assert_eq!(old.request(SCHEME, b"old"), b"OLD");
        // Failed attempts to accept are not logged each time.
        let warnings = server.log.wait("the log", |_, _| true).matches("cannot accept").count();
        assert!(warnings < 10, "{warnings} warnings");
    });
}

/// A worker may start late, after clients have taken every descriptor.
#[test]
fn server_that_listens_has_all_descriptors_that_it_needs() {
    const WORKERS: &str = "3";
    /// The standard streams and, for each worker, a listener and an event loop: fewer are never enough.
    const TOO_FEW: u32 = 9;
    let mut started = 0;
    for limit in TOO_FEW.. {
        let dir = TempDir::new();
        let mut shell = Command::new("sh");
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_countersign"), "serve"]);
        shell.args(["--listen", "127.0.0.1:0", "--workers", WORKERS, "--scheme", "challenge"]);
        let server = Process::start(shell.current_dir(dir.path()).env("COUNTERSIGN_KEY", KEY));
        let ready =
            server.out.wait("a ready line or the end", |out, ended| ended || out.contains('\n'));
        if ready.is_empty() {
            assert_eq!(started, 0, "starts with fewer descriptors than {limit}");
            server.wait().expect_code(1).expect_stderr("Too many open files");
            continue;
        }
        server.signal(Signal::TERM);
        server.wait().expect_code(0);
        started += 1;
        if started == 4 {
            return;
        }
    }
}

#[test]
fn clients_that_do_not_read_use_bounded_memory() {
    const CLIENTS: usize = 8;
    /// Bytes of each client: more than all buffers of the system between client and server hold.
    const FLOOD: usize = 64 << 20;
    in_parallel(LISTENERS, |listener| {
        let dir = TempDir::new();
        let server = Server::start(&dir, KEY, &listener);
        let at = &server.at[0];
        let honest = HonestClient::start(at, SCHEME);
        let before = server.memory();
        let clients: Vec<_> = (0..CLIENTS).map(|_| Peer::authenticated(at, SCHEME)).collect();
        let message: Vec<u8> = (b'a'..=b'z').cycle().take(26 << 11).collect();
        std::thread::scope(|scope| {
            let floods: Vec<_> = clients
                .iter()
                .map(|peer| scope.spawn(|| peer.send_until_blocked(&message, FLOOD)))
                .collect();
            let sent: Vec<usize> = floods.into_iter().map(|flood| flood.join().unwrap()).collect();
            assert!(sent.iter().all(|&sent| sent < FLOOD), "the server reads without limit");
            let grown = server.memory().saturating_sub(before);
            assert!(grown < 4 << 20, "{grown} bytes more for {CLIENTS} clients");
            for (peer, sent) in clients.iter().zip(sent) {
                let answers = peer.read(sent);
                let mut letters = (b'A'..=b'Z').cycle();
                assert!(answers.iter().all(|&byte| letters.next() == Some(byte)), "out of order");
            }
        });
        honest.finish();
    });
}

#[test]
fn source_failures_refuses_new_connections_only() {
    let dir = TempDir::new();
    let args = ["--listen", "127.0.0.1:0", "--limit-local", "--source-failures", "3"];
    let server = Server::start(&dir, KEY, &args);
    let at = &server.at[0];
    let served = Peer::authenticated(at, SCHEME);
    // The count decreases by ten per second; this loop is faster.
    let since = Instant::now();
    loop {
        assert!(since.elapsed() < PATIENCE, "the guesser is never refused");
        let guesser = Peer::connect(at);
        if std::io::Read::read_exact(&mut &guesser.0, &mut [0; 32]).is_err() {
            break;
        }
        guesser.send(&[0; 32]);
        guesser.read_to_end();
    }
    server.wait_log("scheme=challenge reason=too-many-failures");
    assert_eq!(served.request(SCHEME, b"hello"), b"HELLO");
    connect_until_served(at);
}

#[test]
fn source_handshakes_ignores_established_connections() {
    let dir = TempDir::new();
    let args = ["--listen", "127.0.0.1:0", "--limit-local", "--source-handshakes", "2"];
    let server = Server::start(&dir, KEY, &args);
    let at = &server.at[0];
    // A client knows that it is established when it has a reply.
    let connect = |_| {
        let served = Peer::authenticated(at, SCHEME);
        assert_eq!(served.request(SCHEME, b"hello"), b"HELLO");
        served
    };
    let established: Vec<_> = (0..5).map(connect).collect();
    let pending = [Peer::connect(at), Peer::connect(at)];
    for client in &pending {
        assert_eq!(client.challenge().len(), 32);
    }
    assert!(Peer::connect(at).read_to_end().is_empty());
    server.wait_log("scheme=challenge reason=too-many-handshakes");
    for served in &established {
        assert_eq!(served.request(SCHEME, b"hello"), b"HELLO");
    }
    drop(pending);
    connect_until_served(at);
}
