//! Framings: one file per framing, and here what they share.
//!
//! A decoder looks at the bytes in front and says what they are; it changes nothing until a whole
//! part is there, so that how bytes arrive cannot matter. An encoder plans what goes around a part,
//! and what it planned takes effect when the part is committed.

mod length_prefixed;
mod raw;
mod sealed;

use core::ops::Range;

use crate::config::{Config, Framing};
use crate::error::{CloseReason, Error, SendError};
use crate::event::Remaining;

pub(crate) use length_prefixed::multiprocessing::Prefix as MultiprocessingPrefix;
pub(crate) use length_prefixed::{Length, Prefix};
pub(crate) use sealed::{MAX_CONTROL, MIN_MAX_FRAME, SealingParams};

use length_prefixed::{multiprocessing, u32};

/// Length of the field that says how long a frame is, in bytes.
const HEADER_LEN: usize = 4;

/// The shortest receive buffer for sealed frames, in bytes.
const SEALED_RECEIVE_LEN: usize = HEADER_LEN + MIN_MAX_FRAME as usize;

impl Config {
    /// The shortest receive buffer, in bytes: [`MIN_BUFFER`](Self::MIN_BUFFER), or 260 for sealed
    /// frames.
    #[must_use]
    pub const fn receive_len(&self) -> usize {
        match self.framing {
            Framing::Raw | Framing::U32 | Framing::Multiprocessing => Self::MIN_BUFFER,
            Framing::Sealed => SEALED_RECEIVE_LEN,
        }
    }
}

/// The largest N of a sealed frame that fits a receive buffer of `capacity` bytes and that
/// `max_frame` allows.
pub(crate) fn sealed_max_frame(capacity: usize, max_frame: u64) -> u32 {
    let fits = capacity.saturating_sub(HEADER_LEN) as u64;
    u32::try_from(fits.min(max_frame)).unwrap_or(u32::MAX).max(MIN_MAX_FRAME)
}

/// What the bytes in front of a receive buffer are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Not all of it: that many are needed, those that are there included.
    Need(usize),
    /// After `header` bytes, a part of `len`, and then `trailer` that belong to it.
    Chunk { header: usize, len: usize, trailer: usize, first: bool, remaining: Remaining },
    /// In `len` bytes, something that is no message.
    Control { len: usize, control: Control },
}

/// A frame that is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// Asks for the same bytes back.
    Ping([u8; 8]),
    /// Gives them.
    Pong([u8; 8]),
    /// No more messages.
    Fin,
    /// The end of both directions.
    Close(CloseReason),
    /// Nothing that anything follows from, but a sign of life.
    Other,
}

/// The bounds of what a decoder may accept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The longest part to deliver, in bytes; with what is around it, it fits the buffer.
    pub(crate) max_chunk: usize,
    /// The longest frame that the peer may send, in bytes.
    pub(crate) max_frame: u64,
}

/// The receiving half of a framing.
pub(crate) enum Decoder {
    Raw(raw::Decoder),
    U32(length_prefixed::Decoder<u32::Prefix>),
    Multiprocessing(length_prefixed::Decoder<multiprocessing::Prefix>),
    Sealed(sealed::Decoder),
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Raw => Self::Raw(raw::Decoder::default()),
            Framing::U32 => Self::U32(length_prefixed::Decoder::new()),
            Framing::Multiprocessing => Self::Multiprocessing(length_prefixed::Decoder::new()),
            Framing::Sealed => Self::Sealed(sealed::Decoder::default()),
        }
    }

    /// The handshake is over, and this came of it for sealed frames.
    pub(crate) fn open(&mut self, sealing: &SealingParams) {
        if let Self::Sealed(decoder) = self {
            decoder.open(sealing);
        }
    }

    /// What `bytes` begin with. Their part, if it is one, counts as taken.
    #[inline]
    pub(crate) fn parse(&mut self, bytes: &[u8], limits: Limits) -> Result<Parsed, Error> {
        match self {
            Self::Raw(decoder) => Ok(decoder.parse(bytes, limits)),
            Self::U32(decoder) => decoder.parse(bytes, limits),
            Self::Multiprocessing(decoder) => decoder.parse(bytes, limits),
            Self::Sealed(decoder) => decoder.parse(bytes, limits),
        }
    }

    /// Whether no message has begun and not ended.
    pub(crate) fn at_boundary(&self) -> bool {
        match self {
            Self::Raw(_) => true,
            Self::U32(decoder) => decoder.at_boundary(),
            Self::Multiprocessing(decoder) => decoder.at_boundary(),
            Self::Sealed(decoder) => decoder.at_boundary(),
        }
    }

    /// Whether the peer owes bytes of a frame that has begun, though none wait.
    pub(crate) fn in_frame(&self) -> bool {
        match self {
            Self::Raw(_) | Self::Sealed(_) => false,
            Self::U32(decoder) => !decoder.at_boundary(),
            Self::Multiprocessing(decoder) => !decoder.at_boundary(),
        }
    }
}

/// The sending half of a framing.
pub(crate) enum Encoder {
    Raw,
    U32(length_prefixed::Encoder<u32::Prefix>),
    Multiprocessing(length_prefixed::Encoder<multiprocessing::Prefix>),
    Sealed(sealed::Encoder),
}

/// What goes around a part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Length of the part, in bytes.
    len: u32,
    header_len: u8,
    trailer_len: u8,
    /// What follows the part.
    remaining: Remaining,
}

impl Plan {
    /// Of a part of `len` bytes, which is no longer than a buffer.
    const fn new(header_len: usize, len: usize, trailer_len: usize, remaining: Remaining) -> Self {
        let (header_len, trailer_len) = (header_len as u8, trailer_len as u8);
        Self { len: len as u32, header_len, trailer_len, remaining }
    }

    /// Nothing goes around the part.
    const fn nothing(len: usize) -> Self {
        Self::new(0, len, 0, Remaining::Unknown)
    }

    /// Length of what goes in front of the part, in bytes.
    fn header_len(&self) -> usize {
        self.header_len.into()
    }

    /// Length of the part and what goes around it, in bytes.
    pub(crate) fn whole_len(&self) -> usize {
        self.header_len() + self.len as usize + usize::from(self.trailer_len)
    }

    /// Where in all that the part is.
    pub(crate) fn chunk(&self) -> Range<usize> {
        self.header_len()..self.header_len() + self.len as usize
    }
}

impl Encoder {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Raw => Self::Raw,
            Framing::U32 => Self::U32(length_prefixed::Encoder::new()),
            Framing::Multiprocessing => Self::Multiprocessing(length_prefixed::Encoder::new()),
            Framing::Sealed => Self::Sealed(sealed::Encoder::default()),
        }
    }

    /// The handshake is over, and this came of it for sealed frames.
    pub(crate) fn open(&mut self, sealing: &SealingParams) {
        if let Self::Sealed(encoder) = self {
            encoder.open(sealing);
        }
    }

    /// Whether the end of a direction, and of a session, is a frame of its own.
    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self, Self::Sealed(_))
    }

    /// Bytes that a part may need beside its own.
    pub(crate) const fn overhead(&self) -> usize {
        match self {
            Self::Raw => 0,
            Self::U32(_) => u32::Prefix::MAX_LEN,
            Self::Multiprocessing(_) => multiprocessing::Prefix::MAX_LEN,
            Self::Sealed(_) => sealed::OVERHEAD,
        }
    }

    /// The longest part that the peer takes, in bytes.
    pub(crate) fn max_payload(&self) -> u32 {
        match self {
            Self::Raw | Self::U32(_) | Self::Multiprocessing(_) => 0xffff_ffff,
            Self::Sealed(encoder) => encoder.max_payload(),
        }
    }

    /// Whether no message has begun and not ended.
    pub(crate) fn at_boundary(&self) -> bool {
        match self {
            Self::Raw => true,
            Self::U32(encoder) => encoder.at_boundary(),
            Self::Multiprocessing(encoder) => encoder.at_boundary(),
            Self::Sealed(encoder) => encoder.at_boundary(),
        }
    }

    /// Plans a part of `len` bytes that `rest` follows.
    #[inline]
    pub(crate) fn plan(&self, len: usize, remaining: Remaining) -> Result<Plan, SendError> {
        match self {
            Self::Raw => Ok(Plan::nothing(len)),
            Self::U32(encoder) => encoder.plan(len, remaining),
            Self::Multiprocessing(encoder) => encoder.plan(len, remaining),
            Self::Sealed(encoder) => encoder.plan(len, remaining),
        }
    }

    /// Carries out the last `plan`: `frame` is the part with room for what goes around it, not empty,
    /// and is what is sent next.
    // As is the room it is for: see `SendBuffer::reserve`.
    #[inline(always)]
    pub(crate) fn commit(&mut self, plan: &Plan, frame: &mut [u8]) {
        match self {
            Self::Raw => {}
            Self::U32(encoder) => encoder.commit(plan, frame),
            Self::Multiprocessing(encoder) => encoder.commit(plan, frame),
            Self::Sealed(encoder) => encoder.commit(plan, frame),
        }
    }

    /// Writes a control frame, which is what is sent next; returns its length, 0 in framings that
    /// have none.
    pub(crate) fn control(&mut self, control: Control, to: &mut [u8; MAX_CONTROL]) -> usize {
        match self {
            Self::Raw | Self::U32(_) | Self::Multiprocessing(_) => 0,
            Self::Sealed(encoder) => encoder.control(control, to),
        }
    }

    /// What tells a PING from those before it.
    pub(crate) fn token(&self) -> [u8; 8] {
        match self {
            Self::Raw | Self::U32(_) | Self::Multiprocessing(_) => [0; 8],
            Self::Sealed(encoder) => encoder.token(),
        }
    }
}

#[cfg(test)]
mod tests;
