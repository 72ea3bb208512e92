//! Configurations of endpoints, and their keys.

use std::time::Duration;

use countersign::{Config, Key, KeyRejection, Mutual, Nonce, ProcessId, Protocol, Role, Scheme};

use crate::endpoint::Endpoint;

pub(crate) const SECRET: &[u8] = b"a secret of both endpoints, long enough";
pub(crate) const OTHER: &[u8] = b"another secret, as long as the one";

/// Configuration of an endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Party {
    pub(crate) role: Role,
    pub(crate) name: &'static str,
    pub(crate) process_id: u8,
    pub(crate) key_id: &'static str,
    pub(crate) expected: Option<&'static str>,
    /// Its secrets for its key id, or why it has none.
    pub(crate) secrets: Result<&'static [&'static [u8]], KeyRejection>,
    /// Whether its key allows the peer's name.
    pub(crate) name_allowed: bool,
    pub(crate) nonce: u8,
    pub(crate) channel: Option<u8>,
    pub(crate) untagged: bool,
    pub(crate) heartbeat_ms: u64,
    pub(crate) max_frame: u64,
}

impl Party {
    pub(crate) const fn client() -> Self {
        Self {
            role: Role::Client,
            name: "alice",
            process_id: b'a',
            key_id: "k1",
            expected: None,
            secrets: Ok(&[SECRET]),
            name_allowed: true,
            nonce: 0xa1,
            channel: None,
            untagged: false,
            heartbeat_ms: 15_000,
            max_frame: 1000,
        }
    }

    pub(crate) const fn server() -> Self {
        Self { role: Role::Server, name: "bob", process_id: b'b', nonce: 0xb1, ..Self::client() }
    }

    pub(crate) fn config(&self) -> Config {
        let process_id = ProcessId::from_bytes(&[self.process_id; ProcessId::LEN]);
        let mut mutual = Mutual::new(self.name.parse().unwrap(), process_id)
            .with_key_id(self.key_id.parse().unwrap())
            .with_heartbeat(Duration::from_millis(self.heartbeat_ms));
        if let Some(name) = self.expected {
            mutual = mutual.with_expected_server(name.parse().unwrap());
        }
        if self.channel.is_some() {
            mutual = mutual.with_channel_binding();
        }
        if self.untagged {
            mutual = mutual.without_tags();
        }
        Config::new(Scheme::Mutual(mutual)).with_max_frame(self.max_frame)
    }

    /// Makes the endpoint, with its first output ready.
    pub(crate) fn start(&self) -> Endpoint {
        self.start_with(Nonce::from_bytes([self.nonce; Nonce::LEN]))
    }

    pub(crate) fn start_with(&self, nonce: Nonce) -> Endpoint {
        let mut end = Endpoint::with_nonce(&self.config(), self.role, nonce, self.keyring());
        if let Some(channel) = self.channel {
            end.session.bind_channel(&[channel; 32], end.now);
        }
        end.poll();
        end
    }

    pub(crate) fn keyring(&self) -> Keyring {
        let key = |secret: &&[u8]| Key::mutual(secret).unwrap();
        Keyring {
            key_id: Some(self.key_id),
            keys: self.secrets.map(|secrets| secrets.iter().map(key).collect()),
            name_allowed: self.name_allowed,
        }
    }
}

/// The keys of an endpoint. A request for this key id gets the first two that have the requested
/// purpose.
#[derive(Debug)]
pub(crate) struct Keyring {
    pub(crate) key_id: Option<&'static str>,
    pub(crate) keys: Result<Vec<Key>, KeyRejection>,
    pub(crate) name_allowed: bool,
}
