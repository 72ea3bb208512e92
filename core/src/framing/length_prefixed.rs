//! Frames that begin with their length: the framings `u32` and `multiprocessing`.
//!
//! One frame is one message. A frame longer than the limit is delivered in chunks of the greatest
//! length and a shorter last one, however its bytes arrive.

pub(crate) mod multiprocessing;
pub(crate) mod u32;

use core::marker::PhantomData;

use super::{Limits, Parsed, Plan};
use crate::error::{Error, FrameError, SendError};
use crate::event::Remaining;

/// The encoding of the length of a frame.
pub(crate) trait Prefix {
    /// Length of the longest encoding, in bytes.
    const MAX_LEN: usize;

    /// Decodes the length at the front of `bytes`.
    fn read(bytes: &[u8]) -> Result<Length, FrameError>;

    /// Length of the encoding of `len`; `None` if `len` cannot be encoded.
    fn len(len: u64) -> Option<usize>;

    /// Encodes `len` at the front of `to`. `Self::len(len)` must be `Some`.
    fn write(len: u64, to: &mut [u8]);
}

/// The length field of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// Incomplete: this many bytes are needed, including those that are present.
    Need(usize),
    /// A frame of `len` bytes, after `header` bytes.
    Known { header: usize, len: u64 },
}

/// The rest of a frame of which `left` bytes remain, after a chunk of `len` bytes.
fn remaining_after(left: u64, len: usize) -> (u64, Remaining) {
    match left.saturating_sub(len as u64) {
        0 => (0, Remaining::End),
        more => (more, Remaining::Bytes(more)),
    }
}

/// Length of the next chunk of a frame of which `left` bytes remain.
fn chunk_len(left: u64, limits: Limits) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(limits.max_chunk)
}

pub(crate) struct Decoder<P> {
    /// Bytes of the current frame that are not delivered; 0 between frames.
    left: u64,
    prefix: PhantomData<P>,
}

impl<P: Prefix> Decoder<P> {
    pub(super) const fn new() -> Self {
        Self { left: 0, prefix: PhantomData }
    }

    #[inline]
    pub(super) fn parse(&mut self, bytes: &[u8], limits: Limits) -> Result<Parsed, Error> {
        let first = self.at_boundary();
        let (header, left) = match self.left {
            0 => match P::read(bytes).map_err(Error::Frame)? {
                Length::Need(n) => return Ok(Parsed::Need(n)),
                // Before any of the body is stored: the peer chooses the length.
                Length::Known { len, .. } if len > limits.max_frame => {
                    return Err(Error::FrameTooLong { len });
                }
                Length::Known { header, len } => (header, len),
            },
            left => (0, left),
        };
        let len = chunk_len(left, limits);
        if bytes.len() < header + len {
            return Ok(Parsed::Need(header + len));
        }
        let (left, remaining) = remaining_after(left, len);
        self.left = left;
        Ok(Parsed::Chunk { header, len, trailer: 0, first, remaining })
    }

    pub(super) fn at_boundary(&self) -> bool {
        self.left == 0
    }
}

pub(crate) struct Encoder<P> {
    /// Bytes of the current message that are not queued; 0 between messages.
    due: u64,
    prefix: PhantomData<P>,
}

impl<P: Prefix> Encoder<P> {
    pub(super) const fn new() -> Self {
        Self { due: 0, prefix: PhantomData }
    }

    pub(super) fn at_boundary(&self) -> bool {
        self.due == 0
    }

    #[inline]
    pub(super) fn plan(&self, len: usize, remaining: Remaining) -> Result<Plan, SendError> {
        let follows = match remaining {
            Remaining::End => 0,
            Remaining::Bytes(n) => n,
            Remaining::More | Remaining::Unknown => return Err(SendError::LengthNeeded),
        };
        let total = follows.checked_add(len as u64).ok_or(SendError::LengthNeeded)?;
        if self.due == 0 {
            let header = P::len(total).ok_or(SendError::LengthNeeded)?;
            Ok(Plan { header, trailer: 0 })
        } else if total == self.due {
            Ok(Plan::BARE)
        } else {
            Err(SendError::LengthMismatch { due: self.due })
        }
    }

    /// `frame` holds the chunk, after room for the planned header.
    #[inline]
    pub(super) fn commit(&mut self, plan: Plan, remaining: Remaining, frame: &mut [u8]) {
        self.due = match remaining {
            Remaining::Bytes(n) => n,
            Remaining::End | Remaining::More | Remaining::Unknown => 0,
        };
        if plan.header > 0 {
            let len = frame.len() - plan.header;
            P::write(len as u64 + self.due, frame);
        }
    }
}

#[cfg(test)]
mod tests;
