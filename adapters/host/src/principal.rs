//! [`Principal`]: to whom the use of shared resources is accounted.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign::{Fingerprint, Peer};

use crate::peer_addr::PeerAddr;

/// To whom the use of shared resources is accounted: a key, or an address, and the address within it.
///
/// Each is a keyed hash, so that nobody can choose one that collides; the few that do share one part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Principal {
    pub(crate) id: u32,
    pub(crate) address: u32,
}

/// A principal that may change. Kept small: every connection has one.
#[derive(Debug, Default)]
pub(crate) struct AtomicPrincipal(AtomicU64);

impl AtomicPrincipal {
    pub(crate) fn set(&self, Principal { id, address }: Principal) {
        self.0.store(u64::from(id) << 32 | u64::from(address), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Principal {
        let both = self.0.load(Ordering::Relaxed);
        Principal { id: (both >> 32) as u32, address: both as u32 }
    }
}

/// What a principal is known by.
#[derive(Hash)]
enum Id<'a> {
    /// The key id, and the fingerprint, which tells two keys of one id apart.
    Key(Option<&'a str>, Option<Fingerprint>),
    V4([u8; 4]),
    /// A network of 48 bits; the address is one of 64 bits. A host can usually choose among the addresses
    /// of its network of 64 bits, a site among the networks in its 48.
    V6([u8; 6]),
    V6Address([u8; 8]),
    Unix,
}

impl Principal {
    /// Of a peer that has not authenticated.
    #[must_use]
    pub fn of_address(addr: &PeerAddr) -> Self {
        match addr {
            PeerAddr::Unix => Self { id: hash(&Id::Unix), address: hash(&Id::Unix) },
            PeerAddr::Tcp(address) => match address.ip().to_canonical() {
                IpAddr::V4(ip) => {
                    let address = hash(&Id::V4(ip.octets()));
                    Self { id: address, address }
                }
                IpAddr::V6(ip) => {
                    let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                    Self {
                        id: hash(&Id::V6([a, b, c, d, e, f])),
                        address: hash(&Id::V6Address([a, b, c, d, e, f, g, h])),
                    }
                }
            },
        }
    }

    /// Of a peer that has completed its handshake: its key, if it proved to hold one.
    #[must_use]
    pub fn of_peer(peer: &Peer<'_>, addr: &PeerAddr) -> Self {
        let of_address = Self::of_address(addr);
        if !peer.authenticated {
            return of_address;
        }
        Self { id: hash(&Id::Key(peer.key_id, peer.fingerprint)), ..of_address }
    }
}

fn hash(id: &Id<'_>) -> u32 {
    static STATE: OnceLock<RandomState> = OnceLock::new();
    STATE.get_or_init(RandomState::new).hash_one(id) as u32
}

#[cfg(test)]
mod tests {
    use countersign::{Config, Instant, Nonce, Protocol, Scheme, Session};

    use super::*;
    use crate::lease_holder::LeaseHolder;
    use crate::pool::Pools;

    fn at(address: &str) -> Principal {
        Principal::of_address(&PeerAddr::Tcp(address.parse().unwrap()))
    }

    #[test]
    fn addresses_are_principals_until_a_key_is_proved() {
        assert_eq!(at("192.0.2.1:1"), at("192.0.2.1:2"));
        assert_eq!(at("192.0.2.1:1"), at("[::ffff:192.0.2.1]:1"));
        assert_ne!(at("192.0.2.1:1").id, at("192.0.2.2:1").id);
        assert_ne!(at("192.0.2.1:1"), Principal::of_address(&PeerAddr::Unix));
    }

    #[test]
    fn ipv6_network_of_48_bits_is_one_principal_of_several_addresses() {
        let (a, b) = (at("[2001:db8:0:1::1]:1"), at("[2001:db8:0:2::1]:1"));
        assert_eq!(a.id, b.id);
        assert_ne!(a.address, b.address);
        assert_eq!(a, at("[2001:db8:0:1::2]:1"));
        assert_ne!(a.id, at("[2001:db8:1:1::1]:1").id);
    }

    #[test]
    fn authenticated_peer_is_accounted_to_its_key() {
        let buffers = Pools::default().buffers(&LeaseHolder::default());
        let (config, nonce) = (Config::new(Scheme::None), Nonce::from_bytes([7; Nonce::LEN]));
        let mut session = Session::client(&config, nonce, buffers, Instant::EPOCH).unwrap();
        session.poll_event(Instant::EPOCH).unwrap();
        let mut peer = session.peer().unwrap();
        let addr = PeerAddr::Tcp("192.0.2.1:1".parse().unwrap());
        peer.key_id = Some("a claim");
        assert_eq!(Principal::of_peer(&peer, &addr), Principal::of_address(&addr));
        peer.authenticated = true;
        let of_key = |key_id| {
            let mut peer = peer;
            peer.key_id = key_id;
            Principal::of_peer(&peer, &addr)
        };
        assert_ne!(of_key(Some("a")).id, of_key(Some("b")).id);
        assert_ne!(of_key(Some("a")).id, of_key(None).id);
        assert_ne!(of_key(None).id, Principal::of_address(&addr).id);
        assert_eq!(of_key(Some("a")).address, Principal::of_address(&addr).address);
        let elsewhere = PeerAddr::Tcp("192.0.2.2:1".parse().unwrap());
        let there = Principal::of_peer(&peer, &elsewhere);
        assert_eq!(there.id, Principal::of_peer(&peer, &addr).id);
        assert_ne!(there.address, Principal::of_peer(&peer, &addr).address);
    }
}
