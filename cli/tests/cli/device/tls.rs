//! Devices inside TLS.

use std::process::Command;

use super::{APP_ID, IMEI, KEY, device, expect_device_output, serve, wait_devices};
use crate::common::{Server, ServerAddr, TempDir};
use crate::process::{Process, file, run};
use crate::tls::python::for_each_certificate_source;
use crate::tls::{CLIENT_TLS, SERVER_TLS, with_certs};
use crate::tools::{python_script, script_path};

/// The program `name` in tests/device, with the modules of tests/tls in its path.
fn python(dir: &TempDir, name: &str) -> Command {
    let mut command = python_script(&format!("device/{name}"));
    command.env("PYTHONPATH", script_path("tls")).current_dir(dir.path());
    command
}

#[test]
fn python_tls_device_is_served() {
    for_each_certificate_source(|source, dir, version| {
        let trust = source.trust("client.crt");
        let tls = ["--tls-cert", "server.crt", "--tls-key", "server.key", "--tls-client-ca", trust];
        let server = serve(dir, &tls);
        let ServerAddr::Tcp(at) = &server.at[0] else { panic!("not TCP") };
        let mut command = python(dir, "client.py");
        command.args([&at.ip().to_string(), &at.port().to_string(), IMEI, "3"]);
        command.args([version, "client.crt", "client.key", source.trust("server.crt")]);
        run(&mut command, b"").expect_code(0).expect_stdout("0 0 2\n2 0 21\n1 0 2\n1 0 2\n1 0 2\n");
        wait_devices(dir, |list| list[0]["imei"] == IMEI && list[0]["connected"] == false);
    });
}

#[test]
fn device_works_with_python_tls_server() {
    for_each_certificate_source(|source, dir, version| {
        let mut command = python(dir, "server.py");
        command.args([version, "server.crt", "server.key", source.trust("client.crt")]);
        let server = Server::spawn(command, 1);
        let tls = ["--tls-ca", source.trust("server.crt"), "--tls-cert", "client.crt"];
        let more = [&tls[..], &["--tls-key", "client.key", "--count", "3"]].concat();
        let output = run(&mut device(dir, &server.at[0], &more), b"").expect_code(0);
        expect_device_output(&output.out, 3);
        server.wait_log(&format!("register {APP_ID} {IMEI}"));
    });
}

#[test]
fn tls_device_reconnects_after_server_restart() {
    for scheme in ["none", "mutual"] {
        let dir = with_certs();
        let scheme = ["--scheme", scheme];
        let args = ["--listen", "unix:s", "--service", "device"];
        let args = [&args[..], &scheme, &SERVER_TLS].concat();
        let at = ServerAddr::Unix(dir.path().join("s"));
        let device = Process::start(&mut device(&dir, &at, &[&scheme[..], &CLIENT_TLS].concat()));
        for run in 1..=2 {
            let mut server = Server::start(&dir, KEY, &args);
            device.out.wait("a heartbeat", |text, _| {
                let runs: Vec<_> = text.split("register 0\n").collect();
                runs.len() == run + 1 && runs[run].contains("heartbeat 0")
            });
            server.child.kill().unwrap();
        }
        drop(device);
    }
}

#[test]
fn refused_tls_device_ends() {
    let dir = with_certs();
    let server = serve(&dir, &[&SERVER_TLS[..], &["--scheme", "mutual"]].concat());
    let mutual = [&CLIENT_TLS[..], &["--scheme", "mutual"]].concat();
    let mut wrong_key = device(&dir, &server.at[0], &mutual);
    wrong_key.env("COUNTERSIGN_KEY", "another key, as long as that");
    run(&mut wrong_key, b"").expect_code(3);
    // A server certificate of another root than the trusted one; a server that requires a certificate.
    let other = with_certs();
    let root = std::fs::read(other.path().join("root.crt")).unwrap();
    file(&dir, "other.crt", &root, 0o644);
    let certificate = &CLIENT_TLS[2..];
    for (tls, reason) in [
        (&[&["--tls-ca", "other.crt"], certificate].concat()[..], "--tls-ca"),
        (&["--tls-ca", "root.crt"], "--tls-cert"),
    ] {
        let more = [tls, &["--scheme", "mutual"]].concat();
        run(&mut device(&dir, &server.at[0], &more), b"").expect_code(3).expect_stderr(reason);
    }
}
