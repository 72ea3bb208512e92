extern crate std;

use super::*;
use std::vec;
use std::vec::Vec;

/// `body` behind a header of its length.
fn message(body: &[u8]) -> Vec<u8> {
    let mut message = (body.len() as u32).to_be_bytes().to_vec();
    message.extend_from_slice(body);
    message
}

fn lv(text: &[u8]) -> Vec<u8> {
    let mut lv = vec![text.len() as u8];
    lv.extend_from_slice(text);
    lv
}

fn m1(versions: [u8; 2], count: u8, suites: &[u8]) -> Vec<u8> {
    message(&[b"\x01CSGN", &versions[..], &[count], suites, &[0xa1; 32]].concat())
}

fn m2(kid: &[u8], name: &[u8], expected: &[u8], max_frame: u32) -> Vec<u8> {
    let texts = [lv(kid), lv(name), lv(expected)].concat();
    let frame = max_frame.to_be_bytes();
    message(&[b"\x02\x07\x09", &texts[..], &[0xc3; 16], &frame, &[0xb2; 32], &[0xac; 32]].concat())
}

fn m3(name: &[u8], max_frame: u32, heartbeat_ms: u32) -> Vec<u8> {
    let (frame, heartbeat) = (max_frame.to_be_bytes(), heartbeat_ms.to_be_bytes());
    message(&[b"\x03", &lv(name)[..], &[0xd4; 16], &frame, &heartbeat, &[0x5e; 32]].concat())
}

fn hello(message: &[u8]) -> Result<(), Error> {
    ServerHello::parse(message).map(drop)
}

fn proof(message: &[u8]) -> Result<(), Error> {
    ClientProof::parse(message).map(drop)
}

fn answer(message: &[u8]) -> Result<(), Error> {
    ServerProof::parse(message).map(drop)
}

type Parse = fn(&[u8]) -> Result<(), Error>;

/// Each parser, a message that it takes, and the type of that.
fn parsers() -> [(Parse, Vec<u8>, u8); 3] {
    [
        (hello, m1([1, 1], 1, b"\x01"), 0x01),
        (proof, m2(b"k", b"client", b"server", 256), 0x02),
        (answer, m3(b"server", 256, 0), 0x03),
    ]
}

const OK: Result<(), Error> = Ok(());
const MALFORMED: Result<(), Error> = Err(Error::Malformed);

#[test]
fn every_field_is_found_where_it_is() {
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
fn a_message_is_as_long_as_its_fields_and_no_byte_more_or_less() {
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
fn a_message_has_the_type_that_is_awaited() {
    for (parse, mut bytes, right) in parsers() {
        for kind in (0..=255).filter(|&kind| kind != right) {
            bytes[4] = kind;
            assert_eq!(parse(&bytes), MALFORMED, "{kind}");
        }
    }
}

#[test]
fn an_alert_in_place_of_a_servers_message_is_told_by_its_code() {
    for parse in [hello, answer] {
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
fn there_is_no_alert_to_a_server() {
    assert_eq!(proof(&message(&[0x7f, 1])), MALFORMED);
}

#[test]
fn the_magic_is_right_to_the_last_bit() {
    for bit in 0..32 {
        let mut bytes = m1([1, 1], 1, b"\x01");
        bytes[5 + bit / 8] ^= 1 << (bit % 8);
        assert_eq!(hello(&bytes), MALFORMED, "bit {bit}");
    }
}

#[test]
fn versions_are_a_range() {
    for versions in [[0, 0], [1, 1], [1, 2], [0, 255]] {
        assert_eq!(hello(&m1(versions, 1, b"\x01")), OK);
    }
    for versions in [[1, 0], [2, 1], [255, 254]] {
        assert_eq!(hello(&m1(versions, 1, b"\x01")), MALFORMED);
    }
}

#[test]
fn suites_are_one_to_eight() {
    for count in 1..=8 {
        assert_eq!(hello(&m1([1, 1], count, &vec![1; count.into()])), OK);
        assert_eq!(hello(&m1([1, 1], count - 1, &vec![1; count.into()])), MALFORMED);
        assert_eq!(hello(&m1([1, 1], count + 1, &vec![1; count.into()])), MALFORMED);
    }
    for count in [0, 9, 255] {
        assert_eq!(hello(&m1([1, 1], count, &vec![1; count.into()])), MALFORMED);
    }
}

#[test]
fn texts_have_bounds() {
    let long = &[b'x'; 65];
    for (len, kid, name, expected) in [
        (0, MALFORMED, MALFORMED, OK),
        (1, OK, OK, OK),
        (32, OK, OK, OK),
        (33, MALFORMED, OK, OK),
        (64, MALFORMED, OK, OK),
        (65, MALFORMED, MALFORMED, MALFORMED),
    ] {
        assert_eq!(proof(&m2(&long[..len], b"n", b"e", 256)), kid, "{len}");
        assert_eq!(proof(&m2(b"k", &long[..len], b"e", 256)), name, "{len}");
        assert_eq!(proof(&m2(b"k", b"n", &long[..len], 256)), expected, "{len}");
        assert_eq!(answer(&m3(&long[..len], 256, 0)), name, "{len}");
    }
}

#[test]
fn texts_are_printable_ascii() {
    for byte in 0..=255 {
        let text = [b'x', byte];
        let verdict = if (0x21..=0x7e).contains(&byte) { OK } else { MALFORMED };
        assert_eq!(proof(&m2(&text, b"n", b"e", 256)), verdict, "{byte}");
        assert_eq!(proof(&m2(b"k", &text, b"e", 256)), verdict, "{byte}");
        assert_eq!(proof(&m2(b"k", b"n", &text, 256)), verdict, "{byte}");
        assert_eq!(answer(&m3(&text, 256, 0)), verdict, "{byte}");
    }
    assert_eq!(answer(&m3("é".as_bytes(), 256, 0)), MALFORMED);
}

#[test]
fn each_end_takes_frames_of_256_bytes_at_least() {
    for (max_frame, verdict) in [(0, MALFORMED), (255, MALFORMED), (256, OK), (u32::MAX, OK)] {
        assert_eq!(proof(&m2(b"k", b"n", b"e", max_frame)), verdict);
        assert_eq!(answer(&m3(b"n", max_frame, 0)), verdict);
    }
}

#[test]
fn a_heartbeat_is_none_or_a_second_to_an_hour() {
    for good in [0, 1_000, 1_001, 3_600_000] {
        assert_eq!(answer(&m3(b"n", 256, good)), OK);
    }
    for bad in [1, 999, 3_600_001, u32::MAX] {
        assert_eq!(answer(&m3(b"n", 256, bad)), MALFORMED);
    }
}

#[test]
fn a_header_is_judged_before_its_message_is_read() {
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
fn the_longest_of_each_message_is_as_long_as_is_said() {
    let longest = |len| vec![b'x'; len];
    assert_eq!(m1([1, 1], 8, &[1; 8]).len(), MAX_M1);
    assert_eq!(m2(&longest(32), &longest(64), &longest(64), 256).len(), MAX_M2);
    assert_eq!(m3(&longest(64), 256, 0).len(), MAX_M3);
    for max in [MAX_M1, MAX_M2, MAX_M3] {
        assert!(max <= HEADER_LEN + 512);
    }
}

/// What `write` wrote to a buffer full of rubbish.
fn written(write: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = [0xee; MAX_M2 + 1];
    write(&mut bytes);
    let (message, rest) = bytes.split_at(first(&bytes).len());
    assert!(rest.iter().all(|&byte| byte == 0xee), "it wrote behind its message");
    message.to_vec()
}

#[test]
fn what_is_written_is_what_is_parsed() {
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
fn the_first_message_ends_where_its_header_says() {
    let mut bytes = [message(b"one"), message(b"two")].concat();
    assert_eq!(first(&bytes), message(b"one"));
    assert_eq!(first_mut(&mut bytes), message(b"one"));
    assert_eq!(first(&bytes[..6]), &bytes[..6], "no more than there is");
    assert_eq!(first(b"\0\0\0"), b"\0\0\0");
    assert_eq!(first(b""), b"");
}

#[test]
fn a_proof_is_the_last_32_bytes() {
    let bytes: Vec<u8> = (0..40).collect();
    assert_eq!(split_proof(&bytes), (&bytes[..8], &bytes[8..]));
    assert_eq!(split_proof(&bytes[..32]), (&[][..], &bytes[..32]));
    assert_eq!(split_proof(&bytes[..31]), (&[][..], &bytes[..31]));
}
