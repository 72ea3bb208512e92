//! The holder of the keys.

use countersign::{Candidates, Key, KeyRejection, KeyRequest, Mutual, Peer};

/// Answers the key requests of handshakes.
pub trait Keys {
    /// The keys for `request`.
    ///
    /// # Errors
    /// Why there are none; the handshake then fails.
    fn candidates(&self, request: &KeyRequest<'_>) -> Result<Candidates<'_>, KeyRejection>;

    /// Whether the key that authenticated `peer` is still valid for it. Sessions for which it is not
    /// are ended when the keys are replaced.
    ///
    /// [`Peer::fingerprint`] identifies the key. Where it is `None` the scheme does not say which key
    /// it was; return true.
    fn hold(&self, peer: &Peer<'_>) -> bool;
}

/// One key for all peers; in schemes with key ids, under the id `default` only.
impl Keys for Key {
    fn candidates(&self, request: &KeyRequest<'_>) -> Result<Candidates<'_>, KeyRejection> {
        // Otherwise a peer could choose the id that its sessions are logged and accounted under.
        match request.key_id {
            Some(id) if id != Mutual::DEFAULT_KEY_ID => Err(KeyRejection::Unknown),
            _ => Ok(Candidates::one(self)),
        }
    }

    fn hold(&self, peer: &Peer<'_>) -> bool {
        peer.fingerprint.is_none() || peer.fingerprint == self.fingerprint()
    }
}

/// One key or none. Without one every request is refused: for schemes that need no key.
impl Keys for Option<Key> {
    fn candidates(&self, request: &KeyRequest<'_>) -> Result<Candidates<'_>, KeyRejection> {
        self.as_ref().ok_or(KeyRejection::Unknown)?.candidates(request)
    }

    fn hold(&self, peer: &Peer<'_>) -> bool {
        self.as_ref().map_or(peer.fingerprint.is_none(), |key| key.hold(peer))
    }
}

/// Holds no key: for calls after the handshake.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoKeys;

impl Keys for NoKeys {
    fn candidates(&self, _: &KeyRequest<'_>) -> Result<Candidates<'_>, KeyRejection> {
        Err(KeyRejection::Unknown)
    }

    /// True: the keys that the session was established with are not known here.
    fn hold(&self, _: &Peer<'_>) -> bool {
        true
    }
}
