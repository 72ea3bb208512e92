//! [`SocketPeer`]: a client that reads and writes the bytes of a socket, without the project's
//! protocols.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use countersign::{Digest, Mac};
use countersign_host::Address;
use countersign_tests::SECRET;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::TEST_TIMEOUT;

/// A connected socket.
pub(crate) struct SocketPeer(pub(crate) Socket);

/// Returns `message` preceded by its length.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap();
    [&len.to_be_bytes(), message].concat()
}

/// Returns the right response to `challenge`.
pub(crate) fn response(challenge: &[u8]) -> Vec<u8> {
    Mac::new(Digest::Sha256, SECRET).tag(challenge).bytes().to_vec()
}

impl SocketPeer {
    pub(crate) fn connect(address: &Address) -> Self {
        Self::try_connect(address).unwrap()
    }

    pub(crate) fn try_connect(address: &Address) -> io::Result<Self> {
        Self::with_buffers(address, None)
    }

    /// Connects with socket buffers of about `len` bytes in each direction.
    pub(crate) fn with_buffers(address: &Address, len: Option<usize>) -> io::Result<Self> {
        let (domain, address) = match address {
            Address::Tcp { .. } => {
                let address: std::net::SocketAddr = address.to_string().parse().unwrap();
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
        socket.set_read_timeout(Some(TEST_TIMEOUT))?;
        socket.set_write_timeout(Some(TEST_TIMEOUT))?;
        Ok(Self(socket))
    }

    /// Connects, and completes the handshake of `challenge`.
    pub(crate) fn connect_with_challenge(address: &Address) -> Self {
        let peer = Self::connect(address);
        let challenge = peer.read(32);
        peer.send(&response(&challenge));
        peer
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        (&self.0).write_all(bytes).unwrap();
    }

    /// Sends `message` repeatedly until the server accepts nothing for half a second, or about
    /// `limit` bytes are sent. Returns the number of bytes sent.
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
        self.0.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
        sent
    }

    pub(crate) fn read(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        (&self.0).read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads a frame. Returns its message.
    pub(crate) fn read_frame(&self) -> Vec<u8> {
        let len = self.read(4).try_into().map(u32::from_be_bytes).unwrap();
        self.read(len as usize)
    }

    /// Sends `message` in a frame. Returns the message of the reply.
    pub(crate) fn request(&self, message: &[u8]) -> Vec<u8> {
        self.send(&frame(message));
        self.read_frame()
    }

    /// Shuts down the write side.
    pub(crate) fn shut_write(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads until the end of the stream.
    pub(crate) fn read_to_end(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        (&self.0).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Reads until the end of the stream or a reset.
    pub(crate) fn read_to_end_or_reset(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match (&self.0).read_to_end(&mut bytes) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            _ => bytes,
        }
    }

    /// Closes a TCP connection with a reset. A Unix socket has no reset and is only closed.
    pub(crate) fn reset(self) {
        let _ = self.0.set_linger(Some(Duration::ZERO));
    }
}
