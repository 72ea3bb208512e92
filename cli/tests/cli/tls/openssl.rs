//! `openssl s_client` and `openssl s_server`.

use std::process::Command;

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

use super::{OURS, THEIRS, connect, expired, openssl, serve, sign, with_certs};
use crate::common::{At, Scratch};
use crate::peer::frame;
use crate::process::{Ran, Running, at_once, file};

const VERSIONS: [(&str, &str); 2] = [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")];
/// TLS 1.1, for which OpenSSL itself wants to be asked twice.
const OLD: [&str; 3] = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];
const CLIENT: [&str; 4] = ["-cert", "client.crt", "-key", "client.key"];
const ANY_CLIENT: [&str; 4] = ["--tls-cert", "server.crt", "--tls-key", "server.key"];

/// A configuration of OpenSSL in which TLS 1.2 has no extended master secret.
const NO_EMS: &str = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n\
                      Options = -ExtendedMasterSecret\n";

fn command(scratch: &Scratch, args: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(scratch.path()).args(args);
    command
}

fn without_ems(scratch: &Scratch, mut command: Command) -> Command {
    let path = file(scratch, "openssl.cnf", NO_EMS.as_bytes(), 0o644);
    command.env("OPENSSL_CONF", path);
    command
}

fn client(scratch: &Scratch, at: &At, args: &[&str]) -> Command {
    let mut client = command(scratch, &["s_client", "-connect", &at.to_string(), "-brief"]);
    client.args(["-CAfile", "root.crt", "-verify_return_error", "-verify_ip", "127.0.0.1"]);
    client.args(args);
    client
}

/// What becomes of a client that is refused.
fn turned_away(mut client: Command) -> Ran {
    let running = Running::start(&mut client);
    // Its input stays open: it is not the one to leave.
    running.err.whole();
    running.end().exited(1)
}

#[test]
fn openssl_is_served_in_either_version() {
    if !openssl() {
        return;
    }
    at_once(VERSIONS, |(option, version)| {
        for (ours, theirs) in [(&OURS[..], &CLIENT[..]), (&ANY_CLIENT, &[])] {
            let scratch = with_certs();
            let server = serve(&scratch, &[&["--scheme", "none", "--log", "debug"], ours].concat());
            let args = [&[option, "-nocommands"], theirs].concat();
            let mut running = Running::start(&mut client(&scratch, &server.at[0], &args));
            for message in [&b"hello"[..], b"", b"again"] {
                running.type_in(&frame(message));
                let answer = String::from_utf8(frame(&message.to_ascii_uppercase())).unwrap();
                running.out.wait(&answer, |text, _| text.ends_with(&answer));
            }
            let ran = running.end().exited(0);
            ran.said(version);
            ran.said("Verification: OK");
            // It said close_notify, and so did we.
            server.logged("closed peer=");
        }
    });
}

#[test]
fn openssl_that_speaks_older_tls_is_refused_and_so_is_it_without_extended_master_secret() {
    if !openssl() {
        return;
    }
    let scratch = with_certs();
    let server = serve(&scratch, &[&["--scheme", "none"], &OURS[..]].concat());
    let old = client(&scratch, &server.at[0], &[&OLD[..], &CLIENT].concat());
    turned_away(old).said("alert");
    server.logged("scheme=tls+none reason=tls-nothing-in-common");

    let server = serve(&scratch, &[&["--scheme", "none"], &OURS[..]].concat());
    let args = [&["-tls1_2"], &CLIENT[..]].concat();
    let bare = without_ems(&scratch, client(&scratch, &server.at[0], &args));
    turned_away(bare).said("alert");
    server.logged("scheme=tls+none reason=tls-nothing-in-common");
}

#[test]
fn openssl_with_the_wrong_certificate_is_told_by_an_alert_and_the_log_says_why() {
    if !openssl() {
        return;
    }
    at_once(VERSIONS, |(version, _)| {
        let (scratch, elsewhere) = (with_certs(), with_certs());
        sign(&scratch, "expired", ClientAuth, expired);
        for name in ["client.crt", "client.key"] {
            let other = scratch.path().join(format!("other-{name}"));
            std::fs::copy(elsewhere.path().join(name), other).unwrap();
        }
        for (name, reason, alert) in [
            ("", "tls-no-certificate", 116),
            ("expired", "tls-certificate-expired", 45),
            // By a CA of the same name as ours.
            ("other-client", "tls-certificate-untrusted", 51),
            ("server", "tls-certificate-unusable", 43),
        ] {
            let server = serve(&scratch, &[&["--scheme", "none"], &OURS[..]].concat());
            let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
            let shown = ["-cert", &certificate, "-key", &key];
            let shown = if name.is_empty() { &[][..] } else { &shown };
            let client = client(&scratch, &server.at[0], &[&[version], shown].concat());
            turned_away(client).said(&format!("alert number {alert}"));
            server.logged(&format!("scheme=tls+none reason={reason}"));
        }
    });
}

#[test]
fn a_server_that_wants_to_see_nothing_is_not_believed_by_openssl_under_another_name() {
    if !openssl() {
        return;
    }
    let scratch = with_certs();
    let server = serve(&scratch, &[&["--scheme", "none"], &ANY_CLIENT[..]].concat());
    let mut other = command(&scratch, &["s_client", "-connect", &server.at[0].to_string()]);
    other.args(["-CAfile", "root.crt", "-verify_return_error", "-verify_hostname", "elsewhere"]);
    turned_away(other).said("hostname mismatch");
    server.logged("scheme=tls+none reason=tls-alert");
}

#[test]
fn nobody_renegotiates_with_us() {
    if !openssl() {
        return;
    }
    let scratch = with_certs();
    let server = serve(&scratch, &[&["--scheme", "none"], &OURS[..]].concat());
    let args = [&["-tls1_2"], &CLIENT[..]].concat();
    let mut running = Running::start(&mut client(&scratch, &server.at[0], &args));
    running.err.wait("a connection", |text, _| text.contains("TLSv1.2"));
    running.type_in(b"R\n");
    running.err.wait("a refusal", |text, _| text.contains("no renegotiation"));
    running.end().exited(1);
    server.logged("ended peer=");

    // As a client: it hears of it, goes on, and OpenSSL gives up.
    let (mut theirs, at) = s_server(command(&scratch, &["s_server"]), &["-tls1_2"]);
    let mut ours = Running::start(&mut connect(&scratch, &at, &THEIRS));
    ours.type_in(b"hello\n");
    theirs.out.wait("a message", |text, _| text.contains("hello"));
    theirs.type_in(b"R\n");
    theirs.err.wait("a refusal", |text, _| text.contains("no renegotiation"));
    ours.end().exited(5).said("alert 40");
}

#[test]
fn we_say_that_we_close_and_openssl_hears_it() {
    if !openssl() {
        return;
    }
    for (option, _) in VERSIONS {
        let scratch = with_certs();
        let server = serve(&scratch, &[&["--scheme", "none"], &OURS[..]].concat());
        let args = [&[option, "-nocommands", "-state"], &CLIENT[..]].concat();
        let mut running = Running::start(&mut client(&scratch, &server.at[0], &args));
        running.type_in(&frame(b"hello"));
        running.out.wait("an answer", |text, _| text.contains("HELLO"));
        server.signal(rustix::process::Signal::TERM);
        // OpenSSL leaves by itself: without close_notify it would be an error.
        running.out.whole();
        let ran = running.end().exited(0);
        ran.said("SSL3 alert read:warning:close notify");
        server.end().exited(0);
    }
}

/// A server by OpenSSL that wants to see a certificate, unless `args` say otherwise, and where it
/// listens.
fn s_server(mut command: Command, args: &[&str]) -> (Running, String) {
    command.args(["-accept", "127.0.0.1:0", "-naccept", "1", "-CAfile", "root.crt"]);
    command.args(["-Verify", "1", "-verify_return_error"]).args(args);
    if !args.contains(&"-cert") {
        command.args(["-cert", "server.crt", "-key", "server.key"]);
    }
    let running = Running::start(&mut command);
    let ready = |text: &str| {
        let (_, rest) = text.split_once("ACCEPT ")?;
        Some(rest.split_once('\n')?.0.to_owned())
    };
    let text = running.out.wait("where it listens", |text, _| ready(text).is_some());
    (running, ready(&text).unwrap())
}

#[test]
fn openssl_serves_us_in_either_version() {
    if !openssl() {
        return;
    }
    at_once(VERSIONS, |(option, _)| {
        let scratch = with_certs();
        let (mut theirs, at) = s_server(command(&scratch, &["s_server"]), &[option]);
        let mut ours = Running::start(&mut connect(&scratch, &at, &THEIRS));
        // It takes our close_notify for the end of both directions: the answer comes first.
        ours.type_in(b"hello\n");
        theirs.out.wait("a message", |text, _| text.contains("hello"));
        theirs.type_in(&frame(b"HELLO"));
        ours.out.wait("an answer", |text, _| text == "HELLO\n");
        ours.end().exited(0);
        // Without close_notify that would be an error.
        let theirs = theirs.end().exited(0);
        assert!(theirs.out.contains("CONNECTION CLOSED"), "{theirs:?}");
        assert!(!theirs.out.contains("ERROR") && !theirs.err.contains("error"), "{theirs:?}");
    });
}

#[test]
fn replies_are_awaited_before_openssl_is_told_that_no_more_comes() {
    if openssl() {
        let scratch = with_certs();
        let (mut theirs, at) = s_server(command(&scratch, &["s_server"]), &["-tls1_2"]);
        let mut connect = connect(&scratch, &at, &THEIRS);
        connect.args(["--message", "one", "--message", "two", "--linger", "60"]);
        let ours = Running::start(&mut connect);
        theirs.out.wait("the messages", |text, _| text.contains("two"));
        // Told that it were the end, it would have left by now, or would now leave.
        for reply in ["ONE", "TWO"] {
            theirs.type_in(&frame(reply.as_bytes()));
            ours.out.wait("a reply", |text, _| text.ends_with(&format!("{reply}\n")));
        }
        ours.end().exited(0).printed("ONE\nTWO\n");
        theirs.end().exited(0);
    }
}

/// What `connect` makes of a server by OpenSSL with `args`.
fn refuses(scratch: &Scratch, server: Command, args: &[&str], ours: &[&str]) -> Ran {
    let (_theirs, at) = s_server(server, args);
    Running::start(&mut connect(scratch, &at, ours)).end()
}

#[test]
fn a_server_that_is_not_who_it_should_be_is_refused_with_the_remedy() {
    if !openssl() {
        return;
    }
    at_once(VERSIONS, |(version, _)| {
        let scratch = with_certs();
        sign(&scratch, "expired", ServerAuth, expired);
        sign(&scratch, "elsewhere", ServerAuth, |params| {
            params.subject_alt_names.truncate(1);
        });
        let refused = |name: &str, remedy: &str, alert: u8| {
            let shown = [&format!("{name}.crt"), &format!("{name}.key")];
            let args = [version, "-cert", shown[0], "-key", shown[1]];
            let (theirs, at) = s_server(command(&scratch, &["s_server"]), &args);
            Running::start(&mut connect(&scratch, &at, &THEIRS)).end().exited(3).said(remedy);
            theirs.end().said(&format!("alert number {alert}"));
        };
        refused("expired", "check both clocks", 45);
        refused("elsewhere", "give --tls-name", 42);
        refused("client", "cannot be verified as one of its kind", 43);

        let strange = with_certs();
        let root = std::fs::read(strange.path().join("root.crt")).unwrap();
        file(&scratch, "other-root.crt", &root, 0o644);
        let server = command(&scratch, &["s_server"]);
        refuses(&scratch, server, &[version], &["--tls-ca", "other-root.crt"])
            .exited(3)
            .said("check --tls-ca");
        // It wants to see a certificate, and this one is not what it wants to see.
        let expired =
            ["--tls-ca", "root.crt", "--tls-cert", "expired.crt", "--tls-key", "expired.key"];
        let server = command(&scratch, &["s_server"]);
        refuses(&scratch, server, &[version], &expired).exited(3).said("check --tls-cert");
        // None at all, for which TLS 1.2 has no alert of its own.
        let server = command(&scratch, &["s_server"]);
        let ran = refuses(&scratch, server, &[version], &expired[..2]);
        if version == "-tls1_3" {
            ran.exited(3).said("check --tls-cert");
        } else {
            ran.exited(5).said("alert 40");
        }
        // The name that counts is that of the address, unless another is given.
        let server = command(&scratch, &["s_server"]);
        let ours = [&THEIRS[..], &["--tls-name", "elsewhere.example"]].concat();
        refuses(&scratch, server, &[version], &ours).exited(3).said("countersign certs --name");
    });
}

#[test]
fn a_server_of_older_tls_or_without_extended_master_secret_is_none_for_us() {
    if !openssl() {
        return;
    }
    let scratch = with_certs();
    let server = command(&scratch, &["s_server"]);
    refuses(&scratch, server, &OLD, &THEIRS).exited(5);
    let server = without_ems(&scratch, command(&scratch, &["s_server"]));
    let ran = refuses(&scratch, server, &["-tls1_2"], &THEIRS).exited(5);
    ran.said("1.2 with the extended master secret");
}
