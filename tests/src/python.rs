//! A second, independent parser for the handshake of the scheme `multiprocessing`
//! (docs/PROTOCOL.md, "multiprocessing"). The fuzz targets include this file too, so it depends on
//! the core only.

use countersign::{Digest, Multiprocessing, Role};

/// The digests that CPython supports, each with its label in messages.
pub const PYTHON_DIGESTS: [(Digest, &[u8]); 5] = [
    (Digest::Md5, b"{md5}"),
    (Digest::Sha256, b"{sha256}"),
    (Digest::Sha384, b"{sha384}"),
    (Digest::Sha3_256, b"{sha3_256}"),
    (Digest::Sha3_384, b"{sha3_384}"),
];

/// The frame that rejects a response.
pub const FAILURE_FRAME: &[u8] = b"\0\0\0\x09#FAILURE#";

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
/// Longest frame of a handshake, in bytes.
const MAX_FRAME: u64 = 256;
/// Lengths of a challenge and a response without a label, in bytes.
const UNLABELLED_CHALLENGE: usize = 20;
const UNLABELLED_RESPONSE: usize = 16;

/// Splits `bytes` into the body of the first frame and the remaining bytes.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (n, rest) = bytes.split_first_chunk()?;
    let (len, rest) = match i32::from_be_bytes(*n) {
        -1 => rest.split_first_chunk().map(|(n, rest)| (u64::from_be_bytes(*n), rest))?,
        n => (u64::try_from(n).ok()?, rest),
    };
    if len > MAX_FRAME { None } else { rest.split_at_checked(len as usize) }
}

/// Splits `bytes` into the digest that its label names and the remaining bytes.
fn split_label(bytes: &[u8]) -> Option<(Digest, &[u8])> {
    PYTHON_DIGESTS.iter().find_map(|(digest, label)| Some((*digest, bytes.strip_prefix(*label)?)))
}

/// What the peer of an endpoint sends in its handshake.
struct PeerHandshake<'a> {
    challenge: &'a [u8],
    verdict: &'a [u8],
    response: (Digest, &'a [u8]),
}

/// Parses `bytes` as the handshake that the peer of an endpoint of `role` sends.
fn parse(role: Role, bytes: &[u8]) -> Option<PeerHandshake<'_>> {
    let (first, bytes) = frame(bytes)?;
    let (second, bytes) = frame(bytes)?;
    let (third, _) = frame(bytes)?;
    let (challenge, verdict, response) = match role {
        Role::Client => (first, second, third),
        Role::Server => (second, third, first),
    };
    let response = match response.len() {
        UNLABELLED_RESPONSE => (Digest::Md5, response),
        _ => split_label(response)?,
    };
    Some(PeerHandshake { challenge: challenge.strip_prefix(CHALLENGE)?, verdict, response })
}

/// Whether an endpoint of `role` must accept the bytes `received`, given the bytes of an `honest`
/// peer. `own` is the endpoint's own challenge. The peer's challenge and verdict prove nothing;
/// `policy` only has to allow them.
#[must_use]
pub fn must_accept(
    policy: Multiprocessing,
    role: Role,
    own: &[u8],
    (honest, received): (&[u8], &[u8]),
) -> bool {
    let (Some(honest), Some(received)) = (parse(role, honest), parse(role, received)) else {
        return false;
    };
    let requested = match received.challenge.len() {
        ..UNLABELLED_CHALLENGE => None,
        UNLABELLED_CHALLENGE => Some(Digest::Md5),
        _ => split_label(received.challenge).map(|(digest, _)| digest),
    };
    let allowed = requested.is_some_and(|digest| policy.digests().any(|allowed| allowed == digest));
    let acceptable = allowed && received.challenge != own && received.verdict == WELCOME;
    acceptable && received.response == honest.response
}
