//! `countersign certs`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use countersign_host::key_file::{self, Secret};
use jiff::{Span, Zoned};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use crate::args::CertsArgs;
use crate::{Exit, Failed};

fn failure(error: impl std::fmt::Display) -> Failed {
    Failed::new(Exit::Failure, error)
}

/// A certificate in PEM and its key, for the files `name`.crt and `name`.key.
struct Issued {
    name: &'static str,
    certificate: String,
    key: KeyPair,
}

pub(crate) fn run(args: &CertsArgs) -> Result<(), Failed> {
    fs::create_dir_all(&args.directory)
        .map_err(|error| failure(format!("{}: {error}", args.directory.display())))?;
    for name in ["root", "server", "client"].iter().flat_map(|name| [crt(name), key(name)]) {
        let path = args.directory.join(name);
        if fs::symlink_metadata(&path).is_ok() {
            let message = format!(
                "{}: exists already: remove it first, or give another directory",
                path.display()
            );
            return Err(Failed::new(Exit::Usage, message));
        }
    }
    let issued = issue(args)?;
    for Issued { name, certificate, key: pair } in &issued {
        // The key first: a certificate is useless without its key.
        let secret = Secret::new(pair.serialize_pem().trim_end().as_bytes().to_vec());
        key_file::write_new(&args.directory.join(key(name)), &secret).map_err(failure)?;
        let path = args.directory.join(crt(name));
        write_new(&path, certificate.as_bytes())
            .map_err(|error| failure(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

fn crt(name: &str) -> String {
    format!("{name}.crt")
}

fn key(name: &str) -> String {
    format!("{name}.key")
}

fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn issue(args: &CertsArgs) -> Result<[Issued; 3], Failed> {
    let params = |common_name: &str, names: Vec<String>| -> Result<CertificateParams, Failed> {
        let mut params = CertificateParams::new(names)
            .map_err(|error| Failed::new(Exit::Usage, format!("--name: {error}")))?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        // Valid from yesterday, because the clocks of the ends differ.
        let today = Zoned::now();
        let yesterday = today.saturating_sub(Span::new().days(1));
        let end = today.saturating_add(Span::new().days(args.days));
        let date = |at: &Zoned| date_time_ymd(at.year().into(), at.month() as u8, at.day() as u8);
        (params.not_before, params.not_after) = (date(&yesterday), date(&end));
        Ok(params)
    };

    let root_key = KeyPair::generate().map_err(failure)?;
    let mut root = params("countersign root", Vec::new())?;
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root_certificate = root.self_signed(&root_key).map_err(failure)?.pem();
    let issuer = Issuer::from_params(&root, &root_key);

    let sign = |name, common_name: &str, names, purpose| -> Result<Issued, Failed> {
        let key = KeyPair::generate().map_err(failure)?;
        let mut params = params(common_name, names)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer).map_err(failure)?.pem();
        Ok(Issued { name, certificate, key })
    };
    let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
    hosts
        .extend(args.name.iter().filter(|name| !hosts.contains(name)).cloned().collect::<Vec<_>>());
    let server_name = args.name.first().map_or("localhost", String::as_str).to_owned();
    let server = sign("server", &server_name, hosts, ExtendedKeyUsagePurpose::ServerAuth)?;
    let client =
        sign("client", "client", vec!["client".into()], ExtendedKeyUsagePurpose::ClientAuth)?;
    let root = Issued { name: "root", certificate: root_certificate, key: root_key };
    Ok([root, server, client])
}
