extern crate std;

use super::*;
use std::vec::Vec;

fn nonce() -> Nonce {
    Nonce::from_bytes([0x6e; Nonce::LEN])
}

#[test]
fn message_is_a_digest_label_and_40_random_bytes() {
    let check = |digest: Digest, label: &[u8]| {
        let message = Message::new(digest, nonce()).unwrap();
        assert_eq!(message.bytes(), [label, &[0x6e; 40]].concat());
        assert_eq!(parse_challenge(message.bytes()), Ok((digest, true)));
        assert!(label.len() <= MAX_LABEL && digest.tag_len() <= MAX_TAG);
    };
    check(Digest::Sha256, b"{sha256}");
    #[cfg(feature = "digests")]
    {
        check(Digest::Sha384, b"{sha384}");
        check(Digest::Sha3_256, b"{sha3_256}");
        check(Digest::Sha3_384, b"{sha3_384}");
    }
}

#[cfg(feature = "digests")]
#[test]
fn md5_message_is_20_random_bytes() {
    let message = Message::new(Digest::Md5, nonce()).unwrap();
    assert_eq!(message.bytes(), [0x6e; 20]);
    assert_eq!(parse_challenge(message.bytes()), Ok((Digest::Md5, false)));
}

#[cfg(feature = "digests")]
#[test]
fn sha1_and_sha512_have_no_label() {
    for digest in [Digest::Sha1, Digest::Sha512] {
        assert_eq!(label(digest), None);
        assert_eq!(Message::new(digest, nonce()).err(), Some(ConfigError::Digest));
    }
    assert_eq!(parse_challenge(b"{sha512}0123456789abcdef"), Err(Error::Incompatible));
}

#[test]
fn message_of_20_bytes_is_from_a_legacy_peer() {
    let legacy = LEGACY.map(|digest| (digest, false)).ok_or(Error::Incompatible);
    assert_eq!(parse_challenge(b"{sha256}0123456789ab"), legacy);
    assert_eq!(parse_challenge(b"01234567890123456789"), legacy);
    assert_eq!(parse_challenge(b"{sha256}0123456789abc"), Ok((Digest::Sha256, true)));
}

#[test]
fn message_must_be_long_enough_and_name_a_digest() {
    for len in 0..20 {
        let short: Vec<u8> = b"{sha256}".iter().copied().cycle().take(len).collect();
        assert_eq!(parse_challenge(&short), Err(Error::Malformed), "{len}");
    }
    let named = |label: &[u8]| parse_challenge(&[label, &[0x6e; 40]].concat());
    assert_eq!(named(b""), Err(Error::Malformed));
    for unknown in [&b"{sha224}"[..], b"{SHA256}", b"{}", b"{sha256", b"{{sha256}", b"{sha256 }"] {
        assert_eq!(named(unknown), Err(Error::Incompatible), "{}", unknown.escape_ascii());
    }
    for unknown in [&b" {sha256}"[..], b"sha256}", b"#CHALLENGE#{sha256}"] {
        assert_eq!(named(unknown), Err(Error::Malformed), "{}", unknown.escape_ascii());
    }
}

#[test]
fn response_length_must_match_its_digest() {
    let unlabelled = [0x7f; 16];
    assert_eq!(
        parse_response(&unlabelled),
        LEGACY.map(|digest| (digest, &unlabelled[..])).ok_or(Error::Incompatible)
    );
    for &digest in Digest::ALL {
        let Some(label) = label(digest) else { continue };
        for len in 0..80 {
            let response = [label, &[0x7f; 80][..len]].concat();
            let correct = len == digest.tag_len();
            let expected = match (response.len(), LEGACY) {
                // A response of 16 bytes is an MD5 tag without a label, even if it starts with one.
                (16, Some(legacy)) => Ok((legacy, &response[..])),
                (16, None) => Err(Error::Incompatible),
                _ if correct => Ok((digest, &response[label.len()..])),
                _ => Err(Error::Malformed),
            };
            assert_eq!(parse_response(&response), expected, "{digest}, {len}");
        }
    }
    for len in (0..80).filter(|&len| len != 16) {
        assert_eq!(parse_response(&[0x7f; 80][..len]), Err(Error::Malformed), "{len}");
    }
    assert_eq!(parse_response(b"{sha224}xxxxxxxxxxxxxxxxxxxxxxxxxxxx"), Err(Error::Incompatible));
}

#[test]
fn strict_policy_has_one_digest_and_compatible_has_all() {
    for &digest in Digest::ALL {
        let strict = config::Multiprocessing::new(digest);
        let strict_digests: Vec<Digest> = strict.digests().collect();
        assert_eq!(strict_digests, label(digest).map(|_| digest).into_iter().collect::<Vec<_>>());
        let all: Vec<Digest> = strict.compatible().digests().collect();
        assert!(Digest::ALL.iter().all(|d| all.contains(d) == label(*d).is_some()));
        for other in Digest::ALL {
            assert_eq!(strict.allows(*other), *other == digest);
        }
    }
}

#[test]
fn buffer_lengths_cover_every_message() {
    assert_eq!(FAILURE_FRAME, [&(FAILURE.len() as u32).to_be_bytes(), FAILURE].concat());
    assert_eq!((RECEIVE_LEN, TRANSMIT_LEN), (3 * 268, 12 + 11 + 50 + 58 + 9));
}

#[test]
fn greeting_is_a_challenge_after_its_header() {
    assert!(is_greeting(b"\0\0\0\x3b#CHALLENGE#{sha256}"));
    assert!(!is_greeting(b"\0\0\0\x3b#CHALLENG"));
    assert!(!is_greeting(b"#CHALLENGE##CHALLENGE#"));
    assert!(!is_greeting(b""));
}
