//! Somebody between the two whom both believe, for their certificates: real sockets, and Python's TLS.

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

use super::{OURS, THEIRS, program, python, serve, sign, with_certs};
use crate::KEY;
use crate::common::{Scratch, Server, countersign};
use crate::process::{Ran, Running, at_once, run};

const VERSIONS: [&str; 2] = ["1.2", "1.3"];

fn middle(scratch: &Scratch, server: &Server, version: &str, how: &str) -> Server {
    sign(scratch, "middle", ServerAuth, |params| params.extended_key_usages.push(ClientAuth));
    let (address, own) = (server.at[0].to_string(), ["middle.crt", "middle.key", "root.crt"]);
    let args = [&[&address, version], &own[..], &[how]].concat();
    Server::spawn(program(scratch, "middle.py", &args), 1)
}

fn connect(scratch: &Scratch, server: &Server, args: &[&str]) -> Ran {
    let mut connect = countersign(scratch);
    connect.args(["connect", &server.at[0].to_string(), "--message", "hello"]).args(args);
    run(connect.env("COUNTERSIGN_KEY", KEY), b"")
}

#[test]
fn mutual_is_not_passed_on_by_one_whose_certificates_both_trust() {
    if !python() {
        return;
    }
    at_once(VERSIONS, |version| {
        let scratch = with_certs();
        let server = serve(&scratch, &[&["--scheme", "mutual"], &OURS[..]].concat());
        let middle = middle(&scratch, &server, version, "tls-tls");
        connect(&scratch, &middle, &THEIRS).exited(3).printed("");
        server.logged("scheme=tls+mutual reason=wrong-key");
        // He is the only thing that is wrong.
        connect(&scratch, &server, &THEIRS).exited(0).printed("HELLO\n");
    });
}

#[test]
fn what_proves_nothing_about_tls_is_passed_on() {
    if !python() {
        return;
    }
    at_once(VERSIONS, |version| {
        for scheme in ["none", "challenge", "multiprocessing"] {
            let scratch = with_certs();
            let server = serve(&scratch, &[&["--scheme", scheme], &OURS[..]].concat());
            let middle = middle(&scratch, &server, version, "tls-tls");
            let mut connect = countersign(&scratch);
            connect.args(["connect", &middle.at[0].to_string(), "--scheme", scheme]).args(THEIRS);
            let mut connect = Running::start(connect.env("COUNTERSIGN_KEY", KEY));
            // He does not pass on how they end.
            connect.type_in(b"hello\n");
            connect.out.wait("an answer", |text, _| text.starts_with("HELLO"));
        }
    });
}

#[test]
fn a_bound_end_and_an_unbound_one_do_not_come_together() {
    if !python() {
        return;
    }
    at_once(VERSIONS, |version| {
        // The client believes that it is inside TLS with the server, which knows of none.
        let scratch = with_certs();
        let server = serve(&scratch, &["--scheme", "mutual"]);
        let between = middle(&scratch, &server, version, "tls-plain");
        connect(&scratch, &between, &THEIRS).exited(3).printed("");
        server.logged("scheme=mutual reason=");
        connect(&scratch, &server, &[]).exited(0).printed("HELLO\n");

        let server = serve(&scratch, &[&["--scheme", "mutual"], &OURS[..]].concat());
        let between = middle(&scratch, &server, version, "plain-tls");
        connect(&scratch, &between, &[]).exited(3).printed("");
        server.logged("scheme=tls+mutual reason=");
    });
}
