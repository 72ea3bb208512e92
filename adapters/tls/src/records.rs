//! Where records begin and end in what comes (RFC 8446, section 5.1).

const HEADER_LEN: usize = 5;

/// How far the record has come that came last. TLS keeps a record until it is whole, and does not say
/// that it does.
#[derive(Default)]
pub(crate) struct Records {
    header: [u8; HEADER_LEN],
    /// How much of the header has come; all of it while the rest is awaited.
    filled: usize,
    /// How much of the rest has not.
    left: usize,
}

impl Records {
    /// Goes over the bytes that come next. Whether one begins in them that is not whole.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) -> bool {
        let mut began = false;
        while !bytes.is_empty() {
            if self.filled < HEADER_LEN {
                began |= self.filled == 0;
                let n = bytes.len().min(HEADER_LEN - self.filled);
                self.header[self.filled..self.filled + n].copy_from_slice(&bytes[..n]);
                self.filled += n;
                bytes = &bytes[n..];
                if self.filled < HEADER_LEN {
                    break;
                }
                self.left = u16::from_be_bytes([self.header[3], self.header[4]]).into();
            }
            let n = bytes.len().min(self.left);
            self.left -= n;
            bytes = &bytes[n..];
            if self.left == 0 {
                (self.filled, began) = (0, false);
            }
        }
        began
    }

    /// Whether one has begun that is not whole.
    pub(crate) const fn is_within(&self) -> bool {
        self.filled > 0
    }
}

#[cfg(test)]
mod tests {
    use super::Records;

    #[test]
    fn a_record_begins_with_its_header_and_ends_with_its_last_byte_however_it_is_cut() {
        let record = [&[22, 3, 3, 0, 3][..], b"abc"].concat();
        let empty = [23, 3, 3, 0, 0];
        let bytes = [&record[..], &empty, &record].concat();
        let bounds = [0, 8, 13, 21];
        for cut in 0..=bytes.len() {
            let mut records = Records::default();
            let began = records.pass(&bytes[..cut]);
            assert_eq!((began, records.is_within()), (!bounds.contains(&cut), began), "{cut}");
            let began = records.pass(&bytes[cut..]);
            assert!(!began && !records.is_within(), "{cut}");

            let mut records = Records::default();
            for at in 0..cut {
                assert_eq!(records.pass(&bytes[at..=at]), bounds.contains(&at), "{at}");
            }
        }
    }
}
