//! Framings: one file per framing, and here what they share.
//!
//! A decoder looks at the bytes in front and says what they are; it changes nothing until a whole
//! part is there, so that how bytes arrive cannot matter. An encoder plans a header and the state
//! after it; the plan takes effect when the part is committed.

mod raw;
mod u32;

use crate::config::Framing;
use crate::error::{Error, SendError};
use crate::machine::Rest;

/// The longest header of any framing, in bytes.
const MAX_HEADER: usize = 4;

/// What the bytes in front of a receive buffer are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Not all of it: that many are needed, those that are there included.
    Need(usize),
    /// After `header` bytes, a part of `len`.
    Part { header: usize, len: usize, first: bool, rest: Rest },
}

/// The bounds of what a decoder may accept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The longest part to deliver, in bytes; with a header in front it fits the buffer.
    pub(crate) max_part: usize,
    /// The longest frame that the peer may send, in bytes.
    pub(crate) max_frame: u64,
}

/// The receiving half of a framing.
#[derive(Debug)]
pub(crate) enum Decoder {
    Raw(raw::Decoder),
    U32(u32::Decoder),
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Raw => Self::Raw(raw::Decoder::default()),
            Framing::U32 => Self::U32(u32::Decoder::default()),
        }
    }

    /// What `bytes` begin with. Their part, if it is one, counts as taken.
    pub(crate) fn parse(&mut self, bytes: &[u8], limits: Limits) -> Result<Parsed, Error> {
        match self {
            Self::Raw(decoder) => Ok(decoder.parse(bytes, limits)),
            Self::U32(decoder) => decoder.parse(bytes, limits),
        }
    }

    /// Whether the peer may end its stream behind what was parsed.
    pub(crate) fn at_boundary(&self) -> bool {
        match self {
            Self::Raw(_) => true,
            Self::U32(decoder) => decoder.at_boundary(),
        }
    }
}

/// The sending half of a framing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Encoder {
    Raw,
    U32(u32::Encoder),
}

/// How a part is to be written.
#[derive(Debug)]
pub(crate) struct Plan {
    header: [u8; MAX_HEADER],
    header_len: usize,
    /// The encoder once the part is committed.
    pub(crate) next: Encoder,
}

impl Plan {
    pub(crate) fn header(&self) -> &[u8] {
        &self.header[..self.header_len]
    }
}

impl Encoder {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Raw => Self::Raw,
            Framing::U32 => Self::U32(u32::Encoder::default()),
        }
    }

    /// Bytes that a part may need beside its own.
    pub(crate) const fn overhead(self) -> usize {
        match self {
            Self::Raw => 0,
            Self::U32(_) => u32::HEADER_LEN,
        }
    }

    /// Whether no message has begun and not ended.
    pub(crate) fn at_boundary(self) -> bool {
        match self {
            Self::Raw => true,
            Self::U32(encoder) => encoder.at_boundary(),
        }
    }

    /// Plans a part of `len` bytes that `rest` follows.
    pub(crate) fn plan(self, len: usize, rest: Rest) -> Result<Plan, SendError> {
        match self {
            Self::Raw => Ok(Plan { header: [0; MAX_HEADER], header_len: 0, next: self }),
            Self::U32(encoder) => encoder.plan(len, rest),
        }
    }
}
