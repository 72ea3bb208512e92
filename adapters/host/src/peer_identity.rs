//! Who the peer of a connection is.

use countersign::Peer;

/// Who the peer of a connection is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerIdentity {
    /// Its name, in schemes with names.
    pub name: Option<String>,
    /// The id of the key that authenticated it, in schemes with key ids.
    pub key_id: Option<String>,
    /// Whether it was authenticated.
    pub authenticated: bool,
}

/// A [`PeerIdentity`] in one allocation, since a server keeps one for each connection: a byte of flags, the
/// length of the name in four bytes, the name, the key id.
pub(crate) struct PackedIdentity(Box<[u8]>);

/// Length of what precedes the name.
const HEADER_LEN: usize = 5;
const AUTHENTICATED: u8 = 1;
const NAMED: u8 = 2;
const KEYED: u8 = 4;

impl PackedIdentity {
    pub(crate) fn of(peer: &Peer<'_>) -> Self {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(peer.authenticated, AUTHENTICATED)
            | flag(peer.name.is_some(), NAMED)
            | flag(peer.key_id.is_some(), KEYED);
        let (name, key_id) = (peer.name.unwrap_or_default(), peer.key_id.unwrap_or_default());
        let name_len = (name.len() as u32).to_be_bytes();
        Self([&[flags], &name_len[..], name.as_bytes(), key_id.as_bytes()].concat().into())
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.text(NAMED, self.split().0)
    }

    pub(crate) fn unpack(&self) -> PeerIdentity {
        PeerIdentity {
            name: self.name().map(Into::into),
            key_id: self.text(KEYED, self.split().1).map(Into::into),
            authenticated: self.has(AUTHENTICATED),
        }
    }

    fn has(&self, flag: u8) -> bool {
        self.0[0] & flag != 0
    }

    fn text<'a>(&self, flag: u8, bytes: &'a [u8]) -> Option<&'a str> {
        str::from_utf8(bytes).ok().filter(|_| self.has(flag))
    }

    /// The bytes of the name and those of the key id.
    fn split(&self) -> (&[u8], &[u8]) {
        let (header, texts) = self.0.split_at(HEADER_LEN);
        let name_len = header[1..].iter().fold(0, |len, &byte| len << 8 | usize::from(byte));
        texts.split_at(name_len)
    }
}

#[cfg(test)]
mod tests {
    use countersign::{Config, Instant, Nonce, Protocol, Scheme, Session};

    use super::*;

    #[test]
    fn packed_identity_is_unpacked_unchanged() {
        let buffers =
            crate::pool::Pools::default().buffers(&crate::lease_holder::LeaseHolder::default());
        let config = Config::new(Scheme::None);
        let nonce = Nonce::from_bytes([7; Nonce::LEN]);
        let mut session = Session::client(&config, nonce, buffers, Instant::EPOCH).unwrap();
        session.poll_event(Instant::EPOCH).unwrap();
        let mut peer = session.peer().unwrap();
        let long = "n".repeat(300);
        for name in [None, Some(""), Some("name"), Some(&long)] {
            for key_id in [None, Some(""), Some("key")] {
                for authenticated in [false, true] {
                    (peer.name, peer.key_id, peer.authenticated) = (name, key_id, authenticated);
                    let packed = PackedIdentity::of(&peer);
                    assert_eq!(packed.name(), name);
                    let (name, key_id) = (name.map(Into::into), key_id.map(Into::into));
                    assert_eq!(packed.unpack(), PeerIdentity { name, key_id, authenticated });
                }
            }
        }
    }
}
