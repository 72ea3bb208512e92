//! No framing: bytes as they come (docs/PROTOCOL.md, "raw").
//!
//! The stream is one message without an end, delivered in whatever parts arrive.

use super::{Limits, Parsed};
use crate::event::Remaining;

#[derive(Debug, Default)]
pub(crate) struct Decoder {
    begun: bool,
}

impl Decoder {
    pub(super) fn parse(&mut self, bytes: &[u8], limits: Limits) -> Parsed {
        if bytes.is_empty() {
            return Parsed::Need(1);
        }
        let first = !core::mem::replace(&mut self.begun, true);
        Parsed::Chunk {
            header: 0,
            len: bytes.len().min(limits.max_chunk),
            trailer: 0,
            first,
            remaining: Remaining::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_there_is_a_part() {
        let limits = Limits { max_chunk: 4, max_frame: 0 };
        let mut decoder = Decoder::default();
        assert_eq!(decoder.parse(b"", limits), Parsed::Need(1));
        let chunk = |len, first| Parsed::Chunk {
            header: 0,
            len,
            trailer: 0,
            first,
            remaining: Remaining::Unknown,
        };
        assert_eq!(decoder.parse(b"ab", limits), chunk(2, true));
        assert_eq!(decoder.parse(b"abcdef", limits), chunk(4, false));
        assert_eq!(decoder.parse(b"", limits), Parsed::Need(1));
    }
}
