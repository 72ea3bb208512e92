//! Several keys derived from one secret.

use countersign::{Candidates, Key, KeyRejection, KeyRequest, Peer};
use countersign_driver::Keys;

/// Keys derived from one secret for different purposes, as a compatible session of the scheme
/// `multiprocessing` needs them. A request gets the first key of its purpose.
#[derive(Clone, Debug, Default)]
pub struct KeyList(Vec<Key>);

impl FromIterator<Key> for KeyList {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl Keys for KeyList {
    fn candidates(&self, request: &KeyRequest<'_>) -> Result<Candidates<'_>, KeyRejection> {
        let key = self.0.iter().find(|key| key.purpose() == request.purpose);
        key.ok_or(KeyRejection::Unknown)?.candidates(request)
    }

    fn hold(&self, peer: &Peer<'_>) -> bool {
        peer.fingerprint.is_none() || self.0.iter().any(|key| key.hold(peer))
    }
}
