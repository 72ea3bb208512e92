//! The same crowds, inside TLS. What is random there comes from the system: a seed gives the same
//! network, choices and lengths, and other bytes.

use std::sync::{Arc, OnceLock};

use countersign::Role;
use countersign_host::BoxedProtocol;
use countersign_tests::sim::{Outcome, Rng, Setup};
use countersign_tls::Tls;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::{
    all_are_served, assert_all_served, for_some, no_answer_is_cut_short, seeds, setup, silent,
    slow, stopping, strangers_are_out, the_others_are_served, the_silent_are_given_up, with_resets,
    with_strangers,
};

const NAME: &str = "server.example";

struct Ends {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// Keys whose signatures are all of one length.
fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).unwrap()
}

fn ends() -> &'static Ends {
    static ENDS: OnceLock<Ends> = OnceLock::new();
    ENDS.get_or_init(|| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = key();
        let root = params.self_signed(&ca_key).unwrap();
        let ca = Issuer::new(params, ca_key);
        let sign = |name: &str| -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
            let key = key();
            let params = CertificateParams::new(vec![name.into()]).unwrap();
            let certificate = params.signed_by(&key, &ca).unwrap();
            (vec![certificate.into()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        };
        let mut roots = RootCertStore::empty();
        roots.add(root.into()).unwrap();
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (chain, key) = sign("client.example");
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(chain, key)
            .unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
        let (chain, key) = sign(NAME);
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        (client.require_ems, server.require_ems) = (true, true);
        client.resumption = rustls::client::Resumption::disabled();
        Ends { client: Arc::new(client), server: Arc::new(server) }
    })
}

fn inside(role: Role, machine: BoxedProtocol) -> BoxedProtocol {
    let Ends { client, server } = ends();
    match role {
        Role::Client => {
            let name = ServerName::try_from(NAME).unwrap();
            Box::new(Tls::client(client.clone(), name, machine).unwrap())
        }
        Role::Server => Box::new(Tls::server(server.clone(), machine).unwrap()),
    }
}

/// A tenth of the seeds: handshakes take their time.
fn for_all(make: impl Fn(&mut Rng) -> Setup, check: impl Fn(&Setup, &Outcome)) {
    let make = |rng: &mut Rng| Setup { inside: Some(inside), ..make(rng) };
    for_some(seeds().div_ceil(10), make, check);
}

#[test]
fn every_honest_client_of_a_crowd_is_served_inside_tls_though_buffers_are_few() {
    for_all(setup, all_are_served);
}

#[test]
fn strangers_to_tls_are_out_by_the_deadline_and_harm_nobody() {
    for_all(with_strangers, strangers_are_out);
}

#[test]
fn a_broken_link_breaks_only_its_own_tls_connection() {
    for_all(with_resets, the_others_are_served);
}

#[test]
fn an_orderly_stop_inside_tls_cuts_no_answer_short() {
    for_all(stopping, no_answer_is_cut_short);
}

#[test]
fn a_peer_inside_tls_behind_a_slow_application_is_not_given_up() {
    for_all(slow, assert_all_served);
}

#[test]
fn a_peer_inside_tls_that_falls_silent_is_given_up() {
    for_all(silent, the_silent_are_given_up);
}
