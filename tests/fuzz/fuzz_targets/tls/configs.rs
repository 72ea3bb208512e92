//! TLS configurations.

use std::sync::{Arc, OnceLock};

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

pub const NAME: &str = "server.example";

pub struct Configs {
    pub client: Arc<ClientConfig>,
    pub server: Arc<ServerConfig>,
}

/// Makes a pair of configurations. Both endpoints present and trust one certificate, whose
/// signatures all have one length.
fn make(version: &'static SupportedProtocolVersion, client_auth: bool) -> Configs {
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let params = CertificateParams::new(vec![NAME.into()]).expect("a name");
    let own: CertificateDer<'static> = params.self_signed(&key).expect("a certificate").into();
    let key = || PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut roots = RootCertStore::empty();
    roots.add(own.clone()).expect("a root");
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let mut client = builder
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(vec![own.clone()], key())
        .expect("a certificate");
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let clients = if client_auth { clients } else { clients.allow_unauthenticated() };
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_client_cert_verifier(clients.build().expect("a root"))
        .with_single_cert(vec![own], key())
        .expect("a certificate");
    (client.require_ems, server.require_ems) = (true, true);
    client.resumption = rustls::client::Resumption::disabled();
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Configs { client: Arc::new(client), server: Arc::new(server) }
}

/// Returns the configurations, which are made once.
pub fn configs(tls12: bool, client_auth: bool) -> &'static Configs {
    static CONFIGS: OnceLock<[Configs; 4]> = OnceLock::new();
    let all = CONFIGS.get_or_init(|| {
        [(&TLS13, false), (&TLS13, true), (&TLS12, false), (&TLS12, true)]
            .map(|(version, client_auth)| make(version, client_auth))
    });
    &all[2 * usize::from(tls12) + usize::from(client_auth)]
}
