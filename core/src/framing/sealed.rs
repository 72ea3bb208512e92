//! Sealed frames (docs/PROTOCOL.md, "sealed"): the framing of the scheme `mutual`.
//!
//! `u32 N ‖ type ‖ payload ‖ tag[16]`. The tag also covers an implicit sequence number, one per
//! direction, so a dropped, repeated or reordered frame is detected. Nothing of a frame is used before
//! its tag is verified.

use subtle::ConstantTimeEq;

use super::{Control, HEADER_LEN, Limits, Parsed, Plan};
use crate::crypto::key_schedule::Secret;
use crate::crypto::mac;
use crate::error::{CloseReason, Error, FrameError, SendError};
use crate::event::Remaining;

/// The least max_frame that an end may announce, in bytes.
pub(crate) const MIN_MAX_FRAME: u32 = 256;

/// The keys and limits of sealed frames, from the handshake.
pub(crate) struct SealingParams {
    /// The key for the frames of this end.
    pub(crate) send: Secret,
    /// The key for the frames of the peer.
    pub(crate) receive: Secret,
    /// Whether frames carry tags.
    pub(crate) tagged: bool,
    /// The largest N that the peer accepts.
    pub(crate) max_frame: u32,
}

impl SealingParams {
    /// Length of the tag of each frame, in bytes.
    fn tag_len(&self) -> u8 {
        if self.tagged { TAG_LEN as u8 } else { 0 }
    }
}

/// Length of a tag, in bytes.
const TAG_LEN: usize = 16;
/// Length of N and the type, in bytes.
const TYPED_LEN: usize = HEADER_LEN + 1;
/// Length of a frame without its payload, in bytes.
pub(super) const OVERHEAD: usize = TYPED_LEN + TAG_LEN;

const DATA: u8 = 0x00;
const PING: u8 = 0x01;
const PONG: u8 = 0x02;
const PART: u8 = 0x03;
const FIN: u8 = 0x04;
const CLOSE: u8 = 0x05;
/// Unknown types from here on are ignored once verified; below, they are errors.
const FIRST_IGNORED: u8 = 0x40;

/// Length of the longest reason text in a CLOSE, in bytes.
const MAX_REASON: usize = 128;

/// Length of the longest control frame that this end sends, in bytes.
pub(crate) const MAX_CONTROL: usize = OVERHEAD + 8;

/// The key of one direction and its sequence number.
#[derive(Default)]
struct Seal {
    key: Secret,
    seq: u64,
}

impl Seal {
    fn new(key: &Secret) -> Self {
        Self { key: key.clone(), seq: 0 }
    }

    /// The tag of the next frame; `frame` is all of it but the tag.
    fn tag(&self, frame: &[u8]) -> [u8; TAG_LEN] {
        let whole = mac::sha256(&self.key, &[&self.seq.to_be_bytes(), frame]);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&whole[..TAG_LEN]);
        tag
    }

    fn advance(&mut self) {
        // Does not wrap in practice: 2^64 frames at a billion per second take 584 years.
        self.seq = self.seq.wrapping_add(1);
    }
}

#[derive(Default)]
pub(crate) struct Decoder {
    seal: Seal,
    /// Payload bytes of the current, verified frame that are not delivered.
    left: u32,
    /// Whether more frames of the message follow the current one.
    more: bool,
    /// Whether a message has been received in part.
    in_message: bool,
    /// Whether the FIN of the peer has been received.
    finished: bool,
    /// Length of the tag of each frame, in bytes.
    tag_len: u8,
}

impl Decoder {
    /// Starts to accept frames.
    pub(super) fn open(&mut self, sealing: &SealingParams) {
        self.seal = Seal::new(&sealing.receive);
        self.tag_len = sealing.tag_len();
    }

    pub(super) fn parse(&mut self, bytes: &[u8], limits: Limits) -> Result<Parsed, Error> {
        if self.left > 0 {
            return Ok(self.deliver(0, false, limits));
        }
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Ok(Parsed::Need(HEADER_LEN));
        };
        let len = u32::from_be_bytes(*header);
        if u64::from(len) > limits.max_frame {
            return Err(Error::FrameTooLong { len: len.into() });
        }
        // max_frame is less than the receive buffer, so the buffer holds the whole frame.
        let whole = HEADER_LEN.saturating_add(len as usize);
        if whole < TYPED_LEN + usize::from(self.tag_len) {
            return Err(Error::Frame(FrameError::Payload));
        }
        let Some(frame) = bytes.get(..whole) else {
            return Ok(Parsed::Need(whole));
        };
        let (frame, tag) = frame.split_at(whole - usize::from(self.tag_len));
        if self.tag_len > 0 && !bool::from(self.seal.tag(frame).as_slice().ct_eq(tag)) {
            return Err(Error::Frame(FrameError::Tag));
        }
        self.seal.advance();
        let payload = &frame[TYPED_LEN..];
        let control = match frame[HEADER_LEN] {
            kind @ (DATA | PART) => {
                if self.finished {
                    return Err(Error::Frame(FrameError::Order));
                }
                if kind == PART && payload.is_empty() {
                    return Err(Error::Frame(FrameError::Payload));
                }
                let first = !core::mem::replace(&mut self.in_message, kind == PART);
                self.left = payload.len() as u32;
                self.more = kind == PART;
                return Ok(self.deliver(TYPED_LEN, first, limits));
            }
            PING => Control::Ping(exact_payload(payload)?),
            PONG => exact_payload::<8>(payload).map(|_| Control::Other)?,
            FIN => {
                exact_payload::<0>(payload)?;
                if self.in_message || self.finished {
                    return Err(Error::Frame(FrameError::Order));
                }
                self.finished = true;
                Control::Fin
            }
            CLOSE => Control::Close(parse_close(payload)?),
            FIRST_IGNORED.. => Control::Other,
            _ => return Err(Error::Frame(FrameError::Type)),
        };
        Ok(Parsed::Control { len: whole, control })
    }

    /// The next chunk of the current frame, after `header` bytes.
    fn deliver(&mut self, header: usize, first: bool, limits: Limits) -> Parsed {
        let len = (self.left as usize).min(limits.max_chunk);
        self.left -= len as u32;
        let remaining = match self.left {
            _ if self.more => Remaining::More,
            0 => Remaining::End,
            left => Remaining::Bytes(left.into()),
        };
        let trailer = if self.left == 0 { usize::from(self.tag_len) } else { 0 };
        Parsed::Chunk { header, len, trailer, first, remaining }
    }

    /// Whether the position is between two messages.
    pub(super) fn at_boundary(&self) -> bool {
        !self.in_message && self.left == 0
    }
}

/// A payload of exactly `N` bytes.
fn exact_payload<const N: usize>(payload: &[u8]) -> Result<[u8; N], Error> {
    payload.try_into().map_err(|_| Error::Frame(FrameError::Payload))
}

/// The reason of a CLOSE: a code, then text for people.
fn parse_close(payload: &[u8]) -> Result<CloseReason, Error> {
    let (&code, text) = payload.split_first().ok_or(Error::Frame(FrameError::Payload))?;
    if text.len() > MAX_REASON || core::str::from_utf8(text).is_err() {
        return Err(Error::Frame(FrameError::Payload));
    }
    Ok(match code {
        0 => CloseReason::Shutdown,
        1 => CloseReason::Protocol,
        2 => CloseReason::Timeout,
        // Codes of later versions count as reasons of the application.
        _ => CloseReason::Application,
    })
}

/// The code of a reason in a CLOSE.
const fn close_code(reason: CloseReason) -> u8 {
    match reason {
        CloseReason::Shutdown => 0,
        CloseReason::Protocol => 1,
        CloseReason::Timeout => 2,
        CloseReason::Application => 3,
    }
}

#[derive(Default)]
pub(crate) struct Encoder {
    seal: Seal,
    /// Length of the longest payload that the peer accepts, in bytes.
    max_payload: u32,
    /// Whether a message has been queued in part.
    in_message: bool,
    /// Length of the tag of each frame, in bytes.
    tag_len: u8,
}

/// Whether nothing of a message remains. As in the other framings, no remaining bytes mean the end.
fn is_last(remaining: Remaining) -> bool {
    matches!(remaining, Remaining::End | Remaining::Bytes(0))
}

impl Encoder {
    /// Starts to send frames.
    pub(super) fn open(&mut self, sealing: &SealingParams) {
        self.seal = Seal::new(&sealing.send);
        self.tag_len = sealing.tag_len();
        self.max_payload = sealing.max_frame - 1 - u32::from(self.tag_len);
    }

    pub(super) fn max_payload(&self) -> u32 {
        self.max_payload
    }

    pub(super) fn at_boundary(&self) -> bool {
        !self.in_message
    }

    pub(super) fn plan(&self, len: usize, remaining: Remaining) -> Result<Plan, SendError> {
        // A PART must not be empty, so an empty chunk that is not the last sends nothing.
        if len == 0 && !is_last(remaining) {
            return Ok(Plan::BARE);
        }
        Ok(Plan { header: TYPED_LEN, trailer: usize::from(self.tag_len) })
    }

    /// Seals `frame`, which holds the chunk with room for header and tag and is the next to be sent.
    pub(super) fn commit(&mut self, remaining: Remaining, frame: &mut [u8]) {
        self.in_message = !is_last(remaining);
        let kind = if self.in_message { PART } else { DATA };
        self.write_header(frame, kind, frame.len() - TYPED_LEN - usize::from(self.tag_len));
        self.seal(frame);
    }

    /// Encodes a control frame at the front of `to`. Returns its length.
    pub(super) fn control(&mut self, control: Control, to: &mut [u8; MAX_CONTROL]) -> usize {
        let payload = &mut to[TYPED_LEN..];
        let (kind, len) = match control {
            Control::Ping(bytes) | Control::Pong(bytes) => {
                payload[..bytes.len()].copy_from_slice(&bytes);
                (if matches!(control, Control::Ping(_)) { PING } else { PONG }, bytes.len())
            }
            Control::Fin => (FIN, 0),
            Control::Close(reason) => {
                // No reason text is sent.
                payload[0] = close_code(reason);
                (CLOSE, 1)
            }
            Control::Other => return 0,
        };
        self.write_header(to, kind, len);
        let whole = TYPED_LEN + len + usize::from(self.tag_len);
        self.seal(&mut to[..whole]);
        whole
    }

    /// A token for the next PING: the sequence number, which no earlier PING had.
    pub(super) fn token(&self) -> [u8; 8] {
        self.seal.seq.to_be_bytes()
    }

    fn write_header(&self, to: &mut [u8], kind: u8, len: usize) {
        // At most `max_payload` plus the overhead.
        let n = (1 + len + usize::from(self.tag_len)) as u32;
        to[..HEADER_LEN].copy_from_slice(&n.to_be_bytes());
        to[HEADER_LEN] = kind;
    }

    fn seal(&mut self, frame: &mut [u8]) {
        let (frame, tag) = frame.split_at_mut(frame.len() - usize::from(self.tag_len));
        if self.tag_len > 0 {
            tag.copy_from_slice(&self.seal.tag(frame));
        }
        self.seal.advance();
    }
}

#[cfg(test)]
mod tests;
