//! Which certificates are accepted, and the errors and alerts for the others.

use countersign::{Error, Role};
use countersign_tls::{Credentials, CredentialsError, TlsError, TlsFactory};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};

use crate::inner::Inner;
use crate::link::Link;
use crate::pki::{CertificateAuthority, Identity, credentials};

/// Runs a client and a server, of the scheme `none` inside TLS, until nothing moves.
fn connect(client: &Credentials, server: &Credentials, name: &str) -> Link {
    let mut link = Link::new(Inner::None.client(client, name), Inner::None.server(server));
    link.run();
    link
}

/// The errors of the client and the server, both of which must fail.
fn errors(client: &Credentials, server: &Credentials, name: &str) -> (TlsError, TlsError) {
    let link = connect(client, server, name);
    let [client, server] = [link.client.error(), link.server.error()];
    (TlsError::of(client).unwrap(), TlsError::of(server).unwrap())
}

#[track_caller]
fn assert_accepted(client: &Credentials, server: &Credentials, name: &str) {
    let link = connect(client, server, name);
    assert!(link.is_established(), "{:?} {:?}", link.client.result, link.server.result);
}

/// A self-signed certificate, with its parameters changed by `change`.
fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["self.example".into()]).unwrap();
    change(&mut params);
    let certificate = params.self_signed(&key).unwrap();
    Identity { certificate: certificate.pem(), key: key.serialize_pem() }
}

#[test]
fn invalid_certificates_are_rejected_with_their_alert() {
    let (ca, other) = (CertificateAuthority::new("a CA"), CertificateAuthority::new("another CA"));
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
    let client = credentials(Some(&good), Some(&ca.identity));
    let server = |identity: &Identity| credentials(Some(identity), Some(&ca.identity));
    for (identity, error, alert) in [
        (&expired, TlsError::Expired, 45),
        (&early, TlsError::Expired, 45),
        (&elsewhere, TlsError::Untrusted, 48),
        (&misused, TlsError::Unusable, 43),
    ] {
        let (client, server) = errors(&client, &server(identity), "server.example");
        assert_eq!((client, server), (error, TlsError::Alert(alert)));
    }
    let of_both = errors(&client, &server(&good), "other.example");
    assert_eq!(of_both, (TlsError::WrongName, TlsError::Alert(42)));

    for (identity, error, alert) in [
        (Some(&expired), TlsError::Expired, 45),
        (Some(&early), TlsError::Expired, 45),
        (Some(&elsewhere), TlsError::Untrusted, 48),
        (Some(&misused), TlsError::Unusable, 43),
        (None, TlsError::NoCertificate, 116),
    ] {
        let client = credentials(identity, Some(&ca.identity));
        let (client, server) = errors(&client, &server(&good), "server.example");
        assert_eq!((server, client), (error, TlsError::Alert(alert)));
        assert!(
            Error::from(server).is_authentication_failure()
                && !Error::from(client).is_authentication_failure()
        );
    }
    assert_accepted(&client, &server(&good), "server.example");
}

#[test]
fn server_without_trust_does_not_authenticate_clients() {
    let ca = CertificateAuthority::new("a CA");
    let server = credentials(Some(&ca.sign("server.example")), None);
    let link = connect(&credentials(None, Some(&ca.identity)), &server, "server.example");
    assert!(!link.server.protocol.peer().unwrap().authenticated);
    assert!(link.client.protocol.peer().unwrap().authenticated);
}

#[test]
fn pin_is_accepted_whatever_its_name_and_dates() {
    let leaf = self_signed(|params| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_after = date_time_ymd(2001, 1, 1);
        params.not_before = date_time_ymd(2000, 1, 1);
    });
    let client = self_signed(|params| params.is_ca = IsCa::NoCa);
    let server = credentials(Some(&leaf), Some(&client));
    assert_accepted(&credentials(Some(&client), Some(&leaf)), &server, "whatever.example");
    // Another certificate with the same name is not the pin.
    let another = self_signed(|params| params.is_ca = IsCa::NoCa);
    let of_both = errors(&credentials(Some(&client), Some(&another)), &server, "self.example");
    assert_eq!(of_both, (TlsError::Untrusted, TlsError::Alert(48)));
    let of_both = errors(&credentials(Some(&another), Some(&leaf)), &server, "self.example");
    assert_eq!(of_both, (TlsError::Alert(48), TlsError::Untrusted));
}

#[test]
fn pinned_ca_may_present_itself() {
    let own = self_signed(|params| {
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    let server = credentials(Some(&own), Some(&own));
    assert_accepted(&credentials(Some(&own), Some(&own)), &server, "self.example");
}

#[test]
fn pin_does_not_authenticate_other_certificates() {
    // A self-signed certificate that is not a CA's, whose key signs another certificate.
    let leaf_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["leaf.example".into()]).unwrap();
    params.is_ca = IsCa::NoCa;
    let leaf = params.self_signed(&leaf_key).unwrap();
    let pinned = Identity { certificate: leaf.pem(), key: leaf_key.serialize_pem() };
    let issuer = rcgen::Issuer::new(params, leaf_key);
    let key = KeyPair::generate().unwrap();
    let forged = CertificateParams::new(vec!["server.example".into()]).unwrap();
    let forged = forged.signed_by(&key, &issuer).unwrap();
    let forged = Identity { certificate: forged.pem(), key: key.serialize_pem() };
    let client = credentials(None, Some(&pinned));
    let (error, _) = errors(&client, &credentials(Some(&forged), None), "server.example");
    assert_eq!(error, TlsError::Untrusted);
}

#[test]
fn key_of_another_certificate_is_a_mismatch() {
    let own = self_signed(|params| params.is_ca = IsCa::NoCa);
    let other = self_signed(|params| params.is_ca = IsCa::NoCa);
    let mismatch =
        Credentials::new().with_certificate(own.certificate.as_bytes(), other.key.as_bytes());
    assert_eq!(mismatch.unwrap_err(), CredentialsError::Mismatch);
}

#[test]
fn invalid_credentials_are_refused_with_the_reason() {
    let identity = self_signed(|_| {});
    let new = Credentials::new;
    let (chain, key) = (identity.certificate.as_bytes(), identity.key.as_bytes());
    assert_eq!(new().with_certificate(b"", key).unwrap_err(), CredentialsError::NoCertificate);
    assert_eq!(new().with_certificate(key, key).unwrap_err(), CredentialsError::NoCertificate);
    assert_eq!(new().with_certificate(chain, b"").unwrap_err(), CredentialsError::Key);
    assert_eq!(new().with_certificate(chain, chain).unwrap_err(), CredentialsError::Key);
    assert_eq!(new().with_trust(b"nothing").unwrap_err(), CredentialsError::NoCertificate);
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(new().with_trust(broken).unwrap_err(), CredentialsError::Certificate);
    assert_eq!(new().with_certificate(broken, key).unwrap_err(), CredentialsError::Certificate);
    let truncated = &chain[..chain.len() / 2];
    assert!(new().with_trust(truncated).is_err());

    let sessions = || Inner::None.sessions(Role::Server);
    let server = TlsFactory::server(sessions(), &new()).unwrap_err();
    assert_eq!(server, CredentialsError::MissingServerCertificate);
    let client = TlsFactory::client(sessions(), &new(), "server.example").unwrap_err();
    assert_eq!(client, CredentialsError::MissingTrust);
    let trusting = new().with_trust(chain).unwrap();
    for name in ["", "a b", "-", "server.example:1"] {
        let client = TlsFactory::client(sessions(), &trusting, name).unwrap_err();
        assert_eq!(client, CredentialsError::Name, "{name}");
    }
}

#[test]
fn debug_output_of_credentials_has_no_key() {
    let identity = self_signed(|_| {});
    let credentials = Credentials::new()
        .with_certificate(identity.certificate.as_bytes(), identity.key.as_bytes())
        .unwrap()
        .with_trust(identity.certificate.as_bytes())
        .unwrap();
    assert_eq!(
        format!("{credentials:?}"),
        "Credentials { has_certificate: true, has_trust: true }"
    );
}
