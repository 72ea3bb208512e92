//! The examples of the adapters, run as in the README, with the command at the other end.

#![cfg(test)]

#[allow(dead_code, reason = "shared with tests that need more of it")]
#[path = "common/common.rs"]
mod common;

use std::path::Path;
use std::process::Command;

use common::{Server, ServerAddr, TempDir, countersign};

/// An example, run by cargo in the directory of the key.
fn example(dir: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    command.arg("run").arg("--quiet").arg("--manifest-path").arg(manifest).args(args);
    command.current_dir(dir.path());
    command
}

/// A server that generates a key, and its address.
fn serve(dir: &TempDir) -> (Server, String) {
    let mut command = countersign(dir);
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    let server = Server::spawn(command, 1);
    let ServerAddr::Tcp(at) = &server.at[0] else { panic!("not TCP") };
    let at = at.to_string();
    (server, at)
}

/// Fails unless the program succeeds and prints `text`.
#[track_caller]
fn expect_stdout(command: &mut Command, text: &str) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), text, "{output:?}");
}

#[test]
fn tokio_example_gets_a_reply() {
    let dir = TempDir::new();
    let (_server, at) = serve(&dir);
    let args =
        ["-p", "countersign-host", "--features", "keyring", "--example", "tokio_client", "--", &at];
    expect_stdout(&mut example(&dir, &args), "HELLO\n");
}

#[test]
fn embedded_io_client_example_gets_a_reply() {
    let dir = TempDir::new();
    let (_server, at) = serve(&dir);
    let args =
        ["-p", "countersign-embedded-io", "--example", "embedded_client", "--", &at, "hello"];
    expect_stdout(&mut example(&dir, &args), "HELLO\n");
}

#[test]
fn embedded_io_server_example_replies() {
    let dir = TempDir::new();
    let mut keygen = countersign(&dir);
    assert!(keygen.args(["keygen", "--out", "countersign.key"]).status().unwrap().success());
    // Built first, so that the process to be killed is the server and not the compiler.
    let build = ["-p", "countersign-embedded-io", "--example", "embedded_server", "--", "nowhere"];
    assert!(!example(&dir, &build).output().unwrap().status.success());
    let args =
        ["-p", "countersign-embedded-io", "--example", "embedded_server", "--", "127.0.0.1:0"];
    let server = Server::spawn(example(&dir, &args), 1);
    let mut connect = countersign(&dir);
    connect.args(["connect", &server.at[0].to_string(), "--message", "hello"]);
    expect_stdout(&mut connect, "HELLO\n");
}
