//! Examples of the README, with the command at the other end.

#![cfg(test)]

#[allow(dead_code, reason = "shared with tests that need more of it")]
#[path = "common/common.rs"]
mod common;

use std::path::Path;
use std::process::Command;
use std::sync::Once;

use common::{Server, ServerAddr, TempDir, countersign};

/// The example `name`, in the directory of the key.
fn example(dir: &TempDir, name: &str, args: &[&str]) -> Command {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        // `cargo test` has built them with the features of the whole workspace; those of one package would
        // build its dependencies again.
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--workspace", "--manifest-path"]).arg(manifest);
        for name in ["tokio_client", "embedded_client", "embedded_server"] {
            build.args(["--example", name]);
        }
        assert!(build.status().unwrap().success());
    });
    let bin = Path::new(env!("CARGO_BIN_EXE_countersign")).with_file_name("examples").join(name);
    let mut command = Command::new(bin);
    command.args(args).current_dir(dir.path());
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
    expect_stdout(&mut example(&dir, "tokio_client", &[&at]), "HELLO\n");
}

#[test]
fn embedded_io_client_example_gets_a_reply() {
    let dir = TempDir::new();
    let (_server, at) = serve(&dir);
    expect_stdout(&mut example(&dir, "embedded_client", &[&at, "hello"]), "HELLO\n");
}

#[test]
fn embedded_io_server_example_replies() {
    let dir = TempDir::new();
    let mut keygen = countersign(&dir);
    assert!(keygen.args(["keygen", "--out", "countersign.key"]).status().unwrap().success());
    let server = Server::spawn(example(&dir, "embedded_server", &["127.0.0.1:0"]), 1);
    let mut connect = countersign(&dir);
    connect.args(["connect", &server.at[0].to_string(), "--message", "hello"]);
    expect_stdout(&mut connect, "HELLO\n");
}
