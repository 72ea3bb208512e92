//! Keys, MACs and what is derived from them. Nothing here knows a handshake or a framing.

pub(crate) mod key_schedule;
pub(crate) mod keys;
pub(crate) mod mac;
pub(crate) mod nonce;
