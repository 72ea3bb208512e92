//! The receiving half of an open session: bytes in, parts out.

use core::ops::Range;

use crate::error::Error;
use crate::framing::{Decoder, Limits, Parsed};
use crate::machine::Rest;
use crate::storage::Storage;

/// What may wait without a lease, in bytes: a frame's header, or a frame that is no longer.
const PARK: usize = 32;

/// Bytes wait in one of two places: in the leased buffer between `head` and `tail`, or parked in
/// the struct while the session is idle within its first few bytes. Never in both.
pub(crate) struct Receiver<B> {
    storage: B,
    decoder: Decoder,
    limits: Limits,
    head: usize,
    tail: usize,
    /// The part at hand; it begins at `head`.
    part: Option<usize>,
    /// How many bytes from `head` the next part takes, as far as is known.
    need: usize,
    /// Length of the space last offered.
    offered: usize,
    /// There are bytes that were not looked at.
    fresh: bool,
    parked: [u8; PARK],
    parked_len: u8,
    starved: bool,
    eof: bool,
}

/// What a look at the received bytes found.
pub(crate) enum Found {
    /// A part, now at hand.
    Part { first: bool, rest: Rest },
    /// Nothing whole, and whether something has begun.
    Nothing { begun: bool },
}

impl<B: Storage> Receiver<B> {
    pub(crate) fn new(storage: B, decoder: Decoder, limits: Limits) -> Self {
        Self {
            storage,
            decoder,
            limits,
            head: 0,
            tail: 0,
            part: None,
            need: 1,
            offered: 0,
            fresh: false,
            parked: [0; PARK],
            parked_len: 0,
            starved: false,
            eof: false,
        }
    }

    /// The part at hand, empty if there is none.
    pub(crate) fn part(&self) -> &[u8] {
        match self.part {
            Some(len) => &self.storage.bytes()[self.head..self.head + len],
            None => &[],
        }
    }

    pub(crate) fn has_part(&self) -> bool {
        self.part.is_some()
    }

    pub(crate) fn consume(&mut self) {
        if let Some(len) = self.part.take() {
            self.head += len;
        }
    }

    pub(crate) fn wants_read(&self) -> bool {
        !self.eof && (self.part.is_none() || self.tail < self.storage.capacity())
    }

    pub(crate) fn starved(&self) -> bool {
        self.starved
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
        self.starved = !self.storage.lease();
        if self.starved {
            return &mut [];
        }
        let range = self.room();
        self.offered = range.len();
        &mut self.storage.bytes_mut()[range]
    }

    fn room(&mut self) -> Range<usize> {
        let capacity = self.storage.capacity();
        let bytes = self.storage.bytes_mut();
        let parked = usize::from(core::mem::take(&mut self.parked_len));
        if parked > 0 {
            bytes[..parked].copy_from_slice(&self.parked[..parked]);
            (self.head, self.tail) = (0, parked);
        }
        if self.part.is_none() {
            if self.head == self.tail {
                (self.head, self.tail) = (0, 0);
            } else if self.head + self.need > capacity {
                bytes.copy_within(self.head..self.tail, 0);
                (self.head, self.tail) = (0, self.tail - self.head);
            }
        }
        // Of a long part read just what is missing: what follows it would have to be moved to the
        // front to make room for its own rest.
        let end = if self.part.is_none() && self.need > capacity / 2 {
            self.head + self.need
        } else {
            capacity
        };
        self.tail..end.clamp(self.tail, capacity)
    }

    /// `n` bytes were written to the space last offered.
    pub(crate) fn commit(&mut self, n: usize) {
        let n = n.min(core::mem::take(&mut self.offered));
        self.tail += n;
        self.fresh |= n > 0;
        // What was not looked at may be a whole part, and is not to be put away.
        if !self.fresh {
            self.settle();
        }
    }

    /// Looks for the next part, unless one is at hand.
    pub(crate) fn find(&mut self) -> Result<Found, Error> {
        if self.part.is_none() && self.parked_len == 0 {
            let bytes = if self.head == self.tail {
                &[]
            } else {
                &self.storage.bytes()[self.head..self.tail]
            };
            match self.decoder.parse(bytes, self.limits)? {
                Parsed::Part { header, len, first, rest } => {
                    self.head += header;
                    self.part = Some(len);
                    return Ok(Found::Part { first, rest });
                }
                Parsed::Need(need) => self.need = need,
            }
            self.fresh = false;
            self.settle();
        }
        let begun = self.part.is_none() && !self.at_boundary();
        Ok(Found::Nothing { begun })
    }

    /// Whether nothing has begun: the stream may end here.
    pub(crate) fn at_boundary(&self) -> bool {
        self.decoder.at_boundary() && self.head == self.tail && self.parked_len == 0
    }

    /// Gives the lease back if what waits can wait without it.
    fn settle(&mut self) {
        let waiting = self.tail - self.head;
        if self.part.is_some() || waiting > PARK || self.starved {
            return;
        }
        if waiting > 0 {
            self.parked[..waiting].copy_from_slice(&self.storage.bytes()[self.head..self.tail]);
            self.parked_len = waiting as u8;
        }
        (self.head, self.tail, self.offered) = (0, 0, 0);
        self.storage.release();
    }

    /// Drops all that waits.
    pub(crate) fn release(&mut self) {
        self.part = None;
        self.parked_len = 0;
        self.starved = false;
        self.fresh = false;
        (self.head, self.tail, self.offered) = (0, 0, 0);
        self.storage.release();
    }
}
