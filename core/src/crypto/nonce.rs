//! The randomness of one session.

use rand_core::TryCryptoRng;

/// 40 random bytes for one session.
///
/// A session draws no randomness itself, so that the same inputs produce the same outputs. A scheme
/// uses as many of the bytes as it needs. The nonce of a server must be unpredictable, and no nonce
/// may be used twice: the type is neither `Clone` nor `Copy`. Draw it when the connection exists,
/// never in advance or before a `fork`.
///
/// ```
/// use countersign::Nonce;
///
/// let nonce = Nonce::generate(&mut getrandom::SysRng)?;
/// # let _ = nonce;
/// # Ok::<(), getrandom::Error>(())
/// ```
pub struct Nonce([u8; Self::LEN]);

impl Nonce {
    /// Length, in bytes.
    pub const LEN: usize = 40;

    /// Draws a nonce.
    ///
    /// # Errors
    /// The error of `rng`. The caller must not create the session then.
    pub fn generate<R: TryCryptoRng + ?Sized>(rng: &mut R) -> Result<Self, R::Error> {
        let mut bytes = [0; Self::LEN];
        rng.try_fill_bytes(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// A nonce from bytes of another source, such as a hardware generator or the seed of a test.
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
