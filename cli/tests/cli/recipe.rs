//! Python programs written after the published recipes, against ours.

use std::process::Command;

use crate::common::{Server, TempDir, countersign};
use crate::process::{Output, file, in_parallel, run};
use crate::tools::{has_python, python_script};

const KEY: &str = "peekaboo";
const DIGESTS: [&str; 2] = ["md5", "sha256"];

/// The program `program` in tests/recipe.
fn recipe(program: &str, key: &str) -> Command {
    let mut command = python_script(&format!("recipe/{program}"));
    command.env("RECIPE_KEY", key);
    command
}

/// Runs the client `program` against `serve`, on TCP and on a Unix socket.
fn served(program: &str, digest: &str, service: &str, key: &str, check: impl Fn(&Server, Output)) {
    let dir = TempDir::new();
    let args = ["--listen", "127.0.0.1:0", "--listen", "unix:s", "--digest", digest];
    let server = Server::start(&dir, KEY, &[&args[..], &["--service", service]].concat());
    for at in &server.at {
        let mut client = recipe(program, key);
        client.current_dir(dir.path()).args([&at.to_string(), digest, "hello", "Größe 1"]);
        check(&server, run(&mut client, b"").expect_code(0));
    }
}

fn right_key(program: &str) {
    in_parallel(DIGESTS, |digest| {
        served(program, digest, "upper", KEY, |_, output| output.expect_stdout("HELLO\nGRößE 1\n"));
        served(program, digest, "echo", KEY, |_, output| output.expect_stdout("hello\nGröße 1\n"));
    });
}

fn wrong_key(program: &str) {
    in_parallel(DIGESTS, |digest| {
        served(program, digest, "upper", "peekabop", |server, output| {
            output.expect_stdout("end of stream\n");
            server.wait_log("scheme=challenge reason=wrong-key");
        });
    });
}

#[test]
fn recipe_client_is_served() {
    if has_python() {
        right_key("client.py");
    }
}

#[test]
fn recipe_client_with_wrong_key_sees_end_of_stream() {
    if has_python() {
        wrong_key("client.py");
    }
}

#[test]
fn cookbook_client_is_served() {
    if has_python() {
        right_key("cookbook_client.py");
    }
}

#[test]
fn cookbook_client_with_wrong_key_sees_end_of_stream() {
    if has_python() {
        wrong_key("cookbook_client.py");
    }
}

/// Runs `connect` against the server `program`, with the key in a file and in the environment.
fn connected(program: &str, digest: &str, key: &str, check: impl Fn(Output)) {
    let dir = TempDir::new();
    let mut command = recipe(program, KEY);
    command.arg(digest);
    let server = Server::spawn(command, 1);
    let connect = || {
        let mut connect = countersign(&dir);
        connect.args(["connect", &server.at[0].to_string(), "--scheme", "challenge"]);
        connect.args(["--digest", digest]);
        connect.args(["--message", "hello", "--message", "Größe 1"]);
        connect
    };
    check(run(connect().arg("--key-file").arg(file(&dir, "key", key.as_bytes(), 0o600)), b""));
    check(run(connect().env("COUNTERSIGN_KEY", key), b""));
}

fn refused(output: Output) {
    let output = output.expect_code(3);
    output.expect_stdout("");
    output.expect_stderr("same key");
    output.expect_stderr("--digest");
}

#[test]
fn connect_works_with_recipe_server() {
    if has_python() {
        in_parallel(DIGESTS, |digest| {
            connected("server.py", digest, KEY, |output| {
                output.expect_code(0).expect_stdout("HELLO\nGRößE 1\n");
            });
        });
    }
}

#[test]
fn recipe_server_refuses_wrong_key() {
    if has_python() {
        in_parallel(DIGESTS, |digest| {
            connected("server.py", digest, "nick", refused);
        });
    }
}

#[test]
fn connect_works_with_cookbook_server() {
    if has_python() {
        in_parallel(DIGESTS, |digest| {
            connected("cookbook_server.py", digest, KEY, |output| {
                output.expect_code(0).expect_stdout("hello\nGröße 1\n");
            });
        });
    }
}

#[test]
fn cookbook_server_refuses_wrong_key() {
    if has_python() {
        in_parallel(DIGESTS, |digest| {
            connected("cookbook_server.py", digest, "nick", refused);
        });
    }
}

#[test]
fn recipe_server_refuses_another_digest() {
    if has_python() {
        let dir = TempDir::new();
        let mut command = recipe("server.py", KEY);
        command.arg("sha256");
        let server = Server::spawn(command, 1);
        // The proof is shorter than the server expects. It treats the result of one read as the proof.
        let at = server.at[0].to_string();
        let mut connect = countersign(&dir);
        connect.args(["connect", &at, "--scheme", "challenge", "--digest", "md5"]);
        connect.args(["--message", "hello"]);
        refused(run(connect.env("COUNTERSIGN_KEY", KEY), b""));
    }
}
