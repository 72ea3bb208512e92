//! Settings that every connection has, whatever the application configured: no resumption, no early
//! data, and the extended master secret in TLS 1.2.
//!
//! Each connection verifies its certificates anew, and has an exporter that no other connection has
//! (RFC 9266, section 3).

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::{ClientConfig, ServerConfig};

pub(crate) fn harden_server(config: &mut ServerConfig) {
    config.require_ems = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(NoTickets);
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
}

pub(crate) fn harden_client(config: &mut ClientConfig) {
    config.require_ems = true;
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
}

/// Issues no session tickets, and accepts none, not even those of another server with our keys.
#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _plain: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _cipher: &[u8]) -> Option<Vec<u8>> {
        None
    }
}
