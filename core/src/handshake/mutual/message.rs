//! The messages of the scheme `mutual` (docs/PROTOCOL.md, "Messages"): M1, M2, M3 and the alert.
//!
//! `u32 N`, then N bytes, the first of which is the type. Every length is exact: a message with missing
//! or trailing bytes is malformed. Parsed messages borrow from the buffer.

use crate::config::is_heartbeat;
use crate::error::{Alert, Error};
use crate::framing::MIN_MAX_FRAME;
use crate::name::{KeyId, Name};
use crate::process_id::ProcessId;

/// Length of the header of a message, in bytes.
pub(super) const HEADER_LEN: usize = 4;
/// Length of a proof, in bytes.
pub(super) const MAC_LEN: usize = 32;
const NONCE_LEN: usize = 32;

/// The supported version of the protocol.
pub(super) const VERSION: u8 = 1;
const MAGIC: &[u8; 4] = b"CSGN";
const MAX_SUITES: usize = 8;

const M1: u8 = 0x01;
const M2: u8 = 0x02;
const M3: u8 = 0x03;
const ALERT: u8 = 0x7f;

/// Length of the longest message of each type with its header, in bytes.
pub(super) const MAX_M1: usize = HEADER_LEN + 1 + MAGIC.len() + 3 + MAX_SUITES + NONCE_LEN;
pub(super) const MAX_M2: usize = HEADER_LEN
    + 3
    + (1 + KeyId::MAX_LEN)
    + 2 * (1 + Name::MAX_LEN)
    + ProcessId::ID_LEN
    + 4
    + NONCE_LEN
    + MAC_LEN;
pub(super) const MAX_M3: usize =
    HEADER_LEN + 1 + (1 + Name::MAX_LEN) + ProcessId::ID_LEN + 4 + 4 + MAC_LEN;

/// Where in M2 the version is, followed by the suite.
const M2_VERSION: usize = HEADER_LEN + 1;

/// Parses the header of a message: its length, including the header.
///
/// Fails before the body is read if the length exceeds `longest`, which is at most 512 bytes.
pub(super) fn whole_len(header: [u8; HEADER_LEN], longest: usize) -> Result<u16, Error> {
    u16::try_from(u32::from_be_bytes(header))
        .ok()
        .and_then(|len| len.checked_add(HEADER_LEN as u16))
        .filter(|&len| usize::from(len) > HEADER_LEN && usize::from(len) <= longest)
        .ok_or(Error::Malformed)
}

/// The alert with `code`, which a server sends in place of its next message.
pub(super) const fn alert(code: u8) -> [u8; HEADER_LEN + 2] {
    [0, 0, 0, 2, ALERT, code]
}

/// M1: the first message of the server.
pub(super) struct ServerHello<'a> {
    pub(super) versions: (u8, u8),
    pub(super) suites: &'a [u8],
}

/// M2: the message of the client.
pub(super) struct ClientProof<'a> {
    pub(super) version: u8,
    pub(super) suite: u8,
    pub(super) kid: &'a str,
    pub(super) name: &'a str,
    /// Empty for any server.
    pub(super) expected: &'a str,
    pub(super) process_id: &'a [u8; ProcessId::ID_LEN],
    pub(super) max_frame: u32,
    pub(super) mac: &'a [u8; MAC_LEN],
}

/// M3: the second message of the server.
pub(super) struct ServerProof<'a> {
    pub(super) name: &'a str,
    pub(super) process_id: &'a [u8; ProcessId::ID_LEN],
    pub(super) max_frame: u32,
    pub(super) heartbeat_ms: u32,
    pub(super) mac: &'a [u8; MAC_LEN],
}

/// Whether `body` begins like that of an M1.
pub(super) fn is_hello(body: &[u8]) -> bool {
    body.strip_prefix(&[M1]).is_some_and(|rest| rest.starts_with(MAGIC))
}

impl<'a> ServerHello<'a> {
    /// Parses a whole M1, or the alert in its place.
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, Error> {
        parse(message, M1, |from| {
            from.array().filter(|magic: &&[u8; 4]| *magic == MAGIC)?;
            let versions = (from.byte()?, from.byte()?);
            let count = usize::from(from.byte()?);
            let suites = from.take(count).filter(|_| (1..=MAX_SUITES).contains(&count))?;
            from.array::<NONCE_LEN>()?;
            (versions.0 <= versions.1).then_some(Self { versions, suites })
        })
    }
}

impl<'a> ClientProof<'a> {
    /// Parses a whole M2.
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, Error> {
        // A client sends no alerts.
        parse(message, M2, |from| {
            let (version, suite) = (from.byte()?, from.byte()?);
            let kid = from.text(1..=KeyId::MAX_LEN)?;
            let name = from.text(1..=Name::MAX_LEN)?;
            let expected = from.text(0..=Name::MAX_LEN)?;
            let process_id = from.array()?;
            let max_frame = from.max_frame()?;
            from.array::<NONCE_LEN>()?;
            let mac = from.array()?;
            Some(Self { version, suite, kid, name, expected, process_id, max_frame, mac })
        })
        .map_err(|_| Error::Malformed)
    }
}

impl<'a> ServerProof<'a> {
    /// Parses a whole M3, or the alert in its place.
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, Error> {
        parse(message, M3, |from| {
            let name = from.text(1..=Name::MAX_LEN)?;
            let process_id = from.array()?;
            let max_frame = from.max_frame()?;
            let heartbeat_ms = from.u32().filter(|&ms| is_heartbeat(ms))?;
            let mac = from.array()?;
            Some(Self { name, process_id, max_frame, heartbeat_ms, mac })
        })
    }
}

fn parse<'a, T>(
    message: &'a [u8],
    kind: u8,
    body: impl FnOnce(&mut Reader<'a>) -> Option<T>,
) -> Result<T, Error> {
    let mut from = Reader(message.get(HEADER_LEN..).unwrap_or_default());
    match from.byte() {
        Some(ALERT) => Err(match (from.byte(), from.0) {
            (Some(code), []) => Error::Alert(match code {
                1 => Alert::Refused,
                2 => Alert::Incompatible,
                3 => Alert::Busy,
                4 => Alert::Malformed,
                5 => Alert::TimedOut,
                code => Alert::Unknown(code),
            }),
            _ => Error::Malformed,
        }),
        Some(first) if first == kind => {
            body(&mut from).filter(|_| from.0.is_empty()).ok_or(Error::Malformed)
        }
        _ => Err(Error::Malformed),
    }
}

/// The unread rest of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| *byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().copied().map(u32::from_be_bytes)
    }

    fn max_frame(&mut self) -> Option<u32> {
        self.u32().filter(|&len| len >= MIN_MAX_FRAME)
    }

    /// `u8 len`, then `len` bytes of printable ASCII; `len` must be in `lens`.
    fn text(&mut self, lens: core::ops::RangeInclusive<usize>) -> Option<&'a str> {
        let len = usize::from(self.byte()?);
        let bytes = self.take(len).filter(|_| lens.contains(&len))?;
        core::str::from_utf8(bytes).ok().filter(|_| bytes.iter().all(u8::is_ascii_graphic))
    }
}

/// Writes M1 to the front of `to`. Returns its length.
pub(super) fn write_hello(to: &mut [u8], suites: &[u8], nonce: &[u8; NONCE_LEN]) -> usize {
    write(to, M1, |to| {
        to.put(MAGIC);
        to.put(&[VERSION, VERSION, suites.len() as u8]);
        to.put(suites);
        to.put(nonce);
    })
}

/// The fields of M2 without version, suite and proof.
pub(super) struct Client<'a> {
    pub(super) kid: &'a str,
    pub(super) name: &'a str,
    pub(super) expected: &'a str,
    pub(super) process_id: &'a [u8; ProcessId::ID_LEN],
    pub(super) max_frame: u32,
    pub(super) nonce: &'a [u8; NONCE_LEN],
}

/// Writes M2 to the front of `to`, with version, suite and proof 0.
pub(super) fn write_client(to: &mut [u8], client: &Client<'_>) {
    write(to, M2, |to| {
        to.put(&[0, 0]);
        to.text(client.kid);
        to.text(client.name);
        to.text(client.expected);
        to.put(client.process_id);
        to.put(&client.max_frame.to_be_bytes());
        to.put(client.nonce);
        to.put(&[0; MAC_LEN]);
    });
}

/// Sets the version and suite of an M2 by [`write_client`].
pub(super) fn choose(message: &mut [u8], suite: u8) {
    message[M2_VERSION..][..2].copy_from_slice(&[VERSION, suite]);
}

/// The fields of M3 without the proof.
pub(super) struct Server<'a> {
    pub(super) name: &'a str,
    pub(super) process_id: &'a [u8; ProcessId::ID_LEN],
    pub(super) max_frame: u32,
    pub(super) heartbeat_ms: u32,
}

/// Writes M3 to the front of `to`, with proof 0.
pub(super) fn write_server(to: &mut [u8], server: &Server<'_>) {
    write(to, M3, |to| {
        to.text(server.name);
        to.put(server.process_id);
        to.put(&server.max_frame.to_be_bytes());
        to.put(&server.heartbeat_ms.to_be_bytes());
        to.put(&[0; MAC_LEN]);
    });
}

/// The first message in `bytes`, which begin with a valid header.
pub(super) fn first(bytes: &[u8]) -> &[u8] {
    &bytes[..len_of_first(bytes)]
}

/// The first message in `bytes`, writable.
pub(super) fn first_mut(bytes: &mut [u8]) -> &mut [u8] {
    let len = len_of_first(bytes);
    &mut bytes[..len]
}

fn len_of_first(bytes: &[u8]) -> usize {
    let header = bytes.first_chunk().copied().unwrap_or_default();
    (HEADER_LEN + u32::from_be_bytes(header) as usize).min(bytes.len())
}

/// Splits `message` into the bytes that the proof covers and the proof.
pub(super) fn split_proof(message: &[u8]) -> (&[u8], &[u8]) {
    message.split_at(message.len().saturating_sub(MAC_LEN))
}

/// Writes a message of the type `kind` with the given body. Returns its length. `to` must have room
/// for the longest message of the type.
fn write(to: &mut [u8], kind: u8, body: impl FnOnce(&mut Writer<'_>)) -> usize {
    let (header, rest) = to.split_at_mut(HEADER_LEN);
    let mut writer = Writer { to: rest, len: 0 };
    writer.put(&[kind]);
    body(&mut writer);
    let len = writer.len;
    header.copy_from_slice(&(len as u32).to_be_bytes());
    HEADER_LEN + len
}

struct Writer<'a> {
    to: &'a mut [u8],
    len: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.to[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn text(&mut self, text: &str) {
        self.put(&[text.len() as u8]);
        self.put(text.as_bytes());
    }
}

#[cfg(test)]
mod tests;
