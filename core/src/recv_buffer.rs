//! The receive buffer of an open session: bytes in, chunks and control frames out.

use core::ops::Range;

use crate::error::Error;
use crate::event::Remaining;
use crate::framing::{Control, Decoder, Limits, Parsed, SealingParams};
use crate::lease_term::LeaseTerm;
use crate::storage::{Storage, UsedRange};
use crate::time::Instant;

/// How many bytes are parked without a lease: enough for a header, or a control frame of suite 00.
const MAX_PARKED: usize = 16;

/// The received bytes and the decoder that parses them.
///
/// Bytes wait either in the leased buffer or, while the session is idle within the first bytes of a
/// frame, parked in the struct. Never in both, so that an idle session holds no lease.
pub(crate) struct RecvBuffer<B> {
    storage: B,
    decoder: Decoder,
    /// See [`Limits`].
    max_frame: u64,
    /// See [`Limits`]. `u32` keeps sessions small; a buffer is no longer.
    max_chunk: u32,
    term: LeaseTerm,
    /// The bytes in the leased buffer.
    buffered: UsedRange,
    front: Front,
    /// Length of the last space.
    space_len: u32,
    /// Whether bytes were received since the last parse.
    unparsed: bool,
    parked: [u8; MAX_PARKED],
    parked_len: u8,
    awaiting_buffer: bool,
    eof: bool,
}

/// What is at the front of the received bytes.
#[derive(Clone, Copy)]
enum Front {
    /// The current chunk, of `len` bytes, and a tag that is consumed with it.
    Chunk { len: u32, trailer: u8 },
    /// No chunk. Length of the next one with its header, as far as it is known.
    Need(u32),
}

/// The result of a parse.
pub(crate) enum Received {
    /// A chunk, which is now the current one.
    Chunk { first: bool, remaining: Remaining },
    /// A control frame, already removed.
    Control(Control),
    /// No complete chunk; `started`: a frame has been received in part.
    Incomplete { started: bool },
}

impl<B: Storage> RecvBuffer<B> {
    pub(crate) fn new(storage: B, decoder: Decoder, limits: Limits) -> Self {
        Self {
            storage,
            decoder,
            max_frame: limits.max_frame,
            max_chunk: limits.max_chunk.min(u32::MAX as usize) as u32,
            term: LeaseTerm::NONE,
            buffered: UsedRange::default(),
            front: Front::Need(1),
            space_len: 0,
            unparsed: false,
            parked: [0; MAX_PARKED],
            parked_len: 0,
            awaiting_buffer: false,
            eof: false,
        }
    }

    /// Starts to receive sealed frames, after the handshake; `max_chunk` is the new limit.
    pub(crate) fn open(&mut self, sealing: &SealingParams, max_chunk: usize) {
        self.decoder.open(sealing);
        self.max_chunk = max_chunk.min(u32::MAX as usize) as u32;
    }

    /// The current chunk, empty if there is none.
    pub(crate) fn chunk(&self) -> &[u8] {
        match self.front {
            Front::Chunk { len, .. } => {
                &self.storage.bytes()[self.buffered.start()..][..len as usize]
            }
            Front::Need(_) => &[],
        }
    }

    pub(crate) fn has_chunk(&self) -> bool {
        matches!(self.front, Front::Chunk { .. })
    }

    /// Drops the current chunk. Returns whether there was one.
    pub(crate) fn consume(&mut self) -> bool {
        let Front::Chunk { len, trailer } = self.front else { return false };
        self.front = Front::Need(1);
        self.buffered.advance(len as usize + usize::from(trailer));
        true
    }

    /// Length of the longest chunk to deliver, in bytes.
    pub(crate) fn max_chunk(&self) -> usize {
        self.max_chunk as usize
    }

    fn limits(&self) -> Limits {
        Limits { max_chunk: self.max_chunk(), max_frame: self.max_frame }
    }

    pub(crate) fn wants_read(&self) -> bool {
        !self.eof && (!self.has_chunk() || self.reads_ahead())
    }

    /// Whether bytes are received while there is a chunk.
    fn reads_ahead(&self) -> bool {
        !self.term.is_over() && self.buffered.end() < UsedRange::capacity(&self.storage)
    }

    pub(crate) fn awaiting_buffer(&self) -> bool {
        self.awaiting_buffer
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.storage.is_revoked()
    }

    pub(crate) fn handle_eof(&mut self) {
        self.eof = true;
        self.space_len = 0;
    }

    pub(crate) fn eof(&self) -> bool {
        self.eof
    }

    /// The space for more bytes. Takes the lease; empty if none is available.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        self.space_len = 0;
        if !self.wants_read() {
            return &mut [];
        }
        self.awaiting_buffer = !self.storage.lease();
        if self.awaiting_buffer {
            return &mut [];
        }
        let range = self.free_range();
        self.space_len = range.len() as u32;
        &mut self.storage.bytes_mut()[range]
    }

    fn free_range(&mut self) -> Range<usize> {
        let capacity = UsedRange::capacity(&self.storage);
        let bytes = self.storage.bytes_mut();
        let parked = usize::from(core::mem::take(&mut self.parked_len));
        // Parked bytes return to the front of the buffer as soon as there is one.
        if parked > 0 {
            bytes[..parked].copy_from_slice(&self.parked[..parked]);
            self.buffered.clear();
            self.buffered.extend(parked);
        }
        let mut end = capacity;
        if let Front::Need(need) = self.front {
            let need = need as usize;
            if self.buffered.is_empty() {
                self.buffered.clear();
            } else if self.buffered.start() + need > capacity {
                self.buffered.compact(bytes);
            }
            // Of a long chunk read exactly the rest: bytes of the next chunk would have to be moved
            // to the front of the buffer before that chunk fits.
            if need > capacity / 2 || self.term.is_over() {
                end = self.buffered.start() + need;
            }
        }
        self.buffered.end()..end.clamp(self.buffered.end(), capacity)
    }

    /// `n` bytes were written to the last space. The lease is used freely until `term_end`.
    pub(crate) fn commit(&mut self, n: usize, term_end: impl FnOnce() -> Instant) {
        let n = n.min(core::mem::take(&mut self.space_len) as usize);
        self.buffered.extend(n);
        self.unparsed |= n > 0;
        if n > 0 {
            self.term.begin(term_end);
        }
        // Unparsed bytes may be a complete chunk, which stays in the buffer.
        if !self.unparsed {
            self.park_or_release();
        }
    }

    /// Parses up to the next chunk or control frame, unless there is a current chunk.
    pub(crate) fn parse_next(&mut self) -> Result<Received, Error> {
        if !self.has_chunk() && self.parked_len == 0 {
            let limits = self.limits();
            let bytes = match self.buffered {
                buffered if buffered.is_empty() => &[],
                buffered => &self.storage.bytes()[buffered.range()],
            };
            match self.decoder.parse(bytes, limits)? {
                Parsed::Chunk { header, len, trailer, first, remaining } => {
                    self.buffered.advance(header);
                    self.front = Front::Chunk { len: len as u32, trailer: trailer as u8 };
                    return Ok(Received::Chunk { first, remaining });
                }
                Parsed::Control { len, control } => {
                    self.buffered.advance(len);
                    return Ok(Received::Control(control));
                }
                // A decoder never needs more than the buffer holds.
                Parsed::Need(need) => self.front = Front::Need(need as u32),
            }
            self.unparsed = false;
            self.park_or_release();
        }
        let started = !self.has_chunk() && self.in_frame();
        Ok(Received::Incomplete { started })
    }

    /// Whether no received bytes are stored.
    fn is_empty(&self) -> bool {
        self.buffered.is_empty() && self.parked_len == 0
    }

    /// Whether the peer has sent a frame in part, not counting the current chunk.
    pub(crate) fn in_frame(&self) -> bool {
        self.decoder.in_frame() || !self.is_empty()
    }

    /// Whether the received bytes end between messages, where the stream may end.
    pub(crate) fn at_boundary(&self) -> bool {
        self.decoder.at_boundary() && self.is_empty()
    }

    /// Releases the lease, unless the remaining bytes need the buffer.
    fn park_or_release(&mut self) {
        let buffered = self.buffered.len();
        // While a lease is awaited, `release` would give up the place in the queue of the pool.
        if self.has_chunk() || buffered > MAX_PARKED || self.awaiting_buffer {
            return;
        }
        if buffered > 0 {
            self.parked[..buffered].copy_from_slice(&self.storage.bytes()[self.buffered.range()]);
            self.parked_len = buffered as u8;
        }
        self.buffered.clear();
        self.space_len = 0;
        self.term = LeaseTerm::NONE;
        self.storage.release();
    }

    /// Notes that a frame is incomplete at `now`.
    pub(crate) fn check_term(&mut self, now: Instant) {
        self.term.check(now, &self.storage);
    }

    /// Drops all received bytes and releases the lease.
    pub(crate) fn release(&mut self) {
        self.front = Front::Need(1);
        self.parked_len = 0;
        self.awaiting_buffer = false;
        self.unparsed = false;
        self.buffered.clear();
        self.space_len = 0;
        self.term = LeaseTerm::NONE;
        self.storage.release();
    }
}
