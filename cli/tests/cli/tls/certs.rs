//! `countersign certs`, and files that will not do.

use std::fs;

use super::{OURS, THEIRS, connect, serve, with_certs};
use crate::common::{Scratch, countersign};
use crate::process::{Ran, Running, at_once, file, mode, run};

const NAMES: [&str; 6] =
    ["root.crt", "root.key", "server.crt", "server.key", "client.crt", "client.key"];

fn certs(scratch: &Scratch, args: &[&str]) -> Ran {
    run(countersign(scratch).arg("certs").args(args), b"")
}

/// The names in a directory.
fn names(scratch: &Scratch) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(scratch.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn keys_are_for_their_owner_alone_and_nothing_is_printed() {
    let scratch = Scratch::new();
    let ran = certs(&scratch, &["there/and/there"]).exited(0);
    assert!(ran.out.is_empty() && ran.err.is_empty(), "{ran:?}");
    for name in NAMES {
        let path = scratch.path().join("there/and/there").join(name);
        let secret = name.ends_with(".key");
        assert_eq!(mode(&path) & 0o077 == 0, secret, "{name}");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.contains("PRIVATE KEY"), secret, "{name}");
        assert_eq!(text.contains("BEGIN CERTIFICATE"), !secret, "{name}");
    }
}

#[test]
fn nothing_is_overwritten_and_nothing_written_beside_it() {
    for name in NAMES {
        let scratch = Scratch::new();
        let path = file(&scratch, name, b"precious", 0o600);
        let ran = certs(&scratch, &["."]).exited(2);
        ran.said(name);
        ran.said("remove it first");
        assert_eq!(fs::read(path).unwrap(), b"precious");
        assert_eq!(names(&scratch), [name]);
    }
    let scratch = Scratch::new();
    std::os::unix::fs::symlink("nowhere", scratch.path().join("client.key")).unwrap();
    certs(&scratch, &["."]).exited(2).said("client.key");
    assert_eq!(names(&scratch), ["client.key"]);
}

#[test]
fn a_server_is_called_what_it_is_to_be_called_beside_localhost() {
    let scratch = Scratch::new();
    certs(&scratch, &[".", "--name", "a.example", "--name", "192.0.2.7"]).exited(0);
    let server = serve(&scratch, &[&["--scheme", "none"], &OURS[..]].concat());
    let at = server.at[0].to_string();
    let called = |name: &str| {
        let ours = [&THEIRS[..], &["--tls-name", name]].concat();
        Running::start(&mut connect(&scratch, &at, &ours)).end()
    };
    for name in ["localhost", "127.0.0.1", "::1", "a.example", "A.EXAMPLE", "192.0.2.7"] {
        called(name).exited(0);
    }
    for name in ["b.example", "x.a.example", "192.0.2.8", "client"] {
        called(name).exited(3).said("--tls-name");
    }
    server.logged("reason=tls-alert");
}

#[test]
fn a_name_that_is_none_is_a_usage_error_and_nothing_is_written() {
    for bad in [&["--name", "Größe"][..], &["--days", "0"], &["--days", "many"], &["extra"]] {
        let scratch = Scratch::new();
        let ran = certs(&scratch, &[&["."], bad].concat()).exited(2);
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{ran:?}");
        assert!(names(&scratch).is_empty(), "{:?}", names(&scratch));
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_said() {
    let scratch = Scratch::new();
    file(&scratch, "file", b"", 0o644);
    certs(&scratch, &["file/below"]).exited(1).said("file/below");
}

/// What becomes of `serve` and of `connect` with these files.
fn fails(scratch: &Scratch, serve: &[&str], connect: &[&str], said: &str) {
    for (command, args) in [("serve", serve), ("connect", connect)] {
        if args.is_empty() {
            continue;
        }
        let mut ran = countersign(scratch);
        ran.arg(command);
        // Nobody listens there: it does not come to that.
        ran.args(if command == "serve" {
            ["--listen", "127.0.0.1:0"].as_slice()
        } else {
            &["127.0.0.1:1"]
        });
        let ran = run(ran.args(["--scheme", "none"]).args(args), b"").exited(2);
        ran.said(said);
    }
}

#[test]
fn files_that_will_not_do_are_named_with_what_is_wrong() {
    let scratch = with_certs();
    let other = with_certs();
    for name in ["server.key", "client.key"] {
        let key = fs::read(other.path().join(name)).unwrap();
        file(&scratch, &format!("other-{name}"), &key, 0o600);
        file(&scratch, &format!("open-{name}"), &key, 0o644);
    }
    file(&scratch, "empty", b"", 0o600);
    let with = |at: usize, args: &[&'static str], other: &'static str| {
        let mut args = args.to_vec();
        args[at] = other;
        args
    };
    let (serve, connect) =
        (|at, other| with(at, &OURS, other), |at, other| with(at, &THEIRS, other));
    // A key that others can read.
    fails(&scratch, &serve(3, "open-server.key"), &connect(5, "open-client.key"), "chmod 600");
    fails(
        &scratch,
        &serve(3, "other-server.key"),
        &connect(5, "other-client.key"),
        "belong together",
    );
    for at in [1, 3, 5] {
        fails(&scratch, &serve(at, "missing"), &connect(at, "missing"), "missing: ");
        fails(&scratch, &serve(at, "empty"), &connect(at, "empty"), "countersign certs");
    }
    fails(&scratch, &serve(1, "server.key"), &connect(3, "client.key"), "no certificate in it");
    fails(&scratch, &serve(3, "open-server.key"), &[], "open-server.key");
}

#[test]
fn half_of_what_tls_needs_is_a_usage_error() {
    let scratch = with_certs();
    for args in [
        &["serve", "--tls-cert", "server.crt"][..],
        &["serve", "--tls-key", "server.key"],
        &["serve", "--tls-client-ca", "root.crt"],
        &["connect", "127.0.0.1:1", "--tls-cert", "client.crt", "--tls-key", "client.key"],
        &["connect", "127.0.0.1:1", "--tls-ca", "root.crt", "--tls-cert", "client.crt"],
        &["connect", "127.0.0.1:1", "--tls-ca", "root.crt", "--tls-key", "client.key"],
        &["connect", "127.0.0.1:1", "--tls-name", "localhost"],
    ] {
        let ran = run(countersign(&scratch).args(args), b"").exited(2);
        ran.said("--tls-");
    }
    // Without a server there is no name to be wrong.
    let ours = [&THEIRS[..], &["--tls-name", "a b"]].concat();
    fails(&scratch, &[], &ours, "--tls-name a b");
}

#[test]
fn who_speaks_tls_to_whom_does_not_is_told_so() {
    let schemes = ["none", "mutual", "challenge", "multiprocessing"];
    at_once(schemes.into_iter().flat_map(|scheme| [(scheme, true), (scheme, false)]), |case| {
        let (scheme, tls_is_ours) = case;
        let scratch = with_certs();
        let common = ["--scheme", scheme, "--handshake-timeout", "1"];
        let tls: &[&str] = if tls_is_ours { &[] } else { &OURS };
        let server = serve(&scratch, &[&common, tls].concat());
        let mut connect = countersign(&scratch);
        connect.args(["connect", &server.at[0].to_string(), "--message", "hello"]).args(common);
        if tls_is_ours {
            connect.args(THEIRS);
        }
        let ran = run(connect.env("COUNTERSIGN_KEY", crate::KEY), b"");
        let (codes, reason) = match case {
            // What it takes for a length is too long; or it speaks first, and that is no TLS.
            ("none", true) => ([4, 4], "frame-too-long"),
            ("challenge", true) => ([5, 5], "wrong-key"),
            (_, true) => ([5, 5], "malformed"),
            ("none", false) => ([5, 5], "tls-broken"),
            // Each waits for the other to speak, and the first to give up says so.
            (_, false) => ([4, 5], ""),
        };
        assert!(codes.map(Some).contains(&ran.code), "{ran:?}");
        ran.said("check that ");
        server.logged(&format!("reason={reason}"));
    });
}
