//! The frames of CPython's `multiprocessing.connection` (docs/PROTOCOL.md, "multiprocessing
//! frames"): `i32 n`, big-endian, then n bytes. Lengths beyond an `i32` are sent as -1, then `u64 n`.

use super::Length;
use crate::error::FrameError;
use crate::framing::HEADER_LEN;

/// Announces a length of 8 bytes.
const LONG: i32 = -1;
const LONG_LEN: usize = HEADER_LEN + 8;

pub(crate) struct Prefix;

impl super::Prefix for Prefix {
    const MAX_LEN: usize = LONG_LEN;

    /// Accepts the long form for short frames too, as CPython does.
    fn read(bytes: &[u8]) -> Result<Length, FrameError> {
        let Some((n, behind)) = bytes.split_first_chunk() else {
            return Ok(Length::Need(HEADER_LEN));
        };
        let n = i32::from_be_bytes(*n);
        if let Ok(len) = u64::try_from(n) {
            return Ok(Length::Known { header: HEADER_LEN, len });
        }
        if n != LONG {
            return Err(FrameError::Length);
        }
        Ok(match behind.first_chunk() {
            None => Length::Need(LONG_LEN),
            Some(n) => Length::Known { header: LONG_LEN, len: u64::from_be_bytes(*n) },
        })
    }

    fn len(len: u64) -> Option<usize> {
        Some(if i32::try_from(len).is_ok() { HEADER_LEN } else { LONG_LEN })
    }

    fn write(len: u64, to: &mut [u8]) {
        let (header, long) = to.split_at_mut(HEADER_LEN);
        let n = i32::try_from(len).unwrap_or(LONG);
        header.copy_from_slice(&n.to_be_bytes());
        if n == LONG {
            long[..8].copy_from_slice(&len.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
