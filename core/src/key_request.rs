//! What a handshake asks the holder of the keys.

use crate::crypto::keys::Purpose;
use crate::crypto::mac::Digest;
use crate::peer::Role;

/// What a key is needed for.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyRequest<'a> {
    /// Which end we are.
    pub role: Role,
    /// What the key must be made for.
    pub purpose: Purpose,
    /// The id of the key, in schemes that have them.
    pub key_id: Option<&'a str>,
    /// What the peer calls itself, where that is known: a key that is not for such a peer is to be
    /// given as [`Candidate::name_not_allowed`](crate::Candidate::name_not_allowed). A client that does not
    /// know the server's name yet will ask again when it does.
    pub name: Option<&'a str>,
    /// The challenge that is to be answered, or that was; `None` in the scheme `mutual`, whose proofs
    /// are about more.
    pub challenge: Option<Challenge<'a>>,
}

/// A challenge, and whose answer a key is needed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Challenge<'a> {
    /// Our own: the key will tell whether the peer's answer is right.
    Ours(&'a [u8]),
    /// The peer's: the key is to answer it. In the scheme `multiprocessing`, if it is
    /// [`Session::challenge`](crate::Session::challenge) of any other session in this process, refuse
    /// it: [`KeyRejection::Reflected`].
    Theirs(&'a [u8]),
}

impl<'a> KeyRequest<'a> {
    /// What the schemes `challenge` and `multiprocessing` ask; also to try holders of keys with.
    #[must_use]
    pub const fn challenge(role: Role, digest: Digest, challenge: Challenge<'a>) -> Self {
        let challenge = Some(challenge);
        Self { role, purpose: Purpose::Mac(digest), key_id: None, name: None, challenge }
    }

    /// What the scheme `mutual` asks; also to try holders of keys with.
    #[must_use]
    pub const fn mutual(role: Role, key_id: &'a str, name: Option<&'a str>) -> Self {
        Self { role, purpose: Purpose::Derivation, key_id: Some(key_id), name, challenge: None }
    }
}

impl core::fmt::Debug for KeyRequest<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("KeyRequest")
            .field("role", &self.role)
            .field("purpose", &self.purpose)
            .field("key_id", &self.key_id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
