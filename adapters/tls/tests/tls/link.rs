//! [`Link`]: two endpoints and the bytes between them.

use countersign_host::BoxedProtocol;

use crate::endpoint::Endpoint;
use crate::inner::Inner;
use crate::pki::{CertificateAuthority, NAME, credentials};

/// A client, a server that answers, and the bytes in flight between them.
pub(crate) struct Link {
    pub(crate) client: Endpoint,
    pub(crate) server: Endpoint,
    to_server: Direction,
    to_client: Direction,
    /// Most bytes of one read or write.
    pub(crate) max_chunk: usize,
}

/// One direction of the transport.
#[derive(Default)]
struct Direction {
    in_flight: Vec<u8>,
    shut: bool,
}

impl Direction {
    /// One write, one read and the polls around them. Returns whether anything moved.
    fn step(&mut self, from: &mut Endpoint, to: &mut Endpoint, max_chunk: usize) -> bool {
        from.poll();
        let sent = from.transmit_at_most(max_chunk);
        let mut moved = !sent.is_empty();
        self.in_flight.extend(sent);
        let n = to.receive(&self.in_flight[..self.in_flight.len().min(max_chunk)]);
        self.in_flight.drain(..n);
        moved |= n > 0;
        to.poll();
        if from.protocol.wants_shutdown() && !self.shut {
            self.shut = true;
            moved = true;
        }
        if self.shut && self.in_flight.is_empty() && to.protocol.wants_read() {
            to.receive_eof();
            to.poll();
        }
        moved
    }
}

impl Link {
    pub(crate) fn new(client: BoxedProtocol, server: BoxedProtocol) -> Self {
        Self {
            client: Endpoint::new(client),
            server: Endpoint::answering(server),
            to_server: Direction::default(),
            to_client: Direction::default(),
            max_chunk: usize::MAX,
        }
    }

    /// A client and a server that trust one CA and present certificates of it.
    pub(crate) fn with_shared_ca(inner: Inner) -> Self {
        let ca = CertificateAuthority::new("a CA");
        let client = credentials(Some(&ca.sign("client")), Some(&ca.identity));
        let server = credentials(Some(&ca.sign(NAME)), Some(&ca.identity));
        Self::new(inner.client(&client, NAME), inner.server(&server))
    }

    /// Runs until nothing moves in either direction.
    pub(crate) fn run(&mut self) {
        loop {
            let Self { client, server, to_server, to_client, max_chunk } = self;
            let moved = to_server.step(client, server, *max_chunk)
                | to_client.step(server, client, *max_chunk);
            if !moved {
                return;
            }
        }
    }

    pub(crate) fn is_established(&self) -> bool {
        self.client.established && self.server.established
    }
}
