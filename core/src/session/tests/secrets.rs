//! No secret appears in the output of `Debug`.

use super::*;
use std::format;
use std::string::String;

/// Whether `text` contains four consecutive bytes of `bytes`, in any format that `Debug` uses.
fn contains_bytes(text: &str, bytes: &[u8]) -> bool {
    let text: String = text.split_whitespace().collect();
    bytes.windows(4).any(|window| {
        let [a, b, c, d] = window.try_into().unwrap();
        let decimal = format!("{a},{b},{c},{d}");
        let hex = format!("{a:02x}{b:02x}{c:02x}{d:02x}");
        let escaped: String = window.escape_ascii().map(char::from).collect();
        [decimal, hex, escaped].iter().any(|form| text.contains(form.as_str()))
    })
}

#[test]
fn leak_check_detects_every_byte_format() {
    let bytes = *b"\x01secret\xff";
    assert!(contains_bytes(&format!("{bytes:?}"), &bytes));
    assert!(contains_bytes(&format!("{bytes:#?}"), &bytes));
    assert!(contains_bytes(&format!("{:?}", core::str::from_utf8(&bytes[1..7])), &bytes));
    assert!(!contains_bytes("[1, 115, 101, 0, 99]", &bytes));
}

#[test]
fn debug_output_contains_no_secret() {
    for &digest in Digest::ALL {
        let tag = Mac::new(digest, SECRET).tag(b"message");
        let key = key(digest, SECRET);
        for output in [
            format!("{:?}", Mac::new(digest, SECRET)),
            format!("{key:?}"),
            format!("{:?}", Candidates::two(&key, &key)),
            format!("{tag:?}"),
            format!("{:?}", nonce()),
        ] {
            assert!(!contains_bytes(&output, SECRET), "{output}");
            assert!(!contains_bytes(&output, tag.bytes()), "{output}");
            assert!(!contains_bytes(&output, &[0x6e; 4]), "{output}");
        }
    }
}

#[test]
fn server_debug_shows_neither_key_nor_expected_response() {
    for &digest in Digest::ALL {
        let expected = Mac::new(digest, SECRET).tag(&[0x6e; 32]);
        let mut server = Endpoint::server(&challenge(digest));
        let wrong = Mac::new(digest, b"another key").tag(&[0x6e; 32]);
        let check = |server: &Endpoint| {
            let output = format!("{:?}", server.session);
            assert!(!contains_bytes(&output, SECRET), "{output}");
            assert!(!contains_bytes(&output, expected.bytes()), "{output}");
        };
        check(&server);
        server.transmit_all();
        server.feed(wrong.bytes());
        check(&server);
        assert_eq!(server.events(), [Event::KeyNeeded]);
        check(&server);
        server.provide_key(&key(digest, SECRET));
        check(&server);
        assert_eq!(server.error(), Error::WrongKey);
        check(&server);
    }
}

#[test]
fn client_debug_shows_no_key() {
    let mut client = Endpoint::client(&challenge(Digest::Sha256));
    client.feed(&[0x42; 32]);
    assert_eq!(client.events(), [Event::KeyNeeded]);
    client.provide_key(&key(Digest::Sha256, SECRET));
    assert!(!contains_bytes(&format!("{:?}", client.session), SECRET));
    client.transmit_all();
    assert_eq!(client.events(), [Event::Established]);
    assert!(!contains_bytes(&format!("{:?}", client.session), SECRET));
}

#[test]
fn key_request_debug_hides_its_challenge() {
    let request =
        KeyRequest::challenge(Role::Client, Digest::Sha256, Challenge::Theirs(&[0x42; 32]));
    assert!(!contains_bytes(&format!("{request:?}"), &[0x42; 4]));
}

#[test]
fn mutual_session_debug_hides_key_and_exporter() {
    let (client, server) = pair::established(&pair::client(), &pair::server());
    for endpoint in [client, server] {
        let peer = endpoint.session.peer().unwrap();
        let output = format!("{:?} {peer:?} {:?}", endpoint.session, pair::mutual_key());
        assert!(!contains_bytes(&output, SECRET), "{output}");
        assert!(!contains_bytes(&output, peer.exporter.unwrap()), "{output}");
        assert!(output.contains("Open") && output.contains("default"));
    }
}

#[test]
fn outbox_debug_shows_its_phase_and_no_content() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.send(b"message").unwrap();
    let output = format!("{:?}", endpoint.session.split().1);
    assert_eq!(output, "Outbox { phase: Open, .. }");
}
