//! The examples of the adapters, as the README has them run, with the built command at the other end.

#![cfg(test)]

#[allow(dead_code, reason = "shared with tests that need more of it")]
mod common;

use std::path::Path;
use std::process::Command;

use common::{At, Scratch, Server, countersign};

/// An example, by cargo, where the key is.
fn example(scratch: &Scratch, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    command.arg("run").arg("--quiet").arg("--manifest-path").arg(manifest).args(args);
    command.current_dir(scratch.path());
    command
}

/// A server that makes a key, and its address.
fn serve(scratch: &Scratch) -> (Server, String) {
    let mut command = countersign(scratch);
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    let server = Server::spawn(command, 1);
    let At::Tcp(at) = &server.at[0] else { panic!("not TCP") };
    let at = at.to_string();
    (server, at)
}

/// Fails unless the program prints this and ends well.
#[track_caller]
fn prints(command: &mut Command, text: &str) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), text, "{output:?}");
}

#[test]
fn a_task_of_tokio_is_answered() {
    let scratch = Scratch::new();
    let (_server, at) = serve(&scratch);
    let args = ["-p", "countersign-drive", "--features", "keys", "--example", "tokio", "--", &at];
    prints(&mut example(&scratch, &args), "HELLO\n");
}

#[test]
fn the_client_of_embedded_io_is_answered() {
    let scratch = Scratch::new();
    let (_server, at) = serve(&scratch);
    let args = ["-p", "countersign-embedded-io", "--example", "client", "--", &at, "hello"];
    prints(&mut example(&scratch, &args), "HELLO\n");
}

#[test]
fn the_server_of_embedded_io_answers() {
    let scratch = Scratch::new();
    let mut keygen = countersign(&scratch);
    assert!(keygen.args(["keygen", "--out", "countersign.key"]).status().unwrap().success());
    // It is built first: the server is to be the process that is killed.
    let build = ["-p", "countersign-embedded-io", "--example", "server", "--", "nowhere"];
    assert!(!example(&scratch, &build).output().unwrap().status.success());
    let args = ["-p", "countersign-embedded-io", "--example", "server", "--", "127.0.0.1:0"];
    let server = Server::spawn(example(&scratch, &args), 1);
    let mut connect = countersign(&scratch);
    connect.args(["connect", &server.at[0].to_string(), "--message", "hello"]);
    prints(&mut connect, "HELLO\n");
}
