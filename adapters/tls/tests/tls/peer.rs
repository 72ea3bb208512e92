//! A client that is rustls alone, and says what no machine of ours would.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, Connection};

use crate::ends::{End, Inside};
use crate::pki::{NAME, Pki, Version};

/// All that `tls` has to say.
pub(crate) fn said(tls: &mut Connection) -> Vec<u8> {
    let mut said = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut said).unwrap();
    }
    said
}

/// Has `tls` hear `bytes`, which are right.
pub(crate) fn hears(tls: &mut Connection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        tls.read_tls(&mut bytes).unwrap();
        tls.process_new_packets().unwrap();
    }
}

/// It, and a server that has let it in.
pub(crate) struct Peer {
    pub(crate) tls: Connection,
    pub(crate) server: End,
}

impl Peer {
    pub(crate) fn new(version: Version) -> Self {
        let pki = Pki::new();
        let server = End::answering(pki.server(Inside::None, version));
        Self::meet(client(&Arc::new(pki.client_config(version))), server)
    }

    pub(crate) fn meet(client: ClientConnection, server: End) -> Self {
        let mut peer = Self { tls: client.into(), server };
        for _ in 0..4 {
            peer.exchange();
        }
        assert!(peer.server.established);
        peer
    }

    /// All that either has to say.
    pub(crate) fn exchange(&mut self) {
        let said = said(&mut self.tls);
        self.server.hears_all(&said);
        hears(&mut self.tls, &self.server.said(usize::MAX));
    }

    /// The records of a message in a frame of its own.
    pub(crate) fn message(&mut self, message: &[u8]) -> Vec<u8> {
        let frame = [&(message.len() as u32).to_be_bytes(), message].concat();
        self.tls.writer().write_all(&frame).unwrap();
        said(&mut self.tls)
    }

    /// What was said to it.
    pub(crate) fn heard(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        // An error is that there will be more.
        let _ = self.tls.reader().read_to_end(&mut heard);
        heard
    }
}

/// A connection that is to begin.
pub(crate) fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config.clone(), NAME.try_into().unwrap()).unwrap()
}
