//! The client in docs/mutual_client.py, in real Python, against ours.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::KEY;
use crate::common::{At, Scratch, Server};
use crate::process::{Ran, file, run};
use crate::recipe::python;

/// Something in docs.
fn docs(name: &str) -> String {
    format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The client, which says `messages` to `at` under the key id `kid`, in the directory `scratch`,
/// where its key is in `key`.
fn client<A: AsRef<OsStr>>(scratch: &Scratch, at: &At, kid: &str, messages: &[A]) -> Command {
    let At::Tcp(at) = at else { panic!("{at} is not for it") };
    let mut command = Command::new("python3");
    command.current_dir(scratch.path()).arg("-B").arg(docs("mutual_client.py"));
    command.args([&at.ip().to_string(), &at.port().to_string(), "key", kid, "client"]);
    command.args(messages);
    command
}

/// A server, whose key is in `key` too.
fn serve(scratch: &Scratch, more: &[&str]) -> Server {
    let key = file(scratch, "key", format!("{KEY}\n").as_bytes(), 0o600);
    let args = ["--listen", "127.0.0.1:0", "--scheme", "mutual", "--key-file"];
    Server::start(scratch, KEY, &[&args[..], &[key.to_str().unwrap()], more].concat())
}

/// Fails unless it was refused, and said nothing but that.
#[track_caller]
fn refused(ran: Ran) {
    let ran = ran.exited(3);
    ran.printed("");
    assert_eq!(ran.err, "refused: alert 1\n");
}

#[test]
fn the_client_of_the_documentation_agrees_with_the_vectors() {
    if python() {
        let mut command = Command::new("python3");
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        command.arg("-B").arg(here.join("tests/mutual/vectors.py")).arg(docs(""));
        command.arg(here.join("../tests/vectors/mutual_vectors.json"));
        run(&mut command, b"").exited(0);
    }
}

#[test]
fn the_client_of_the_documentation_is_served() {
    if python() {
        let scratch = Scratch::new();
        let server = serve(&scratch, &[]);
        let at = &server.at[0];
        let long = "long ".repeat(20_000);
        let messages = ["hello", "", "Größe 1", &long, "."];
        let replies = format!("HELLO\n\nGRößE 1\n{}\n.\n", long.to_uppercase());
        run(&mut client(&scratch, at, "default", &messages), b"").exited(0).printed(&replies);

        let lines = messages.join("\n") + "\n";
        let mut from_input = client::<&str>(&scratch, at, "default", &[]);
        run(&mut from_input, lines.as_bytes()).exited(0).printed(&replies);
        run(&mut from_input, b"").exited(0).printed("");
    }
}

#[test]
fn the_client_of_the_documentation_cuts_messages_to_what_the_server_takes() {
    if python() {
        let scratch = Scratch::new();
        let server = serve(&scratch, &["--max-frame", "256"]);
        let long = "x".repeat(1000);
        let ran = run(&mut client(&scratch, &server.at[0], "default", &[&long]), b"").exited(0);
        ran.printed(&(long.to_uppercase() + "\n"));
    }
}

#[test]
fn the_client_of_the_documentation_with_another_key_is_refused() {
    if python() {
        let scratch = Scratch::new();
        let server = serve(&scratch, &[]);
        file(&scratch, "key", b"another key that is long enough for anyone", 0o600);
        refused(run(&mut client(&scratch, &server.at[0], "default", &["hello"]), b""));
        server.logged("scheme=mutual reason=wrong-key");
    }
}

#[test]
fn the_client_of_the_documentation_with_another_key_id_is_refused() {
    if python() {
        let scratch = Scratch::new();
        let server = serve(&scratch, &[]);
        refused(run(&mut client(&scratch, &server.at[0], "other", &["hello"]), b""));
        server.logged("scheme=mutual reason=unknown-key");
    }
}

#[test]
fn the_client_of_the_documentation_tells_an_impostor_nothing() {
    if python() {
        let scratch = Scratch::new();
        file(&scratch, "key", KEY.as_bytes(), 0o600);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = At::Tcp(listener.local_addr().unwrap());
        let impostor = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"\0\0\0\x29\x01CSGN\x01\x01\x01\x01").unwrap();
            stream.write_all(&[0x42; 32]).unwrap();
            let mut header = [0; 4];
            stream.read_exact(&mut header).unwrap();
            let mut m2 = vec![0; u32::from_be_bytes(header) as usize];
            stream.read_exact(&mut m2).unwrap();
            // As long as a right one, and no proof.
            stream.write_all(b"\0\0\0\x40\x03\x06server").unwrap();
            stream.write_all(&[0x42; 16]).unwrap();
            stream.write_all(b"\0\0\x40\0\0\0\x3a\x98").unwrap();
            stream.write_all(&[0x42; 32]).unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
            rest
        });
        let ran = run(&mut client(&scratch, &at, "default", &["hello"]), b"").exited(3);
        assert_eq!((&*ran.out, &*ran.err), ("", "wrong proof\n"));
        assert_eq!(impostor.join().unwrap(), b"");
    }
}
