//! Python's `ssl` on either side, with certificates of every origin.

use std::process::Command;

use super::{openssl, program, python, serve, with_certs};
use crate::common::{Scratch, Server, countersign};
use crate::process::{Ran, at_once, run};

const VERSIONS: [&str; 2] = ["1.2", "1.3"];

/// As a tutorial has them, with the answers to its questions that pressing Enter gives; by OpenSSL 3.0
/// they are of version 1, without extensions. All have one name, so each looks like its own issuer.
const TUTORIAL: &str = "
openssl genrsa -out root.key 2048
openssl req -new -key root.key -out root.csr -subj $subject
openssl x509 -days 3650 -req -CAcreateserial -signkey root.key -in root.csr -out root.crt
openssl genrsa -out server.key 2048
openssl req -new -key server.key -out server.csr -subj $subject
openssl x509 -days 3650 -req -CA root.crt -CAkey root.key -CAcreateserial -in server.csr -out server.crt
openssl genrsa -out client.key 2048
openssl req -new -key client.key -out client.csr -subj $subject
openssl x509 -days 3650 -req -CA root.crt -CAkey root.key -CAcreateserial -in client.csr -out client.crt
";
const SUBJECT: &str = "/C=AU/ST=Some-State/O=Example Ltd";

/// Each its own CA.
const SELF_SIGNED: &str = "
openssl req -x509 -newkey rsa:2048 -nodes -keyout server.key -out server.crt -subj /CN=server
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout client.key -out client.crt -subj /CN=client
";

/// Where certificates come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerAddr {
    Certs,
    Tutorial,
    SelfSigned,
}

impl PeerAddr {
    const ALL: [Self; 3] = [Self::Certs, Self::Tutorial, Self::SelfSigned];

    fn make(self) -> Scratch {
        let commands = match self {
            Self::Certs => return with_certs(),
            Self::Tutorial => TUTORIAL,
            Self::SelfSigned => SELF_SIGNED,
        };
        let scratch = Scratch::new();
        let mut shell = Command::new("sh");
        let commands = commands.replace("$subject", "\"$subject\"");
        shell.args(["-ec", &commands]).env("subject", SUBJECT).current_dir(scratch.path());
        run(&mut shell, b"").exited(0);
        scratch
    }

    /// What one who wants to see this certificate, or those of its CA, trusts.
    pub(crate) fn trust(self, whom: &'static str) -> &'static str {
        if self == Self::Certs { "root.crt" } else { whom }
    }
}

pub(crate) fn each(check: impl Fn(PeerAddr, &Scratch, &str) + Sync) {
    if python() && openssl() {
        at_once(PeerAddr::ALL, |origin| {
            let scratch = origin.make();
            for version in VERSIONS {
                check(origin, &scratch, version);
            }
        });
    }
}

fn server(origin: PeerAddr, scratch: &Scratch, args: &[&str]) -> Server {
    let trust = origin.trust("client.crt");
    let ours = ["--tls-cert", "server.crt", "--tls-key", "server.key", "--tls-client-ca", trust];
    serve(scratch, &[&ours[..], &["--log", "debug"], args].concat())
}

/// What a client in Python makes of `server`, which sends `messages` and leaves as `leave` says.
fn client(
    (origin, scratch, version): (PeerAddr, &Scratch, &str),
    server: &Server,
    own: &str,
    (leave, messages): (&str, &[&str]),
) -> Ran {
    let (address, trust) = (server.at[0].to_string(), origin.trust("server.crt"));
    let (certificate, key) = (format!("{own}.crt"), format!("{own}.key"));
    let args = [&address, version, &certificate, &key, trust, leave];
    run(&mut program(scratch, "client.py", &[&args, messages].concat()), b"")
}

#[test]
fn a_python_client_is_served_whatever_made_the_certificates() {
    each(|origin, scratch, version| {
        let server = server(origin, scratch, &["--scheme", "none"]);
        let who = (origin, scratch, version);
        let ran = client(who, &server, "client", ("unwrap", &["hello", "Größe 1", ""])).exited(0);
        ran.printed(&format!("TLSv{version}\nHELLO\nGRößE 1\n\n"));
        server.logged("closed peer=");
    });
}

#[test]
fn a_python_client_that_leaves_without_a_word_is_cut_off() {
    each(|origin, scratch, version| {
        let who = (origin, scratch, version);
        for (leave, reason) in [("close", "truncated-stream"), ("within", "truncated-message")] {
            let server = server(origin, scratch, &["--scheme", "none"]);
            client(who, &server, "client", (leave, &["hello"])).exited(0);
            server.logged(&format!("scheme=tls+none reason={reason}"));
            // Nobody else is.
            client(who, &server, "client", ("unwrap", &["hello"])).exited(0);
        }
    });
}

#[test]
fn a_python_client_with_another_certificate_than_is_pinned_is_refused() {
    each(|origin, scratch, version| {
        let server = server(origin, scratch, &["--scheme", "none"]);
        // Its own, which nobody expects of a client.
        let ran = client((origin, scratch, version), &server, "server", ("unwrap", &["hello"]));
        ran.exited(1).said("refused: ");
        let reason = match origin {
            PeerAddr::Tutorial => "tls-certificate-untrusted",
            // For servers, and a CA's.
            PeerAddr::Certs | PeerAddr::SelfSigned => "tls-certificate-unusable",
        };
        server.logged(&format!("scheme=tls+none reason={reason}"));
    });
}

/// A server in Python.
fn listens(origin: PeerAddr, scratch: &Scratch, version: &str, leave: &str) -> Server {
    let files = [version, "server.crt", "server.key", origin.trust("client.crt"), leave];
    Server::spawn(program(scratch, "server.py", &files), 1)
}

/// What we make of it.
fn connects(origin: PeerAddr, scratch: &Scratch, server: &Server, own: &str) -> Ran {
    let mut connect = countersign(scratch);
    connect.args(["connect", &server.at[0].to_string(), "--scheme", "none"]);
    connect.args(["--message", "hello", "--message", "Größe 1"]);
    connect.args(["--tls-ca", origin.trust("server.crt")]);
    connect.args(["--tls-cert", &format!("{own}.crt"), "--tls-key", &format!("{own}.key")]);
    run(&mut connect, b"")
}

#[test]
fn a_python_server_serves_us_whatever_made_the_certificates() {
    each(|origin, scratch, version| {
        let server = listens(origin, scratch, version, "unwrap");
        for _ in 0..2 {
            connects(origin, scratch, &server, "client").exited(0).printed("HELLO\nGRößE 1\n");
        }
    });
}

#[test]
fn a_python_server_that_leaves_without_a_word_has_cut_us_off() {
    each(|origin, scratch, version| {
        let server = listens(origin, scratch, version, "close");
        let ran = connects(origin, scratch, &server, "client").exited(4);
        ran.printed("HELLO\n");
        ran.said("had not said that it had finished");

        let server = listens(origin, scratch, version, "within");
        let ran = connects(origin, scratch, &server, "client").exited(4);
        ran.said("in the middle of a message");
    });
}

#[test]
fn a_python_server_that_wants_another_certificate_refuses_us_with_the_remedy() {
    each(|origin, scratch, version| {
        let server = listens(origin, scratch, version, "unwrap");
        connects(origin, scratch, &server, "server").exited(3).said("check --tls-cert");
        connects(origin, scratch, &server, "client").exited(0);
    });
}
