//! Published HMAC vectors against [`Mac`].
#![allow(clippy::unwrap_used, clippy::panic)]

use countersign::{Digest, Mac};
use serde_json::Value;

const RFC: &str = include_str!("../vectors/rfc_hmac.json");
const WYCHEPROOF: &str = include_str!("../vectors/wycheproof_hmac_sha256.json");

fn unhex(value: &Value) -> Vec<u8> {
    let hex = value.as_str().unwrap();
    assert!(hex.len().is_multiple_of(2), "odd number of digits in {hex}");
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn list<'a>(value: &'a Value, what: &str) -> &'a [Value] {
    let list = value.as_array().unwrap();
    assert!(!list.is_empty(), "{what} has no vectors");
    list
}

/// Returns the digest of a name in the vectors, or `None` for one that this project does not offer.
fn digest(name: &str) -> Option<Digest> {
    match name {
        "md5" => Some(Digest::Md5),
        "sha1" => Some(Digest::Sha1),
        "sha224" => None,
        "sha256" => Some(Digest::Sha256),
        "sha384" => Some(Digest::Sha384),
        "sha512" => Some(Digest::Sha512),
        name => panic!("unknown hash: {name}"),
    }
}

/// Whether `tag`, which some vectors truncate, is the tag of `message`.
fn agrees(mac: &Mac, message: &[u8], tag: &[u8]) -> bool {
    let ours = mac.tag(message);
    let leading = ours.bytes().get(..tag.len()) == Some(tag);
    let verified = bool::from(mac.verify(message, tag));
    if tag.len() == mac.digest().tag_len() {
        assert_eq!(verified, leading, "verify and tag disagree");
    } else {
        assert!(!verified, "a truncated tag verified");
    }
    leading
}

#[test]
fn tags_match_the_rfc_vectors() {
    let vectors: Value = serde_json::from_str(RFC).unwrap();
    let mut ran = Vec::new();
    for vector in list(&vectors, "rfc_hmac.json") {
        let Some(digest) = digest(vector["hash"].as_str().unwrap()) else { continue };
        let mac = Mac::new(digest, &unhex(&vector["key"]));
        let tag = unhex(&vector["tag"]);
        assert_eq!(tag.len() as u64, vector["tag_bytes"].as_u64().unwrap(), "{vector}");
        assert!(agrees(&mac, &unhex(&vector["data"]), &tag), "{vector}");
        ran.push(digest);
    }
    for digest in [Digest::Md5, Digest::Sha1, Digest::Sha256, Digest::Sha384, Digest::Sha512] {
        assert!(ran.contains(&digest), "no vector for {digest}");
    }
}

#[test]
fn only_valid_wycheproof_tags_verify() {
    let vectors: Value = serde_json::from_str(WYCHEPROOF).unwrap();
    assert_eq!(vectors["algorithm"], "HMACSHA256");
    let (mut valid, mut invalid) = (0, 0);
    for group in list(&vectors["testGroups"], "wycheproof_hmac_sha256.json") {
        for test in list(&group["tests"], "a group") {
            let mac = Mac::new(Digest::Sha256, &unhex(&test["key"]));
            let tag = unhex(&test["tag"]);
            assert_eq!(tag.len() as u64 * 8, group["tagSize"].as_u64().unwrap(), "{test}");
            let expected = match test["result"].as_str().unwrap() {
                "valid" => {
                    valid += 1;
                    true
                }
                "invalid" => {
                    invalid += 1;
                    false
                }
                result => panic!("unknown result: {result}"),
            };
            assert_eq!(agrees(&mac, &unhex(&test["msg"]), &tag), expected, "{test}");
        }
    }
    assert_eq!(valid + invalid, vectors["numberOfTests"].as_u64().unwrap());
    assert!(valid > 0 && invalid > 0);
}
