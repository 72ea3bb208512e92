use super::*;
use crate::framing::u32::Prefix as U32;

const LIMITS: Limits = Limits { max_chunk: 4, max_frame: 10 };

fn chunk(header: usize, len: usize, first: bool, remaining: Remaining) -> Result<Parsed, Error> {
    Ok(Parsed::Chunk { header, len, trailer: 0, first, remaining })
}

#[test]
fn short_frame_is_one_chunk() {
    let mut decoder = Decoder::<U32>::new();
    assert_eq!(decoder.parse(b"\0\0\0", LIMITS), Ok(Parsed::Need(4)));
    assert_eq!(decoder.parse(b"\0\0\0\x03ab", LIMITS), Ok(Parsed::Need(7)));
    assert!(decoder.at_boundary());
    assert_eq!(decoder.parse(b"\0\0\0\x03abc\0", LIMITS), chunk(4, 3, true, Remaining::End));
    assert!(decoder.at_boundary());
    assert_eq!(decoder.parse(b"\0\0\0\0", LIMITS), chunk(4, 0, true, Remaining::End));
}

#[test]
fn long_frame_is_split_into_equal_chunks() {
    let mut decoder = Decoder::<U32>::new();
    assert_eq!(decoder.parse(b"\0\0\0\x0aabc", LIMITS), Ok(Parsed::Need(8)));
    assert_eq!(
        decoder.parse(b"\0\0\0\x0aabcdefgh", LIMITS),
        chunk(4, 4, true, Remaining::Bytes(6))
    );
    assert!(!decoder.at_boundary());
    assert_eq!(decoder.parse(b"efg", LIMITS), Ok(Parsed::Need(4)));
    assert_eq!(decoder.parse(b"efgh", LIMITS), chunk(0, 4, false, Remaining::Bytes(2)));
    assert_eq!(decoder.parse(b"i", LIMITS), Ok(Parsed::Need(2)));
    assert_eq!(decoder.parse(b"ij", LIMITS), chunk(0, 2, false, Remaining::End));
    assert!(decoder.at_boundary());
}

#[test]
fn oversized_frame_is_rejected_at_its_header() {
    let mut decoder = Decoder::<U32>::new();
    assert_eq!(decoder.parse(b"\0\0\0\x0b", LIMITS), Err(Error::FrameTooLong { len: 11 }));
    assert_eq!(
        decoder.parse(b"\xff\xff\xff\xff", LIMITS),
        Err(Error::FrameTooLong { len: 0xffff_ffff })
    );
}

fn commit(
    encoder: &mut Encoder<U32>,
    len: usize,
    remaining: Remaining,
) -> Result<[u8; 5], SendError> {
    let plan = encoder.plan(len, remaining)?;
    let mut frame = [0; 4 + 0x8000];
    encoder.commit(plan, remaining, &mut frame[..plan.whole_len(len)]);
    let mut header = [plan.header as u8; 5];
    header[1..=plan.header].copy_from_slice(&frame[..plan.header]);
    Ok(header)
}

#[test]
fn first_chunk_carries_the_total_length() {
    let mut encoder = Encoder::new();
    assert_eq!(commit(&mut encoder, 3, Remaining::End), Ok([4, 0, 0, 0, 3]));
    assert_eq!(commit(&mut encoder, 3, Remaining::Bytes(0x1_0000)), Ok([4, 0, 1, 0, 3]));
    assert_eq!(commit(&mut encoder, 0x8000, Remaining::Bytes(0x8000)), Ok([0; 5]));
    assert_eq!(commit(&mut encoder, 0x8000, Remaining::End), Ok([0; 5]));
    assert_eq!(commit(&mut encoder, 0, Remaining::End), Ok([4, 0, 0, 0, 0]));
}

#[test]
fn message_length_must_be_known_and_consistent() {
    let mut encoder = Encoder::new();
    for remaining in [Remaining::More, Remaining::Unknown] {
        assert_eq!(commit(&mut encoder, 1, remaining), Err(SendError::LengthNeeded));
    }
    assert_eq!(
        commit(&mut encoder, 1, Remaining::Bytes(u64::from(u32::MAX))),
        Err(SendError::LengthNeeded)
    );
    assert_eq!(commit(&mut encoder, 1, Remaining::Bytes(u64::MAX)), Err(SendError::LengthNeeded));
    assert!(commit(&mut encoder, 1, Remaining::Bytes(u64::from(u32::MAX) - 1)).is_ok());
    let due = u64::from(u32::MAX) - 1;
    assert_eq!(commit(&mut encoder, 1, Remaining::End), Err(SendError::LengthMismatch { due }));
    assert!(commit(&mut encoder, 1, Remaining::Bytes(due - 1)).is_ok());
}
