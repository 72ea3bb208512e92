//! Frames of `u32 N`, big-endian, then N bytes (docs/PROTOCOL.md, "u32").
//!
//! A frame is a message. One longer than a part is delivered in parts of the same length, the last
//! as long as what remains, however its bytes arrive.

use super::{HEADER_LEN, Limits, Parsed, Plan};
use crate::error::{Error, SendError};
use crate::machine::Rest;

/// What follows `remaining` bytes less a part of `len`.
fn rest_after(remaining: u64, len: usize) -> (u64, Rest) {
    match remaining.saturating_sub(len as u64) {
        0 => (0, Rest::End),
        more => (more, Rest::Bytes(more)),
    }
}

/// The part of a frame with `remaining` bytes to come.
fn part_len(remaining: u64, limits: Limits) -> usize {
    usize::try_from(remaining).unwrap_or(usize::MAX).min(limits.max_part)
}

#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Bytes of the current frame that are to come; 0 at a boundary.
    remaining: u64,
}

impl Decoder {
    pub(super) fn parse(&mut self, bytes: &[u8], limits: Limits) -> Result<Parsed, Error> {
        let first = self.at_boundary();
        let (header, remaining) = if first {
            let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
                return Ok(Parsed::Need(HEADER_LEN));
            };
            let len = u64::from(u32::from_be_bytes(*header));
            if len > limits.max_frame {
                return Err(Error::FrameTooLong { len });
            }
            (HEADER_LEN, len)
        } else {
            (0, self.remaining)
        };
        let len = part_len(remaining, limits);
        if bytes.len() < header + len {
            return Ok(Parsed::Need(header + len));
        }
        let (remaining, rest) = rest_after(remaining, len);
        self.remaining = remaining;
        Ok(Parsed::Part { header, len, trailer: 0, first, rest })
    }

    pub(super) fn at_boundary(&self) -> bool {
        self.remaining == 0
    }
}

#[derive(Debug, Default)]
pub(crate) struct Encoder {
    /// Bytes of the message begun that are still due; 0 between messages.
    due: u64,
}

impl Encoder {
    pub(super) fn at_boundary(&self) -> bool {
        self.due == 0
    }

    pub(super) fn plan(&self, len: usize, rest: Rest) -> Result<Plan, SendError> {
        let follows = match rest {
            Rest::End => 0,
            Rest::Bytes(n) => n,
            Rest::More | Rest::Unknown => return Err(SendError::LengthNeeded),
        };
        let total = follows.checked_add(len as u64).ok_or(SendError::LengthNeeded)?;
        if self.due == 0 {
            let total = u32::try_from(total).map_err(|_| SendError::LengthNeeded)?;
            Ok(Plan::new(&total.to_be_bytes(), 0, rest))
        } else if total == self.due {
            Ok(Plan::new(&[], 0, rest))
        } else {
            Err(SendError::LengthMismatch { due: self.due })
        }
    }

    pub(super) fn commit(&mut self, plan: &Plan) {
        self.due = match plan.rest {
            Rest::Bytes(n) => n,
            Rest::End | Rest::More | Rest::Unknown => 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { max_part: 4, max_frame: 10 };

    fn part(header: usize, len: usize, first: bool, rest: Rest) -> Result<Parsed, Error> {
        Ok(Parsed::Part { header, len, trailer: 0, first, rest })
    }

    #[test]
    fn a_short_frame_is_one_part() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.parse(b"\0\0\0", LIMITS), Ok(Parsed::Need(4)));
        assert_eq!(decoder.parse(b"\0\0\0\x03ab", LIMITS), Ok(Parsed::Need(7)));
        assert!(decoder.at_boundary());
        assert_eq!(decoder.parse(b"\0\0\0\x03abc\0", LIMITS), part(4, 3, true, Rest::End));
        assert!(decoder.at_boundary());
        assert_eq!(decoder.parse(b"\0\0\0\0", LIMITS), part(4, 0, true, Rest::End));
    }

    #[test]
    fn a_long_frame_comes_in_equal_parts() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.parse(b"\0\0\0\x0aabc", LIMITS), Ok(Parsed::Need(8)));
        assert_eq!(decoder.parse(b"\0\0\0\x0aabcdefgh", LIMITS), part(4, 4, true, Rest::Bytes(6)));
        assert!(!decoder.at_boundary());
        assert_eq!(decoder.parse(b"efg", LIMITS), Ok(Parsed::Need(4)));
        assert_eq!(decoder.parse(b"efgh", LIMITS), part(0, 4, false, Rest::Bytes(2)));
        assert_eq!(decoder.parse(b"i", LIMITS), Ok(Parsed::Need(2)));
        assert_eq!(decoder.parse(b"ij", LIMITS), part(0, 2, false, Rest::End));
        assert!(decoder.at_boundary());
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_header() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.parse(b"\0\0\0\x0b", LIMITS), Err(Error::FrameTooLong { len: 11 }));
        assert_eq!(
            decoder.parse(b"\xff\xff\xff\xff", LIMITS),
            Err(Error::FrameTooLong { len: 0xffff_ffff })
        );
    }

    fn commit(encoder: &mut Encoder, len: usize, rest: Rest) -> Result<[u8; 5], SendError> {
        let plan = encoder.plan(len, rest)?;
        encoder.commit(&plan);
        let mut header = [plan.overhead() as u8; 5];
        header[1..=plan.header().len()].copy_from_slice(plan.header());
        Ok(header)
    }

    #[test]
    fn the_first_part_announces_the_whole() {
        let mut encoder = Encoder::default();
        assert_eq!(commit(&mut encoder, 3, Rest::End), Ok([4, 0, 0, 0, 3]));
        assert_eq!(commit(&mut encoder, 3, Rest::Bytes(0x1_0000)), Ok([4, 0, 1, 0, 3]));
        assert_eq!(commit(&mut encoder, 0x8000, Rest::Bytes(0x8000)), Ok([0; 5]));
        assert_eq!(commit(&mut encoder, 0x8000, Rest::End), Ok([0; 5]));
        assert_eq!(commit(&mut encoder, 0, Rest::End), Ok([4, 0, 0, 0, 0]));
    }

    #[test]
    fn lengths_must_be_known_and_add_up() {
        let mut encoder = Encoder::default();
        for rest in [Rest::More, Rest::Unknown] {
            assert_eq!(commit(&mut encoder, 1, rest), Err(SendError::LengthNeeded));
        }
        assert_eq!(
            commit(&mut encoder, 1, Rest::Bytes(u64::from(u32::MAX))),
            Err(SendError::LengthNeeded)
        );
        assert_eq!(commit(&mut encoder, 1, Rest::Bytes(u64::MAX)), Err(SendError::LengthNeeded));
        assert!(commit(&mut encoder, 1, Rest::Bytes(u64::from(u32::MAX) - 1)).is_ok());
        let due = u64::from(u32::MAX) - 1;
        assert_eq!(commit(&mut encoder, 1, Rest::End), Err(SendError::LengthMismatch { due }));
        assert!(commit(&mut encoder, 1, Rest::Bytes(due - 1)).is_ok());
    }
}
