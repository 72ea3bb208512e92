extern crate std;

use super::*;
use std::vec;
use std::vec::Vec;

const LIMITS: Limits = Limits { max_chunk: 300, max_frame: 256 };

const SEND_KEY: [u8; 32] = [0x5e; 32];
const OTHER_KEY: [u8; 32] = [0x07; 32];

/// Sealing parameters with one key for both directions, so that an encoder and a decoder pair up.
fn sealing(tagged: bool) -> SealingParams {
    SealingParams {
        send: Secret::new(SEND_KEY),
        receive: Secret::new(SEND_KEY),
        tagged,
        max_frame: 256,
    }
}

/// A tagged frame, encoded independently of the code under test (docs/PROTOCOL.md, "sealed").
fn frame_with_key(key: &[u8; 32], seq: u64, kind: u8, payload: &[u8]) -> Vec<u8> {
    let n = (1 + payload.len() + 16) as u32;
    let mut frame = [&n.to_be_bytes()[..], &[kind], payload].concat();
    let tag = mac::sha256(key, &[&seq.to_be_bytes(), &frame]);
    frame.extend_from_slice(&tag[..16]);
    frame
}

fn frame(seq: u64, kind: u8, payload: &[u8]) -> Vec<u8> {
    frame_with_key(&SEND_KEY, seq, kind, payload)
}

fn untagged(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&(1 + payload.len() as u32).to_be_bytes()[..], &[kind], payload].concat()
}

fn decoder(tagged: bool) -> Decoder {
    let mut decoder = Decoder::default();
    decoder.open(&sealing(tagged));
    decoder
}

fn encoder(tagged: bool) -> Encoder {
    let mut encoder = Encoder::default();
    encoder.open(&sealing(tagged));
    encoder
}

fn chunk(len: usize, first: bool, remaining: Remaining) -> Result<Parsed, Error> {
    Ok(Parsed::Chunk { header: 5, len, trailer: 16, first, remaining })
}

fn control(frame: &[u8], control: Control) -> Result<Parsed, Error> {
    Ok(Parsed::Control { len: frame.len(), control })
}

/// Decodes `frames` in order; returns the result of the last. The others must be valid.
fn decode_last(frames: &[(u8, &[u8])]) -> Result<Parsed, Error> {
    let mut decoder = decoder(true);
    let ((kind, payload), before) = frames.split_last().unwrap();
    for (seq, (kind, payload)) in (0..).zip(before) {
        decoder.parse(&frame(seq, *kind, payload), LIMITS).unwrap();
    }
    decoder.parse(&frame(before.len() as u64, *kind, payload), LIMITS)
}

fn frame_error(reason: FrameError) -> Result<Parsed, Error> {
    Err(Error::Frame(reason))
}

#[test]
fn partial_frame_reports_the_needed_length() {
    let mut decoder = decoder(true);
    let bytes = frame(0, DATA, b"message");
    for len in 0..4 {
        assert_eq!(decoder.parse(&bytes[..len], LIMITS), Ok(Parsed::Need(4)));
    }
    for len in 4..bytes.len() {
        assert_eq!(decoder.parse(&bytes[..len], LIMITS), Ok(Parsed::Need(bytes.len())));
    }
    let followed = [&bytes[..], b"next"].concat();
    assert_eq!(decoder.parse(&followed, LIMITS), chunk(7, true, Remaining::End));
}

#[test]
fn frame_types_decode_to_their_meaning() {
    assert_eq!(decode_last(&[(0x00, b"message")]), chunk(7, true, Remaining::End));
    assert_eq!(decode_last(&[(0x00, b"")]), chunk(0, true, Remaining::End));
    assert_eq!(decode_last(&[(0x03, b"part")]), chunk(4, true, Remaining::More));
    let whole = |kind, payload: &[u8]| frame(0, kind, payload);
    let ping = Control::Ping(*b"12345678");
    assert_eq!(decode_last(&[(0x01, b"12345678")]), control(&whole(1, b"12345678"), ping));
    assert_eq!(
        decode_last(&[(0x02, b"12345678")]),
        control(&whole(2, b"12345678"), Control::Other)
    );
    assert_eq!(decode_last(&[(0x04, b"")]), control(&whole(4, b""), Control::Fin));
    let shutdown = Control::Close(CloseReason::Shutdown);
    assert_eq!(decode_last(&[(0x05, b"\0bye")]), control(&whole(5, b"\0bye"), shutdown));
    for kind in 0x06..=0x3f {
        assert_eq!(decode_last(&[(kind, b"")]), frame_error(FrameError::Type), "{kind}");
    }
    for kind in 0x40..=0xff {
        let payload = vec![7; usize::from(kind) % 40];
        let ignored = control(&whole(kind, &payload), Control::Other);
        assert_eq!(decode_last(&[(kind, &payload)]), ignored, "{kind}");
    }
}

#[test]
fn payload_length_must_fit_the_frame_type() {
    let long = [0x20; 200];
    for len in 0..=150 {
        let payload = &long[..len];
        for kind in [PING, PONG] {
            assert_eq!(decode_last(&[(kind, payload)]).is_ok(), len == 8, "{kind} {len}");
        }
        assert_eq!(decode_last(&[(FIN, payload)]).is_ok(), len == 0, "{len}");
        assert_eq!(decode_last(&[(PART, payload)]).is_ok(), len > 0, "{len}");
        assert_eq!(decode_last(&[(CLOSE, payload)]).is_ok(), (1..=129).contains(&len), "{len}");
    }
    for (kind, payload) in [(PING, &b"1234567"[..]), (PONG, b""), (FIN, b"x"), (PART, b"")] {
        assert_eq!(decode_last(&[(kind, payload)]), frame_error(FrameError::Payload));
    }
    assert_eq!(decode_last(&[(CLOSE, b"")]), frame_error(FrameError::Payload));
    assert_eq!(decode_last(&[(CLOSE, &long[..130])]), frame_error(FrameError::Payload));
}

#[test]
fn close_payload_is_a_code_and_utf8_text() {
    for (code, reason) in [
        (0, CloseReason::Shutdown),
        (1, CloseReason::Protocol),
        (2, CloseReason::Timeout),
        (3, CloseReason::Application),
        (4, CloseReason::Application),
        (255, CloseReason::Application),
    ] {
        for text in [&b""[..], "vorüber".as_bytes()] {
            let payload = [&[code], text].concat();
            let closes = control(&frame(0, CLOSE, &payload), Control::Close(reason));
            assert_eq!(decode_last(&[(CLOSE, &payload)]), closes, "{code}");
        }
        assert_eq!(decode_last(&[(CLOSE, &[code, 0xff])]), frame_error(FrameError::Payload));
    }
    assert_eq!(decode_last(&[(CLOSE, &"\0ü".as_bytes()[..2])]), frame_error(FrameError::Payload));
}

#[test]
fn frame_order_is_enforced() {
    const PARTIAL_FRAME: (u8, &[u8]) = (PART, b"a");
    const LAST_FRAME: (u8, &[u8]) = (DATA, b"b");
    const FIN_FRAME: (u8, &[u8]) = (FIN, b"");
    const PING_FRAME: (u8, &[u8]) = (PING, b"12345678");
    assert_eq!(decode_last(&[PARTIAL_FRAME, PARTIAL_FRAME]), chunk(1, false, Remaining::More));
    assert_eq!(decode_last(&[PARTIAL_FRAME, LAST_FRAME]), chunk(1, false, Remaining::End));
    assert_eq!(
        decode_last(&[PARTIAL_FRAME, PING_FRAME, LAST_FRAME]),
        chunk(1, false, Remaining::End)
    );
    assert_eq!(
        decode_last(&[PARTIAL_FRAME, LAST_FRAME, LAST_FRAME]),
        chunk(1, true, Remaining::End)
    );
    assert_eq!(decode_last(&[PARTIAL_FRAME, (DATA, b"")]), chunk(0, false, Remaining::End));
    assert!(decode_last(&[PARTIAL_FRAME, LAST_FRAME, FIN_FRAME]).is_ok());
    assert_eq!(decode_last(&[PARTIAL_FRAME, FIN_FRAME]), frame_error(FrameError::Order));
    for next in [PARTIAL_FRAME, LAST_FRAME, FIN_FRAME, (PART, b"")] {
        assert_eq!(decode_last(&[FIN_FRAME, next]), frame_error(FrameError::Order));
        assert_eq!(decode_last(&[FIN_FRAME, PING_FRAME, next]), frame_error(FrameError::Order));
    }
    for next in [PING_FRAME, (PONG, b"12345678"), (CLOSE, b"\0"), (0x40, b"")] {
        assert!(decode_last(&[FIN_FRAME, next]).is_ok());
        assert!(decode_last(&[PARTIAL_FRAME, next]).is_ok());
    }
}

#[test]
fn decoder_is_at_boundary_only_between_messages() {
    let mut decoder = decoder(true);
    assert!(decoder.at_boundary());
    for (seq, kind, boundary) in [(0, PART, false), (1, PART, false), (2, DATA, true)] {
        decoder.parse(&frame(seq, kind, b"x"), LIMITS).unwrap();
        assert_eq!(decoder.at_boundary(), boundary);
    }
    let small_chunks = Limits { max_chunk: 1, ..LIMITS };
    decoder.parse(&frame(3, DATA, b"xy"), small_chunks).unwrap();
    assert!(!decoder.at_boundary());
    decoder.parse(b"", small_chunks).unwrap();
    assert!(decoder.at_boundary());
}

#[test]
fn flipped_frame_bit_fails_the_tag_check() {
    for payload in [&b""[..], b"message"] {
        let bytes = frame(0, DATA, payload);
        for bit in 32..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                decoder(true).parse(&bytes, LIMITS),
                frame_error(FrameError::Tag),
                "bit {bit}"
            );
        }
        // A changed length moves the place of the tag.
        let mut resized = [&bytes[..], &[0; 16]].concat();
        resized[3] -= 1;
        let error = if payload.is_empty() { FrameError::Payload } else { FrameError::Tag };
        assert_eq!(decoder(true).parse(&resized, LIMITS), frame_error(error));
        resized[3] += 2;
        assert_eq!(decoder(true).parse(&resized, LIMITS), frame_error(FrameError::Tag));
    }
}

#[test]
fn reordered_or_foreign_frame_fails_the_tag_check() {
    let first = frame(0, DATA, b"message");
    for seq in [1, 2, u64::MAX, 1 << 32] {
        let bytes = frame(seq, DATA, b"message");
        assert_eq!(
            decoder(true).parse(&bytes, LIMITS),
            frame_error(FrameError::Tag),
            "frame {seq} in place of frame 0"
        );
    }
    let mut decoder = decoder(true);
    decoder.parse(&first, LIMITS).unwrap();
    assert_eq!(decoder.parse(&first, LIMITS), frame_error(FrameError::Tag), "repeated frame");
    assert!(decoder.parse(&frame(1, DATA, b"next"), LIMITS).is_ok());
    let foreign = frame_with_key(&OTHER_KEY, 2, DATA, b"message");
    assert_eq!(decoder.parse(&foreign, LIMITS), frame_error(FrameError::Tag));
}

#[test]
fn frame_is_not_interpreted_before_the_tag_check() {
    for kind in [FIN, PART, CLOSE, 0x3f] {
        let mut bytes = frame(0, kind, b"");
        bytes[20] ^= 1;
        assert_eq!(decoder(true).parse(&bytes, LIMITS), frame_error(FrameError::Tag));
    }
}

#[test]
fn each_direction_uses_its_own_key() {
    let sealing_with = |send, receive| SealingParams {
        send: Secret::new(send),
        receive: Secret::new(receive),
        ..sealing(true)
    };
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    encoder.open(&sealing_with(SEND_KEY, OTHER_KEY));
    decoder.open(&sealing_with(OTHER_KEY, SEND_KEY));
    let mut output = [0; MAX_CONTROL];
    let len = encoder.control(Control::Fin, &mut output);
    assert_eq!(output[..len], frame(0, FIN, b""));
    assert!(decoder.parse(&output[..len], LIMITS).is_ok());
}

#[test]
fn frame_length_is_checked_at_its_header() {
    for n in 0..=16_u32 {
        let short = frame_error(FrameError::Payload);
        assert_eq!(decoder(true).parse(&n.to_be_bytes(), LIMITS), short, "{n}");
    }
    for n in [17, 18, 256_u32] {
        let need = Ok(Parsed::Need(4 + n as usize));
        assert_eq!(decoder(true).parse(&n.to_be_bytes(), LIMITS), need);
    }
    for n in [257, 258, u32::MAX] {
        let long = Err(Error::FrameTooLong { len: n.into() });
        assert_eq!(decoder(true).parse(&n.to_be_bytes(), LIMITS), long);
        assert_eq!(decoder(false).parse(&n.to_be_bytes(), LIMITS), long);
    }
    assert_eq!(decoder(false).parse(&[0; 4], LIMITS), frame_error(FrameError::Payload));
    assert_eq!(decoder(false).parse(&[0, 0, 0, 1], LIMITS), Ok(Parsed::Need(5)));
}

#[test]
fn frame_longer_than_max_chunk_is_split() {
    let limits = Limits { max_chunk: 4, ..LIMITS };
    let chunk = |header, len, trailer, first, remaining| {
        Ok(Parsed::Chunk { header, len, trailer, first, remaining })
    };
    let mut decoder = decoder(true);
    let bytes = frame(0, DATA, b"0123456789");
    assert_eq!(decoder.parse(&bytes, limits), chunk(5, 4, 0, true, Remaining::Bytes(6)));
    assert_eq!(decoder.parse(&bytes[9..], limits), chunk(0, 4, 0, false, Remaining::Bytes(2)));
    assert_eq!(decoder.parse(&bytes[13..], limits), chunk(0, 2, 16, false, Remaining::End));

    let bytes = frame(1, PART, b"01234567");
    assert_eq!(decoder.parse(&bytes, limits), chunk(5, 4, 0, true, Remaining::More));
    assert_eq!(decoder.parse(&bytes[9..], limits), chunk(0, 4, 16, false, Remaining::More));
    let bytes = frame(2, DATA, b"0123");
    assert_eq!(decoder.parse(&bytes, limits), chunk(5, 4, 16, false, Remaining::End));
}

#[test]
fn untagged_frames_are_accepted_if_negotiated() {
    let mut decoder = decoder(false);
    let bytes = untagged(DATA, b"message");
    let whole =
        Parsed::Chunk { header: 5, len: 7, trailer: 0, first: true, remaining: Remaining::End };
    assert_eq!(decoder.parse(&bytes, LIMITS), Ok(whole));
    let bytes = untagged(PING, b"12345678");
    assert_eq!(decoder.parse(&bytes, LIMITS), control(&bytes, Control::Ping(*b"12345678")));
    let bytes = untagged(FIN, b"");
    assert_eq!(decoder.parse(&bytes, LIMITS), control(&bytes, Control::Fin));
}

/// The frame that `encoder` produces for the chunk `body`.
fn encode(encoder: &mut Encoder, body: &[u8], remaining: Remaining) -> Vec<u8> {
    let plan = encoder.plan(body.len(), remaining).unwrap();
    let mut frame = vec![0xee; plan.whole_len(body.len())];
    plan.chunk(&mut frame).copy_from_slice(body);
    encoder.commit(remaining, &mut frame);
    frame
}

#[test]
fn messages_are_framed_numbered_and_tagged() {
    let mut encoder = encoder(true);
    assert!(encoder.at_boundary());
    assert_eq!(encode(&mut encoder, b"message", Remaining::End), frame(0, DATA, b"message"));
    assert!(encoder.at_boundary());
    assert_eq!(encode(&mut encoder, b"", Remaining::End), frame(1, DATA, b""));
    for (seq, remaining) in [(2, Remaining::More), (3, Remaining::Bytes(9))] {
        assert_eq!(encode(&mut encoder, b"part", remaining), frame(seq, PART, b"part"));
        assert!(!encoder.at_boundary());
    }
    assert_eq!(encode(&mut encoder, b"", Remaining::End), frame(4, DATA, b""));
    assert!(encoder.at_boundary());
    for remaining in [Remaining::More, Remaining::Bytes(7)] {
        assert_eq!(
            encoder.plan(0, remaining).unwrap().whole_len(0),
            0,
            "an empty chunk within a message needs no frame"
        );
    }
}

#[test]
fn plan_alone_uses_no_sequence_number() {
    let mut encoder = encoder(true);
    encoder.plan(4, Remaining::More).unwrap();
    assert!(encoder.at_boundary());
    assert_eq!(encode(&mut encoder, b"message", Remaining::End), frame(0, DATA, b"message"));
}

#[test]
fn control_frames_are_encoded_as_specified() {
    let reasons = [
        CloseReason::Shutdown,
        CloseReason::Protocol,
        CloseReason::Timeout,
        CloseReason::Application,
    ];
    let mut controls = vec![
        (Control::Ping(*b"12345678"), PING, b"12345678".to_vec()),
        (Control::Pong(*b"12345678"), PONG, b"12345678".to_vec()),
        (Control::Fin, FIN, vec![]),
    ];
    controls.extend(
        (0..).zip(reasons).map(|(code, reason)| (Control::Close(reason), CLOSE, vec![code])),
    );
    let (mut tagged_encoder, mut untagged_encoder) = (encoder(true), encoder(false));
    for (seq, (control, kind, payload)) in (0..).zip(controls) {
        let mut output = [0xee; MAX_CONTROL];
        assert_eq!(tagged_encoder.token(), u64::to_be_bytes(seq));
        let len = tagged_encoder.control(control, &mut output);
        assert_eq!(output[..len], frame(seq, kind, &payload));
        assert!(output[len..].iter().all(|&byte| byte == 0xee));
        let len = untagged_encoder.control(control, &mut output);
        assert_eq!(output[..len], untagged(kind, &payload));
    }
    let mut output = [0xee; MAX_CONTROL];
    assert_eq!(tagged_encoder.control(Control::Other, &mut output), 0);
    assert_eq!(output, [0xee; MAX_CONTROL]);
    assert_eq!(
        tagged_encoder.token(),
        u64::to_be_bytes(7),
        "`Control::Other` uses no sequence number"
    );
}

#[test]
fn max_payload_respects_the_peers_max_frame() {
    for (tagged, max_frame, max_payload) in
        [(true, 256, 239), (false, 256, 255), (true, u32::MAX, u32::MAX - 17)]
    {
        let mut encoder = Encoder::default();
        encoder.open(&SealingParams { max_frame, ..sealing(tagged) });
        assert_eq!(encoder.max_payload(), max_payload);
    }
    let mut encoder = encoder(true);
    let longest = encode(&mut encoder, &[7; 239], Remaining::End);
    assert_eq!(decoder(true).parse(&longest, LIMITS), chunk(239, true, Remaining::End));
}
