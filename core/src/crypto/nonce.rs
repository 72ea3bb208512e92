//! Randomness for one session, drawn by the caller.

use rand_core::TryCryptoRng;

/// 40 random bytes, good for one session. Schemes use as many as they need.
///
/// A session never draws randomness itself, so that the same inputs give the same bytes. A server's
/// nonce must be unpredictable, and no nonce may be used twice: it is neither `Clone` nor `Copy`.
pub struct Nonce([u8; Self::LEN]);

impl Nonce {
    /// Length in bytes.
    pub const LEN: usize = 40;

    /// Draws a nonce.
    ///
    /// # Errors
    /// Whatever `rng` reports. There is then no nonce and there can be no session.
    pub fn generate<R: TryCryptoRng + ?Sized>(rng: &mut R) -> Result<Self, R::Error> {
        let mut bytes = [0; Self::LEN];
        rng.try_fill_bytes(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// A nonce from bytes drawn elsewhere: a hardware generator, a test's seed.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The first `N` bytes.
    pub(crate) fn first<const N: usize>(self) -> [u8; N] {
        const { assert!(N <= Self::LEN) };
        let mut first = [0; N];
        first.copy_from_slice(&self.0[..N]);
        first
    }
}

impl core::fmt::Debug for Nonce {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Nonce(..)")
    }
}
