//! Keys and the answer to a key request.

use core::fmt;

use subtle::Choice;

use crate::crypto::key_schedule::{Fingerprint, Prk};
use crate::crypto::mac::{Digest, Mac};
use crate::error::KeyError;

/// What a key is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// HMAC over this digest: the schemes `challenge` and `multiprocessing`.
    Mac(Digest),
    /// Derivation of other keys: the scheme `mutual`.
    Derivation,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(digest) => write!(f, "HMAC over {digest}"),
            Self::Derivation => f.write_str("key derivation"),
        }
    }
}

/// A secret prepared for one [`Purpose`].
///
/// The key keeps only what its purpose needs, so the caller can wipe the secret after this type is
/// created. The key wipes itself on drop and never appears in `Debug`.
///
/// ```
/// use countersign::{Digest, Key, KeyError, Purpose};
///
/// let key = Key::mutual(b"32 random bytes, the same on both ends")?;
/// assert_eq!(key.purpose(), Purpose::Derivation);
/// let key = Key::challenge(Digest::Sha256, b"secret")?;
/// assert_eq!(key.purpose(), Purpose::Mac(Digest::Sha256));
/// assert_eq!(Key::mutual(b"too short").unwrap_err(), KeyError::TooShort);
/// # Ok::<(), KeyError>(())
/// ```
#[derive(Clone)]
pub struct Key(Prepared);

#[derive(Clone)]
enum Prepared {
    Mac(Mac),
    Prk(Prk),
}

impl Key {
    /// The greatest length of a secret, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// The least length of a secret for [`Purpose::Derivation`], in bytes.
    pub const MIN_DERIVATION_LEN: usize = 16;

    /// Prepares `secret` for `purpose`.
    ///
    /// `secret` has 1 to [`MAX_LEN`](Self::MAX_LEN) bytes; for [`Purpose::Derivation`] at least
    /// [`MIN_DERIVATION_LEN`](Self::MIN_DERIVATION_LEN). Use 32 random bytes: an attacker who sees a
    /// handshake can test guesses offline.
    ///
    /// # Errors
    /// [`KeyError::Empty`], [`KeyError::TooShort`], [`KeyError::TooLong`].
    pub fn new(purpose: Purpose, secret: &[u8]) -> Result<Self, KeyError> {
        if secret.is_empty() {
            return Err(KeyError::Empty);
        }
        if secret.len() > Self::MAX_LEN {
            return Err(KeyError::TooLong);
        }
        match purpose {
            Purpose::Mac(digest) => Ok(Self(Prepared::Mac(Mac::new(digest, secret)))),
            Purpose::Derivation if secret.len() < Self::MIN_DERIVATION_LEN => {
                Err(KeyError::TooShort)
            }
            Purpose::Derivation => Ok(Self(Prepared::Prk(Prk::extract(secret)))),
        }
    }

    /// A key for the schemes `challenge` and `multiprocessing`: [`Purpose::Mac`] with `digest`.
    ///
    /// # Errors
    /// As [`Key::new`].
    pub fn challenge(digest: Digest, secret: &[u8]) -> Result<Self, KeyError> {
        Self::new(Purpose::Mac(digest), secret)
    }

    /// A key for the scheme `mutual`: [`Purpose::Derivation`].
    ///
    /// # Errors
    /// As [`Key::new`].
    pub fn mutual(secret: &[u8]) -> Result<Self, KeyError> {
        Self::new(Purpose::Derivation, secret)
    }

    /// The purpose that the key was made for.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        match &self.0 {
            Prepared::Mac(mac) => Purpose::Mac(mac.digest()),
            Prepared::Prk(_) => Purpose::Derivation,
        }
    }

    /// Identifies the secret without revealing it; `None` unless the purpose is
    /// [`Purpose::Derivation`].
    ///
    /// Equal secrets have equal fingerprints everywhere. A fingerprint allows offline guessing of a
    /// weak secret, as a recorded handshake does, so do not publish it.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.prk().map(Prk::fingerprint)
    }

    pub(crate) const fn mac(&self) -> Option<&Mac> {
        match &self.0 {
            Prepared::Mac(mac) => Some(mac),
            Prepared::Prk(_) => None,
        }
    }

    pub(crate) const fn prk(&self) -> Option<&Prk> {
        match &self.0 {
            Prepared::Prk(prk) => Some(prk),
            Prepared::Mac(_) => None,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, ..)", self.purpose())
    }
}

/// A key that answers a request, and whether the peer may use it under the name that it gives.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub(crate) key: &'a Key,
    pub(crate) allowed: bool,
}

impl<'a> Candidate<'a> {
    /// `key`, which the peer may use.
    #[must_use]
    pub const fn new(key: &'a Key) -> Self {
        Self { key, allowed: true }
    }

    /// `key`, which the peer may not use under the name that it gives.
    ///
    /// The handshake fails, but only after the proof of the peer is verified and with the same
    /// outward result as a wrong proof, so the peer learns nothing about names.
    #[must_use]
    pub const fn name_not_allowed(key: &'a Key) -> Self {
        Self { key, allowed: false }
    }

    /// The key.
    #[must_use]
    pub const fn key(self) -> &'a Key {
        self.key
    }

    /// Whether the peer may use the key under its name.
    #[must_use]
    pub const fn is_allowed(self) -> bool {
        self.allowed
    }

    pub(crate) const fn prk(self) -> Option<&'a Prk> {
        self.key.prk()
    }
}

/// The answer to a [`KeyRequest`](crate::KeyRequest): one key, or two while one replaces the other.
///
/// An end that proves itself uses the first key. An end that verifies accepts either.
///
/// ```
/// use countersign::{Candidate, Candidates, Key};
///
/// let old = Key::mutual(b"32 random bytes of the old key..").unwrap();
/// let new = Key::mutual(b"32 random bytes of the new key..").unwrap();
/// let candidates = Candidates::two(&new, &old);
/// assert_eq!(candidates.first().key().fingerprint(), new.fingerprint());
/// // The peer may use the new key, but not the old one, under its name.
/// let candidates = Candidates::new(Candidate::new(&new), Some(Candidate::name_not_allowed(&old)));
/// # let _ = candidates;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    pub(crate) first: Candidate<'a>,
    pub(crate) second: Option<Candidate<'a>>,
}

impl<'a> Candidates<'a> {
    /// One key.
    #[must_use]
    pub const fn one(key: &'a Key) -> Self {
        Self { first: Candidate::new(key), second: None }
    }

    /// Two keys. This end proves itself with `first`.
    #[must_use]
    pub const fn two(first: &'a Key, second: &'a Key) -> Self {
        Self::new(Candidate::new(first), Some(Candidate::new(second)))
    }

    /// One or two candidates. This end proves itself with `first`.
    #[must_use]
    pub const fn new(first: Candidate<'a>, second: Option<Candidate<'a>>) -> Self {
        Self { first, second }
    }

    /// The candidate that this end proves itself with.
    #[must_use]
    pub const fn first(self) -> Candidate<'a> {
        self.first
    }

    /// The other candidate.
    #[must_use]
    pub const fn second(self) -> Option<Candidate<'a>> {
        self.second
    }

    /// Fails unless all candidates were made for `purpose`.
    pub(crate) fn check(&self, purpose: Purpose) -> Result<(), KeyError> {
        let fits = |candidate: Candidate<'_>| candidate.key.purpose() == purpose;
        if fits(self.first) && self.second.is_none_or(fits) {
            Ok(())
        } else {
            Err(KeyError::Purpose)
        }
    }

    /// Whether `tag` is the tag of `message` under either key. Always computes both, so that time
    /// does not reveal which of them matched.
    pub(crate) fn verify(&self, message: &[u8], tag: &[u8]) -> Choice {
        let verify = |candidate: Candidate<'_>| {
            candidate.key.mac().map_or(Choice::from(0), |mac| mac.verify(message, tag))
        };
        verify(self.first) | self.second.map_or(Choice::from(0), verify)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_rejects_secrets_of_invalid_length() {
        let long = [7; Key::MAX_LEN + 1];
        let challenge = Purpose::Mac(Digest::Sha256);
        for (purpose, least) in [(challenge, 1), (Purpose::Derivation, 16)] {
            assert_eq!(Key::new(purpose, b"").unwrap_err(), KeyError::Empty);
            assert_eq!(Key::new(purpose, &long).unwrap_err(), KeyError::TooLong);
            assert!(Key::new(purpose, &long[..Key::MAX_LEN]).is_ok());
            assert_eq!(Key::new(purpose, &long[..least]).unwrap().purpose(), purpose);
        }
        assert_eq!(Key::mutual(&long[..15]).unwrap_err(), KeyError::TooShort);
    }

    #[test]
    fn candidates_return_their_keys_and_permissions() {
        let [one, two] = [[1; 16], [2; 16]].map(|secret| Key::mutual(&secret).unwrap());
        let both = Candidates::new(Candidate::name_not_allowed(&one), Some(Candidate::new(&two)));
        let (first, second) = (both.first(), both.second().unwrap());
        assert_eq!(first.key().fingerprint(), one.fingerprint());
        assert_eq!(second.key().fingerprint(), two.fingerprint());
        assert_eq!((first.is_allowed(), second.is_allowed()), (false, true));
        assert!(Candidates::one(&one).second().is_none());
    }

    #[test]
    fn fingerprint_depends_on_the_secret_only() {
        let key = |secret: &[u8]| Key::mutual(secret).unwrap().fingerprint().unwrap();
        assert_eq!(key(b"sixteen bytes or so"), key(b"sixteen bytes or so"));
        assert_ne!(key(b"sixteen bytes or so"), key(b"sixteen bytes or s0"));
        assert!(Key::challenge(Digest::Sha256, b"k").unwrap().fingerprint().is_none());
    }
}
