//! Python's `ssl` at either end, with certificates of every source.

use std::process::Command;

use super::{script, serve, with_certs};
use crate::common::{Server, TempDir, countersign};
use crate::process::{Output, in_parallel, run};
use crate::tools::{has_openssl, has_python_ssl};

const VERSIONS: [&str; 2] = ["1.2", "1.3"];

/// The commands of a common tutorial, with default answers. With OpenSSL 3.0 the certificates have version 1
/// and no extensions. All have the same name, so each looks self-signed.
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

/// Self-signed certificates.
const SELF_SIGNED: &str = "
openssl req -x509 -newkey rsa:2048 -nodes -keyout server.key -out server.crt -subj /CN=server
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout client.key -out client.crt -subj /CN=client
";

/// The program that makes the certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertificateSource {
    Certs,
    Tutorial,
    SelfSigned,
}

impl CertificateSource {
    const ALL: [Self; 3] = [Self::Certs, Self::Tutorial, Self::SelfSigned];

    fn make(self) -> TempDir {
        let commands = match self {
            Self::Certs => return with_certs(),
            Self::Tutorial => TUTORIAL,
            Self::SelfSigned => SELF_SIGNED,
        };
        let dir = TempDir::new();
        let mut shell = Command::new("sh");
        let commands = commands.replace("$subject", "\"$subject\"");
        shell.args(["-ec", &commands]).env("subject", SUBJECT).current_dir(dir.path());
        run(&mut shell, b"").expect_code(0);
        dir
    }

    /// The file to trust for this certificate: its CA, or the certificate itself.
    pub(crate) fn trust(self, certificate: &'static str) -> &'static str {
        if self == Self::Certs { "root.crt" } else { certificate }
    }
}

/// Runs `check` for every source of certificates and version of TLS.
pub(crate) fn for_each_certificate_source(
    check: impl Fn(CertificateSource, &TempDir, &str) + Sync,
) {
    if has_python_ssl() && has_openssl() {
        in_parallel(CertificateSource::ALL, |source| {
            let dir = source.make();
            for version in VERSIONS {
                check(source, &dir, version);
            }
        });
    }
}

fn server(source: CertificateSource, dir: &TempDir, args: &[&str]) -> Server {
    let trust = source.trust("client.crt");
    let ours = ["--tls-cert", "server.crt", "--tls-key", "server.key", "--tls-client-ca", trust];
    serve(dir, &[&ours[..], &["--log", "debug"], args].concat())
}

/// Runs a Python client against `server`. It sends `messages` and closes as `leave` selects.
fn client(
    (source, dir, version): (CertificateSource, &TempDir, &str),
    server: &Server,
    own: &str,
    (leave, messages): (&str, &[&str]),
) -> Output {
    let (address, trust) = (server.at[0].to_string(), source.trust("server.crt"));
    let (certificate, key) = (format!("{own}.crt"), format!("{own}.key"));
    let args = [&address, version, &certificate, &key, trust, leave];
    run(&mut script(dir, "client.py", &[&args, messages].concat()), b"")
}

#[test]
fn python_tls_client_is_served() {
    for_each_certificate_source(|source, dir, version| {
        let server = server(source, dir, &["--scheme", "none"]);
        let who = (source, dir, version);
        let output =
            client(who, &server, "client", ("unwrap", &["hello", "Größe 1", ""])).expect_code(0);
        output.expect_stdout(&format!("TLSv{version}\nHELLO\nGRößE 1\n\n"));
        server.wait_log("closed peer=");
    });
}

#[test]
fn python_tls_client_without_close_notify_is_truncation() {
    for_each_certificate_source(|source, dir, version| {
        let who = (source, dir, version);
        for (leave, reason) in [("close", "truncated-stream"), ("within", "truncated-message")] {
            let server = server(source, dir, &["--scheme", "none"]);
            client(who, &server, "client", (leave, &["hello"])).expect_code(0);
            server.wait_log(&format!("scheme=tls+none reason={reason}"));
            // The next client is served.
            client(who, &server, "client", ("unwrap", &["hello"])).expect_code(0);
        }
    });
}

#[test]
fn python_tls_client_with_unpinned_certificate_is_refused() {
    for_each_certificate_source(|source, dir, version| {
        let server = server(source, dir, &["--scheme", "none"]);
        // The server's own certificate.
        let output = client((source, dir, version), &server, "server", ("unwrap", &["hello"]));
        output.expect_code(1).expect_stderr("refused: ");
        let reason = match source {
            CertificateSource::Tutorial => "tls-certificate-untrusted",
            // A server certificate, and a CA certificate.
            CertificateSource::Certs | CertificateSource::SelfSigned => "tls-certificate-unusable",
        };
        server.wait_log(&format!("scheme=tls+none reason={reason}"));
    });
}

/// Starts a Python server.
fn python_server(source: CertificateSource, dir: &TempDir, version: &str, leave: &str) -> Server {
    let files = [version, "server.crt", "server.key", source.trust("client.crt"), leave];
    Server::spawn(script(dir, "server.py", &files), 1)
}

/// Runs `connect` against a Python server.
fn connect_to_python(
    source: CertificateSource,
    dir: &TempDir,
    server: &Server,
    own: &str,
) -> Output {
    let mut connect = countersign(dir);
    connect.args(["connect", &server.at[0].to_string(), "--scheme", "none"]);
    connect.args(["--message", "hello", "--message", "Größe 1"]);
    connect.args(["--tls-ca", source.trust("server.crt")]);
    connect.args(["--tls-cert", &format!("{own}.crt"), "--tls-key", &format!("{own}.key")]);
    run(&mut connect, b"")
}

#[test]
fn connect_works_with_python_tls_server() {
    for_each_certificate_source(|source, dir, version| {
        let server = python_server(source, dir, version, "unwrap");
        for _ in 0..2 {
            connect_to_python(source, dir, &server, "client")
                .expect_code(0)
                .expect_stdout("HELLO\nGRößE 1\n");
        }
    });
}

#[test]
fn python_tls_server_without_close_notify_is_truncation() {
    for_each_certificate_source(|source, dir, version| {
        let server = python_server(source, dir, version, "close");
        let output = connect_to_python(source, dir, &server, "client").expect_code(4);
        output.expect_stdout("HELLO\n");
        output.expect_stderr("without the peer's end of stream");

        let server = python_server(source, dir, version, "within");
        let output = connect_to_python(source, dir, &server, "client").expect_code(4);
        output.expect_stderr("within a message");
    });
}

#[test]
fn python_tls_server_refuses_unpinned_certificate() {
    for_each_certificate_source(|source, dir, version| {
        let server = python_server(source, dir, version, "unwrap");
        connect_to_python(source, dir, &server, "server")
            .expect_code(3)
            .expect_stderr("check --tls-cert");
        connect_to_python(source, dir, &server, "client").expect_code(0);
    });
}
