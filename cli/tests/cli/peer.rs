//! The other end of a connection, by plain sockets: knows nothing of the program's own code.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::common::{At, PATIENCE};

/// A connection to a server.
pub(crate) struct Peer(pub(crate) Socket);

/// How to get in, and how messages look then.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// The scheme challenge with this key, by SHA-256; then raw bytes.
    Challenge(&'static str),
    /// The scheme none; then frames.
    Frames,
}

/// The right answer to `challenge`.
pub(crate) fn answer(key: &str, challenge: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.chain_update(challenge).finalize().into_bytes().to_vec()
}

/// `message` behind its length.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap();
    [&len.to_be_bytes(), message].concat()
}

impl Peer {
    pub(crate) fn try_connect(at: &At) -> io::Result<Self> {
        let (domain, address) = match at {
            At::Tcp(address) => (Domain::for_address(*address), (*address).into()),
            At::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.connect(&address)?;
        Ok(Self(socket).patient())
    }

    pub(crate) fn connect(at: &At) -> Self {
        Self::try_connect(at).unwrap()
    }

    /// A connection that is through the handshake.
    pub(crate) fn enter(at: &At, way: Way) -> Self {
        let peer = Self::connect(at);
        if let Way::Challenge(key) = way {
            let challenge = peer.challenge();
            peer.send(&answer(key, &challenge));
        }
        peer
    }

    /// Fails where it would wait for ever.
    pub(crate) fn patient(self) -> Self {
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        self.0.set_write_timeout(Some(PATIENCE)).unwrap();
        self
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        (&self.0).write_all(bytes).unwrap();
    }

    /// Sends `message` over and over, at most some `limit` bytes, until the other end has taken
    /// nothing for a while. Returns how many bytes it has taken.
    pub(crate) fn send_until_stuck(&self, message: &[u8], limit: usize) -> usize {
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

    /// Sends `message` and returns the reply, which must be as long.
    pub(crate) fn ask(&self, way: Way, message: &[u8]) -> Vec<u8> {
        match way {
            Way::Challenge(_) => {
                self.send(message);
                self.read(message.len())
            }
            Way::Frames => {
                self.send(&frame(message));
                self.read_frame()
            }
        }
    }

    pub(crate) fn read_frame(&self) -> Vec<u8> {
        let len = self.read(4).try_into().map(u32::from_be_bytes).unwrap();
        self.read(len as usize)
    }

    /// No more from us.
    pub(crate) fn finish(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// All that still comes, until an orderly end.
    pub(crate) fn rest(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        (&self.0).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Whether the other end has ended the connection, waiting for at most `patience`. Nothing may
    /// come before.
    pub(crate) fn is_over_within(&self, patience: Duration) -> bool {
        self.0.set_read_timeout(Some(patience)).unwrap();
        match (&self.0).read(&mut [0]) {
            Ok(0) => true,
            Ok(_) => panic!("a byte came and none should"),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => false,
                ErrorKind::ConnectionReset => true,
                _ => panic!("{error}"),
            },
        }
    }

    /// Leaves with a reset.
    pub(crate) fn reset(self) {
        self.0.set_linger(Some(Duration::ZERO)).unwrap();
    }
}
