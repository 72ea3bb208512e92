//! The other end of a connection, by plain sockets: knows nothing of the program's own machines.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use countersign::{Digest, Mac};
use countersign_host::Address;
use countersign_tests::SECRET;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::PATIENCE;

pub(crate) struct Peer(pub(crate) Socket);

/// `message` behind its length.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap();
    [&len.to_be_bytes(), message].concat()
}

/// The right answer to `challenge`.
pub(crate) fn answer(challenge: &[u8]) -> Vec<u8> {
    Mac::new(Digest::Sha256, SECRET).tag(challenge).bytes().to_vec()
}

impl Peer {
    pub(crate) fn connect(at: &Address) -> Self {
        Self::try_connect(at).unwrap()
    }

    pub(crate) fn try_connect(at: &Address) -> io::Result<Self> {
        Self::with_buffers(at, None)
    }

    /// With buffers of about this many bytes in the system, each way.
    pub(crate) fn with_buffers(at: &Address, len: Option<usize>) -> io::Result<Self> {
        let (domain, address) = match at {
            Address::Tcp { .. } => {
                let address: std::net::SocketAddr = at.to_string().parse().unwrap();
                (Domain::for_address(address), address.into())
            }
            Address::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        if let Some(len) = len {
            socket.set_send_buffer_size(len)?;
            socket.set_recv_buffer_size(len)?;
        }
        socket.connect(&address)?;
        if domain != Domain::UNIX {
            socket.set_tcp_nodelay(true)?;
        }
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// One that is through the handshake of `challenge`.
    pub(crate) fn enter(at: &Address) -> Self {
        let peer = Self::connect(at);
        let challenge = peer.read(32);
        peer.send(&answer(&challenge));
        peer
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        (&self.0).write_all(bytes).unwrap();
    }

    /// Sends `message` over and over, at most some `limit` bytes, until the other end has taken
    /// nothing for a while. Returns how many bytes are on their way.
    pub(crate) fn send_until_stuck(&self, message: &[u8], limit: usize) -> usize {
        self.0.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut sent = 0;
        while sent < limit {
            match self.0.send(&message[sent % message.len()..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.0.set_write_timeout(Some(PATIENCE)).unwrap();
        sent
    }

    pub(crate) fn read(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        (&self.0).read_exact(&mut bytes).unwrap();
        bytes
    }

    /// The next frame's message.
    pub(crate) fn hear(&self) -> Vec<u8> {
        let len = self.read(4).try_into().map(u32::from_be_bytes).unwrap();
        self.read(len as usize)
    }

    /// Sends `message` in a frame, and returns the reply's.
    pub(crate) fn ask(&self, message: &[u8]) -> Vec<u8> {
        self.send(&frame(message));
        self.hear()
    }

    /// No more from us.
    pub(crate) fn finish(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// All that still comes, until an orderly end.
    pub(crate) fn remaining(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        (&self.0).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// All that still comes, until an end of any kind.
    pub(crate) fn remaining_or_reset(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match (&self.0).read_to_end(&mut bytes) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            _ => bytes,
        }
    }

    /// Leaves with a reset; a Unix socket has none, but its other end notices as soon.
    pub(crate) fn reset(self) {
        let _ = self.0.set_linger(Some(Duration::ZERO));
    }
}
