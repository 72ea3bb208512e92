//! Who is let in by their certificates, and what everybody else is told.

use countersign::{Error, Role};
use countersign_tls::{Credentials, CredentialsError, TlsError, TlsFactory};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};

use crate::ends::{Inside, Link};
use crate::pki::{Ca, Pem, credentials};

/// Two ends inside TLS with nothing of their own to prove, after all they had to say.
fn meet(client: &Credentials, server: &Credentials, name: &str) -> Link {
    let mut link = Link::new(Inside::None.client(client, name), Inside::None.server(server));
    link.run();
    link
}

/// How the client ends, and the server.
fn refused(client: &Credentials, server: &Credentials, name: &str) -> (TlsError, TlsError) {
    let link = meet(client, server, name);
    match (link.client.error(), link.server.error()) {
        (client, server) => (TlsError::of(client).unwrap(), TlsError::of(server).unwrap()),
    }
}

fn open(client: &Credentials, server: &Credentials, name: &str) {
    let link = meet(client, server, name);
    assert!(link.is_open(), "{:?} {:?}", link.client.over, link.server.over);
}

/// A self-signed certificate, as `change` has it.
fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Pem {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["self.example".into()]).unwrap();
    change(&mut params);
    let certificate = params.self_signed(&key).unwrap();
    Pem { certificate: certificate.pem(), key: key.serialize_pem() }
}

#[test]
fn each_end_is_told_what_is_wrong_with_the_others_certificate() {
    let (ca, other) = (Ca::new("a CA"), Ca::new("another CA"));
    let good = ca.sign("server.example");
    let expired = ca.sign_with("server.example", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let early = ca.sign_with("server.example", |params| {
        params.not_before = date_time_ymd(2100, 1, 1);
        params.not_after = date_time_ymd(2101, 1, 1);
    });
    let elsewhere = other.sign("server.example");
    let misused = ca.sign_with("server.example", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    });
    let client = credentials(Some(&good), Some(&ca.pem));
    let server = |own: &Pem| credentials(Some(own), Some(&ca.pem));
    for (own, why, alert) in [
        (&expired, TlsError::Expired, 45),
        (&early, TlsError::Expired, 45),
        (&elsewhere, TlsError::Untrusted, 48),
        (&misused, TlsError::Unusable, 43),
    ] {
        let (client, server) = refused(&client, &server(own), "server.example");
        assert_eq!((client, server), (why, TlsError::Alert(alert)));
    }
    let (told, server_told) = refused(&client, &server(&good), "other.example");
    assert_eq!((told, server_told), (TlsError::WrongName, TlsError::Alert(42)));

    for (own, why, alert) in [
        (Some(&expired), TlsError::Expired, 45),
        (Some(&early), TlsError::Expired, 45),
        (Some(&elsewhere), TlsError::Untrusted, 48),
        (Some(&misused), TlsError::Unusable, 43),
        (None, TlsError::NoCertificate, 116),
    ] {
        let client = credentials(own, Some(&ca.pem));
        let (client, server) = refused(&client, &server(&good), "server.example");
        assert_eq!((server, client), (why, TlsError::Alert(alert)));
        assert!(
            Error::from(server).is_authentication_failure()
                && !Error::from(client).is_authentication_failure()
        );
    }
    open(&client, &server(&good), "server.example");
}

#[test]
fn a_server_that_trusts_nobody_asks_for_no_certificate_and_vouches_for_no_client() {
    let ca = Ca::new("a CA");
    let server = credentials(Some(&ca.sign("server.example")), None);
    let link = meet(&credentials(None, Some(&ca.pem)), &server, "server.example");
    assert!(!link.server.machine.peer().unwrap().authenticated);
    assert!(link.client.machine.peer().unwrap().authenticated);
}

#[test]
fn a_certificate_that_is_no_cas_is_a_pin_whose_name_and_dates_do_not_matter() {
    let leaf = self_signed(|params| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_after = date_time_ymd(2001, 1, 1);
        params.not_before = date_time_ymd(2000, 1, 1);
    });
    let client = self_signed(|params| params.is_ca = IsCa::NoCa);
    let server = credentials(Some(&leaf), Some(&client));
    open(&credentials(Some(&client), Some(&leaf)), &server, "whatever.example");
    // The like of it is not it.
    let another = self_signed(|params| params.is_ca = IsCa::NoCa);
    let (why, told) = refused(&credentials(Some(&client), Some(&another)), &server, "self.example");
    assert_eq!((why, told), (TlsError::Untrusted, TlsError::Alert(48)));
    let (told, why) = refused(&credentials(Some(&another), Some(&leaf)), &server, "self.example");
    assert_eq!((why, told), (TlsError::Untrusted, TlsError::Alert(48)));
}

#[test]
fn a_ca_may_show_itself_where_it_is_pinned() {
    let own = self_signed(|params| {
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    let server = credentials(Some(&own), Some(&own));
    open(&credentials(Some(&own), Some(&own)), &server, "self.example");
}

#[test]
fn a_pin_signs_for_nobody_else() {
    // It has a key like any CA's, and says that it is none.
    let leaf_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["leaf.example".into()]).unwrap();
    params.is_ca = IsCa::NoCa;
    let leaf = params.self_signed(&leaf_key).unwrap();
    let pinned = Pem { certificate: leaf.pem(), key: leaf_key.serialize_pem() };
    let issuer = rcgen::Issuer::new(params, leaf_key);
    let key = KeyPair::generate().unwrap();
    let forged = CertificateParams::new(vec!["server.example".into()]).unwrap();
    let forged = forged.signed_by(&key, &issuer).unwrap();
    let forged = Pem { certificate: forged.pem(), key: key.serialize_pem() };
    let client = credentials(None, Some(&pinned));
    let (why, _) = refused(&client, &credentials(Some(&forged), None), "server.example");
    assert_eq!(why, TlsError::Untrusted);
}

#[test]
fn a_pinned_certificate_without_its_key_proves_nothing() {
    let own = self_signed(|params| params.is_ca = IsCa::NoCa);
    let other = self_signed(|params| params.is_ca = IsCa::NoCa);
    let mismatch =
        Credentials::new().with_certificate(own.certificate.as_bytes(), other.key.as_bytes());
    assert_eq!(mismatch.unwrap_err(), CredentialsError::Mismatch);
}

#[test]
fn credentials_that_are_none_are_refused_with_what_is_wrong() {
    let pem = self_signed(|_| {});
    let new = Credentials::new;
    let (chain, key) = (pem.certificate.as_bytes(), pem.key.as_bytes());
    assert_eq!(new().with_certificate(b"", key).unwrap_err(), CredentialsError::NoCertificate);
    assert_eq!(new().with_certificate(key, key).unwrap_err(), CredentialsError::NoCertificate);
    assert_eq!(new().with_certificate(chain, b"").unwrap_err(), CredentialsError::Key);
    assert_eq!(new().with_certificate(chain, chain).unwrap_err(), CredentialsError::Key);
    assert_eq!(new().with_trust(b"nothing").unwrap_err(), CredentialsError::NoCertificate);
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(new().with_trust(broken).unwrap_err(), CredentialsError::Certificate);
    assert_eq!(new().with_certificate(broken, key).unwrap_err(), CredentialsError::Certificate);
    let cut = &chain[..chain.len() / 2];
    assert!(new().with_trust(cut).is_err());

    let sessions = || Inside::None.sessions(Role::Server);
    let server = TlsFactory::server(sessions(), &new()).unwrap_err();
    assert_eq!(server, CredentialsError::ServerWithout);
    let client = TlsFactory::client(sessions(), &new(), "server.example").unwrap_err();
    assert_eq!(client, CredentialsError::TrustNothing);
    let trusting = new().with_trust(chain).unwrap();
    for name in ["", "a b", "-", "server.example:1"] {
        let client = TlsFactory::client(sessions(), &trusting, name).unwrap_err();
        assert_eq!(client, CredentialsError::Name, "{name}");
    }
}

#[test]
fn credentials_show_no_key() {
    let pem = self_signed(|_| {});
    let all = Credentials::new()
        .with_certificate(pem.certificate.as_bytes(), pem.key.as_bytes())
        .unwrap()
        .with_trust(pem.certificate.as_bytes())
        .unwrap();
    assert_eq!(format!("{all:?}"), "Credentials { shows: true, trusts: true }");
}
