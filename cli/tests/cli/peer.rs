//! A client on a plain socket, which uses none of our libraries.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::common::{PATIENCE, ServerAddr};

/// One end of a connection.
pub(crate) struct Peer(pub(crate) Socket);

/// The scheme of a connection, and with it the framing.
#[derive(Clone, Copy)]
pub(crate) enum PeerScheme {
    /// The scheme challenge with this key and SHA-256; then a byte stream.
    Challenge(&'static str),
    /// The scheme none: length-prefixed frames.
    Frames,
}

/// The proof of `key` for `challenge`.
pub(crate) fn proof(key: &str, challenge: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.chain_update(challenge).finalize().into_bytes().to_vec()
}

/// `message` with a length prefix.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap();
    [&len.to_be_bytes(), message].concat()
}

impl Peer {
    pub(crate) fn try_connect(at: &ServerAddr) -> io::Result<Self> {
        let (domain, address) = match at {
            ServerAddr::Tcp(address) => (Domain::for_address(*address), (*address).into()),
            ServerAddr::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.connect(&address)?;
        Ok(Self(socket).with_timeouts())
    }

    pub(crate) fn connect(at: &ServerAddr) -> Self {
        Self::try_connect(at).unwrap()
    }

    /// A connection after the handshake.
    pub(crate) fn authenticated(at: &ServerAddr, scheme: PeerScheme) -> Self {
        let peer = Self::connect(at);
        if let PeerScheme::Challenge(key) = scheme {
            let challenge = peer.challenge();
            peer.send(&proof(key, &challenge));
        }
        peer
    }

    /// Sets timeouts, so that a test fails instead of blocking forever.
    pub(crate) fn with_timeouts(self) -> Self {
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        self.0.set_write_timeout(Some(PATIENCE)).unwrap();
        self
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        (&self.0).write_all(bytes).unwrap();
    }

    /// Sends `message` repeatedly, about `limit` bytes at most, until the other end has read nothing for
    /// 300 ms. Returns the number of bytes sent.
    pub(crate) fn send_until_blocked(&self, message: &[u8], limit: usize) -> usize {
        self.0.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
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

    pub(crate) fn challenge(&self) -> Vec<u8> {
        self.read(32)
    }

    /// Sends `message` and returns the reply, which has the same length.
    pub(crate) fn request(&self, scheme: PeerScheme, message: &[u8]) -> Vec<u8> {
        match scheme {
            PeerScheme::Challenge(_) => {
                self.send(message);
                self.read(message.len())
            }
            PeerScheme::Frames => {
                self.send(&frame(message));
                self.read_frame()
            }
        }
    }

    pub(crate) fn read_frame(&self) -> Vec<u8> {
        let len = self.read(4).try_into().map(u32::from_be_bytes).unwrap();
        self.read(len as usize)
    }

    /// Ends our side of the stream.
    pub(crate) fn finish(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads until the other end closes in order.
    pub(crate) fn read_to_end(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        (&self.0).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Waits at most `timeout` for the other end to close the connection. Fails if data arrives.
    pub(crate) fn is_closed_within(&self, timeout: Duration) -> bool {
        self.0.set_read_timeout(Some(timeout)).unwrap();
        match (&self.0).read(&mut [0]) {
            Ok(0) => true,
            Ok(_) => panic!("unexpected data"),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => false,
                ErrorKind::ConnectionReset => true,
                _ => panic!("{error}"),
            },
        }
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        self.0.set_linger(Some(Duration::ZERO)).unwrap();
    }
}
