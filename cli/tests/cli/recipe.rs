//! Programs by the recipe, in real Python, against ours.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{Scratch, Server, countersign, skip};
use crate::process::{Ran, at_once, file, run};

const KEY: &str = "peekaboo";
const DIGESTS: [&str; 2] = ["md5", "sha256"];

pub(crate) fn python() -> bool {
    let version = Command::new("python3").arg("--version").stdout(Stdio::null()).status();
    let here = version.is_ok_and(|status| status.success());
    if !here {
        skip("python3");
    }
    here
}

/// A program of tests/recipe.
fn recipe(program: &str, key: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recipe").join(program);
    let mut command = Command::new("python3");
    // -B: leaves nothing beside the sources.
    command.arg("-B").arg(path).env("RECIPE_KEY", key);
    command
}

/// What `program` makes of `serve`, over TCP and over a Unix socket.
fn served(program: &str, digest: &str, service: &str, key: &str, check: impl Fn(&Server, Ran)) {
    let scratch = Scratch::new();
    let args = ["--listen", "127.0.0.1:0", "--listen", "unix:s", "--digest", digest];
    let server = Server::start(&scratch, KEY, &[&args[..], &["--service", service]].concat());
    for at in &server.at {
        let mut client = recipe(program, key);
        client.current_dir(scratch.path()).args([&at.to_string(), digest, "hello", "Größe 1"]);
        check(&server, run(&mut client, b"").exited(0));
    }
}

fn right_key(program: &str) {
    at_once(DIGESTS, |digest| {
        served(program, digest, "upper", KEY, |_, ran| ran.printed("HELLO\nGRößE 1\n"));
        served(program, digest, "echo", KEY, |_, ran| ran.printed("hello\nGröße 1\n"));
    });
}

fn wrong_key(program: &str) {
    at_once(DIGESTS, |digest| {
        served(program, digest, "upper", "peekabop", |server, ran| {
            ran.printed("end of stream\n");
            server.logged("scheme=challenge reason=wrong-key");
        });
    });
}

#[test]
fn the_recipes_client_is_served() {
    if python() {
        right_key("client.py");
    }
}

#[test]
fn the_recipes_client_with_another_key_sees_only_the_end() {
    if python() {
        wrong_key("client.py");
    }
}

#[test]
fn the_cookbooks_client_is_served() {
    if python() {
        right_key("cookbook_client.py");
    }
}

#[test]
fn the_cookbooks_client_with_another_key_sees_only_the_end() {
    if python() {
        wrong_key("cookbook_client.py");
    }
}

/// What `connect` makes of `program`, its key once from a file, once from the environment.
fn connected(program: &str, digest: &str, key: &str, check: impl Fn(Ran)) {
    let scratch = Scratch::new();
    let mut command = recipe(program, KEY);
    command.arg(digest);
    let server = Server::spawn(command, 1);
    let connect = || {
        let mut connect = countersign(&scratch);
        connect.args(["connect", &server.at[0].to_string(), "--scheme", "challenge"]);
        connect.args(["--digest", digest]);
        connect.args(["--message", "hello", "--message", "Größe 1"]);
        connect
    };
    check(run(connect().arg("--key-file").arg(file(&scratch, "key", key.as_bytes(), 0o600)), b""));
    check(run(connect().env("COUNTERSIGN_KEY", key), b""));
}

fn refused(ran: Ran) {
    let ran = ran.exited(3);
    ran.printed("");
    ran.said("another key");
    ran.said("--digest");
}

#[test]
fn the_recipes_server_serves_us() {
    if python() {
        at_once(DIGESTS, |digest| {
            connected("server.py", digest, KEY, |ran| {
                ran.exited(0).printed("HELLO\nGRößE 1\n");
            });
        });
    }
}

#[test]
fn the_recipes_server_refuses_us_with_another_key() {
    if python() {
        at_once(DIGESTS, |digest| {
            connected("server.py", digest, "nick", refused);
        });
    }
}

#[test]
fn the_cookbooks_server_serves_us() {
    if python() {
        at_once(DIGESTS, |digest| {
            connected("cookbook_server.py", digest, KEY, |ran| {
                ran.exited(0).printed("hello\nGröße 1\n");
            });
        });
    }
}

#[test]
fn the_cookbooks_server_refuses_us_with_another_key() {
    if python() {
        at_once(DIGESTS, |digest| {
            connected("cookbook_server.py", digest, "nick", refused);
        });
    }
}

#[test]
fn the_recipes_server_refuses_another_digest() {
    if python() {
        let scratch = Scratch::new();
        let mut command = recipe("server.py", KEY);
        command.arg("sha256");
        let server = Server::spawn(command, 1);
        // Shorter than the server reads for: it takes what comes in one read for the answer.
        let at = server.at[0].to_string();
        let mut connect = countersign(&scratch);
        connect.args(["connect", &at, "--scheme", "challenge", "--digest", "md5"]);
        connect.args(["--message", "hello"]);
        refused(run(connect.env("COUNTERSIGN_KEY", KEY), b""));
    }
}
