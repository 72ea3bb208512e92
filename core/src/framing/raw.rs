//! The framing `raw` (docs/PROTOCOL.md, "raw"): a byte stream.
//!
//! The stream is one message without an end. A chunk is all bytes that have arrived, up to the limit.

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
    fn raw_chunk_is_all_available_bytes_up_to_the_limit() {
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
