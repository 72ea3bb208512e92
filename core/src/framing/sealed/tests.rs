extern crate std;

use super::*;
use std::vec;
use std::vec::Vec;

const LIMITS: Limits = Limits { max_chunk: 300, max_frame: 256 };

const SENDER: [u8; 32] = [0x5e; 32];
const OTHER: [u8; 32] = [0x07; 32];

/// What one end has of the session; the other has the keys the other way round.
fn sealing(tagged: bool) -> SealingParams {
    SealingParams {
        send: Secret::new(SENDER),
        receive: Secret::new(SENDER),
        tagged,
        max_frame: 256,
    }
}

/// A frame as docs/PROTOCOL.md has it.
fn frame_of(key: &[u8; 32], seq: u64, kind: u8, payload: &[u8]) -> Vec<u8> {
    let n = (1 + payload.len() + 16) as u32;
    let mut frame = [&n.to_be_bytes()[..], &[kind], payload].concat();
    let whole = mac::sha256(key, &[&seq.to_be_bytes(), &frame]);
    frame.extend_from_slice(&whole[..16]);
    frame
}

fn frame(seq: u64, kind: u8, payload: &[u8]) -> Vec<u8> {
    frame_of(&SENDER, seq, kind, payload)
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

/// What the last of these frames is taken for; those before it are all right.
fn last_of(frames: &[(u8, &[u8])]) -> Result<Parsed, Error> {
    let mut decoder = decoder(true);
    let ((kind, payload), before) = frames.split_last().unwrap();
    for (seq, (kind, payload)) in (0..).zip(before) {
        decoder.parse(&frame(seq, *kind, payload), LIMITS).unwrap();
    }
    decoder.parse(&frame(before.len() as u64, *kind, payload), LIMITS)
}

fn bad(why: FrameError) -> Result<Parsed, Error> {
    Err(Error::Frame(why))
}

#[test]
fn a_frame_says_how_much_of_it_is_missing() {
    let mut decoder = decoder(true);
    let bytes = frame(0, DATA, b"message");
    for len in 0..4 {
        assert_eq!(decoder.parse(&bytes[..len], LIMITS), Ok(Parsed::Need(4)));
    }
    for len in 4..bytes.len() {
        assert_eq!(decoder.parse(&bytes[..len], LIMITS), Ok(Parsed::Need(bytes.len())));
    }
    let behind = [&bytes[..], b"next"].concat();
    assert_eq!(decoder.parse(&behind, LIMITS), chunk(7, true, Remaining::End));
}

#[test]
fn each_type_is_what_it_is() {
    assert_eq!(last_of(&[(0x00, b"message")]), chunk(7, true, Remaining::End));
    assert_eq!(last_of(&[(0x00, b"")]), chunk(0, true, Remaining::End));
    assert_eq!(last_of(&[(0x03, b"part")]), chunk(4, true, Remaining::More));
    let whole = |kind, payload: &[u8]| frame(0, kind, payload);
    let ping = Control::Ping(*b"12345678");
    assert_eq!(last_of(&[(0x01, b"12345678")]), control(&whole(1, b"12345678"), ping));
    assert_eq!(last_of(&[(0x02, b"12345678")]), control(&whole(2, b"12345678"), Control::Other));
    assert_eq!(last_of(&[(0x04, b"")]), control(&whole(4, b""), Control::Fin));
    let shutdown = Control::Close(CloseReason::Shutdown);
    assert_eq!(last_of(&[(0x05, b"\0bye")]), control(&whole(5, b"\0bye"), shutdown));
    for kind in 0x06..=0x3f {
        assert_eq!(last_of(&[(kind, b"")]), bad(FrameError::Type), "{kind}");
    }
    for kind in 0x40..=0xff {
        let payload = vec![7; usize::from(kind) % 40];
        let ignored = control(&whole(kind, &payload), Control::Other);
        assert_eq!(last_of(&[(kind, &payload)]), ignored, "{kind}");
    }
}

#[test]
fn a_payload_is_as_long_as_its_type_says() {
    let long = [0x20; 200];
    for len in 0..=150 {
        let payload = &long[..len];
        for kind in [PING, PONG] {
            assert_eq!(last_of(&[(kind, payload)]).is_ok(), len == 8, "{kind} {len}");
        }
        assert_eq!(last_of(&[(FIN, payload)]).is_ok(), len == 0, "{len}");
        assert_eq!(last_of(&[(PART, payload)]).is_ok(), len > 0, "{len}");
        assert_eq!(last_of(&[(CLOSE, payload)]).is_ok(), (1..=129).contains(&len), "{len}");
    }
    for (kind, payload) in [(PING, &b"1234567"[..]), (PONG, b""), (FIN, b"x"), (PART, b"")] {
        assert_eq!(last_of(&[(kind, payload)]), bad(FrameError::Payload));
    }
    assert_eq!(last_of(&[(CLOSE, b"")]), bad(FrameError::Payload));
    assert_eq!(last_of(&[(CLOSE, &long[..130])]), bad(FrameError::Payload));
}

#[test]
fn a_close_has_a_code_and_text() {
    for (code, why) in [
        (0, CloseReason::Shutdown),
        (1, CloseReason::Protocol),
        (2, CloseReason::Timeout),
        (3, CloseReason::Application),
        (4, CloseReason::Application),
        (255, CloseReason::Application),
    ] {
        for text in [&b""[..], "vorüber".as_bytes()] {
            let payload = [&[code], text].concat();
            let closes = control(&frame(0, CLOSE, &payload), Control::Close(why));
            assert_eq!(last_of(&[(CLOSE, &payload)]), closes, "{code}");
        }
        assert_eq!(last_of(&[(CLOSE, &[code, 0xff])]), bad(FrameError::Payload));
    }
    assert_eq!(last_of(&[(CLOSE, &"\0ü".as_bytes()[..2])]), bad(FrameError::Payload));
}

#[test]
fn messages_are_whole_and_end_before_the_end() {
    const A: (u8, &[u8]) = (PART, b"a");
    const B: (u8, &[u8]) = (DATA, b"b");
    const END: (u8, &[u8]) = (FIN, b"");
    const CALL: (u8, &[u8]) = (PING, b"12345678");
    assert_eq!(last_of(&[A, A]), chunk(1, false, Remaining::More));
    assert_eq!(last_of(&[A, B]), chunk(1, false, Remaining::End));
    assert_eq!(last_of(&[A, CALL, B]), chunk(1, false, Remaining::End));
    assert_eq!(last_of(&[A, B, B]), chunk(1, true, Remaining::End));
    assert_eq!(last_of(&[A, (DATA, b"")]), chunk(0, false, Remaining::End));
    assert!(last_of(&[A, B, END]).is_ok());
    assert_eq!(last_of(&[A, END]), bad(FrameError::Order));
    for behind in [A, B, END, (PART, b"")] {
        assert_eq!(last_of(&[END, behind]), bad(FrameError::Order));
        assert_eq!(last_of(&[END, CALL, behind]), bad(FrameError::Order));
    }
    for behind in [CALL, (PONG, b"12345678"), (CLOSE, b"\0"), (0x40, b"")] {
        assert!(last_of(&[END, behind]).is_ok());
        assert!(last_of(&[A, behind]).is_ok());
    }
}

#[test]
fn a_message_is_at_its_boundary_when_none_of_it_is_due() {
    let mut decoder = decoder(true);
    assert!(decoder.at_boundary());
    for (seq, kind, boundary) in [(0, PART, false), (1, PART, false), (2, DATA, true)] {
        decoder.parse(&frame(seq, kind, b"x"), LIMITS).unwrap();
        assert_eq!(decoder.at_boundary(), boundary);
    }
    let small = Limits { max_chunk: 1, ..LIMITS };
    decoder.parse(&frame(3, DATA, b"xy"), small).unwrap();
    assert!(!decoder.at_boundary());
    decoder.parse(b"", small).unwrap();
    assert!(decoder.at_boundary());
}

#[test]
fn every_bit_of_a_frame_is_under_its_tag() {
    for payload in [&b""[..], b"message"] {
        let bytes = frame(0, DATA, payload);
        for bit in 32..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decoder(true).parse(&bytes, LIMITS), bad(FrameError::Tag), "bit {bit}");
        }
        // A shorter one has its tag elsewhere.
        let mut shorter = [&bytes[..], &[0; 16]].concat();
        shorter[3] -= 1;
        let error = if payload.is_empty() { FrameError::Payload } else { FrameError::Tag };
        assert_eq!(decoder(true).parse(&shorter, LIMITS), bad(error));
        shorter[3] += 2;
        assert_eq!(decoder(true).parse(&shorter, LIMITS), bad(FrameError::Tag));
    }
}

#[test]
fn a_frame_has_one_place_in_one_direction_of_one_session() {
    let good = frame(0, DATA, b"message");
    for seq in [1, 2, u64::MAX, 1 << 32] {
        let bytes = frame(seq, DATA, b"message");
        assert_eq!(decoder(true).parse(&bytes, LIMITS), bad(FrameError::Tag), "left out");
    }
    let mut decoder = decoder(true);
    decoder.parse(&good, LIMITS).unwrap();
    assert_eq!(decoder.parse(&good, LIMITS), bad(FrameError::Tag), "repeated");
    assert!(decoder.parse(&frame(1, DATA, b"next"), LIMITS).is_ok());
    let foreign = frame_of(&OTHER, 2, DATA, b"message");
    assert_eq!(decoder.parse(&foreign, LIMITS), bad(FrameError::Tag));
}

#[test]
fn nothing_of_a_frame_counts_before_its_tag() {
    for kind in [FIN, PART, CLOSE, 0x3f] {
        let mut bytes = frame(0, kind, b"");
        bytes[20] ^= 1;
        assert_eq!(decoder(true).parse(&bytes, LIMITS), bad(FrameError::Tag));
    }
}

#[test]
fn each_end_has_its_own_key() {
    let two_ways = |send, receive| SealingParams {
        send: Secret::new(send),
        receive: Secret::new(receive),
        ..sealing(true)
    };
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    encoder.open(&two_ways(SENDER, OTHER));
    decoder.open(&two_ways(OTHER, SENDER));
    let mut to = [0; MAX_CONTROL];
    let len = encoder.control(Control::Fin, &mut to);
    assert_eq!(to[..len], frame(0, FIN, b""));
    assert!(decoder.parse(&to[..len], LIMITS).is_ok());
}

#[test]
fn a_length_is_judged_by_its_header_alone() {
    for n in 0..=16_u32 {
        let short = bad(FrameError::Payload);
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
    assert_eq!(decoder(false).parse(&[0; 4], LIMITS), bad(FrameError::Payload));
    assert_eq!(decoder(false).parse(&[0, 0, 0, 1], LIMITS), Ok(Parsed::Need(5)));
}

#[test]
fn a_frame_longer_than_a_part_is_delivered_in_parts() {
    let limits = Limits { max_chunk: 4, ..LIMITS };
    let next = |header, len, trailer, first, remaining| {
        Ok(Parsed::Chunk { header, len, trailer, first, remaining })
    };
    let mut decoder = decoder(true);
    let bytes = frame(0, DATA, b"0123456789");
    assert_eq!(decoder.parse(&bytes, limits), next(5, 4, 0, true, Remaining::Bytes(6)));
    assert_eq!(decoder.parse(&bytes[9..], limits), next(0, 4, 0, false, Remaining::Bytes(2)));
    assert_eq!(decoder.parse(&bytes[13..], limits), next(0, 2, 16, false, Remaining::End));

    let bytes = frame(1, PART, b"01234567");
    assert_eq!(decoder.parse(&bytes, limits), next(5, 4, 0, true, Remaining::More));
    assert_eq!(decoder.parse(&bytes[9..], limits), next(0, 4, 16, false, Remaining::More));
    let bytes = frame(2, DATA, b"0123");
    assert_eq!(decoder.parse(&bytes, limits), next(5, 4, 16, false, Remaining::End));
}

#[test]
fn without_tags_the_bytes_are_taken_as_they_are() {
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

/// The frame that an encoder makes of a part.
fn sent(encoder: &mut Encoder, body: &[u8], remaining: Remaining) -> Vec<u8> {
    let plan = encoder.plan(body.len(), remaining).unwrap();
    let mut frame = vec![0xee; plan.whole_len()];
    frame[plan.chunk()].copy_from_slice(body);
    encoder.commit(&plan, &mut frame);
    frame
}

#[test]
fn what_is_sent_is_framed_numbered_and_tagged() {
    let mut encoder = encoder(true);
    assert!(encoder.at_boundary());
    assert_eq!(sent(&mut encoder, b"message", Remaining::End), frame(0, DATA, b"message"));
    assert!(encoder.at_boundary());
    assert_eq!(sent(&mut encoder, b"", Remaining::End), frame(1, DATA, b""));
    for (seq, remaining) in [(2, Remaining::More), (3, Remaining::Bytes(9))] {
        assert_eq!(sent(&mut encoder, b"part", remaining), frame(seq, PART, b"part"));
        assert!(!encoder.at_boundary());
    }
    assert_eq!(sent(&mut encoder, b"", Remaining::End), frame(4, DATA, b""));
    assert!(encoder.at_boundary());
    for remaining in [Remaining::More, Remaining::Bytes(7)] {
        assert_eq!(encoder.plan(0, remaining).unwrap().whole_len(), 0, "an empty part is nothing");
    }
}

#[test]
fn what_was_planned_and_not_committed_is_not_counted() {
    let mut encoder = encoder(true);
    encoder.plan(4, Remaining::More).unwrap();
    assert!(encoder.at_boundary());
    assert_eq!(sent(&mut encoder, b"message", Remaining::End), frame(0, DATA, b"message"));
}

#[test]
fn control_frames_are_made_as_they_are_read() {
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
    controls.extend((0..).zip(reasons).map(|(code, why)| (Control::Close(why), CLOSE, vec![code])));
    let (mut tagged, mut bare) = (encoder(true), encoder(false));
    for (seq, (control, kind, payload)) in (0..).zip(controls) {
        let mut to = [0xee; MAX_CONTROL];
        assert_eq!(tagged.token(), u64::to_be_bytes(seq));
        let len = tagged.control(control, &mut to);
        assert_eq!(to[..len], frame(seq, kind, &payload));
        assert!(to[len..].iter().all(|&byte| byte == 0xee));
        let len = bare.control(control, &mut to);
        assert_eq!(to[..len], untagged(kind, &payload));
    }
    let mut to = [0xee; MAX_CONTROL];
    assert_eq!(tagged.control(Control::Other, &mut to), 0);
    assert_eq!(to, [0xee; MAX_CONTROL]);
    assert_eq!(tagged.token(), u64::to_be_bytes(7), "it was not counted");
}

#[test]
fn no_frame_is_longer_than_the_peer_takes() {
    for (tagged, max_frame, max_payload) in
        [(true, 256, 239), (false, 256, 255), (true, u32::MAX, u32::MAX - 17)]
    {
        let mut encoder = Encoder::default();
        encoder.open(&SealingParams { max_frame, ..sealing(tagged) });
        assert_eq!(encoder.max_payload(), max_payload);
    }
    let mut encoder = encoder(true);
    let longest = sent(&mut encoder, &[7; 239], Remaining::End);
    assert_eq!(decoder(true).parse(&longest, LIMITS), chunk(239, true, Remaining::End));
}
