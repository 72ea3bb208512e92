//! `--tls-cert` and its like: OpenSSL and Python on either side, and whoever means no good.

use std::path::Path;
use std::process::{Command, Stdio};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};

use crate::common::{Scratch, Server, countersign, skip};
use crate::process::{file, run};

mod certs;
mod held;
mod hostile;
pub(crate) mod inside;
mod middle;
mod openssl;
pub(crate) mod python;

/// A directory with what `countersign certs` makes.
pub(crate) fn with_certs() -> Scratch {
    let scratch = Scratch::new();
    run(countersign(&scratch).args(["certs", "."]), b"").exited(0);
    scratch
}

/// What a server shows, and of whom it wants to see something.
pub(crate) const OURS: [&str; 6] =
    ["--tls-cert", "server.crt", "--tls-key", "server.key", "--tls-client-ca", "root.crt"];

/// What a client shows, and whom it trusts.
pub(crate) const THEIRS: [&str; 6] =
    ["--tls-ca", "root.crt", "--tls-cert", "client.crt", "--tls-key", "client.key"];

/// A server inside TLS, on TCP.
fn serve(scratch: &Scratch, args: &[&str]) -> Server {
    Server::start(scratch, crate::KEY, &[&["--listen", "127.0.0.1:0"], args].concat())
}

/// `countersign connect` with the scheme none.
fn connect(scratch: &Scratch, at: &str, tls: &[&str]) -> Command {
    let mut connect = countersign(scratch);
    connect.args(["connect", at, "--scheme", "none"]).args(tls);
    connect
}

fn is_there(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    let ran = command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let here = ran.is_ok_and(|status| status.success());
    if !here {
        skip(program);
    }
    here
}

fn openssl() -> bool {
    is_there("openssl", &["version"])
}

/// One that has TLS, as some that are called minimal do not.
fn python() -> bool {
    is_there("python3", &["-c", "import ssl"])
}

/// A program of tests/tls, in the directory `scratch`.
fn program(scratch: &Scratch, name: &str, args: &[&str]) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name);
    let mut command = Command::new("python3");
    // -B: leaves nothing beside the sources.
    command.arg("-B").arg(path).args(args).current_dir(scratch.path());
    command
}

/// Has the root of `scratch` sign a certificate with its key, `name`.crt and `name`.key, for localhost
/// and for `purpose`, as `change` has it.
fn sign(
    scratch: &Scratch,
    name: &str,
    purpose: ExtendedKeyUsagePurpose,
    change: impl FnOnce(&mut CertificateParams),
) {
    let root = std::fs::read_to_string(scratch.path().join("root.key")).unwrap();
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = rcgen::DistinguishedName::new();
    issuer.distinguished_name.push(DnType::CommonName, "countersign root");
    let issuer = Issuer::new(issuer, KeyPair::from_pem(&root).unwrap());
    let key = KeyPair::generate().unwrap();
    let names = ["localhost", "127.0.0.1"].map(String::from);
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages = vec![purpose];
    change(&mut params);
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    file(scratch, &format!("{name}.crt"), certificate.as_bytes(), 0o644);
    file(scratch, &format!("{name}.key"), key.serialize_pem().as_bytes(), 0o600);
}

fn expired(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
}
