//! Where TLS records begin and end (RFC 8446, section 5.1), which is all that can be seen from outside.

/// Length of a record's header in bytes; the last two say how long the rest is.
const HEADER_LEN: usize = 5;

/// Follows a stream of records.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// Of the header that has begun.
    header: [u8; HEADER_LEN],
    header_len: usize,
    /// Bytes of the current record that are to come behind its header.
    left: usize,
}

impl Records {
    /// Whether none has begun that is not whole.
    pub(crate) fn at_boundary(&self) -> bool {
        self.header_len == 0 && self.left == 0
    }

    /// Passes `bytes`, which came next; whether a record ended or began in them.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) -> bool {
        let mut edge = self.at_boundary() && !bytes.is_empty();
        while !bytes.is_empty() {
            if self.left == 0 {
                let n = bytes.len().min(HEADER_LEN - self.header_len);
                self.header[self.header_len..][..n].copy_from_slice(&bytes[..n]);
                self.header_len += n;
                bytes = &bytes[n..];
                if self.header_len < HEADER_LEN {
                    break;
                }
                self.left = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
            } else {
                let n = bytes.len().min(self.left);
                self.left -= n;
                bytes = &bytes[n..];
            }
            if self.left == 0 {
                self.header_len = 0;
                edge = true;
            }
        }
        edge
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
    fn records_end_where_their_headers_say_however_they_are_cut() {
        let stream = [record(3), record(0), record(300), record(1)].concat();
        let ends = [8, 13, 318, 324];
        for chunk in 1..stream.len() {
            let mut records = Records::default();
            let mut passed = 0;
            for bytes in stream.chunks(chunk) {
                records.pass(bytes);
                passed += bytes.len();
                assert_eq!(records.at_boundary(), ends.contains(&passed), "{chunk}, {passed}");
            }
        }
    }

    #[test]
    fn an_edge_is_a_records_first_byte_or_its_last() {
        let mut records = Records::default();
        let record = record(3);
        assert!(!records.pass(&[]));
        assert!(records.pass(&record[..1]));
        assert!(!records.pass(&record[1..7]));
        assert!(records.pass(&record[7..]));
        assert!(records.at_boundary());
        assert!(records.pass(&[&record[..], &record[..2]].concat()));
        assert!(!records.at_boundary());
    }
}
