//! The identity of a process.

use rand_core::TryCryptoRng;
use zeroize::Zeroizing;

/// Random bytes that identify one process, for the scheme `mutual`.
///
/// Drawn once when the process starts and used by all its sessions, in both roles. A session whose
/// two ends have the same process id is refused: the process is connected to itself, or an attacker
/// reflects its messages. Draw a new process id after `fork`, and restart the process after a clone
/// or a restore of a virtual machine.
///
/// ```
/// use countersign::{Mutual, ProcessId};
///
/// let process_id = ProcessId::generate(&mut getrandom::SysRng)?;
/// let server = Mutual::new("server".parse().unwrap(), process_id.clone());
/// let client = Mutual::new("client".parse().unwrap(), process_id); // cannot connect to `server`
/// # let _ = (server, client);
/// # Ok::<(), getrandom::Error>(())
/// ```
#[derive(Clone)]
pub struct ProcessId {
    pub(crate) id: [u8; Self::ID_LEN],
    /// Stands in for a key that does not exist, so that an unknown key id costs the same work as a
    /// known one and no peer can compute its proofs.
    pub(crate) dummy: Zeroizing<[u8; 32]>,
}

impl ProcessId {
    /// Length of the id that peers see, in bytes.
    pub const ID_LEN: usize = 16;

    /// Length of the random bytes that a process id is made of, in bytes.
    pub const LEN: usize = 48;

    /// Draws a process id.
    ///
    /// # Errors
    /// The error of `rng`.
    pub fn generate<R: TryCryptoRng + ?Sized>(rng: &mut R) -> Result<Self, R::Error> {
        let mut bytes = Zeroizing::new([0; Self::LEN]);
        rng.try_fill_bytes(bytes.as_mut_slice())?;
        Ok(Self::from_bytes(&bytes))
    }

    /// A process id from bytes of another source, such as a hardware generator or the seed of a
    /// test. The first [`ID_LEN`](Self::ID_LEN) bytes are sent to peers; the others stay secret.
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
