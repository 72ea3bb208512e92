//! The simulations of the parent module inside TLS. TLS takes its randomness from the system: a
//! seed determines the network, all choices and all lengths, but not the bytes.

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
    assert_all_served, check_all_served, check_hostile_clients_ended, check_no_reply_truncated,
    check_others_served, check_silent_peers_timed_out, for_seeds, seed_count, setup,
    with_frozen_links, with_hostile_clients, with_resets, with_slow_application, with_stop,
};

const NAME: &str = "server.example";

struct TlsConfigs {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// Makes a key. All signatures with it have one length.
fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).unwrap()
}

fn tls_configs() -> &'static TlsConfigs {
    static CONFIGS: OnceLock<TlsConfigs> = OnceLock::new();
    CONFIGS.get_or_init(|| {
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
        TlsConfigs { client: Arc::new(client), server: Arc::new(server) }
    })
}

/// Puts `protocol` inside TLS.
fn wrap(role: Role, protocol: BoxedProtocol) -> BoxedProtocol {
    let TlsConfigs { client, server } = tls_configs();
    match role {
        Role::Client => {
            let name = ServerName::try_from(NAME).unwrap();
            Box::new(Tls::client(client.clone(), name, protocol).unwrap())
        }
        Role::Server => Box::new(Tls::server(server.clone(), protocol).unwrap()),
    }
}

/// Checks a tenth of the seeds, because TLS handshakes are slow.
fn for_all_seeds(make: impl Fn(&mut Rng) -> Setup, check: impl Fn(&Setup, &Outcome)) {
    let make = |rng: &mut Rng| Setup { wrap: Some(wrap), ..make(rng) };
    for_seeds(seed_count().div_ceil(10), make, check);
}

#[test]
fn honest_clients_are_served_inside_tls() {
    for_all_seeds(setup, check_all_served);
}

#[test]
fn hostile_tls_clients_end_by_the_deadline() {
    for_all_seeds(with_hostile_clients, check_hostile_clients_ended);
}

#[test]
fn reset_tls_link_ends_only_its_own_connection() {
    for_all_seeds(with_resets, check_others_served);
}

#[test]
fn orderly_stop_inside_tls_truncates_no_reply() {
    for_all_seeds(with_stop, check_no_reply_truncated);
}

#[test]
fn tls_peer_of_a_slow_application_is_not_disconnected() {
    for_all_seeds(with_slow_application, assert_all_served);
}

#[test]
fn silent_tls_peer_times_out() {
    for_all_seeds(with_frozen_links, check_silent_peers_timed_out);
}
