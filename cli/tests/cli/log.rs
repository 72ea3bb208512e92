//! The log, and the lines about refused connections.

use std::io::{PipeWriter, Read, Write, pipe};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::KEY;
use crate::common::{Capture, PATIENCE, Server, ServerAddr, TempDir, countersign, with_adapter};
use crate::peer::{Peer, PeerScheme};
use crate::process::{in_parallel, run};

/// The address of `peer`, as the log prints it.
fn logged_addr(peer: &Peer) -> String {
    let address = peer.0.local_addr().unwrap().as_socket();
    address.map_or_else(|| "unix".into(), |address| address.to_string())
}

/// Causes a refusal for `reason`. Returns the address that the log prints.
fn provoke(at: &ServerAddr, reason: &str) -> String {
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
            assert!(second.read_to_end().is_empty());
            return logged_addr(&second);
        }
        other => panic!("cannot provoke {other}"),
    }
    assert!(peer.read_to_end().is_empty());
    logged_addr(&peer)
}

/// Causes every refusal, and passes the log line and its expected end to `check`.
fn each_refusal(args: &[&str], check: impl Fn(&str, &str) + Sync) {
    in_parallel(["wrong-key", "truncated-handshake", "handshake-timeout", "overload"], |reason| {
        for listen in ["127.0.0.1:0", "unix:s"] {
            let dir = TempDir::new();
            // Only one refusal is about time. The others must not time out on a loaded machine.
            let timeout = if reason == "handshake-timeout" { "0.5" } else { "60" };
            let ours =
                ["--listen", listen, "--handshake-timeout", timeout, "--max-connections", "1"];
            let server = Server::start(&dir, KEY, &[&ours, args].concat());
            let addr = provoke(&server.at[0], reason);
            let expected = format!("refused peer={addr} scheme=challenge reason={reason}");
            check(&server.wait_log(&expected), &expected);
        }
    });
}

#[test]
fn refusals_are_logged_as_matchable_lines() {
    each_refusal(&[], |line, expected| {
        assert!(line.trim_end().ends_with(expected), "{line}");
        assert!(line.contains("WARN"), "{line}");
    });
}

#[test]
fn json_log_has_the_same_refusal_text() {
    each_refusal(&["--log-format", "json"], |line, expected| {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["fields"]["message"], expected);
        assert_eq!(entry["level"], "WARN");
        assert!(entry["timestamp"].is_string());
    });
}

#[test]
fn every_line_of_a_json_log_is_json() {
    let dir = TempDir::new();
    let args = ["--listen", "127.0.0.1:0", "--log-format", "json", "--log", "trace"];
    let server = Server::start(&dir, KEY, &args);
    provoke(&server.at[0], "wrong-key");
    let scheme = PeerScheme::Challenge(KEY);
    let peer = Peer::authenticated(&server.at[0], scheme);
    assert_eq!(peer.request(scheme, b"hello"), b"HELLO");
    peer.reset();
    server.wait_log("connection-lost");
    server.signal(Signal::TERM);
    let output = server.wait().expect_code(0);
    assert!(output.err.lines().count() >= 3);
    for line in output.err.lines() {
        serde_json::from_str::<Value>(line).expect(line);
    }
}

#[test]
fn log_off_prints_nothing() {
    let dir = TempDir::new();
    let args = ["--listen", "127.0.0.1:0", "--log", "off"];
    let server = Server::start(&dir, KEY, &args);
    provoke(&server.at[0], "wrong-key");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().expect_code(0).err, "");
}

#[test]
fn log_contains_neither_keys_nor_messages() {
    let dir = TempDir::new();
    let args = ["--listen", "127.0.0.1:0", "--log", "trace"];
    let server = Server::start(&dir, KEY, &args);
    let scheme = PeerScheme::Challenge(KEY);
    let peer = Peer::authenticated(&server.at[0], scheme);
    assert_eq!(peer.request(scheme, b"between us"), b"BETWEEN US");
    drop(peer);
    server.signal(Signal::TERM);
    let log = server.wait().expect_code(0).err.to_lowercase();
    assert!(!log.contains("between us") && !log.contains(KEY), "{log}");
}

/// A server whose standard error is `stderr`, killed on drop.
struct UnloggedServer {
    child: Child,
    at: String,
}

impl UnloggedServer {
    fn start(mut command: Command, args: &[&str], stderr: PipeWriter) -> Self {
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = with_adapter(&mut command).spawn().unwrap();
        let stdout = Capture::start(child.stdout.take().unwrap());
        let line = stdout.wait("the ready line", |text, _| text.ends_with('\n'));
        let at = format!("127.0.0.1:{}", line.trim().rsplit(' ').next().unwrap());
        Self { child, at }
    }
}

impl Drop for UnloggedServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn closed_stderr_does_not_end_the_server() {
    let dir = TempDir::new();
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let server = UnloggedServer::start(countersign(&dir), &[], writer);
    let connect = |key: Option<&str>| {
        let mut client = countersign(&dir);
        client.args(["connect", &server.at, "--message", "hello"]);
        client.envs(key.map(|key| ("COUNTERSIGN_KEY", key)));
        run(&mut client, b"")
    };
    // Each refusal is a line of the log.
    for _ in 0..3 {
        connect(Some("a key that is not the server's")).expect_code(3);
    }
    assert_eq!(connect(None).expect_code(0).out, "HELLO\n");
}

#[test]
fn full_stderr_does_not_block_the_server() {
    let dir = TempDir::new();
    // Open, but never read: the pipe is soon full.
    let (reader, writer) = pipe().unwrap();
    let mut command = countersign(&dir);
    command.env("COUNTERSIGN_KEY", KEY);
    let mut server = UnloggedServer::start(command, &["--limit-local"], writer);
    for _ in 0..2000 {
        let mut client = TcpStream::connect(&server.at).unwrap();
        // Each refusal is a line of the log.
        client.write_all(&[0xff; 4]).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = client.read_to_end(&mut Vec::new());
    }
    let mut client = countersign(&dir);
    client.args(["connect", &server.at, "--message", "hello"]).env("COUNTERSIGN_KEY", KEY);
    run(&mut client, b"").expect_code(0).expect_stdout("HELLO\n");
    kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    drop(reader);
}
