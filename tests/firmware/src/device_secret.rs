//! [`DeviceSecret`].

use countersign::{Nonce, ProcessId};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What the output of [`DeviceSecret::derive`] is used for.
#[derive(Clone, Copy)]
enum Use {
    Nonce = 0,
    ProcessId = 1,
}

/// Derives nonces on a device without a random number generator (docs/PROTOCOL.md, "Randomness"), from a
/// secret that only this device has and the number of this boot.
///
/// A real device keeps both in non-volatile memory. A boot number that is used twice repeats nonces, and
/// with them the keys of a session.
///
/// ```ignore
/// let secret = DeviceSecret::new(secret, boot);
/// let config = Config::new(Scheme::Mutual(Mutual::new(name, secret.process_id())));
/// let session = Session::client(&config, secret.nonce(connection), buffers, now)?;
/// ```
pub struct DeviceSecret {
    secret: &'static [u8],
    boot: u32,
}

impl DeviceSecret {
    /// `boot` is the number of this boot: one more than at the last one.
    pub fn new(secret: &'static [u8], boot: u32) -> Self {
        Self { secret, boot }
    }

    /// HMAC-SHA256 of the boot number, the connection number, the use and a block counter, block by
    /// block.
    fn derive<const N: usize>(&self, purpose: Use, connection: u32) -> [u8; N] {
        let mut output = [0; N];
        for (counter, block) in (0_u8..).zip(output.chunks_mut(32)) {
            // HMAC accepts keys of any length, so this does not fail.
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.secret) else { break };
            mac.update(&self.boot.to_be_bytes());
            mac.update(&connection.to_be_bytes());
            mac.update(&[purpose as u8, counter]);
            block.copy_from_slice(&mac.finalize().into_bytes()[..block.len()]);
        }
        output
    }

    /// The nonce of a client's connection number `connection` of this boot. A client's nonce must be
    /// unique, but may be predictable to the holder of the secret. A server's must not: such a device
    /// must not be a server.
    pub fn nonce(&self, connection: u32) -> Nonce {
        Nonce::from_bytes(self.derive(Use::Nonce, connection))
    }

    /// The process id of this boot.
    pub fn process_id(&self) -> ProcessId {
        ProcessId::from_bytes(&self.derive(Use::ProcessId, 0))
    }
}
