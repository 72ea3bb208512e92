//! What the log has of connections refused.

use serde_json::Value;

use crate::KEY;
use crate::common::{At, Capture, Scratch, Server, countersign, on_adapter};
use crate::peer::{Peer, Way};
use crate::process::{at_once, run};

/// Where `peer` comes from, as the log has it.
fn origin(peer: &Peer) -> String {
    let address = peer.0.local_addr().unwrap().as_socket();
    address.map_or_else(|| "unix".into(), |address| address.to_string())
}

/// Is refused for `reason`, and returns where it came from.
fn provoke(at: &At, reason: &str) -> String {
    let peer = Peer::connect(at);
    peer.challenge();
    match reason {
        "wrong-key" => peer.send(&[0; 32]),
        "truncated-handshake" => {
            peer.send(&[0; 31]);
            peer.finish();
        }
        "handshake-timeout" => {}
        "overload" => {
            let second = Peer::connect(at);
            assert!(second.rest().is_empty());
            return origin(&second);
        }
        other => panic!("no way to provoke {other}"),
    }
    assert!(peer.rest().is_empty());
    origin(&peer)
}

/// Provokes every refusal, and passes the line that the log has of it and how it should end.
fn each_refusal(args: &[&str], check: impl Fn(&str, &str) + Sync) {
    at_once(["wrong-key", "truncated-handshake", "handshake-timeout", "overload"], |reason| {
        for listen in ["127.0.0.1:0", "unix:s"] {
            let scratch = Scratch::new();
            let ours = ["--listen", listen, "--handshake-timeout", "0.5", "--max-connections", "1"];
            let server = Server::start(&scratch, KEY, &[&ours, args].concat());
            let from = provoke(&server.at[0], reason);
            let expected = format!("refused peer={from} scheme=challenge reason={reason}");
            check(&server.logged(&expected), &expected);
        }
    });
}

#[test]
fn a_refusal_is_a_line_that_can_be_matched() {
    each_refusal(&[], |line, expected| {
        assert!(line.trim_end().ends_with(expected), "{line}");
        assert!(line.contains("WARN"), "{line}");
    });
}

#[test]
fn a_refusal_is_the_same_in_json() {
    each_refusal(&["--log-format", "json"], |line, expected| {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["fields"]["message"], expected);
        assert_eq!(entry["level"], "WARN");
        assert!(entry["timestamp"].is_string());
    });
}

#[test]
fn every_line_of_a_json_log_is_json() {
    let scratch = Scratch::new();
    let args = ["--listen", "127.0.0.1:0", "--log-format", "json", "--log", "trace"];
    let server = Server::start(&scratch, KEY, &args);
    provoke(&server.at[0], "wrong-key");
    let way = Way::Challenge(KEY);
    let peer = Peer::enter(&server.at[0], way);
    assert_eq!(peer.ask(way, b"hello"), b"HELLO");
    peer.reset();
    server.logged("connection-lost");
    server.signal(rustix::process::Signal::TERM);
    let ran = server.end().exited(0);
    assert!(ran.err.lines().count() >= 3);
    for line in ran.err.lines() {
        serde_json::from_str::<Value>(line).expect(line);
    }
}

#[test]
fn the_log_can_be_turned_off() {
    let scratch = Scratch::new();
    let args = ["--listen", "127.0.0.1:0", "--log", "off"];
    let server = Server::start(&scratch, KEY, &args);
    provoke(&server.at[0], "wrong-key");
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.end().exited(0).err, "");
}

#[test]
fn neither_keys_nor_messages_are_in_the_log() {
    let scratch = Scratch::new();
    let args = ["--listen", "127.0.0.1:0", "--log", "trace"];
    let server = Server::start(&scratch, KEY, &args);
    let way = Way::Challenge(KEY);
    let peer = Peer::enter(&server.at[0], way);
    assert_eq!(peer.ask(way, b"between us"), b"BETWEEN US");
    drop(peer);
    server.signal(rustix::process::Signal::TERM);
    let log = server.end().exited(0).err.to_lowercase();
    assert!(!log.contains("between us") && !log.contains(KEY), "{log}");
}

#[test]
fn who_reads_neither_log_nor_announcement_ends_nothing() {
    let scratch = Scratch::new();
    let mut command = countersign(&scratch);
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(writer);
    let mut server = on_adapter(&mut command).spawn().unwrap();
    let ready = Capture::start(server.stdout.take().unwrap());
    let line = ready.wait("the ready line", |text, _| text.ends_with('\n'));
    let port = line.trim().rsplit(' ').next().unwrap();
    let at = format!("127.0.0.1:{port}");
    let connect = |key: Option<&str>| {
        let mut client = countersign(&scratch);
        client.args(["connect", &at, "--message", "hello"]);
        client.envs(key.map(|key| ("COUNTERSIGN_KEY", key)));
        run(&mut client, b"")
    };
    // Each of these is a line in the log.
    for _ in 0..3 {
        connect(Some("a key that is not the server's")).exited(3);
    }
    assert_eq!(connect(None).exited(0).out, "HELLO\n");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let scratch = Scratch::new();
    let mut command = countersign(&scratch);
    command.args(["serve", "--listen", "127.0.0.1:0", "--limit-local"]).env("COUNTERSIGN_KEY", KEY);
    // Open, and never read: what it holds is soon full.
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(writer);
    let mut server = on_adapter(&mut command).spawn().unwrap();
    let ready = Capture::start(server.stdout.take().unwrap());
    let line = ready.wait("the ready line", |text, _| text.ends_with('\n'));
    let at = format!("127.0.0.1:{}", line.trim().rsplit(' ').next().unwrap());
    for _ in 0..2000 {
        let mut stranger = std::net::TcpStream::connect(&at).unwrap();
        // A line of the log each.
        std::io::Write::write_all(&mut stranger, &[0xff; 4]).unwrap();
        stranger.set_read_timeout(Some(crate::common::PATIENCE)).unwrap();
        let _ = std::io::Read::read_to_end(&mut stranger, &mut Vec::new());
    }
    let mut client = countersign(&scratch);
    client.args(["connect", &at, "--message", "hello"]).env("COUNTERSIGN_KEY", KEY);
    run(&mut client, b"").exited(0).printed("HELLO\n");
    let pid = rustix::process::Pid::from_child(&server);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(0));
    drop(reader);
}
