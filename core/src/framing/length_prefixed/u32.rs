//! The frames of the framing `u32` (docs/PROTOCOL.md, "u32"): `u32 N`, big-endian, then N bytes.

use super::Length;
use crate::error::FrameError;
use crate::framing::HEADER_LEN;

pub(crate) struct Prefix;

impl super::Prefix for Prefix {
    const MAX_LEN: usize = HEADER_LEN;

    #[inline]
    fn read(bytes: &[u8]) -> Result<Length, FrameError> {
        Ok(match bytes.first_chunk() {
            None => Length::Need(HEADER_LEN),
            Some(n) => Length::Known { header: HEADER_LEN, len: u32::from_be_bytes(*n).into() },
        })
    }

    #[inline]
    fn len(len: u64) -> Option<usize> {
        u32::try_from(len).is_ok().then_some(HEADER_LEN)
    }

    #[inline]
    fn write(len: u64, to: &mut [u8]) {
        to[..HEADER_LEN].copy_from_slice(&(len as u32).to_be_bytes());
    }
}
