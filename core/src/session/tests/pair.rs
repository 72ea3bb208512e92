//! Endpoints of the scheme `mutual`, and a pair of them.

use super::*;
use crate::config::Mutual;
use crate::name::Name;
use crate::process_id::ProcessId;

/// Lengths of the buffers: the receive buffer holds a frame of 256 bytes.
pub(super) const RECEIVE_LEN: usize = 260;
pub(super) const SEND_LEN: usize = 512;

/// The longest chunk that fits a tagged frame of 256 bytes.
pub(super) const MAX_CHUNK: usize = 256 - 1 - 16;

pub(super) fn mutual(name: &str, process_id: u8) -> Mutual {
    Mutual::new(Name::new(name).unwrap(), ProcessId::from_bytes(&[process_id; ProcessId::LEN]))
}

pub(super) fn sealed(mutual: Mutual) -> Config {
    Config::new(Scheme::Mutual(mutual))
}

pub(super) fn client() -> Config {
    sealed(mutual("client", 1))
}

pub(super) fn server() -> Config {
    sealed(mutual("server", 2))
}

pub(super) fn mutual_key() -> Key {
    Key::mutual(SECRET).unwrap()
}

impl Endpoint {
    pub(super) fn sealed(config: &Config, role: Role) -> Self {
        Self::new(config, role, RECEIVE_LEN, SEND_LEN)
    }

    /// Reads all of `bytes` as a driver does and answers key requests; returns the other events.
    pub(super) fn deliver(&mut self, mut bytes: &[u8]) -> Vec<Event> {
        let mut events = self.poll_with_key();
        while !bytes.is_empty() {
            let n = self.offer(bytes);
            assert!(n > 0, "the session does not read {} bytes", bytes.len());
            bytes = &bytes[n..];
            events.extend(self.poll_with_key());
        }
        events
    }

    /// Polls all events and answers key requests; returns the other events.
    pub(super) fn poll_with_key(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for _ in 0..100 {
            let polled = self.events();
            if polled.is_empty() {
                return events;
            }
            if polled.contains(&Event::KeyNeeded) {
                self.provide_key(&mutual_key());
            }
            events.extend(polled.into_iter().filter(|&event| event != Event::KeyNeeded));
        }
        panic!("events do not end");
    }

    /// The bytes offered for transmission, without transmitting them.
    pub(super) fn pending_output(&mut self) -> Vec<u8> {
        self.session.poll_transmit(self.now).to_vec()
    }
}

/// A client and a server after a complete handshake.
pub(super) fn established(client: &Config, server: &Config) -> (Endpoint, Endpoint) {
    let mut client = Endpoint::sealed(client, Role::Client);
    let mut server = Endpoint::sealed(server, Role::Server);
    assert_eq!(client.deliver(&server.transmit_all()), []);
    assert_eq!(server.deliver(&client.transmit_all()), []);
    let m3 = server.transmit_all();
    assert_eq!(server.events(), [Event::Established]);
    assert_eq!(client.deliver(&m3), [Event::Established]);
    (client, server)
}
