use super::super::{Limits, Parsed};
use super::*;
use crate::error::{Error, SendError};
use crate::event::Remaining;
use crate::framing::length_prefixed::{Decoder, Encoder, Prefix as _};

const I32_MAX: u64 = i32::MAX as u64;

fn known(header: usize, len: u64) -> Result<Length, FrameError> {
    Ok(Length::Known { header, len })
}

fn long(len: u64) -> [u8; LONG_LEN] {
    let mut header = [0xff; LONG_LEN];
    header[HEADER_LEN..].copy_from_slice(&len.to_be_bytes());
    header
}

#[test]
fn length_is_an_i32_or_a_u64_after_minus_one() {
    for len in [0, 1, 16_384, I32_MAX] {
        assert_eq!(Prefix::read(&(len as i32).to_be_bytes()), known(4, len));
    }
    for len in [0, 1, I32_MAX, I32_MAX + 1, u64::MAX] {
        assert_eq!(Prefix::read(&long(len)), known(12, len));
    }
}

#[test]
fn incomplete_length_is_not_interpreted() {
    for n in 0..4 {
        assert_eq!(Prefix::read(&[0x80; 4][..n]), Ok(Length::Need(4)));
    }
    for n in 4..12 {
        assert_eq!(Prefix::read(&[0xff; 12][..n]), Ok(Length::Need(12)));
    }
}

#[test]
fn other_negative_lengths_are_rejected() {
    for n in [-2, -3, -16_384, i32::MIN] {
        let mut header = long(7);
        header[..4].copy_from_slice(&n.to_be_bytes());
        assert_eq!(Prefix::read(&header), Err(FrameError::Length));
        assert_eq!(Prefix::read(&header[..4]), Err(FrameError::Length));
    }
}

#[test]
fn writer_uses_the_shortest_length_form() {
    for (len, header) in [
        (0, &[0, 0, 0, 0][..]),
        (16_385, &[0, 0, 0x40, 1]),
        (I32_MAX, &[0x7f, 0xff, 0xff, 0xff]),
        (I32_MAX + 1, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x80, 0, 0, 0]),
        (u64::MAX, &[0xff; 12]),
    ] {
        let mut output = [0; LONG_LEN];
        Prefix::write(len, &mut output);
        assert_eq!(Prefix::len(len).map(|n| &output[..n]), Some(header), "{len}");
        assert_eq!(Prefix::read(header), known(header.len(), len));
    }
}

#[test]
fn message_longer_than_i32_max_passes_in_chunks() {
    let limits = Limits { max_chunk: 16, max_frame: u64::MAX };
    let mut encoder = Encoder::<Prefix>::new();
    let mut decoder = Decoder::<Prefix>::new();
    let mut remaining = I32_MAX + 1;
    let mut bytes = [0; 12 + 16];
    for first in [true, false] {
        remaining -= 16;
        let plan = encoder.plan(16, Remaining::Bytes(remaining)).unwrap();
        let header = plan.header;
        assert_eq!(header, if first { 12 } else { 0 });
        encoder.commit(plan, Remaining::Bytes(remaining), &mut bytes[..header + 16]);
        let chunk = Parsed::Chunk {
            header,
            len: 16,
            trailer: 0,
            first,
            remaining: Remaining::Bytes(remaining),
        };
        assert_eq!(decoder.parse(&bytes[..header + 16], limits), Ok(chunk));
        assert!(!encoder.at_boundary() && !decoder.at_boundary());
    }
    let error = encoder.plan(16, Remaining::Bytes(remaining)).unwrap_err();
    assert_eq!(error, SendError::LengthMismatch { due: remaining });
}

#[test]
fn message_longer_than_u64_max_is_rejected() {
    let encoder = Encoder::<Prefix>::new();
    assert_eq!(encoder.plan(1, Remaining::Bytes(u64::MAX)).unwrap_err(), SendError::LengthNeeded);
    assert!(encoder.plan(1, Remaining::Bytes(u64::MAX - 1)).is_ok());
}

#[test]
fn frame_limit_applies_to_both_length_forms() {
    let limits = Limits { max_chunk: 4, max_frame: 10 };
    let parse = |bytes: &[u8]| Decoder::<Prefix>::new().parse(bytes, limits);
    assert_eq!(parse(&11_i32.to_be_bytes()), Err(Error::FrameTooLong { len: 11 }));
    assert_eq!(parse(&long(11)), Err(Error::FrameTooLong { len: 11 }));
    assert_eq!(parse(&long(u64::MAX)), Err(Error::FrameTooLong { len: u64::MAX }));
    assert_eq!(parse(&long(10)), Ok(Parsed::Need(16)));
    assert_eq!(parse(&(-2_i32).to_be_bytes()), Err(Error::Frame(FrameError::Length)));
}
