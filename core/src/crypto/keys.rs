//! Keys as the core holds them.

use core::fmt;

use subtle::Choice;

use crate::crypto::key_schedule::{Fingerprint, Prk};
use crate::crypto::mac::{Digest, Mac};
use crate::error::KeyError;

/// What a key is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// To answer challenges by HMAC over this digest: the schemes `challenge` and
    /// `multiprocessing`.
    Mac(Digest),
    /// To derive other keys from: the scheme `mutual`.
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

/// A secret made ready for one use, wiped on drop.
///
/// What is kept is not the secret but what its use needs of it, so the secret itself can be wiped
/// as soon as the key is made.
#[derive(Clone)]
pub struct Key(Prepared);

#[derive(Clone)]
enum Prepared {
    Mac(Mac),
    Prk(Prk),
}

impl Key {
    /// The longest secret, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// The shortest secret for [`Purpose::Derivation`], in bytes.
    pub const MIN_DERIVATION_LEN: usize = 16;

    /// A key for `purpose`. `secret`: at most [`Key::MAX_LEN`] bytes and at least one, or
    /// [`Key::MIN_DERIVATION_LEN`] to derive from.
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

    /// A key for the schemes `challenge` and `multiprocessing` with `digest`: [`Purpose::Mac`].
    ///
    /// # Errors
    /// Those of [`Key::new`].
    pub fn challenge(digest: Digest, secret: &[u8]) -> Result<Self, KeyError> {
        Self::new(Purpose::Mac(digest), secret)
    }

    /// A key for the scheme `mutual`: [`Purpose::Derivation`].
    ///
    /// # Errors
    /// Those of [`Key::new`].
    pub fn mutual(secret: &[u8]) -> Result<Self, KeyError> {
        Self::new(Purpose::Derivation, secret)
    }

    /// What it was made for.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        match &self.0 {
            Prepared::Mac(mac) => Purpose::Mac(mac.digest()),
            Prepared::Prk(_) => Purpose::Derivation,
        }
    }

    /// What tells this key from others without giving it away; `None` but for
    /// [`Purpose::Derivation`]. The same secret has the same fingerprint wherever it is. It is as
    /// good a test of guesses as a handshake is, so it is not for strangers.
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

/// A key that may be the one, and whether it may be used with the peer that names itself so.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub(crate) key: &'a Key,
    pub(crate) allowed: bool,
}

impl<'a> Candidate<'a> {
    /// `key`, for any peer that proves that it holds it.
    #[must_use]
    pub const fn new(key: &'a Key) -> Self {
        Self { key, allowed: true }
    }

    /// `key`, which the peer may hold but not under the name that it gives. It is refused all the
    /// same, though not before its proof was looked at, and no differently from a wrong one.
    #[must_use]
    pub const fn name_not_allowed(key: &'a Key) -> Self {
        Self { key, allowed: false }
    }

    /// The key.
    #[must_use]
    pub const fn key(self) -> &'a Key {
        self.key
    }

    /// Whether it may be used with the peer.
    #[must_use]
    pub const fn is_allowed(self) -> bool {
        self.allowed
    }

    pub(crate) const fn prk(self) -> Option<&'a Prk> {
        self.key.prk()
    }
}

/// The one or two keys that answer a key request: two while one replaces the other. A side that
/// proves uses the first; a side that verifies takes either.
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

    /// Two keys, the one to prove with first.
    #[must_use]
    pub const fn two(first: &'a Key, second: &'a Key) -> Self {
        Self::new(Candidate::new(first), Some(Candidate::new(second)))
    }

    /// One candidate or two.
    #[must_use]
    pub const fn new(first: Candidate<'a>, second: Option<Candidate<'a>>) -> Self {
        Self { first, second }
    }

    /// The one to prove with.
    #[must_use]
    pub const fn first(self) -> Candidate<'a> {
        self.first
    }

    /// The other one.
    #[must_use]
    pub const fn second(self) -> Option<Candidate<'a>> {
        self.second
    }

    /// Fails unless all were made for `purpose`.
    pub(crate) fn check(&self, purpose: Purpose) -> Result<(), KeyError> {
        let fits = |candidate: Candidate<'_>| candidate.key.purpose() == purpose;
        if fits(self.first) && self.second.is_none_or(fits) {
            Ok(())
        } else {
            Err(KeyError::Purpose)
        }
    }

    /// Whether `tag` is that of `message` under either. Both are tried, whatever the first says.
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
    fn secrets_have_bounds() {
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
    fn candidates_are_what_they_were_made() {
        let [one, two] = [[1; 16], [2; 16]].map(|secret| Key::mutual(&secret).unwrap());
        let both = Candidates::new(Candidate::name_not_allowed(&one), Some(Candidate::new(&two)));
        let (first, second) = (both.first(), both.second().unwrap());
        assert_eq!(first.key().fingerprint(), one.fingerprint());
        assert_eq!(second.key().fingerprint(), two.fingerprint());
        assert_eq!((first.is_allowed(), second.is_allowed()), (false, true));
        assert!(Candidates::one(&one).second().is_none());
    }

    #[test]
    fn a_fingerprint_is_that_of_the_secret() {
        let key = |secret: &[u8]| Key::mutual(secret).unwrap().fingerprint().unwrap();
        assert_eq!(key(b"sixteen bytes or so"), key(b"sixteen bytes or so"));
        assert_ne!(key(b"sixteen bytes or so"), key(b"sixteen bytes or s0"));
        assert!(Key::challenge(Digest::Sha256, b"k").unwrap().fingerprint().is_none());
    }
}
