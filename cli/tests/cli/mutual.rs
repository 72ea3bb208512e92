//! The scheme mutual, the default: both ends prove that they hold the key.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::KEY;
use crate::common::{Server, ServerAddr, TempDir, countersign};
use crate::impostor;
use crate::process::{Output, Process, file, run};

const OTHER: &str = "another key that is long enough too";

fn serve(dir: &TempDir, args: &[&str]) -> Server {
    let mut command = countersign(dir);
    command.args(["serve", "--listen", "127.0.0.1:0"]).args(args);
    if !args.contains(&"--keyring") {
        command.env("COUNTERSIGN_KEY", KEY);
    }
    Server::spawn(command, 1)
}

/// Connects to `at` with this key and sends `hello`.
fn hello(dir: &TempDir, at: &ServerAddr, key: &str, args: &[&str]) -> Output {
    let mut command = countersign(dir);
    command.args(["connect", &at.to_string(), "--message", "hello"]).args(args);
    run(command.env("COUNTERSIGN_KEY", key), b"")
}

/// Writes a keyring with these ids, secrets and further lines.
fn keyring(dir: &TempDir, keys: &[(&str, &str, &str)]) -> PathBuf {
    let text: String = keys
        .iter()
        .map(|(id, secret, rest)| {
            format!("[[key]]\nid = \"{id}\"\nsecret = \"{secret}\"\nroles = [\"server\"]\n{rest}\n")
        })
        .collect();
    file(dir, "keys.toml", text.as_bytes(), 0o600)
}

#[test]
fn same_key_connects_and_wrong_key_is_refused() {
    let dir = TempDir::new();
    let server = serve(&dir, &[]);
    let at = &server.at[0];
    hello(&dir, at, KEY, &[]).expect_code(0).expect_stdout("HELLO\n");
    let output = hello(&dir, at, OTHER, &[]).expect_code(3);
    output.expect_stdout("");
    output.expect_stderr("refused to authenticate us");
    assert!(server.wait_log("refused").contains("scheme=mutual reason=wrong-key"));
}

#[test]
fn every_refusal_looks_the_same_to_the_client() {
    let dir = TempDir::new();
    let names = "names = [\"alice\"]";
    let past = "not_after = 2001-01-01T00:00:00Z";
    let ring = keyring(&dir, &[("k", KEY, names), ("old", KEY, past)]);
    let text = fs::read_to_string(&ring).unwrap()
        + &format!("[[key]]\nid = \"up\"\nsecret = \"{KEY}\"\nroles = [\"client\"]\n");
    let ring = file(&dir, "keys.toml", text.as_bytes(), 0o600);
    let server = serve(&dir, &["--keyring", ring.to_str().unwrap(), "--name", "main"]);
    let at = &server.at[0];
    let alice = ["--kid", "k", "--name", "alice"];
    hello(&dir, at, KEY, &[&alice[..], &["--expect-server", "main"]].concat()).expect_code(0);
    let mut messages = Vec::new();
    for (args, key, reason) in [
        (&["--kid", "k", "--name", "alice"][..], OTHER, "wrong-key"),
        (&["--kid", "none", "--name", "alice"], KEY, "unknown-key"),
        (&["--kid", "old", "--name", "alice"], KEY, "key-out-of-date"),
        (&["--kid", "up", "--name", "alice"], KEY, "key-wrong-role"),
        (&["--kid", "k", "--name", "bob"], KEY, "name-not-admitted"),
        (&["--kid", "k", "--name", "main"], KEY, "own-name"),
        (&["--kid", "k", "--name", "alice", "--expect-server", "g"], KEY, "other-server-expected"),
    ] {
        let output = hello(&dir, at, key, args).expect_code(3);
        output.expect_stdout("");
        server.wait_log(&format!("scheme=mutual reason={reason}"));
        messages.push(output.err.replace(&at.to_string(), ""));
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");
}

#[test]
fn server_without_the_key_is_refused() {
    let dir = TempDir::new();
    let (at, impostor) = impostor::start();
    let output = hello(&dir, &at, KEY, &[]).expect_code(3);
    output.expect_stderr("the peer's proof is wrong");
    output.expect_stdout("");
    assert!(impostor.join().unwrap().is_empty(), "the message was sent to an impostor");
}

#[test]
fn short_secret_is_refused_at_both_ends() {
    let dir = TempDir::new();
    for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["connect", "unix:absent"]] {
        let output =
            run(countersign(&dir).args(args).env("COUNTERSIGN_KEY", "fifteen bytes--"), b"");
        output.expect_code(2).expect_stderr("countersign keygen");
    }
}

#[test]
fn keyring_mistake_is_reported_with_its_line() {
    let dir = TempDir::new();
    let ring = keyring(&dir, &[("k", KEY, ""), ("bad id", KEY, "")]);
    let mut command = countersign(&dir);
    command.args(["serve", "--listen", "127.0.0.1:0", "--keyring", ring.to_str().unwrap()]);
    let output = run(&mut command, b"").expect_code(2);
    output.expect_stderr("line 7");
    assert!(!output.err.contains(KEY), "{output:?}");
    command.args(["--scheme", "challenge"]);
    run(&mut command, b"").expect_code(2).expect_stderr("--key-file");
}

#[test]
fn sighup_reloads_keys_and_ends_sessions_without_key() {
    let dir = TempDir::new();
    let ring = keyring(&dir, &[("a", KEY, ""), ("b", OTHER, "")]);
    let server = serve(&dir, &["--keyring", ring.to_str().unwrap(), "--workers", "2"]);
    let at = &server.at[0];
    let connect = |kid, key| {
        let mut command = countersign(&dir);
        command.args(["connect", &at.to_string(), "--kid", kid]).env("COUNTERSIGN_KEY", key);
        let mut running = Process::start(&mut command);
        running.write_stdin(b"before\n");
        running.out.wait("an answer", |out, _| out == "BEFORE\n");
        running
    };
    let (mut kept, removed) = (connect("a", KEY), connect("b", OTHER));
    const NEW: &str = "a new key that is long enough as well";
    hello(&dir, at, NEW, &["--kid", "a"]).expect_code(3);

    // A file with a mistake leaves the old keys in use.
    file(&dir, "keys.toml", b"[[key]]\nid = 7\n", 0o600);
    server.signal(Signal::HUP);
    assert!(server.wait_log("keys not reloaded").contains("line 2"));
    hello(&dir, at, OTHER, &["--kid", "b"]).expect_code(0);

    // `a` gets a second key, `b` is removed.
    keyring(&dir, &[("a", KEY, ""), ("a", NEW, "not_before = 2020-01-01T00:00:00Z")]);
    server.signal(Signal::HUP);
    removed.out.wait_end();
    let output = removed.wait().expect_code(4);
    output.expect_stderr("the application of the peer ended the session");
    hello(&dir, at, NEW, &["--kid", "a"]).expect_code(0);
    hello(&dir, at, KEY, &["--kid", "a"]).expect_code(0);
    hello(&dir, at, OTHER, &["--kid", "b"]).expect_code(3);
    kept.write_stdin(b"after\n");
    kept.out.wait("an answer", |out, _| out == "BEFORE\nAFTER\n");
    kept.wait().expect_code(0);
}

#[test]
fn frozen_client_is_disconnected_as_silent() {
    let dir = TempDir::new();
    let server = serve(&dir, &["--heartbeat", "1"]);
    let mut command = countersign(&dir);
    command.args(["connect", &server.at[0].to_string()]).env("COUNTERSIGN_KEY", KEY);
    let mut running = Process::start(&mut command);
    running.write_stdin(b"before\n");
    running.out.wait("an answer", |out, _| out == "BEFORE\n");
    // A stopped process sends no heartbeats. The server waits for two intervals and 5 s.
    running.signal(Signal::STOP);
    server.wait_log("reason=peer-silent");
    running.signal(Signal::CONT);
    let output = running.wait().expect_code(4);
    output.expect_stderr("because we were too slow");
}

#[test]
fn full_server_sends_a_busy_alert() {
    let dir = TempDir::new();
    let server = serve(&dir, &["--max-connections", "1"]);
    let at = &server.at[0];
    let mut command = countersign(&dir);
    command.args(["connect", &at.to_string()]).env("COUNTERSIGN_KEY", KEY);
    let mut first = Process::start(&mut command);
    first.write_stdin(b"hello\n");
    first.out.wait("an answer", |out, _| out == "HELLO\n");
    hello(&dir, at, KEY, &[]).expect_code(4).expect_stderr("at its limit");
}

#[test]
fn messages_of_any_length_are_echoed_unchanged() {
    let dir = TempDir::new();
    let server = serve(&dir, &["--service", "echo"]);
    for len in [0, 1, 16_383, 16_384, 16_385, 100_000] {
        let line = "x".repeat(len) + "\n";
        let mut command = countersign(&dir);
        command.args(["connect", &server.at[0].to_string()]).env("COUNTERSIGN_KEY", KEY);
        run(&mut command, line.as_bytes()).expect_code(0).expect_stdout(&line);
    }
}

#[test]
fn max_frame_of_the_peer_is_respected() {
    let dir = TempDir::new();
    let server = serve(&dir, &["--max-frame", "256"]);
    let text = "y".repeat(1000);
    let args = ["--message", &text, "--max-frame", "300"];
    let output = hello(&dir, &server.at[0], KEY, &args).expect_code(0);
    output.expect_stdout(&format!("HELLO\n{}\n", text.to_uppercase()));
}

#[test]
fn missing_end_of_stream_is_an_error() {
    let dir = TempDir::new();
    let server = serve(&dir, &[]);
    let mut command = countersign(&dir);
    command.args(["connect", &server.at[0].to_string()]).env("COUNTERSIGN_KEY", KEY);
    let mut running = Process::start(&mut command);
    running.write_stdin(b"hello\n");
    running.out.wait("an answer", |out, _| out == "HELLO\n");
    server.freeze();
    let output = running.wait().expect_code(4);
    server.signal(Signal::CONT);
    output.expect_stderr("did not send its end of stream");
}

#[test]
fn client_keyring_without_the_key_is_a_usage_error() {
    let dir = TempDir::new();
    let server = serve(&dir, &[]);
    let text = format!("[[key]]\nid = \"k\"\nsecret = \"{KEY}\"\nroles = [\"client\"]\n");
    let ring = file(&dir, "client.toml", text.as_bytes(), 0o600);
    let at = server.at[0].to_string();
    let mut command = countersign(&dir);
    command.args(["connect", &at, "--message", "x", "--keyring", ring.to_str().unwrap()]);
    run(&mut command, b"").expect_code(2).expect_stderr("--kid");
}

#[test]
fn challenge_client_rejects_mutual_server() {
    let dir = TempDir::new();
    let server = serve(&dir, &[]);
    let output = hello(&dir, &server.at[0], KEY, &["--scheme", "challenge"]).expect_code(5);
    output.expect_stdout("");
    output.expect_stderr("both ends use the same scheme");
}
