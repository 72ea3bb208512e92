//! Frames with a type and a tag (docs/PROTOCOL.md, "sealed"): what follows the scheme `mutual`.
//!
//! `u32 N ‖ type ‖ payload ‖ tag[16]`. The tag also covers a sequence number that is not sent, one
//! for each direction, so a frame that is missing, repeated or out of its place is noticed. Nothing
//! of a frame means anything before its tag was verified.

use subtle::ConstantTimeEq;

use super::{Control, HEADER_LEN, Limits, Parsed, Plan};
use crate::crypto::key_schedule::Secret;
use crate::crypto::mac;
use crate::error::{CloseReason, Error, FrameError, SendError};
use crate::event::Remaining;

/// The smallest max_frame that an end may announce, in bytes.
pub(crate) const MIN_MAX_FRAME: u32 = 256;

/// The keys and limits of sealed frames, which the handshake agrees on.
pub(crate) struct SealingParams {
    /// The key of the frames that this end sends.
    pub(crate) send: Secret,
    /// The key of the frames that the peer sends.
    pub(crate) receive: Secret,
    /// Whether frames carry tags.
    pub(crate) tagged: bool,
    /// The largest N that the peer takes.
    pub(crate) max_frame: u32,
}

/// Length of a tag in bytes.
const TAG_LEN: usize = 16;
/// Length of a frame's header in bytes: N and the type.
const TYPED_LEN: usize = HEADER_LEN + 1;
/// What a frame has beside its payload, in bytes.
pub(super) const OVERHEAD: usize = TYPED_LEN + TAG_LEN;

const DATA: u8 = 0x00;
const PING: u8 = 0x01;
const PONG: u8 = 0x02;
const PART: u8 = 0x03;
const FIN: u8 = 0x04;
const CLOSE: u8 = 0x05;
/// From here on: ignored by whoever does not know it.
const IGNORED: u8 = 0x40;

/// The longest reason in a CLOSE, in bytes.
const MAX_REASON: usize = 128;

/// The longest frame that [`Encoder::control`] makes, in bytes.
pub(crate) const MAX_CONTROL: usize = OVERHEAD + 8;

/// The key of one direction, and how many frames it has protected.
#[derive(Default)]
struct Seal {
    key: Secret,
    seq: u64,
    /// Whether frames carry tags at all. Until the handshake is over there are no frames.
    tagged: bool,
}

impl Seal {
    fn new(key: &Secret, tagged: bool) -> Self {
        Self { key: key.clone(), seq: 0, tagged }
    }

    fn tag_len(&self) -> usize {
        if self.tagged { TAG_LEN } else { 0 }
    }

    /// The tag of the next frame, all of it but the tag.
    fn tag(&self, frame: &[u8]) -> [u8; TAG_LEN] {
        let whole = mac::sha256(&self.key, &[&self.seq.to_be_bytes(), frame]);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&whole[..TAG_LEN]);
        tag
    }

    fn advance(&mut self) {
        // It does not wrap: at a billion frames a second that would take 584 years.
        self.seq = self.seq.wrapping_add(1);
    }
}

#[derive(Default)]
pub(crate) struct Decoder {
    seal: Seal,
    /// Of a frame whose tag was verified, the bytes of payload that were not delivered.
    left: u32,
    /// Whether more of the message follows that frame.
    more: bool,
    /// A message has begun and not ended.
    in_message: bool,
    /// The peer has said that it sends no more messages.
    finished: bool,
}

impl Decoder {
    /// Begins to expect frames.
    pub(super) fn open(&mut self, sealing: &SealingParams) {
        self.seal = Seal::new(&sealing.receive, sealing.tagged);
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
        // No frame that the buffer does not hold gets here: max_frame is less than it.
        let whole = HEADER_LEN.saturating_add(len as usize);
        if whole < TYPED_LEN + self.seal.tag_len() {
            return Err(Error::Frame(FrameError::Payload));
        }
        let Some(frame) = bytes.get(..whole) else {
            return Ok(Parsed::Need(whole));
        };
        let (frame, tag) = frame.split_at(whole - self.seal.tag_len());
        if self.seal.tagged && !bool::from(self.seal.tag(frame).as_slice().ct_eq(tag)) {
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
            PING => Control::Ping(exactly(payload)?),
            PONG => exactly::<8>(payload).map(|_| Control::Other)?,
            FIN => {
                exactly::<0>(payload)?;
                if self.in_message || self.finished {
                    return Err(Error::Frame(FrameError::Order));
                }
                self.finished = true;
                Control::Fin
            }
            CLOSE => Control::Close(reason(payload)?),
            IGNORED.. => Control::Other,
            _ => return Err(Error::Frame(FrameError::Type)),
        };
        Ok(Parsed::Control { len: whole, control })
    }

    /// The next part of the payload that is left, behind `header` bytes.
    fn deliver(&mut self, header: usize, first: bool, limits: Limits) -> Parsed {
        let len = (self.left as usize).min(limits.max_chunk);
        self.left -= len as u32;
        let remaining = match self.left {
            _ if self.more => Remaining::More,
            0 => Remaining::End,
            left => Remaining::Bytes(left.into()),
        };
        let trailer = if self.left == 0 { self.seal.tag_len() } else { 0 };
        Parsed::Chunk { header, len, trailer, first, remaining }
    }

    /// Whether no message is half received.
    pub(super) fn at_boundary(&self) -> bool {
        !self.in_message && self.left == 0
    }
}

/// A payload that is exactly so long.
fn exactly<const N: usize>(payload: &[u8]) -> Result<[u8; N], Error> {
    payload.try_into().map_err(|_| Error::Frame(FrameError::Payload))
}

/// What a CLOSE says: a code, and text for people.
fn reason(payload: &[u8]) -> Result<CloseReason, Error> {
    let (&code, text) = payload.split_first().ok_or(Error::Frame(FrameError::Payload))?;
    if text.len() > MAX_REASON || core::str::from_utf8(text).is_err() {
        return Err(Error::Frame(FrameError::Payload));
    }
    Ok(match code {
        0 => CloseReason::Shutdown,
        1 => CloseReason::Protocol,
        2 => CloseReason::Timeout,
        // Of later versions we know no more than that the application was told something.
        _ => CloseReason::Application,
    })
}

/// The code of a CLOSE.
const fn code(reason: CloseReason) -> u8 {
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
    /// The longest payload that the peer takes, in bytes.
    max_payload: u32,
    /// A message has begun and not ended.
    in_message: bool,
}

impl Encoder {
    /// Begins to make frames.
    pub(super) fn open(&mut self, sealing: &SealingParams) {
        self.seal = Seal::new(&sealing.send, sealing.tagged);
        self.max_payload = sealing.max_frame - 1 - self.seal.tag_len() as u32;
    }

    pub(super) fn max_payload(&self) -> u32 {
        self.max_payload
    }

    pub(super) fn at_boundary(&self) -> bool {
        !self.in_message
    }

    pub(super) fn plan(&self, len: usize, remaining: Remaining) -> Result<Plan, SendError> {
        // No bytes follow: that is the end, as it is in other framings.
        let remaining = if remaining == Remaining::Bytes(0) { Remaining::End } else { remaining };
        // A PART is never empty, and nothing is what an empty one says.
        if len == 0 && remaining != Remaining::End {
            return Ok(Plan::nothing(len));
        }
        Ok(Plan::new(TYPED_LEN, len, self.seal.tag_len(), remaining))
    }

    /// `frame` is the part with room for what goes around it, and is the next to be sent.
    pub(super) fn commit(&mut self, plan: &Plan, frame: &mut [u8]) {
        self.in_message = plan.remaining != Remaining::End;
        let kind = if self.in_message { PART } else { DATA };
        self.write_header(frame, kind, plan.len as usize);
        self.seal(frame);
    }

    /// Writes a control frame to the front of `to`; returns its length.
    pub(super) fn control(&mut self, control: Control, to: &mut [u8; MAX_CONTROL]) -> usize {
        let payload = &mut to[TYPED_LEN..];
        let (kind, len) = match control {
            Control::Ping(bytes) | Control::Pong(bytes) => {
                payload[..bytes.len()].copy_from_slice(&bytes);
                (if matches!(control, Control::Ping(_)) { PING } else { PONG }, bytes.len())
            }
            Control::Fin => (FIN, 0),
            Control::Close(reason) => {
                // The code says it all; there is no text.
                payload[0] = code(reason);
                (CLOSE, 1)
            }
            Control::Other => return 0,
        };
        self.write_header(to, kind, len);
        let whole = TYPED_LEN + len + self.seal.tag_len();
        self.seal(&mut to[..whole]);
        whole
    }

    /// What tells a PING from those before it.
    pub(super) fn token(&self) -> [u8; 8] {
        self.seal.seq.to_be_bytes()
    }

    fn write_header(&self, to: &mut [u8], kind: u8, len: usize) {
        // No frame is longer than `max_payload` and this.
        let n = (1 + len + self.seal.tag_len()) as u32;
        to[..HEADER_LEN].copy_from_slice(&n.to_be_bytes());
        to[HEADER_LEN] = kind;
    }

    fn seal(&mut self, frame: &mut [u8]) {
        let (frame, tag) = frame.split_at_mut(frame.len() - self.seal.tag_len());
        if self.seal.tagged {
            tag.copy_from_slice(&self.seal.tag(frame));
        }
        self.seal.advance();
    }
}

#[cfg(test)]
mod tests;
