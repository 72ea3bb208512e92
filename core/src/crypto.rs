//! Keys, MACs and key derivation. Independent of the handshakes and framings that use them.

pub(crate) mod key_schedule;
pub(crate) mod keys;
pub(crate) mod mac;
pub(crate) mod nonce;
