//! Addresses of peers.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

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

/// A [`PeerAddr`] in 16 bytes, since a server keeps one for each connection.
#[derive(Debug)]
pub(crate) enum PackedAddr {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
    Unix,
}

impl From<PeerAddr> for PackedAddr {
    fn from(addr: PeerAddr) -> Self {
        match addr {
            PeerAddr::Tcp(SocketAddr::V4(addr)) => Self::V4(addr),
            PeerAddr::Tcp(SocketAddr::V6(addr)) => Self::V6(Box::new(addr)),
            PeerAddr::Unix => Self::Unix,
        }
    }
}

impl PackedAddr {
    pub(crate) fn unpack(&self) -> PeerAddr {
        match self {
            Self::V4(addr) => PeerAddr::Tcp((*addr).into()),
            Self::V6(addr) => PeerAddr::Tcp((**addr).into()),
            Self::Unix => PeerAddr::Unix,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_address_is_unpacked_unchanged() {
        let tcp = ["192.0.2.1:1", "[2001:db8::1%3]:65535"]
            .map(|text| PeerAddr::Tcp(text.parse().unwrap()));
        for addr in [tcp[0], tcp[1], PeerAddr::Unix] {
            assert_eq!(PackedAddr::from(addr).unpack(), addr);
        }
        assert_eq!(size_of::<PackedAddr>(), 16);
    }
}
