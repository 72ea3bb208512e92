//! What the bytes of the scheme `multiprocessing` say, by a reading of its own (docs/PROTOCOL.md,
//! "multiprocessing"). The fuzz targets have it too, so it needs nothing but the core.

use countersign::{Digest, Multiprocessing, Role};

/// The digests that CPython knows, each with the name that it has in messages.
pub const PYTHONS: [(Digest, &[u8]); 5] = [
    (Digest::Md5, b"{md5}"),
    (Digest::Sha256, b"{sha256}"),
    (Digest::Sha384, b"{sha384}"),
    (Digest::Sha3_256, b"{sha3_256}"),
    (Digest::Sha3_384, b"{sha3_384}"),
];

/// The frame that tells a peer that its response is wrong.
pub const FAILURE_FRAME: &[u8] = b"\0\0\0\x09#FAILURE#";

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
/// The longest frame of a handshake, in bytes.
const MAX_FRAME: u64 = 256;
/// Lengths of the message and of the response that name no digest.
const BARE_MESSAGE: usize = 20;
const BARE_RESPONSE: usize = 16;

/// The body of the frame that `bytes` begin with, and what follows it.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (n, rest) = bytes.split_first_chunk()?;
    let (len, rest) = match i32::from_be_bytes(*n) {
        -1 => rest.split_first_chunk().map(|(n, rest)| (u64::from_be_bytes(*n), rest))?,
        n => (u64::try_from(n).ok()?, rest),
    };
    if len > MAX_FRAME { None } else { rest.split_at_checked(len as usize) }
}

fn labelled(bytes: &[u8]) -> Option<(Digest, &[u8])> {
    PYTHONS.iter().find_map(|(digest, label)| Some((*digest, bytes.strip_prefix(*label)?)))
}

/// What the peer of an end says in its handshake.
struct Said<'a> {
    challenge: &'a [u8],
    verdict: &'a [u8],
    response: (Digest, &'a [u8]),
}

/// `bytes`, which the peer of an end of `role` has sent; `None` if that is not what they are.
fn said(role: Role, bytes: &[u8]) -> Option<Said<'_>> {
    let (first, bytes) = frame(bytes)?;
    let (second, bytes) = frame(bytes)?;
    let (third, _) = frame(bytes)?;
    let (challenge, verdict, response) = match role {
        Role::Client => (first, second, third),
        Role::Server => (second, third, first),
    };
    let response = match response.len() {
        BARE_RESPONSE => (Digest::Md5, response),
        _ => labelled(response)?,
    };
    Some(Said { challenge: challenge.strip_prefix(CHALLENGE)?, verdict, response })
}

/// Whether an end of `role` is to be established by what it `heard`, where an honest peer says
/// `honest`; `own` is its own challenge. Its peer's challenge and verdict are no part of what is
/// proved: they only have to be such as `policy` allows.
#[must_use]
pub fn proves(
    policy: Multiprocessing,
    role: Role,
    own: &[u8],
    (honest, heard): (&[u8], &[u8]),
) -> bool {
    let (Some(honest), Some(heard)) = (said(role, honest), said(role, heard)) else {
        return false;
    };
    let asked = match heard.challenge.len() {
        ..BARE_MESSAGE => None,
        BARE_MESSAGE => Some(Digest::Md5),
        _ => labelled(heard.challenge).map(|(digest, _)| digest),
    };
    let allowed = asked.is_some_and(|digest| policy.digests().any(|allowed| allowed == digest));
    let acceptable = allowed && heard.challenge != own && heard.verdict == WELCOME;
    acceptable && heard.response == honest.response
}
