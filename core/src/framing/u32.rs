//! Frames of `u32 N`, big-endian, then N bytes (docs/PROTOCOL.md, "u32").

use super::prefixed::{self, Length};
use super::{HEADER_LEN, MAX_HEADER};
use crate::error::BadFrame;

pub(crate) struct Prefix;

impl prefixed::Prefix for Prefix {
    const MAX_LEN: usize = HEADER_LEN;

    fn read(bytes: &[u8]) -> Result<Length, BadFrame> {
        Ok(match bytes.first_chunk() {
            None => Length::Need(HEADER_LEN),
            Some(n) => Length::Known { header: HEADER_LEN, len: u32::from_be_bytes(*n).into() },
        })
    }

    fn write(len: u64, to: &mut [u8; MAX_HEADER]) -> Option<usize> {
        let n = u32::try_from(len).ok()?;
        to[..HEADER_LEN].copy_from_slice(&n.to_be_bytes());
        Some(HEADER_LEN)
    }
}
