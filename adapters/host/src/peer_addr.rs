//! Addresses of peers.

use std::fmt;
use std::net::SocketAddr;

/// The address of the peer of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddr {
    /// The IP address and port of a TCP peer.
    Tcp(SocketAddr),
    /// A peer on a Unix socket, which has no address.
    Unix,
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}
