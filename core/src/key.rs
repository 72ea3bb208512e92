//! Keys as the core holds them.

use core::fmt;

use crate::error::KeyError;
use crate::mac::{Digest, Mac};

/// A secret made ready for one use, wiped on drop.
///
/// What is kept is not the secret but what its use needs of it, so the secret itself can be wiped
/// as soon as the key is made.
#[derive(Clone)]
pub struct Key(Mac);

impl Key {
    /// The longest secret, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// A key for the scheme `challenge` with `digest`. `secret`: 1 to [`Key::MAX_LEN`] bytes.
    ///
    /// # Errors
    /// [`KeyError::Empty`], [`KeyError::TooLong`].
    pub fn new(digest: Digest, secret: &[u8]) -> Result<Self, KeyError> {
        match secret.len() {
            0 => Err(KeyError::Empty),
            1..=Self::MAX_LEN => Ok(Self(Mac::new(digest, secret))),
            _ => Err(KeyError::TooLong),
        }
    }

    pub(crate) fn mac(&self) -> &Mac {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, ..)", self.0.digest())
    }
}

/// The one or two keys that answer a key request: two while one replaces the other. A side that
/// proves uses the first; a side that verifies takes either.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    pub(crate) first: &'a Key,
    pub(crate) second: Option<&'a Key>,
}

impl<'a> Candidates<'a> {
    /// One key.
    #[must_use]
    pub const fn one(key: &'a Key) -> Self {
        Self { first: key, second: None }
    }

    /// Two keys, the one to prove with first.
    #[must_use]
    pub const fn two(first: &'a Key, second: &'a Key) -> Self {
        Self { first, second: Some(second) }
    }

    /// Fails unless all were made for `digest`.
    pub(crate) fn check(&self, digest: Digest) -> Result<(), KeyError> {
        let fits = |key: &Key| key.0.digest() == digest;
        if fits(self.first) && self.second.is_none_or(fits) {
            Ok(())
        } else {
            Err(KeyError::Digest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_bounds() {
        let long = [7; Key::MAX_LEN + 1];
        assert_eq!(Key::new(Digest::Sha256, b"").unwrap_err(), KeyError::Empty);
        assert_eq!(Key::new(Digest::Sha256, &long).unwrap_err(), KeyError::TooLong);
        assert!(Key::new(Digest::Sha256, &long[1..]).is_ok());
        assert!(Key::new(Digest::Sha256, &long[..1]).is_ok());
    }
}
