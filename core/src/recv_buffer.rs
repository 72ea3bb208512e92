//! The receiving half of an open session: bytes in, parts out.

use core::ops::Range;

use crate::error::Error;
use crate::event::Remaining;
use crate::framing::{Control, Decoder, Limits, Parsed, SealingParams};
use crate::storage::{Span, Storage};

/// What may wait without a lease, in bytes: a frame's header, or a frame that is no longer.
const PARK: usize = 16;

/// Bytes wait in one of two places: in the leased buffer, or parked in the struct while the session
/// is idle within its first few bytes. Never in both.
pub(crate) struct RecvBuffer<B> {
    storage: B,
    decoder: Decoder,
    limits: Limits,
    /// What waits in the buffer.
    waiting: Span,
    /// Length of the part at hand; it is what waits first.
    chunk: Option<u32>,
    /// What goes with it when it is consumed, in bytes.
    trailer: u8,
    /// How many bytes the next part takes, as far as is known.
    need: u32,
    /// Length of the space last offered.
    offered: u32,
    /// There are bytes that were not looked at.
    fresh: bool,
    parked: [u8; PARK],
    parked_len: u8,
    awaiting_buffer: bool,
    eof: bool,
}

/// What a look at the received bytes found.
pub(crate) enum Found {
    /// A part, now at hand.
    Chunk { first: bool, remaining: Remaining },
    /// Something that is no message, already dropped.
    Control(Control),
    /// Nothing whole, and whether something has begun.
    Nothing { begun: bool },
}

impl<B: Storage> RecvBuffer<B> {
    pub(crate) fn new(storage: B, decoder: Decoder, limits: Limits) -> Self {
        Self {
            storage,
            decoder,
            limits,
            waiting: Span::default(),
            chunk: None,
            trailer: 0,
            need: 1,
            offered: 0,
            fresh: false,
            parked: [0; PARK],
            parked_len: 0,
            awaiting_buffer: false,
            eof: false,
        }
    }

    /// The handshake is over: what protects the frames, and the longest part to deliver.
    pub(crate) fn open(&mut self, sealing: &SealingParams, max_chunk: usize) {
        self.decoder.open(sealing);
        self.limits.max_chunk = max_chunk;
    }

    /// The part at hand, empty if there is none.
    pub(crate) fn chunk(&self) -> &[u8] {
        match self.chunk {
            Some(len) => &self.storage.bytes()[self.waiting.start()..][..len as usize],
            None => &[],
        }
    }

    pub(crate) fn has_chunk(&self) -> bool {
        self.chunk.is_some()
    }

    /// Drops the part at hand; whether there was one.
    pub(crate) fn consume(&mut self) -> bool {
        let chunk = self.chunk.take();
        if let Some(len) = chunk {
            self.waiting.drop_front(len as usize + usize::from(self.trailer));
        }
        chunk.is_some()
    }

    /// The longest part to deliver, in bytes.
    pub(crate) fn max_chunk(&self) -> usize {
        self.limits.max_chunk
    }

    pub(crate) fn wants_read(&self) -> bool {
        !self.eof && (self.chunk.is_none() || self.waiting.end() < Span::capacity(&self.storage))
    }

    pub(crate) fn awaiting_buffer(&self) -> bool {
        self.awaiting_buffer
    }

    pub(crate) fn handle_eof(&mut self) {
        self.eof = true;
        self.offered = 0;
    }

    pub(crate) fn eof(&self) -> bool {
        self.eof
    }

    /// Room for more, after taking the lease if that is possible.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        self.offered = 0;
        if !self.wants_read() {
            return &mut [];
        }
        self.awaiting_buffer = !self.storage.lease();
        if self.awaiting_buffer {
            return &mut [];
        }
        let range = self.room();
        self.offered = range.len() as u32;
        &mut self.storage.bytes_mut()[range]
    }

    fn room(&mut self) -> Range<usize> {
        let capacity = Span::capacity(&self.storage);
        let bytes = self.storage.bytes_mut();
        let parked = usize::from(core::mem::take(&mut self.parked_len));
        if parked > 0 {
            bytes[..parked].copy_from_slice(&self.parked[..parked]);
            self.waiting.clear();
            self.waiting.grow(parked);
        }
        let need = self.need as usize;
        if self.chunk.is_none() {
            if self.waiting.is_empty() {
                self.waiting.clear();
            } else if self.waiting.start() + need > capacity {
                self.waiting.compact(bytes);
            }
        }
        // Of a long part read just what is missing: what follows it would have to be moved to the
        // front to make room for its own rest.
        let end = if self.chunk.is_none() && need > capacity / 2 {
            self.waiting.start() + need
        } else {
            capacity
        };
        self.waiting.end()..end.clamp(self.waiting.end(), capacity)
    }

    /// `n` bytes were written to the space last offered.
    pub(crate) fn commit(&mut self, n: usize) {
        let n = n.min(core::mem::take(&mut self.offered) as usize);
        self.waiting.grow(n);
        self.fresh |= n > 0;
        // What was not looked at may be a whole part, and is not to be put away.
        if !self.fresh {
            self.settle();
        }
    }

    /// Looks for the next part, unless one is at hand.
    pub(crate) fn find(&mut self) -> Result<Found, Error> {
        if self.chunk.is_none() && self.parked_len == 0 {
            let bytes = match self.waiting {
                waiting if waiting.is_empty() => &[],
                waiting => &self.storage.bytes()[waiting.range()],
            };
            match self.decoder.parse(bytes, self.limits)? {
                Parsed::Chunk { header, len, trailer, first, remaining } => {
                    self.waiting.drop_front(header);
                    self.chunk = Some(len as u32);
                    self.trailer = trailer as u8;
                    return Ok(Found::Chunk { first, remaining });
                }
                Parsed::Control { len, control } => {
                    self.waiting.drop_front(len);
                    return Ok(Found::Control(control));
                }
                // No more than the buffer holds, so it fits.
                Parsed::Need(need) => self.need = need as u32,
            }
            self.fresh = false;
            self.settle();
        }
        let begun = self.chunk.is_none() && self.in_frame();
        Ok(Found::Nothing { begun })
    }

    /// Whether no bytes wait.
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.parked_len == 0
    }

    /// Whether the peer owes the rest of a frame, once the part at hand is dealt with.
    pub(crate) fn in_frame(&self) -> bool {
        self.decoder.in_frame() || !self.is_empty()
    }

    /// Whether nothing has begun: the stream may end here.
    pub(crate) fn at_boundary(&self) -> bool {
        self.decoder.at_boundary() && self.is_empty()
    }

    /// Gives the lease back if what waits can wait without it.
    fn settle(&mut self) {
        let waiting = self.waiting.len();
        if self.chunk.is_some() || waiting > PARK || self.awaiting_buffer {
            return;
        }
        if waiting > 0 {
            self.parked[..waiting].copy_from_slice(&self.storage.bytes()[self.waiting.range()]);
            self.parked_len = waiting as u8;
        }
        self.waiting.clear();
        self.offered = 0;
        self.storage.release();
    }

    /// Drops all that waits.
    pub(crate) fn release(&mut self) {
        self.chunk = None;
        self.parked_len = 0;
        self.awaiting_buffer = false;
        self.fresh = false;
        self.waiting.clear();
        self.offered = 0;
        self.storage.release();
    }
}
