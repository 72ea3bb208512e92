//! Randomness where there is none (docs/PROTOCOL.md, "Randomness").

use countersign::{ProcessId, Nonce};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A device's own secret, which nobody else has, and how often it has started. On a real device both are
/// in memory that keeps them: a counter that is set back repeats a nonce, and with it a session's keys.
pub struct Secret {
    secret: &'static [u8],
    boot: u32,
}

impl Secret {
    /// `boot`: one more than at the last start.
    pub fn new(secret: &'static [u8], boot: u32) -> Self {
        Self { secret, boot }
    }

    /// Of a use, with this boot's number and the connection's: HMACs, as many as it takes.
    fn draw<const N: usize>(&self, what: u8, connection: u32) -> [u8; N] {
        let mut all = [0; N];
        for (block, bytes) in (0_u8..).zip(all.chunks_mut(32)) {
            // HMAC takes keys of any length.
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.secret) else { break };
            mac.update(&self.boot.to_be_bytes());
            mac.update(&connection.to_be_bytes());
            mac.update(&[what, block]);
            bytes.copy_from_slice(&mac.finalize().into_bytes()[..bytes.len()]);
        }
        all
    }

    /// Of the `connection`th connection since the start: a client's, whose nonce has to be new and not
    /// unpredictable. Such a device must not be a server.
    pub fn nonce(&self, connection: u32) -> Nonce {
        Nonce::from_bytes(self.draw(0, connection))
    }

    /// Of this boot.
    pub fn instance(&self) -> ProcessId {
        ProcessId::from_bytes(&self.draw(1, 0))
    }
}
