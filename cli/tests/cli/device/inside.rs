//! Devices inside TLS.

use std::process::Command;

use super::{APP_ID, IMEI, KEY, conversation, device, program, serve, until};
use crate::common::{At, Scratch, Server};
use crate::process::{Running, file, run};
use crate::tls::python::each;
use crate::tls::{OURS, THEIRS, with_certs};

/// A program of tests/device that finds what those of tests/tls use.
fn python(scratch: &Scratch, name: &str) -> Command {
    let mut command = program(name);
    let frames = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls");
    command.env("PYTHONPATH", frames).current_dir(scratch.path());
    command
}

#[test]
fn a_python_device_is_served_whatever_made_the_certificates() {
    each(|origin, scratch, version| {
        let trust = origin.trust("client.crt");
        let tls = ["--tls-cert", "server.crt", "--tls-key", "server.key", "--tls-client-ca", trust];
        let server = serve(scratch, &tls);
        let At::Tcp(at) = &server.at[0] else { panic!("not TCP") };
        let mut command = python(scratch, "client.py");
        command.args([&at.ip().to_string(), &at.port().to_string(), IMEI, "3"]);
        command.args([version, "client.crt", "client.key", origin.trust("server.crt")]);
        run(&mut command, b"").exited(0).printed("0 0 2\n2 0 21\n1 0 2\n1 0 2\n1 0 2\n");
        until(scratch, |list| list[0]["imei"] == IMEI && list[0]["connected"] == false);
    });
}

#[test]
fn a_python_server_serves_our_device_whatever_made_the_certificates() {
    each(|origin, scratch, version| {
        let mut command = python(scratch, "server.py");
        command.args([version, "server.crt", "server.key", origin.trust("client.crt")]);
        let server = Server::spawn(command, 1);
        let tls = ["--tls-ca", origin.trust("server.crt"), "--tls-cert", "client.crt"];
        let more = [&tls[..], &["--tls-key", "client.key", "--count", "3"]].concat();
        let ran = run(&mut device(scratch, &server.at[0], &more), b"").exited(0);
        conversation(&ran.out, 3);
        server.logged(&format!("register {APP_ID} {IMEI}"));
    });
}

#[test]
fn a_device_outlives_its_server_inside_tls_and_mutual_inside_tls() {
    for scheme in ["none", "mutual"] {
        let scratch = with_certs();
        let scheme = ["--scheme", scheme];
        let args = ["--listen", "unix:s", "--service", "device"];
        let args = [&args[..], &scheme, &OURS].concat();
        let at = At::Unix(scratch.path().join("s"));
        let device = Running::start(&mut device(&scratch, &at, &[&scheme[..], &THEIRS].concat()));
        for lives in 1..=2 {
            let mut server = Server::start(&scratch, KEY, &args);
            device.out.wait("a heartbeat", |text, _| {
                let parts: Vec<_> = text.split("register 0\n").collect();
                parts.len() == lives + 1 && parts[lives].contains("heartbeat 0")
            });
            server.child.kill().unwrap();
        }
        drop(device);
    }
}

#[test]
fn a_device_inside_tls_ends_when_it_is_refused_for_good() {
    let scratch = with_certs();
    let server = serve(&scratch, &[&OURS[..], &["--scheme", "mutual"]].concat());
    let mutual = [&THEIRS[..], &["--scheme", "mutual"]].concat();
    let mut of_another_key = device(&scratch, &server.at[0], &mutual);
    of_another_key.env("COUNTERSIGN_KEY", "another key, as long as that");
    run(&mut of_another_key, b"").exited(3);
    // A server whose certificate is of another root than it trusts, and one that wants to see one.
    let other = with_certs();
    let root = std::fs::read(other.path().join("root.crt")).unwrap();
    file(&scratch, "other.crt", &root, 0o644);
    let certificate = &THEIRS[2..];
    for (tls, reason) in [
        (&[&["--tls-ca", "other.crt"], certificate].concat()[..], "--tls-ca"),
        (&["--tls-ca", "root.crt"], "--tls-cert"),
    ] {
        let more = [tls, &["--scheme", "mutual"]].concat();
        run(&mut device(&scratch, &server.at[0], &more), b"").exited(3).said(reason);
    }
}
