//! `openssl s_client` and `openssl s_server` against ours.

use std::process::Command;

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

use super::{CLIENT_TLS, SERVER_TLS, connect, expired, serve, sign, with_certs};
use crate::common::{ServerAddr, TempDir};
use crate::peer::frame;
use crate::process::{Output, Process, file, in_parallel};
use crate::tools::has_openssl;

const VERSIONS: [(&str, &str); 2] = [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")];
/// TLS 1.1, which OpenSSL allows only at security level 0.
const OLD: [&str; 3] = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];
const CLIENT_CERT: [&str; 4] = ["-cert", "client.crt", "-key", "client.key"];
/// The options of a server that requires no client certificate.
const SERVER_TLS_ONLY: [&str; 4] = ["--tls-cert", "server.crt", "--tls-key", "server.key"];

/// A configuration of OpenSSL without the extended master secret in TLS 1.2.
const NO_EMS: &str = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n\
                      Options = -ExtendedMasterSecret\n";

fn command(dir: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(dir.path()).args(args);
    command
}

fn without_ems(dir: &TempDir, mut command: Command) -> Command {
    let path = file(dir, "openssl.cnf", NO_EMS.as_bytes(), 0o644);
    command.env("OPENSSL_CONF", path);
    command
}

fn client(dir: &TempDir, at: &ServerAddr, args: &[&str]) -> Command {
    let mut client = command(dir, &["s_client", "-connect", &at.to_string(), "-brief"]);
    client.args(["-CAfile", "root.crt", "-verify_return_error", "-verify_ip", "127.0.0.1"]);
    client.args(args);
    client
}

/// Runs a client that must be refused.
fn expect_refusal(mut client: Command) -> Output {
    let running = Process::start(&mut client);
    // Its input stays open, so that the server closes first.
    running.err.wait_end();
    running.wait().expect_code(1)
}

#[test]
fn openssl_client_is_served() {
    if !has_openssl() {
        return;
    }
    in_parallel(VERSIONS, |(option, version)| {
        for (ours, theirs) in [(&SERVER_TLS[..], &CLIENT_CERT[..]), (&SERVER_TLS_ONLY, &[])] {
            let dir = with_certs();
            let server = serve(&dir, &[&["--scheme", "none", "--log", "debug"], ours].concat());
            let args = [&[option, "-nocommands"], theirs].concat();
            let mut running = Process::start(&mut client(&dir, &server.at[0], &args));
            for message in [&b"hello"[..], b"", b"again"] {
                running.write_stdin(&frame(message));
                let answer = String::from_utf8(frame(&message.to_ascii_uppercase())).unwrap();
                running.out.wait(&answer, |text, _| text.ends_with(&answer));
            }
            let output = running.wait().expect_code(0);
            output.expect_stderr(version);
            output.expect_stderr("Verification: OK");
            // Both ends have sent close_notify.
            server.wait_log("closed peer=");
        }
    });
}

#[test]
fn openssl_client_with_old_tls_or_without_ems_is_refused() {
    if !has_openssl() {
        return;
    }
    let dir = with_certs();
    let server = serve(&dir, &[&["--scheme", "none"], &SERVER_TLS[..]].concat());
    let old = client(&dir, &server.at[0], &[&OLD[..], &CLIENT_CERT].concat());
    expect_refusal(old).expect_stderr("alert");
    server.wait_log("scheme=tls+none reason=tls-nothing-in-common");

    let server = serve(&dir, &[&["--scheme", "none"], &SERVER_TLS[..]].concat());
    let args = [&["-tls1_2"], &CLIENT_CERT[..]].concat();
    let no_ems = without_ems(&dir, client(&dir, &server.at[0], &args));
    expect_refusal(no_ems).expect_stderr("alert");
    server.wait_log("scheme=tls+none reason=tls-nothing-in-common");
}

#[test]
fn openssl_client_with_bad_certificate_gets_an_alert() {
    if !has_openssl() {
        return;
    }
    in_parallel(VERSIONS, |(version, _)| {
        let (dir, elsewhere) = (with_certs(), with_certs());
        sign(&dir, "expired", ClientAuth, expired);
        for name in ["client.crt", "client.key"] {
            let other = dir.path().join(format!("other-{name}"));
            std::fs::copy(elsewhere.path().join(name), other).unwrap();
        }
        for (name, reason, alert) in [
            ("", "tls-no-certificate", 116),
            ("expired", "tls-certificate-expired", 45),
            // Signed by another CA with the same name.
            ("other-client", "tls-certificate-untrusted", 51),
            ("server", "tls-certificate-unusable", 43),
        ] {
            let server = serve(&dir, &[&["--scheme", "none"], &SERVER_TLS[..]].concat());
            let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
            let shown = ["-cert", &certificate, "-key", &key];
            let shown = if name.is_empty() { &[][..] } else { &shown };
            let client = client(&dir, &server.at[0], &[&[version], shown].concat());
            expect_refusal(client).expect_stderr(&format!("alert number {alert}"));
            server.wait_log(&format!("scheme=tls+none reason={reason}"));
        }
    });
}

#[test]
fn openssl_client_rejects_our_certificate_for_another_name() {
    if !has_openssl() {
        return;
    }
    let dir = with_certs();
    let server = serve(&dir, &[&["--scheme", "none"], &SERVER_TLS_ONLY[..]].concat());
    let mut other = command(&dir, &["s_client", "-connect", &server.at[0].to_string()]);
    other.args(["-CAfile", "root.crt", "-verify_return_error", "-verify_hostname", "elsewhere"]);
    expect_refusal(other).expect_stderr("hostname mismatch");
    server.wait_log("scheme=tls+none reason=tls-alert");
}

#[test]
fn renegotiation_is_refused() {
    if !has_openssl() {
        return;
    }
    let dir = with_certs();
    let server = serve(&dir, &[&["--scheme", "none"], &SERVER_TLS[..]].concat());
    let args = [&["-tls1_2"], &CLIENT_CERT[..]].concat();
    let mut running = Process::start(&mut client(&dir, &server.at[0], &args));
    running.err.wait("a connection", |text, _| text.contains("TLSv1.2"));
    running.write_stdin(b"R\n");
    running.err.wait("a refusal", |text, _| text.contains("no renegotiation"));
    running.wait().expect_code(1);
    server.wait_log("ended peer=");

    // As a client: it refuses and goes on, then OpenSSL ends the connection.
    let (mut theirs, at) = s_server(command(&dir, &["s_server"]), &["-tls1_2"]);
    let mut ours = Process::start(&mut connect(&dir, &at, &CLIENT_TLS));
    ours.write_stdin(b"hello\n");
    theirs.out.wait("a message", |text, _| text.contains("hello"));
    theirs.write_stdin(b"R\n");
    theirs.err.wait("a refusal", |text, _| text.contains("no renegotiation"));
    ours.wait().expect_code(5).expect_stderr("alert 40");
}

#[test]
fn openssl_client_receives_our_close_notify() {
    if !has_openssl() {
        return;
    }
    for (option, _) in VERSIONS {
        let dir = with_certs();
        let server = serve(&dir, &[&["--scheme", "none"], &SERVER_TLS[..]].concat());
        let args = [&[option, "-nocommands", "-state"], &CLIENT_CERT[..]].concat();
        let mut running = Process::start(&mut client(&dir, &server.at[0], &args));
        running.write_stdin(&frame(b"hello"));
        running.out.wait("an answer", |text, _| text.contains("HELLO"));
        server.signal(rustix::process::Signal::TERM);
        // OpenSSL exits by itself. Without close_notify it would report an error.
        running.out.wait_end();
        let output = running.wait().expect_code(0);
        output.expect_stderr("SSL3 alert read:warning:close notify");
        server.wait().expect_code(0);
    }
}

/// Starts a server by OpenSSL that requires a certificate, with `args`. Returns it with its address.
fn s_server(mut command: Command, args: &[&str]) -> (Process, String) {
    command.args(["-accept", "127.0.0.1:0", "-naccept", "1", "-CAfile", "root.crt"]);
    command.args(["-Verify", "1", "-verify_return_error"]).args(args);
    if !args.contains(&"-cert") {
        command.args(["-cert", "server.crt", "-key", "server.key"]);
    }
    let running = Process::start(&mut command);
    let ready = |text: &str| {
        let (_, rest) = text.split_once("ACCEPT ")?;
        Some(rest.split_once('\n')?.0.to_owned())
    };
    let text = running.out.wait("where it listens", |text, _| ready(text).is_some());
    (running, ready(&text).unwrap())
}

#[test]
fn connect_works_with_openssl_server() {
    if !has_openssl() {
        return;
    }
    in_parallel(VERSIONS, |(option, _)| {
        let dir = with_certs();
        let (mut theirs, at) = s_server(command(&dir, &["s_server"]), &[option]);
        let mut ours = Process::start(&mut connect(&dir, &at, &CLIENT_TLS));
        // OpenSSL treats close_notify as the end of both directions, so the reply comes first.
        ours.write_stdin(b"hello\n");
        theirs.out.wait("a message", |text, _| text.contains("hello"));
        theirs.write_stdin(&frame(b"HELLO"));
        ours.out.wait("an answer", |text, _| text == "HELLO\n");
        ours.wait().expect_code(0);
        // Without close_notify OpenSSL would report an error.
        let theirs = theirs.wait().expect_code(0);
        assert!(theirs.out.contains("CONNECTION CLOSED"), "{theirs:?}");
        assert!(!theirs.out.contains("ERROR") && !theirs.err.contains("error"), "{theirs:?}");
    });
}

#[test]
fn replies_are_read_before_close_notify_in_tls_1_2() {
    if has_openssl() {
        let dir = with_certs();
        let (mut theirs, at) = s_server(command(&dir, &["s_server"]), &["-tls1_2"]);
        let mut connect = connect(&dir, &at, &CLIENT_TLS);
        connect.args(["--message", "one", "--message", "two", "--linger", "60"]);
        let ours = Process::start(&mut connect);
        theirs.out.wait("the messages", |text, _| text.contains("two"));
        // After our close_notify, OpenSSL would exit without sending replies.
        for reply in ["ONE", "TWO"] {
            theirs.write_stdin(&frame(reply.as_bytes()));
            ours.out.wait("a reply", |text, _| text.ends_with(&format!("{reply}\n")));
        }
        ours.wait().expect_code(0).expect_stdout("ONE\nTWO\n");
        theirs.wait().expect_code(0);
    }
}

/// Runs `connect` against a server by OpenSSL with `args`.
fn connect_to_openssl(dir: &TempDir, server: Command, args: &[&str], ours: &[&str]) -> Output {
    let (_theirs, at) = s_server(server, args);
    Process::start(&mut connect(dir, &at, ours)).wait()
}

#[test]
fn openssl_server_with_bad_certificate_is_refused() {
    if !has_openssl() {
        return;
    }
    in_parallel(VERSIONS, |(version, _)| {
        let dir = with_certs();
        sign(&dir, "expired", ServerAuth, expired);
        sign(&dir, "elsewhere", ServerAuth, |params| {
            params.subject_alt_names.truncate(1);
        });
        let refused = |name: &str, remedy: &str, alert: u8| {
            let shown = [&format!("{name}.crt"), &format!("{name}.key")];
            let args = [version, "-cert", shown[0], "-key", shown[1]];
            let (theirs, at) = s_server(command(&dir, &["s_server"]), &args);
            Process::start(&mut connect(&dir, &at, &CLIENT_TLS))
                .wait()
                .expect_code(3)
                .expect_stderr(remedy);
            theirs.wait().expect_stderr(&format!("alert number {alert}"));
        };
        refused("expired", "check both clocks", 45);
        refused("elsewhere", "give --tls-name", 42);
        refused("client", "cannot be verified", 43);

        let other = with_certs();
        let root = std::fs::read(other.path().join("root.crt")).unwrap();
        file(&dir, "other-root.crt", &root, 0o644);
        let server = command(&dir, &["s_server"]);
        connect_to_openssl(&dir, server, &[version], &["--tls-ca", "other-root.crt"])
            .expect_code(3)
            .expect_stderr("check --tls-ca");
        // The server requires a certificate and rejects this one.
        let expired =
            ["--tls-ca", "root.crt", "--tls-cert", "expired.crt", "--tls-key", "expired.key"];
        let server = command(&dir, &["s_server"]);
        connect_to_openssl(&dir, server, &[version], &expired)
            .expect_code(3)
            .expect_stderr("check --tls-cert");
        // No certificate at all, for which TLS 1.2 has no specific alert.
        let server = command(&dir, &["s_server"]);
        let output = connect_to_openssl(&dir, server, &[version], &expired[..2]);
        if version == "-tls1_3" {
            output.expect_code(3).expect_stderr("check --tls-cert");
        } else {
            output.expect_code(5).expect_stderr("alert 40");
        }
        // --tls-name overrides the host in the address.
        let server = command(&dir, &["s_server"]);
        let ours = [&CLIENT_TLS[..], &["--tls-name", "elsewhere.example"]].concat();
        connect_to_openssl(&dir, server, &[version], &ours)
            .expect_code(3)
            .expect_stderr("countersign certs --name");
    });
}

#[test]
fn openssl_server_with_old_tls_or_without_ems_is_refused() {
    if !has_openssl() {
        return;
    }
    let dir = with_certs();
    let server = command(&dir, &["s_server"]);
    connect_to_openssl(&dir, server, &OLD, &CLIENT_TLS).expect_code(5);
    let server = without_ems(&dir, command(&dir, &["s_server"]));
    let output = connect_to_openssl(&dir, server, &["-tls1_2"], &CLIENT_TLS).expect_code(5);
    output.expect_stderr("1.2 with the extended master secret");
}
