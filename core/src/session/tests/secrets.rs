use super::*;
use std::format;
use std::string::String;

/// Whether `text` shows four of `bytes` in a row, in any way that `Debug` writes bytes.
fn shows(text: &str, bytes: &[u8]) -> bool {
    let text: String = text.split_whitespace().collect();
    bytes.windows(4).any(|four| {
        let [a, b, c, d] = four.try_into().unwrap();
        let decimal = format!("{a},{b},{c},{d}");
        let hex = format!("{a:02x}{b:02x}{c:02x}{d:02x}");
        let escaped: String = four.escape_ascii().map(char::from).collect();
        [decimal, hex, escaped].iter().any(|form| text.contains(form.as_str()))
    })
}

#[test]
fn what_shows_bytes_is_seen() {
    let bytes = *b"\x01secret\xff";
    assert!(shows(&format!("{bytes:?}"), &bytes));
    assert!(shows(&format!("{bytes:#?}"), &bytes));
    assert!(shows(&format!("{:?}", core::str::from_utf8(&bytes[1..7])), &bytes));
    assert!(!shows("[1, 115, 101, 0, 99]", &bytes));
}

#[test]
fn debug_shows_no_secret() {
    for &digest in Digest::ALL {
        let tag = Mac::new(digest, SECRET).tag(b"message");
        let key = key(digest, SECRET);
        for shown in [
            format!("{:?}", Mac::new(digest, SECRET)),
            format!("{key:?}"),
            format!("{:?}", Candidates::two(&key, &key)),
            format!("{tag:?}"),
            format!("{:?}", nonce()),
        ] {
            assert!(!shows(&shown, SECRET), "{shown}");
            assert!(!shows(&shown, tag.bytes()), "{shown}");
            assert!(!shows(&shown, &[0x6e; 4]), "{shown}");
        }
    }
}

#[test]
fn a_server_in_its_handshake_keeps_neither_the_key_nor_the_answer_it_expects() {
    for &digest in Digest::ALL {
        let expected = Mac::new(digest, SECRET).tag(&[0x6e; 32]);
        let mut server = End::server(&challenge(digest));
        let wrong = Mac::new(digest, b"another key").tag(&[0x6e; 32]);
        let check = |server: &End| {
            let shown = format!("{:?}", server.session);
            assert!(!shows(&shown, SECRET), "{shown}");
            assert!(!shows(&shown, expected.bytes()), "{shown}");
        };
        check(&server);
        server.sent();
        server.feed(wrong.bytes());
        check(&server);
        assert_eq!(server.events(), [Event::KeyNeeded]);
        check(&server);
        server.key(&key(digest, SECRET));
        check(&server);
        assert_eq!(server.error(), Error::WrongKey);
        check(&server);
    }
}

#[test]
fn a_client_keeps_no_key() {
    let mut client = End::client(&challenge(Digest::Sha256));
    client.feed(&[0x42; 32]);
    assert_eq!(client.events(), [Event::KeyNeeded]);
    client.key(&key(Digest::Sha256, SECRET));
    assert!(!shows(&format!("{:?}", client.session), SECRET));
    client.sent();
    assert_eq!(client.events(), [Event::Established]);
    assert!(!shows(&format!("{:?}", client.session), SECRET));
}

#[test]
fn a_key_request_does_not_print_its_challenge() {
    let request =
        KeyRequest::challenge(Role::Client, Digest::Sha256, Challenge::Theirs(&[0x42; 32]));
    assert!(!shows(&format!("{request:?}"), &[0x42; 4]));
}

#[test]
fn debug_of_a_mutual_session_shows_neither_key_nor_exporter() {
    let (client, server) = pair::established(&pair::client(), &pair::server());
    for end in [client, server] {
        let peer = end.session.peer().unwrap();
        let shown = format!("{:?} {peer:?} {:?}", end.session, pair::mutual_key());
        assert!(!shows(&shown, SECRET), "{shown}");
        assert!(!shows(&shown, peer.exporter.unwrap()), "{shown}");
        assert!(shown.contains("Open") && shown.contains("default"));
    }
}

#[test]
fn debug_of_an_outbox_says_where_it_is_and_nothing_of_what_waits() {
    let mut end = End::open(&framed(Framing::U32));
    end.send(b"message").unwrap();
    let shown = format!("{:?}", end.session.split().1);
    assert_eq!(shown, "Outbox { phase: Open, .. }");
}
