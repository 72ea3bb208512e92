//! `countersign certs`, and wrong or missing files.

use std::fs;

use super::{CLIENT_TLS, SERVER_TLS, connect, serve, with_certs};
use crate::common::{TempDir, countersign};
use crate::process::{Output, Process, file, in_parallel, mode, run};

const NAMES: [&str; 6] =
    ["root.crt", "root.key", "server.crt", "server.key", "client.crt", "client.key"];

fn certs(dir: &TempDir, args: &[&str]) -> Output {
    run(countersign(dir).arg("certs").args(args), b"")
}

/// The names of the files in a directory.
fn names(dir: &TempDir) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn certs_writes_private_keys_for_the_owner_only() {
    let dir = TempDir::new();
    let output = certs(&dir, &["there/and/there"]).expect_code(0);
    assert!(output.out.is_empty() && output.err.is_empty(), "{output:?}");
    for name in NAMES {
        let path = dir.path().join("there/and/there").join(name);
        let secret = name.ends_with(".key");
        assert_eq!(mode(&path) & 0o077 == 0, secret, "{name}");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.contains("PRIVATE KEY"), secret, "{name}");
        assert_eq!(text.contains("BEGIN CERTIFICATE"), !secret, "{name}");
    }
}

#[test]
fn certs_overwrites_nothing() {
    for name in NAMES {
        let dir = TempDir::new();
        let path = file(&dir, name, b"contents", 0o600);
        let output = certs(&dir, &["."]).expect_code(2);
        output.expect_stderr(name);
        output.expect_stderr("remove it first");
        assert_eq!(fs::read(path).unwrap(), b"contents");
        assert_eq!(names(&dir), [name]);
    }
    let dir = TempDir::new();
    std::os::unix::fs::symlink("nowhere", dir.path().join("client.key")).unwrap();
    certs(&dir, &["."]).expect_code(2).expect_stderr("client.key");
    assert_eq!(names(&dir), ["client.key"]);
}

#[test]
fn certs_name_adds_names_to_localhost() {
    let dir = TempDir::new();
    certs(&dir, &[".", "--name", "a.example", "--name", "192.0.2.7"]).expect_code(0);
    let server = serve(&dir, &[&["--scheme", "none"], &SERVER_TLS[..]].concat());
    let at = server.at[0].to_string();
    let connect_to = |name: &str| {
        let ours = [&CLIENT_TLS[..], &["--tls-name", name]].concat();
        Process::start(&mut connect(&dir, &at, &ours)).wait()
    };
    for name in ["localhost", "127.0.0.1", "::1", "a.example", "A.EXAMPLE", "192.0.2.7"] {
        connect_to(name).expect_code(0);
    }
    for name in ["b.example", "x.a.example", "192.0.2.8", "client"] {
        connect_to(name).expect_code(3).expect_stderr("--tls-name");
    }
    server.wait_log("reason=tls-alert");
}

#[test]
fn invalid_certs_options_write_nothing() {
    for bad in [&["--name", "Größe"][..], &["--days", "0"], &["--days", "many"], &["extra"]] {
        let dir = TempDir::new();
        let output = certs(&dir, &[&["."], bad].concat()).expect_code(2);
        assert!(output.out.is_empty() && !output.err.is_empty(), "{output:?}");
        assert!(names(&dir).is_empty(), "{:?}", names(&dir));
    }
}

#[test]
fn certs_reports_a_directory_it_cannot_create() {
    let dir = TempDir::new();
    file(&dir, "file", b"", 0o644);
    certs(&dir, &["file/below"]).expect_code(1).expect_stderr("file/below");
}

/// Checks that `serve` and `connect` fail with these options and with `message` in their error.
fn expect_usage_error(dir: &TempDir, serve: &[&str], connect: &[&str], message: &str) {
    for (command, args) in [("serve", serve), ("connect", connect)] {
        if args.is_empty() {
            continue;
        }
        let mut command_line = countersign(dir);
        command_line.arg(command);
        command_line.args(if command == "serve" {
            ["--listen", "127.0.0.1:0"].as_slice()
        } else {
            &["unix:absent"]
        });
        let output = run(command_line.args(["--scheme", "none"]).args(args), b"").expect_code(2);
        output.expect_stderr(message);
    }
}

#[test]
fn bad_tls_files_are_named_with_the_reason() {
    let dir = with_certs();
    let other = with_certs();
    for name in ["server.key", "client.key"] {
        let key = fs::read(other.path().join(name)).unwrap();
        file(&dir, &format!("other-{name}"), &key, 0o600);
        file(&dir, &format!("open-{name}"), &key, 0o644);
    }
    file(&dir, "empty", b"", 0o600);
    let with = |at: usize, args: &[&'static str], other: &'static str| {
        let mut args = args.to_vec();
        args[at] = other;
        args
    };
    let (serve, connect) =
        (|at, other| with(at, &SERVER_TLS, other), |at, other| with(at, &CLIENT_TLS, other));
    // A key file that others can read.
    expect_usage_error(
        &dir,
        &serve(3, "open-server.key"),
        &connect(5, "open-client.key"),
        "chmod 600",
    );
    expect_usage_error(
        &dir,
        &serve(3, "other-server.key"),
        &connect(5, "other-client.key"),
        "belong together",
    );
    for at in [1, 3, 5] {
        expect_usage_error(&dir, &serve(at, "missing"), &connect(at, "missing"), "missing: ");
        expect_usage_error(&dir, &serve(at, "empty"), &connect(at, "empty"), "countersign certs");
    }
    expect_usage_error(
        &dir,
        &serve(1, "server.key"),
        &connect(3, "client.key"),
        "no certificate in it",
    );
    expect_usage_error(&dir, &serve(3, "open-server.key"), &[], "open-server.key");
}

#[test]
fn incomplete_tls_options_are_usage_errors() {
    let dir = with_certs();
    for args in [
        &["serve", "--tls-cert", "server.crt"][..],
        &["serve", "--tls-key", "server.key"],
        &["serve", "--tls-client-ca", "root.crt"],
        &["connect", "unix:absent", "--tls-cert", "client.crt", "--tls-key", "client.key"],
        &["connect", "unix:absent", "--tls-ca", "root.crt", "--tls-cert", "client.crt"],
        &["connect", "unix:absent", "--tls-ca", "root.crt", "--tls-key", "client.key"],
        &["connect", "unix:absent", "--tls-name", "localhost"],
    ] {
        let output = run(countersign(&dir).args(args), b"").expect_code(2);
        output.expect_stderr("--tls-");
    }
    // The name of a server is wrong.
    let ours = [&CLIENT_TLS[..], &["--tls-name", "a b"]].concat();
    expect_usage_error(&dir, &[], &ours, "--tls-name a b");
}

#[test]
fn tls_on_one_end_only_is_reported() {
    let schemes = ["none", "mutual", "challenge", "multiprocessing"];
    in_parallel(schemes.into_iter().flat_map(|scheme| [(scheme, true), (scheme, false)]), |case| {
        let (scheme, tls_client) = case;
        let dir = with_certs();
        // Only a plain client of a TLS server waits for the timeout.
        let timeout = if !tls_client && scheme != "none" { "2" } else { "60" };
        let common = ["--scheme", scheme, "--handshake-timeout", timeout];
        let tls: &[&str] = if tls_client { &[] } else { &SERVER_TLS };
        let server = serve(&dir, &[&common, tls].concat());
        let mut connect = countersign(&dir);
        connect.args(["connect", &server.at[0].to_string(), "--message", "hello"]).args(common);
        if tls_client {
            connect.args(CLIENT_TLS);
        }
        let output = run(connect.env("COUNTERSIGN_KEY", crate::KEY), b"");
        let (codes, reason) = match case {
            // The server reads the ClientHello as a frame header. A server that sends first sends no TLS.
            ("none", true) => ([4, 4], "frame-too-long"),
            ("challenge", true) => ([5, 5], "wrong-key"),
            (_, true) => ([5, 5], "malformed"),
            ("none", false) => ([5, 5], "tls-broken"),
            // Both ends wait for the other to send first, until one of them times out.
            (_, false) => ([4, 5], ""),
        };
        assert!(codes.map(Some).contains(&output.code), "{output:?}");
        output.expect_stderr("check that ");
        server.wait_log(&format!("reason={reason}"));
    });
}
