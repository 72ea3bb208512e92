//! Framings: how bytes become messages. One file per framing, and here the types they share.
//!
//! A [`Decoder`] parses the bytes at the front of the receive buffer. It changes no state until a
//! whole chunk is present, so the result does not depend on how the bytes arrive. An [`Encoder`] first
//! plans the header and tag of a chunk; the plan takes effect when the chunk is committed.

mod length_prefixed;
mod raw;
mod sealed;

use crate::config::{Config, Framing};
use crate::error::{CloseReason, Error, SendError};
use crate::event::Remaining;

pub(crate) use length_prefixed::multiprocessing::Prefix as MultiprocessingPrefix;
pub(crate) use length_prefixed::{Length, Prefix};
pub(crate) use sealed::{MAX_CONTROL, MIN_MAX_FRAME, SealingParams};

use length_prefixed::{multiprocessing, u32};

/// Length of the length field of a frame, in bytes.
const HEADER_LEN: usize = 4;

/// The least length of a receive buffer for sealed frames, in bytes.
const SEALED_RECEIVE_LEN: usize = HEADER_LEN + MIN_MAX_FRAME as usize;

impl Config {
    /// The least length of the receive buffer, in bytes: [`MIN_BUFFER`](Self::MIN_BUFFER), or 260
    /// for sealed frames.
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

/// What the bytes at the front of the receive buffer are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Incomplete: this many bytes are needed, including those that are present.
    Need(usize),
    /// A chunk of `len` bytes, after a header and before a trailer.
    Chunk { header: usize, len: usize, trailer: usize, first: bool, remaining: Remaining },
    /// A control frame of `len` bytes in all.
    Control { len: usize, control: Control },
}

/// A frame that carries no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// Requests a PONG with the same token.
    Ping([u8; 8]),
    /// Answers a PING.
    Pong([u8; 8]),
    /// The sender sends no more messages.
    Fin,
    /// Ends both directions.
    Close(CloseReason),
    /// A frame without an effect other than as a keepalive.
    Other,
}

/// The limits of a decoder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Length of the longest chunk to deliver, in bytes. With its header and tag it fits the buffer.
    pub(crate) max_chunk: usize,
    /// Length of the longest frame to accept, in bytes.
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

    /// Starts to accept sealed frames. No effect on other framings.
    pub(crate) fn open(&mut self, sealing: &SealingParams) {
        if let Self::Sealed(decoder) = self {
            decoder.open(sealing);
        }
    }

    /// Parses the front of `bytes`. A chunk or control frame that is returned counts as consumed.
    #[inline]
    pub(crate) fn parse(&mut self, bytes: &[u8], limits: Limits) -> Result<Parsed, Error> {
        match self {
            Self::Raw(decoder) => Ok(decoder.parse(bytes, limits)),
            Self::U32(decoder) => decoder.parse(bytes, limits),
            Self::Multiprocessing(decoder) => decoder.parse(bytes, limits),
            Self::Sealed(decoder) => decoder.parse(bytes, limits),
        }
    }

    /// Whether the position is between two messages.
    pub(crate) fn at_boundary(&self) -> bool {
        match self {
            Self::Raw(_) => true,
            Self::U32(decoder) => decoder.at_boundary(),
            Self::Multiprocessing(decoder) => decoder.at_boundary(),
            Self::Sealed(decoder) => decoder.at_boundary(),
        }
    }

    /// Whether the position is within a frame whose header is already consumed.
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

/// Lengths of what surrounds a chunk that is to be sent, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    header: usize,
    trailer: usize,
}

impl Plan {
    /// For a chunk without a frame.
    const BARE: Self = Self { header: 0, trailer: 0 };

    /// Length of the frame around a chunk of `len` bytes.
    pub(crate) const fn whole_len(self, len: usize) -> usize {
        self.header + len + self.trailer
    }

    /// Where the chunk is in its `frame`.
    pub(crate) fn chunk(self, frame: &mut [u8]) -> &mut [u8] {
        let end = frame.len() - self.trailer;
        &mut frame[self.header..end]
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

    /// Starts to send sealed frames. No effect on other framings.
    pub(crate) fn open(&mut self, sealing: &SealingParams) {
        if let Self::Sealed(encoder) = self {
            encoder.open(sealing);
        }
    }

    /// Whether the framing has control frames: FIN, CLOSE, PING and PONG.
    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self, Self::Sealed(_))
    }

    /// The greatest length of header and tag, in bytes.
    pub(crate) const fn overhead(&self) -> usize {
        match self {
            Self::Raw => 0,
            Self::U32(_) => u32::Prefix::MAX_LEN,
            Self::Multiprocessing(_) => multiprocessing::Prefix::MAX_LEN,
            Self::Sealed(_) => sealed::OVERHEAD,
        }
    }

    /// Length of the longest chunk that the peer accepts, in bytes.
    pub(crate) fn max_payload(&self) -> u32 {
        match self {
            Self::Raw | Self::U32(_) | Self::Multiprocessing(_) => 0xffff_ffff,
            Self::Sealed(encoder) => encoder.max_payload(),
        }
    }

    /// Whether the position is between two messages.
    pub(crate) fn at_boundary(&self) -> bool {
        match self {
            Self::Raw => true,
            Self::U32(encoder) => encoder.at_boundary(),
            Self::Multiprocessing(encoder) => encoder.at_boundary(),
            Self::Sealed(encoder) => encoder.at_boundary(),
        }
    }

    /// Plans a chunk of `len` bytes, of which `remaining` follows.
    #[inline]
    pub(crate) fn plan(&self, len: usize, remaining: Remaining) -> Result<Plan, SendError> {
        match self {
            Self::Raw => Ok(Plan::BARE),
            Self::U32(encoder) => encoder.plan(len, remaining),
            Self::Multiprocessing(encoder) => encoder.plan(len, remaining),
            Self::Sealed(encoder) => encoder.plan(len, remaining),
        }
    }

    /// Writes the header and tag of the last `plan` around the chunk in `frame`, which is not empty
    /// and is the next to be sent.
    // Inlined for the same reason as `SendBuffer::reserve`.
    #[inline(always)]
    pub(crate) fn commit(&mut self, plan: Plan, remaining: Remaining, frame: &mut [u8]) {
        match self {
            Self::Raw => {}
            Self::U32(encoder) => encoder.commit(plan, remaining, frame),
            Self::Multiprocessing(encoder) => encoder.commit(plan, remaining, frame),
            Self::Sealed(encoder) => encoder.commit(remaining, frame),
        }
    }

    /// Encodes a control frame, the next to be sent. Returns its length, 0 in framings without
    /// control frames.
    pub(crate) fn control(&mut self, control: Control, to: &mut [u8; MAX_CONTROL]) -> usize {
        match self {
            Self::Raw | Self::U32(_) | Self::Multiprocessing(_) => 0,
            Self::Sealed(encoder) => encoder.control(control, to),
        }
    }

    /// A token for the next PING, different from those of earlier PINGs.
    pub(crate) fn token(&self) -> [u8; 8] {
        match self {
            Self::Raw | Self::U32(_) | Self::Multiprocessing(_) => [0; 8],
            Self::Sealed(encoder) => encoder.token(),
        }
    }
}

#[cfg(test)]
mod tests;
