//! [`RustlsPeer`]: a client by rustls alone, which sends what no client of ours would.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, Connection};

use crate::endpoint::Endpoint;
use crate::inner::Inner;
use crate::pki::{NAME, Pki, Version};

/// Everything that `tls` has to send.
pub(crate) fn transmit(tls: &mut Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Passes `bytes` to `tls`, which must accept them.
pub(crate) fn receive(tls: &mut Connection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        tls.read_tls(&mut bytes).unwrap();
        tls.process_new_packets().unwrap();
    }
}

/// A connection to the server [`NAME`].
pub(crate) fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config.clone(), NAME.try_into().unwrap()).unwrap()
}

/// A client by rustls alone, and a server of ours that has accepted it.
pub(crate) struct RustlsPeer {
    pub(crate) tls: Connection,
    pub(crate) server: Endpoint,
}

impl RustlsPeer {
    pub(crate) fn new(version: Version) -> Self {
        let pki = Pki::new();
        let server = Endpoint::answering(pki.server(Inner::None, version));
        Self::connect(client(&Arc::new(pki.client_config(version))), server)
    }

    /// Completes the handshake of `client` with `server`.
    pub(crate) fn connect(client: ClientConnection, server: Endpoint) -> Self {
        let mut peer = Self { tls: client.into(), server };
        for _ in 0..4 {
            peer.exchange();
        }
        assert!(peer.server.established);
        peer
    }

    /// Transfers everything pending in either direction.
    pub(crate) fn exchange(&mut self) {
        self.server.receive_all(&transmit(&mut self.tls));
        receive(&mut self.tls, &self.server.transmit());
    }

    /// The records of `message` in one frame.
    pub(crate) fn records(&mut self, message: &[u8]) -> Vec<u8> {
        let frame = [&(message.len() as u32).to_be_bytes(), message].concat();
        self.tls.writer().write_all(&frame).unwrap();
        transmit(&mut self.tls)
    }

    /// The plaintext that the client has received.
    pub(crate) fn received(&mut self) -> Vec<u8> {
        let mut received = Vec::new();
        // Ends with WouldBlock, since the server has not closed.
        let _ = self.tls.reader().read_to_end(&mut received);
        received
    }
}
