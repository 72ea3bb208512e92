//! The addresses that `serve` listens on.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use rustix::process::Signal;

use crate::KEY;
use crate::common::{Server, ServerAddr, TempDir, countersign};
use crate::peer::{Peer, PeerScheme};
use crate::process::{Output, Process, run};

const SCHEME: PeerScheme = PeerScheme::Challenge(KEY);

fn serves(at: &ServerAddr) {
    assert_eq!(Peer::authenticated(at, SCHEME).request(SCHEME, b"hello"), b"HELLO", "{at}");
}

fn serve(dir: &TempDir, listen: &[&str]) -> Output {
    let mut command = countersign(dir);
    command.arg("serve").args(listen).env("COUNTERSIGN_KEY", KEY);
    run(&mut command, b"")
}

#[test]
fn each_listener_is_announced_and_serves() {
    let dir = TempDir::new();
    let listen = ["127.0.0.1:0", "unix:one", "127.0.0.1:0", "unix:two"];
    let args: Vec<_> = listen.iter().flat_map(|at| ["--listen", at]).collect();
    let server = Server::start(&dir, KEY, &args);
    let port = |at: &ServerAddr| match at {
        ServerAddr::Tcp(at) => Some(at.port()),
        ServerAddr::Unix(_) => None,
    };
    let ports: Vec<_> = server.at.iter().map(port).collect();
    assert!(matches!(ports[..], [Some(1..), None, Some(1..), None]), "{ports:?}");
    assert_ne!(ports[0], ports[2]);
    for name in ["one", "two"] {
        assert!(server.at.contains(&ServerAddr::Unix(dir.path().join(name))), "{:?}", server.at);
    }
    server.at.iter().for_each(serves);
}

#[test]
fn ipv6_addresses_in_brackets_are_supported() {
    if TcpListener::bind("[::1]:0").is_err() {
        return crate::common::skip("IPv6");
    }
    let dir = TempDir::new();
    let server = Server::start(&dir, KEY, &["--listen", "[::1]:0"]);
    serves(&server.at[0]);
    let mut connect = countersign(&dir);
    connect.args(["connect", &server.at[0].to_string(), "--scheme", "challenge"]);
    connect.args(["--message", "hello"]);
    run(connect.env("COUNTERSIGN_KEY", KEY), b"").expect_code(0).expect_stdout("HELLO\n");
}

#[test]
fn workers_share_every_listener() {
    let dir = TempDir::new();
    let args = ["--listen", "127.0.0.1:0", "--listen", "unix:s", "--workers", "4"];
    let server = Server::start(&dir, KEY, &args);
    for at in &server.at {
        (0..32).for_each(|_| serves(at));
    }
}

#[test]
fn unix_sockets_are_removed_on_shutdown() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = TempDir::new();
        let args = ["--listen", "unix:one", "--listen", "127.0.0.1:0", "--listen", "unix:two"];
        let server = Server::start(&dir, KEY, &args);
        let path = |name| dir.path().join(name);
        assert!(path("one").exists() && path("two").exists());
        server.signal(signal);
        server.wait().expect_code(0);
        assert!(!path("one").exists() && !path("two").exists());
    }
}

#[test]
fn stale_unix_socket_is_replaced() {
    let dir = TempDir::new();
    let args = ["--listen", "unix:s"];
    let path = dir.path().join("s");
    // Killed, so it does not remove its socket.
    drop(Server::start(&dir, KEY, &args));
    assert!(path.exists());
    let server = Server::start(&dir, KEY, &args);
    serves(&server.at[0]);
}

/// Starts several servers at once and returns how many listen. The others must say why they do not.
fn contenders(dir: &TempDir, args: &[&str]) -> usize {
    let start = |_| {
        let mut command = countersign(dir);
        command.arg("serve").args(args).args(["--scheme", "challenge"]);
        Process::start(command.env("COUNTERSIGN_KEY", KEY))
    };
    let servers: Vec<_> = (0..4).map(start).collect();
    let mut listening = Vec::new();
    for server in servers {
        // A server that cannot listen ends without a line.
        let ready = server.out.wait("a line or the end", |text, end| text.contains('\n') || end);
        if ready.contains("LISTENING") {
            listening.push(server);
        } else {
            server.wait().expect_code(1).expect_stderr("cannot listen on");
        }
    }
    listening.len()
}

#[test]
fn one_of_several_servers_listens_on_a_stale_unix_socket() {
    let dir = TempDir::new();
    for _ in 0..10 {
        drop(UnixListener::bind(dir.path().join("s")).unwrap());
        assert_eq!(contenders(&dir, &["--listen", "unix:s"]), 1);
        fs::remove_file(dir.path().join("s")).unwrap();
    }
}

#[test]
fn one_of_several_servers_with_workers_listens_on_a_port() {
    let dir = TempDir::new();
    for _ in 0..10 {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        assert_eq!(contenders(&dir, &["--listen", &address, "--workers", "2"]), 1);
    }
}

#[test]
fn unix_socket_in_use_is_not_replaced() {
    let dir = TempDir::new();
    let path = dir.path().join("s");
    let live = UnixListener::bind(&path).unwrap();
    let output = serve(&dir, &["--listen", "unix:s"]).expect_code(1);
    output.expect_stdout("");
    output.expect_stderr("cannot listen on unix:s");
    // `serve` connected to find out whether a server listens.
    live.accept().unwrap();
    assert!(path.exists());
    drop(live);
}

#[test]
fn regular_file_at_socket_path_is_not_replaced() {
    let dir = TempDir::new();
    let path = dir.path().join("s");
    fs::write(&path, "contents").unwrap();
    serve(&dir, &["--listen", "unix:s"]).expect_code(1).expect_stderr("cannot listen on unix:s");
    assert_eq!(fs::read(&path).unwrap(), b"contents");
}

#[test]
fn failed_bind_removes_earlier_sockets() {
    let dir = TempDir::new();
    let taken = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let output = serve(&dir, &["--listen", "unix:s", "--listen", &at]).expect_code(1);
    output.expect_stdout("");
    output.expect_stderr(&format!("cannot listen on {at}"));
    assert!(!dir.path().join("s").exists());
}

#[test]
fn two_servers_cannot_share_a_port() {
    for workers in ["1", "2"] {
        let dir = TempDir::new();
        let server = Server::start(&dir, KEY, &["--listen", "127.0.0.1:0", "--workers", workers]);
        let at = server.at[0].to_string();
        serve(&dir, &["--listen", &at]).expect_code(1).expect_stderr("cannot listen");
    }
}
