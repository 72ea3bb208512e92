//! Where `serve` listens.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use rustix::process::Signal;

use crate::KEY;
use crate::common::{At, Scratch, Server, countersign};
use crate::peer::{Peer, Way};
use crate::process::{Ran, run};

const WAY: Way = Way::Challenge(KEY);

fn answers(at: &At) {
    assert_eq!(Peer::enter(at, WAY).ask(WAY, b"hello"), b"HELLO", "{at}");
}

fn refused(scratch: &Scratch, listen: &[&str]) -> Ran {
    let mut serve = countersign(scratch);
    serve.arg("serve").args(listen).env("COUNTERSIGN_KEY", KEY);
    run(&mut serve, b"")
}

#[test]
fn each_listener_has_a_ready_line_with_its_port_and_answers() {
    let scratch = Scratch::new();
    let listen = ["127.0.0.1:0", "unix:one", "127.0.0.1:0", "unix:two"];
    let args: Vec<_> = listen.iter().flat_map(|at| ["--listen", at]).collect();
    let server = Server::start(&scratch, KEY, &args);
    let port = |at: &At| match at {
        At::Tcp(at) => Some(at.port()),
        At::Unix(_) => None,
    };
    let ports: Vec<_> = server.at.iter().map(port).collect();
    assert!(matches!(ports[..], [Some(1..), None, Some(1..), None]), "{ports:?}");
    assert_ne!(ports[0], ports[2]);
    for name in ["one", "two"] {
        assert!(server.at.contains(&At::Unix(scratch.path().join(name))), "{:?}", server.at);
    }
    server.at.iter().for_each(answers);
}

#[test]
fn ipv6_is_listened_on_in_brackets() {
    if TcpListener::bind("[::1]:0").is_err() {
        return crate::common::skip("IPv6");
    }
    let scratch = Scratch::new();
    let server = Server::start(&scratch, KEY, &["--listen", "[::1]:0"]);
    answers(&server.at[0]);
    let mut connect = countersign(&scratch);
    connect.args(["connect", &server.at[0].to_string(), "--scheme", "challenge"]);
    connect.args(["--message", "hello"]);
    run(connect.env("COUNTERSIGN_KEY", KEY), b"").exited(0).printed("HELLO\n");
}

#[test]
fn workers_share_every_listener() {
    let scratch = Scratch::new();
    let args = ["--listen", "127.0.0.1:0", "--listen", "unix:s", "--workers", "4"];
    let server = Server::start(&scratch, KEY, &args);
    for at in &server.at {
        (0..32).for_each(|_| answers(at));
    }
}

#[test]
fn the_unix_socket_is_removed_in_the_end() {
    for signal in [Signal::TERM, Signal::INT] {
        let scratch = Scratch::new();
        let args = ["--listen", "unix:one", "--listen", "127.0.0.1:0", "--listen", "unix:two"];
        let server = Server::start(&scratch, KEY, &args);
        let path = |name| scratch.path().join(name);
        assert!(path("one").exists() && path("two").exists());
        server.signal(signal);
        server.end().exited(0);
        assert!(!path("one").exists() && !path("two").exists());
    }
}

#[test]
fn a_socket_that_a_dead_server_left_is_replaced() {
    let scratch = Scratch::new();
    let args = ["--listen", "unix:s"];
    let path = scratch.path().join("s");
    // Killed: it removes nothing.
    drop(Server::start(&scratch, KEY, &args));
    assert!(path.exists());
    let server = Server::start(&scratch, KEY, &args);
    answers(&server.at[0]);
}

#[test]
fn a_socket_that_a_server_listens_on_is_not_replaced() {
    let scratch = Scratch::new();
    let path = scratch.path().join("s");
    let live = UnixListener::bind(&path).unwrap();
    let ran = refused(&scratch, &["--listen", "unix:s"]).exited(1);
    ran.printed("");
    ran.said("cannot listen on unix:s");
    // Whoever looked whether it lives has left a connection behind.
    live.accept().unwrap();
    assert!(path.exists());
    drop(live);
}

#[test]
fn a_file_that_is_no_socket_is_not_replaced() {
    let scratch = Scratch::new();
    let path = scratch.path().join("s");
    fs::write(&path, "precious").unwrap();
    refused(&scratch, &["--listen", "unix:s"]).exited(1).said("cannot listen on unix:s");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn one_address_that_is_taken_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let taken = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let ran = refused(&scratch, &["--listen", "unix:s", "--listen", &at]).exited(1);
    ran.printed("");
    ran.said(&format!("cannot listen on {at}"));
    assert!(!scratch.path().join("s").exists());
}

#[test]
fn two_servers_do_not_share_a_port_by_accident() {
    for workers in ["1", "2"] {
        let scratch = Scratch::new();
        let server =
            Server::start(&scratch, KEY, &["--listen", "127.0.0.1:0", "--workers", workers]);
        let at = server.at[0].to_string();
        refused(&scratch, &["--listen", &at]).exited(1).said("cannot listen");
    }
}
