//! The key request of a handshake.

use crate::crypto::keys::Purpose;
use crate::crypto::mac::Digest;
use crate::role::Role;

/// A request of the handshake for a key, from [`Event::KeyNeeded`](crate::Event::KeyNeeded) on.
///
/// The application looks the key up and answers with
/// [`Protocol::provide_key`](crate::Protocol::provide_key). The constructors exist for tests of
/// that lookup.
///
/// ```
/// use countersign::{Candidates, Key, KeyRejection, KeyRequest, Role};
///
/// /// A keyring of one key with the id `default`.
/// fn look_up<'k>(key: &'k Key, request: &KeyRequest<'_>) -> Result<Candidates<'k>, KeyRejection> {
///     if request.purpose != key.purpose() || request.key_id != Some("default") {
///         return Err(KeyRejection::Unknown);
///     }
///     Ok(Candidates::one(key))
/// }
///
/// let key = Key::mutual(b"32 random bytes, the same on both ends").unwrap();
/// let request = KeyRequest::mutual(Role::Server, "default", Some("client-7"));
/// assert!(look_up(&key, &request).is_ok());
/// let request = KeyRequest::mutual(Role::Server, "other", Some("client-7"));
/// assert_eq!(look_up(&key, &request).unwrap_err(), KeyRejection::Unknown);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyRequest<'a> {
    /// The role of this end.
    pub role: Role,
    /// The purpose that the key must have been made for.
    pub purpose: Purpose,
    /// The id of the key, in the scheme `mutual`.
    pub key_id: Option<&'a str>,
    /// The name of the peer, where it is known.
    ///
    /// For a key that this peer may not use, answer
    /// [`Candidate::name_not_allowed`](crate::Candidate::name_not_allowed). A client that does not
    /// know the name of the server yet makes a second request when it does.
    pub name: Option<&'a str>,
    /// The challenge that the key answers or verifies; `None` in the scheme `mutual`, whose proofs
    /// cover the whole handshake.
    pub challenge: Option<Challenge<'a>>,
}

/// A challenge and the end that sent it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Challenge<'a> {
    /// This end sent it: the key verifies the response of the peer.
    Ours(&'a [u8]),
    /// The peer sent it: the key computes our response.
    ///
    /// In the scheme `multiprocessing` a challenge that equals
    /// [`Session::challenge`](crate::Session::challenge) of any session in this process is a
    /// reflection attack. Answer it with [`KeyRejection::Reflected`](crate::KeyRejection::Reflected).
    Theirs(&'a [u8]),
}

impl<'a> KeyRequest<'a> {
    /// A request of the scheme `challenge` or `multiprocessing`.
    #[must_use]
    pub const fn challenge(role: Role, digest: Digest, challenge: Challenge<'a>) -> Self {
        let challenge = Some(challenge);
        Self { role, purpose: Purpose::Mac(digest), key_id: None, name: None, challenge }
    }

    /// A request of the scheme `mutual`.
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
