//! TLS: OpenSSL and Python at either end, certificates, and hostile peers.

use std::process::Command;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};

use crate::common::{Server, TempDir, countersign};
use crate::process::{file, run};
use crate::tools::python_script;

mod certs;
mod hostile;
mod memory;
mod openssl;
mod proxy;
pub(crate) mod python;
pub(crate) mod tls_client;

/// A directory with the output of `countersign certs`.
pub(crate) fn with_certs() -> TempDir {
    let dir = TempDir::new();
    run(countersign(&dir).args(["certs", "."]), b"").expect_code(0);
    dir
}

/// The options of a server that requires client certificates.
pub(crate) const SERVER_TLS: [&str; 6] =
    ["--tls-cert", "server.crt", "--tls-key", "server.key", "--tls-client-ca", "root.crt"];

/// The options of a client with a certificate.
pub(crate) const CLIENT_TLS: [&str; 6] =
    ["--tls-ca", "root.crt", "--tls-cert", "client.crt", "--tls-key", "client.key"];

/// A server on TCP, with options.
fn serve(dir: &TempDir, args: &[&str]) -> Server {
    Server::start(dir, crate::KEY, &[&["--listen", "127.0.0.1:0"], args].concat())
}

/// `countersign connect` with the scheme none.
fn connect(dir: &TempDir, at: &str, tls: &[&str]) -> Command {
    let mut connect = countersign(dir);
    connect.args(["connect", at, "--scheme", "none"]).args(tls);
    connect
}

/// The Python program `name` in tests/tls, run in the directory `dir`.
fn script(dir: &TempDir, name: &str, args: &[&str]) -> Command {
    let mut command = python_script(&format!("tls/{name}"));
    command.args(args).current_dir(dir.path());
    command
}

/// Issues a certificate for localhost and `purpose`, changed by `change`, signed by the root in `dir`.
/// Writes `name`.crt and `name`.key.
fn sign(
    dir: &TempDir,
    name: &str,
    purpose: ExtendedKeyUsagePurpose,
    change: impl FnOnce(&mut CertificateParams),
) {
    let root = std::fs::read_to_string(dir.path().join("root.key")).unwrap();
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
    file(dir, &format!("{name}.crt"), certificate.as_bytes(), 0o644);
    file(dir, &format!("{name}.key"), key.serialize_pem().as_bytes(), 0o600);
}

fn expired(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
}
