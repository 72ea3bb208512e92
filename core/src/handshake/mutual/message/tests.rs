extern crate std;

use super::*;
use std::vec;
use std::vec::Vec;

/// `body` after a header with its length.
fn message(body: &[u8]) -> Vec<u8> {
    let mut message = (body.len() as u32).to_be_bytes().to_vec();
    message.extend_from_slice(body);
    message
}

fn length_prefixed(text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![text.len() as u8];
    bytes.extend_from_slice(text);
    bytes
}

fn m1(versions: [u8; 2], count: u8, suites: &[u8]) -> Vec<u8> {
    message(&[b"\x01CSGN", &versions[..], &[count], suites, &[0xa1; 32]].concat())
}

fn m2(key_id: &[u8], name: &[u8], expected: &[u8], max_frame: u32) -> Vec<u8> {
    let texts =
        [length_prefixed(key_id), length_prefixed(name), length_prefixed(expected)].concat();
    let frame = max_frame.to_be_bytes();
    message(&[b"\x02\x07\x09", &texts[..], &[0xc3; 16], &frame, &[0xb2; 32], &[0xac; 32]].concat())
}

fn m3(name: &[u8], max_frame: u32, heartbeat_ms: u32) -> Vec<u8> {
    let (frame, heartbeat) = (max_frame.to_be_bytes(), heartbeat_ms.to_be_bytes());
    message(
        &[b"\x03", &length_prefixed(name)[..], &[0xd4; 16], &frame, &heartbeat, &[0x5e; 32]]
            .concat(),
    )
}

fn parse_hello(message: &[u8]) -> Result<(), Error> {
    ServerHello::parse(message).map(drop)
}

fn parse_client_proof(message: &[u8]) -> Result<(), Error> {
    ClientProof::parse(message).map(drop)
}

fn parse_server_proof(message: &[u8]) -> Result<(), Error> {
    ServerProof::parse(message).map(drop)
}

type Parse = fn(&[u8]) -> Result<(), Error>;

/// Each parser, a message that it accepts, and the type of the message.
fn parsers() -> [(Parse, Vec<u8>, u8); 3] {
    [
        (parse_hello, m1([1, 1], 1, b"\x01"), 0x01),
        (parse_client_proof, m2(b"k", b"client", b"server", 256), 0x02),
        (parse_server_proof, m3(b"server", 256, 0), 0x03),
    ]
}

const OK: Result<(), Error> = Ok(());
const MALFORMED: Result<(), Error> = Err(Error::Malformed);

#[test]
fn parser_finds_every_field() {
    let bytes = m1([1, 3], 3, b"\x02\x00\x01");
    let hello = ServerHello::parse(&bytes).unwrap();
    assert_eq!((hello.versions, hello.suites), ((1, 3), &b"\x02\x00\x01"[..]));

    let bytes = m2(b"kid", b"client", b"server", 0x0102_0304);
    let proof = ClientProof::parse(&bytes).unwrap();
    assert_eq!((proof.version, proof.suite), (7, 9));
    assert_eq!((proof.kid, proof.name, proof.expected), ("kid", "client", "server"));
    assert_eq!((proof.process_id, proof.max_frame), (&[0xc3; 16], 0x0102_0304));
    assert_eq!(proof.mac, &[0xac; 32]);

    let bytes = m3(b"server", 0x0102_0304, 0x0001_0203);
    let answer = ServerProof::parse(&bytes).unwrap();
    assert_eq!((answer.name, answer.process_id), ("server", &[0xd4; 16]));
    assert_eq!((answer.max_frame, answer.heartbeat_ms), (0x0102_0304, 0x0001_0203));
    assert_eq!(answer.mac, &[0x5e; 32]);
}

#[test]
fn message_length_must_match_its_fields() {
    for (parse, mut bytes, _) in parsers() {
        assert_eq!(parse(&bytes), OK);
        for len in 0..bytes.len() {
            assert_eq!(parse(&bytes[..len]), MALFORMED, "{len} of {}", bytes.len());
        }
        bytes.push(0);
        assert_eq!(parse(&bytes), MALFORMED);
    }
}

#[test]
fn unexpected_message_type_is_malformed() {
    for (parse, mut bytes, right) in parsers() {
        for kind in (0..=255).filter(|&kind| kind != right) {
            bytes[4] = kind;
            assert_eq!(parse(&bytes), MALFORMED, "{kind}");
        }
    }
}

#[test]
fn alert_in_place_of_m1_or_m3_is_reported() {
    for parse in [parse_hello, parse_server_proof] {
        for (code, alert) in [
            (0, Alert::Unknown(0)),
            (1, Alert::Refused),
            (2, Alert::Incompatible),
            (3, Alert::Busy),
            (4, Alert::Malformed),
            (5, Alert::TimedOut),
            (6, Alert::Unknown(6)),
            (255, Alert::Unknown(255)),
        ] {
            assert_eq!(parse(&message(&[0x7f, code])), Err(Error::Alert(alert)));
            assert_eq!(super::alert(code), *message(&[0x7f, code]));
        }
        assert_eq!(parse(&message(&[0x7f])), MALFORMED);
        assert_eq!(parse(&message(&[0x7f, 1, 0])), MALFORMED);
    }
}

#[test]
fn server_accepts_no_alert() {
    assert_eq!(parse_client_proof(&message(&[0x7f, 1])), MALFORMED);
}

#[test]
fn magic_with_a_flipped_bit_is_malformed() {
    for bit in 0..32 {
        let mut bytes = m1([1, 1], 1, b"\x01");
        bytes[5 + bit / 8] ^= 1 << (bit % 8);
        assert_eq!(parse_hello(&bytes), MALFORMED, "bit {bit}");
    }
}

#[test]
fn version_range_must_be_ordered() {
    for versions in [[0, 0], [1, 1], [1, 2], [0, 255]] {
        assert_eq!(parse_hello(&m1(versions, 1, b"\x01")), OK);
    }
    for versions in [[1, 0], [2, 1], [255, 254]] {
        assert_eq!(parse_hello(&m1(versions, 1, b"\x01")), MALFORMED);
    }
}

#[test]
fn suite_count_is_one_to_eight() {
    for count in 1..=8 {
        assert_eq!(parse_hello(&m1([1, 1], count, &vec![1; count.into()])), OK);
        assert_eq!(parse_hello(&m1([1, 1], count - 1, &vec![1; count.into()])), MALFORMED);
        assert_eq!(parse_hello(&m1([1, 1], count + 1, &vec![1; count.into()])), MALFORMED);
    }
    for count in [0, 9, 255] {
        assert_eq!(parse_hello(&m1([1, 1], count, &vec![1; count.into()])), MALFORMED);
    }
}

#[test]
fn text_lengths_are_bounded() {
    let long = &[b'x'; 65];
    for (len, key_id, name, expected) in [
        (0, MALFORMED, MALFORMED, OK),
        (1, OK, OK, OK),
        (32, OK, OK, OK),
        (33, MALFORMED, OK, OK),
        (64, MALFORMED, OK, OK),
        (65, MALFORMED, MALFORMED, MALFORMED),
    ] {
        assert_eq!(parse_client_proof(&m2(&long[..len], b"n", b"e", 256)), key_id, "{len}");
        assert_eq!(parse_client_proof(&m2(b"k", &long[..len], b"e", 256)), name, "{len}");
        assert_eq!(parse_client_proof(&m2(b"k", b"n", &long[..len], 256)), expected, "{len}");
        assert_eq!(parse_server_proof(&m3(&long[..len], 256, 0)), name, "{len}");
    }
}

#[test]
fn texts_must_be_printable_ascii() {
    for byte in 0..=255 {
        let text = [b'x', byte];
        let verdict = if (0x21..=0x7e).contains(&byte) { OK } else { MALFORMED };
        assert_eq!(parse_client_proof(&m2(&text, b"n", b"e", 256)), verdict, "{byte}");
        assert_eq!(parse_client_proof(&m2(b"k", &text, b"e", 256)), verdict, "{byte}");
        assert_eq!(parse_client_proof(&m2(b"k", b"n", &text, 256)), verdict, "{byte}");
        assert_eq!(parse_server_proof(&m3(&text, 256, 0)), verdict, "{byte}");
    }
    assert_eq!(parse_server_proof(&m3("é".as_bytes(), 256, 0)), MALFORMED);
}

#[test]
fn max_frame_is_at_least_256_bytes() {
    for (max_frame, verdict) in [(0, MALFORMED), (255, MALFORMED), (256, OK), (u32::MAX, OK)] {
        assert_eq!(parse_client_proof(&m2(b"k", b"n", b"e", max_frame)), verdict);
        assert_eq!(parse_server_proof(&m3(b"n", max_frame, 0)), verdict);
    }
}

#[test]
fn heartbeat_is_zero_or_within_one_second_and_one_hour() {
    for valid in [0, 1_000, 1_001, 3_600_000] {
        assert_eq!(parse_server_proof(&m3(b"n", 256, valid)), OK);
    }
    for invalid in [1, 999, 3_600_001, u32::MAX] {
        assert_eq!(parse_server_proof(&m3(b"n", 256, invalid)), MALFORMED);
    }
}

#[test]
fn message_length_is_checked_at_its_header() {
    let len = |n: u32, longest| whole_len(n.to_be_bytes(), longest);
    assert_eq!(len(0, 100), Err(Error::Malformed));
    assert_eq!(len(1, 100), Ok(5));
    assert_eq!(len(96, 100), Ok(100));
    for n in [97, 0xfffb, 0xfffc, 0xffff, 0x1_0000, 0x1_0001, u32::MAX] {
        assert_eq!(len(n, 100), Err(Error::Malformed), "{n}");
    }
    assert_eq!(len(0xfffb, 0xffff), Ok(0xffff));
    assert_eq!(len(0xfffc, 0xffff), Err(Error::Malformed));
}

#[test]
fn maximum_message_lengths_are_exact() {
    let text = |len| vec![b'x'; len];
    assert_eq!(m1([1, 1], 8, &[1; 8]).len(), MAX_M1);
    assert_eq!(m2(&text(32), &text(64), &text(64), 256).len(), MAX_M2);
    assert_eq!(m3(&text(64), 256, 0).len(), MAX_M3);
    for max in [MAX_M1, MAX_M2, MAX_M3] {
        assert!(max <= HEADER_LEN + 512);
    }
}

/// The message that `write` writes into a buffer of arbitrary content.
fn written(write: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = [0xee; MAX_M2 + 1];
    write(&mut bytes);
    let (message, rest) = bytes.split_at(first(&bytes).len());
    assert!(rest.iter().all(|&byte| byte == 0xee), "bytes after the message were overwritten");
    message.to_vec()
}

#[test]
fn writers_produce_the_parsed_layout() {
    let mut len = 0;
    let bytes = written(|to| len = write_hello(to, &[0, 1], &[0xa1; 32]));
    assert_eq!(bytes, m1([VERSION, VERSION], 2, b"\x00\x01"));
    assert_eq!(len, bytes.len());

    let client = Client {
        kid: "kid",
        name: "client",
        expected: "",
        process_id: &[0xc3; 16],
        max_frame: 300,
        nonce: &[0xb2; 32],
    };
    let mut expected = m2(b"kid", b"client", b"", 300);
    let proof = expected.len() - MAC_LEN;
    expected[5..7].fill(0);
    expected[proof..].fill(0);
    let mut bytes = written(|to| write_client(to, &client));
    assert_eq!(bytes, expected);
    choose(&mut bytes, 9);
    expected[5..7].copy_from_slice(&[VERSION, 9]);
    assert_eq!(bytes, expected);

    let server =
        Server { name: "server", process_id: &[0xd4; 16], max_frame: 300, heartbeat_ms: 1_000 };
    let mut expected = m3(b"server", 300, 1_000);
    let proof = expected.len() - MAC_LEN;
    expected[proof..].fill(0);
    assert_eq!(written(|to| write_server(to, &server)), expected);
}

#[test]
fn first_message_ends_where_its_header_says() {
    let mut bytes = [message(b"one"), message(b"two")].concat();
    assert_eq!(first(&bytes), message(b"one"));
    assert_eq!(first_mut(&mut bytes), message(b"one"));
    assert_eq!(first(&bytes[..6]), &bytes[..6], "never more than the buffer holds");
    assert_eq!(first(b"\0\0\0"), b"\0\0\0");
    assert_eq!(first(b""), b"");
}

#[test]
fn proof_is_the_last_32_bytes() {
    let bytes: Vec<u8> = (0..40).collect();
    assert_eq!(split_proof(&bytes), (&bytes[..8], &bytes[8..]));
    assert_eq!(split_proof(&bytes[..32]), (&[][..], &bytes[..32]));
    assert_eq!(split_proof(&bytes[..31]), (&[][..], &bytes[..31]));
}
