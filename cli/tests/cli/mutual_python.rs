//! docs/mutual_client.py, run by Python, against `serve`.

use std::ffi::OsStr;
use std::process::Command;

use crate::KEY;
use crate::common::{Server, ServerAddr, TempDir};
use crate::impostor;
use crate::process::{Output, file, run};
use crate::tools::{has_python, script_path};

/// The path of a file in docs/.
fn docs(name: &str) -> String {
    format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The documented client in the directory `dir`, with the key in the file `key`: sends `messages` to `at`
/// with the key id `kid`.
fn client<A: AsRef<OsStr>>(dir: &TempDir, at: &ServerAddr, kid: &str, messages: &[A]) -> Command {
    let ServerAddr::Tcp(at) = at else { panic!("{at} is not TCP") };
    let mut command = Command::new("python3");
    command.current_dir(dir.path()).arg("-B").arg(docs("mutual_client.py"));
    command.args([&at.ip().to_string(), &at.port().to_string(), "key", kid, "client"]);
    command.args(messages);
    command
}

/// A server with the key in the file `key`, too.
fn serve(dir: &TempDir, more: &[&str]) -> Server {
    let key = file(dir, "key", format!("{KEY}\n").as_bytes(), 0o600);
    let args = ["--listen", "127.0.0.1:0", "--scheme", "mutual", "--key-file"];
    Server::start(dir, KEY, &[&args[..], &[key.to_str().unwrap()], more].concat())
}

/// Fails unless the client was refused and printed only that.
#[track_caller]
fn refused(output: Output) {
    let output = output.expect_code(3);
    output.expect_stdout("");
    assert_eq!(output.err, "refused: alert 1\n");
}

#[test]
fn documented_client_matches_the_vectors() {
    if has_python() {
        let mut command = Command::new("python3");
        command.arg("-B").arg(script_path("mutual/vectors.py")).arg(docs(""));
        command.arg(script_path("../../tests/vectors/mutual_vectors.json"));
        run(&mut command, b"").expect_code(0);
    }
}

#[test]
fn documented_client_is_served() {
    if has_python() {
        let dir = TempDir::new();
        let server = serve(&dir, &[]);
        let at = &server.at[0];
        let long = "long ".repeat(20_000);
        let messages = ["hello", "", "Größe 1", &long, "."];
        let replies = format!("HELLO\n\nGRößE 1\n{}\n.\n", long.to_uppercase());
        run(&mut client(&dir, at, "default", &messages), b"")
            .expect_code(0)
            .expect_stdout(&replies);

        let lines = messages.join("\n") + "\n";
        let mut from_input = client::<&str>(&dir, at, "default", &[]);
        run(&mut from_input, lines.as_bytes()).expect_code(0).expect_stdout(&replies);
        run(&mut from_input, b"").expect_code(0).expect_stdout("");
    }
}

#[test]
fn documented_client_respects_max_frame() {
    if has_python() {
        let dir = TempDir::new();
        let server = serve(&dir, &["--max-frame", "256"]);
        let long = "x".repeat(1000);
        let output = run(&mut client(&dir, &server.at[0], "default", &[&long]), b"").expect_code(0);
        output.expect_stdout(&(long.to_uppercase() + "\n"));
    }
}

#[test]
fn documented_client_with_wrong_key_is_refused() {
    if has_python() {
        let dir = TempDir::new();
        let server = serve(&dir, &[]);
        file(&dir, "key", b"another key that is long enough for anyone", 0o600);
        refused(run(&mut client(&dir, &server.at[0], "default", &["hello"]), b""));
        server.wait_log("scheme=mutual reason=wrong-key");
    }
}

#[test]
fn documented_client_with_wrong_key_id_is_refused() {
    if has_python() {
        let dir = TempDir::new();
        let server = serve(&dir, &[]);
        refused(run(&mut client(&dir, &server.at[0], "other", &["hello"]), b""));
        server.wait_log("scheme=mutual reason=unknown-key");
    }
}

#[test]
fn documented_client_sends_nothing_to_an_impostor() {
    if has_python() {
        let dir = TempDir::new();
        file(&dir, "key", KEY.as_bytes(), 0o600);
        let (at, impostor) = impostor::start();
        let output = run(&mut client(&dir, &at, "default", &["hello"]), b"").expect_code(3);
        assert_eq!((&*output.out, &*output.err), ("", "wrong proof\n"));
        assert_eq!(impostor.join().unwrap(), b"");
    }
}
