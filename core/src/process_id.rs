//! What tells one process from another.

use rand_core::TryCryptoRng;
use zeroize::Zeroizing;

/// Random bytes of one process: drawn when it starts, used by all its sessions, of both roles.
///
/// By its instance a program knows itself again: a session of the scheme `mutual` whose two ends
/// are of one instance is refused, for somebody is talking to itself. It has to be drawn again
/// after a `fork`, and after a machine was cloned or restored.
#[derive(Clone)]
pub struct ProcessId {
    pub(crate) id: [u8; Self::ID_LEN],
    /// Stands in for a key that is not there, so that the same work is done.
    pub(crate) dummy: Zeroizing<[u8; 32]>,
}

impl ProcessId {
    /// Length of the part that peers see, in bytes.
    pub const ID_LEN: usize = 16;

    /// Length of all of it, in bytes.
    pub const LEN: usize = 48;

    /// Draws an instance.
    ///
    /// # Errors
    /// Whatever `rng` reports.
    pub fn generate<R: TryCryptoRng + ?Sized>(rng: &mut R) -> Result<Self, R::Error> {
        let mut bytes = Zeroizing::new([0; Self::LEN]);
        rng.try_fill_bytes(bytes.as_mut_slice())?;
        Ok(Self::from_bytes(&bytes))
    }

    /// An instance from bytes drawn elsewhere: a hardware generator, a test's seed. The first 16
    /// are shown to peers, the others are not.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let (mut id, mut dummy) = ([0; Self::ID_LEN], Zeroizing::new([0; 32]));
        id.copy_from_slice(&bytes[..Self::ID_LEN]);
        dummy.copy_from_slice(&bytes[Self::ID_LEN..]);
        Self { id, dummy }
    }
}

impl core::fmt::Debug for ProcessId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ProcessId(..)")
    }
}
