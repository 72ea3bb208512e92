//! [`RecordTracker`]: the boundaries of TLS records, which are visible without keys.

/// Length of a record header in bytes. Its last two bytes are the length of the fragment.
const HEADER_LEN: usize = 5;

/// Tracks record boundaries in a stream of TLS records (RFC 8446, section 5.1).
#[derive(Debug, Default)]
pub(crate) struct RecordTracker {
    /// The bytes received of an incomplete header.
    header: [u8; HEADER_LEN],
    header_len: usize,
    /// Bytes of the current fragment that are still to come.
    fragment_remaining: usize,
}

impl RecordTracker {
    /// Whether every record that has begun is complete.
    pub(crate) fn at_boundary(&self) -> bool {
        self.header_len == 0 && self.fragment_remaining == 0
    }

    /// Advances over the next bytes of the stream. Returns whether a record began or ended in them.
    pub(crate) fn advance(&mut self, mut bytes: &[u8]) -> bool {
        let mut crossed = self.at_boundary() && !bytes.is_empty();
        while !bytes.is_empty() {
            if self.fragment_remaining == 0 {
                let n = bytes.len().min(HEADER_LEN - self.header_len);
                self.header[self.header_len..][..n].copy_from_slice(&bytes[..n]);
                self.header_len += n;
                bytes = &bytes[n..];
                if self.header_len < HEADER_LEN {
                    break;
                }
                self.fragment_remaining =
                    usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
            } else {
                let n = bytes.len().min(self.fragment_remaining);
                self.fragment_remaining -= n;
                bytes = &bytes[n..];
            }
            if self.fragment_remaining == 0 {
                self.header_len = 0;
                crossed = true;
            }
        }
        crossed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(len: usize) -> Vec<u8> {
        let mut record = vec![23, 3, 3];
        record.extend((len as u16).to_be_bytes());
        record.resize(HEADER_LEN + len, 7);
        record
    }

    #[test]
    fn boundaries_are_found_for_every_chunk_size() {
        let stream = [record(3), record(0), record(300), record(1)].concat();
        let boundaries = [8, 13, 318, 324];
        for chunk in 1..stream.len() {
            let mut records = RecordTracker::default();
            let mut position = 0;
            for bytes in stream.chunks(chunk) {
                records.advance(bytes);
                position += bytes.len();
                let expected = boundaries.contains(&position);
                assert_eq!(records.at_boundary(), expected, "{chunk}, {position}");
            }
        }
    }

    #[test]
    fn first_and_last_byte_of_a_record_cross_a_boundary() {
        let mut records = RecordTracker::default();
        let record = record(3);
        assert!(!records.advance(&[]));
        assert!(records.advance(&record[..1]));
        assert!(!records.advance(&record[1..7]));
        assert!(records.advance(&record[7..]));
        assert!(records.at_boundary());
        assert!(records.advance(&[&record[..], &record[..2]].concat()));
        assert!(!records.at_boundary());
    }
}
