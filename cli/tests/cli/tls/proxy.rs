//! A proxy between client and server with certificates that both trust, written in Python.

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

use super::{CLIENT_TLS, SERVER_TLS, script, serve, sign, with_certs};
use crate::KEY;
use crate::common::{Server, TempDir, countersign};
use crate::process::{Output, Process, in_parallel, run};
use crate::tools::has_python_ssl;

const VERSIONS: [&str; 2] = ["1.2", "1.3"];

fn proxy(dir: &TempDir, server: &Server, version: &str, how: &str) -> Server {
    sign(dir, "proxy", ServerAuth, |params| params.extended_key_usages.push(ClientAuth));
    let (address, own) = (server.at[0].to_string(), ["proxy.crt", "proxy.key", "root.crt"]);
    let args = [&[&address, version], &own[..], &[how]].concat();
    Server::spawn(script(dir, "proxy.py", &args), 1)
}

fn connect(dir: &TempDir, server: &Server, args: &[&str]) -> Output {
    let mut connect = countersign(dir);
    connect.args(["connect", &server.at[0].to_string(), "--message", "hello"]).args(args);
    run(connect.env("COUNTERSIGN_KEY", KEY), b"")
}

#[test]
fn mutual_detects_a_trusted_tls_proxy() {
    if !has_python_ssl() {
        return;
    }
    in_parallel(VERSIONS, |version| {
        let dir = with_certs();
        let server = serve(&dir, &[&["--scheme", "mutual"], &SERVER_TLS[..]].concat());
        let proxy = proxy(&dir, &server, version, "tls-tls");
        connect(&dir, &proxy, &CLIENT_TLS).expect_code(3).expect_stdout("");
        server.wait_log("scheme=tls+mutual reason=wrong-key");
        // Without the proxy, the same ends connect.
        connect(&dir, &server, &CLIENT_TLS).expect_code(0).expect_stdout("HELLO\n");
    });
}

#[test]
fn other_schemes_do_not_detect_a_trusted_tls_proxy() {
    if !has_python_ssl() {
        return;
    }
    in_parallel(VERSIONS, |version| {
        for scheme in ["none", "challenge", "multiprocessing"] {
            let dir = with_certs();
            let server = serve(&dir, &[&["--scheme", scheme], &SERVER_TLS[..]].concat());
            let proxy = proxy(&dir, &server, version, "tls-tls");
            let mut connect = countersign(&dir);
            connect
                .args(["connect", &proxy.at[0].to_string(), "--scheme", scheme])
                .args(CLIENT_TLS);
            let mut connect = Process::start(connect.env("COUNTERSIGN_KEY", KEY));
            // The proxy does not forward the end of the streams.
            connect.write_stdin(b"hello\n");
            connect.out.wait("an answer", |text, _| text.starts_with("HELLO"));
        }
    });
}

#[test]
fn bound_and_unbound_ends_do_not_connect() {
    if !has_python_ssl() {
        return;
    }
    in_parallel(VERSIONS, |version| {
        // The client speaks TLS to the proxy, the server speaks no TLS.
        let dir = with_certs();
        let server = serve(&dir, &["--scheme", "mutual"]);
        let proxied = proxy(&dir, &server, version, "tls-plain");
        connect(&dir, &proxied, &CLIENT_TLS).expect_code(3).expect_stdout("");
        server.wait_log("scheme=mutual reason=");
        connect(&dir, &server, &[]).expect_code(0).expect_stdout("HELLO\n");

        let server = serve(&dir, &[&["--scheme", "mutual"], &SERVER_TLS[..]].concat());
        let proxied = proxy(&dir, &server, version, "plain-tls");
        connect(&dir, &proxied, &[]).expect_code(3).expect_stdout("");
        server.wait_log("scheme=tls+mutual reason=");
    });
}
