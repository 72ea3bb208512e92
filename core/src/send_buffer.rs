//! The sending half of a session: messages in, bytes out.

use crate::error::{CloseReason, SendError};
use crate::event::Remaining;
use crate::framing::{Control, Encoder, MAX_CONTROL, Plan, SealingParams};
use crate::storage::{Span, Storage};

/// What an application may do with the send side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Open,
    Finished,
    Ended,
}

/// The state of the send buffer; the buffer itself is beside it, so that [`Outbox`] need not know
/// its type.
pub(crate) struct SendBuffer {
    encoder: Encoder,
    phase: Phase,
    /// The bytes that wait to be transmitted; while there are any, the lease is held.
    waiting: Span,
    /// Length of the buffer, in bytes.
    capacity: u32,
    /// The longest part that it takes, and the peer does, in bytes.
    max_chunk: u32,
    /// Room that was asked for and not to be had, in bytes; 0 if none.
    wanted: u32,
    /// It was the lease that was not to be had.
    awaiting_buffer: bool,
    /// The application wants the session ended.
    aborted: Option<CloseReason>,
}

impl SendBuffer {
    /// Of a buffer that is [long enough](crate::Config::MIN_BUFFER).
    pub(crate) fn new(encoder: Encoder, storage: &dyn Storage) -> Self {
        let capacity = Span::capacity(storage) as u32;
        Self {
            max_chunk: max_chunk(capacity, &encoder),
            encoder,
            phase: Phase::Handshake,
            waiting: Span::default(),
            capacity,
            wanted: 0,
            awaiting_buffer: false,
            aborted: None,
        }
    }

    /// The handshake is over; `sealing`: what protects the frames, if anything does.
    pub(crate) fn open(&mut self, sealing: Option<&SealingParams>) {
        if self.phase == Phase::Handshake {
            self.phase = Phase::Open;
        }
        if let Some(sealing) = sealing {
            self.encoder.open(sealing);
            self.max_chunk = max_chunk(self.capacity, &self.encoder);
        }
    }

    /// The longest part that an empty buffer takes, and the peer does, in bytes.
    pub(crate) fn max_chunk(&self) -> usize {
        self.max_chunk as usize
    }

    /// Whether the end of our messages is a frame, rather than the end of the stream.
    pub(crate) fn is_sealed(&self) -> bool {
        self.encoder.is_sealed()
    }

    /// Writes a control frame that goes out before anything that is queued from now on; returns its
    /// length. Nothing must be queued.
    pub(crate) fn control(&mut self, control: Control, to: &mut [u8; MAX_CONTROL]) -> usize {
        self.encoder.control(control, to)
    }

    /// What a PING is to carry.
    pub(crate) fn token(&self) -> [u8; 8] {
        self.encoder.token()
    }

    pub(crate) fn finish(&mut self, storage: &mut dyn Storage) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Finished;
            // Nobody waits for a lease any more; a Writable that is owed comes all the same, for
            // a part may wait for it.
            self.awaiting_buffer = false;
            self.settle(storage);
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// No more is taken; what waits still goes out.
    pub(crate) fn end(&mut self, storage: &mut dyn Storage) {
        self.phase = Phase::Ended;
        self.wanted = 0;
        self.awaiting_buffer = false;
        self.settle(storage);
    }

    /// Nor does what waits.
    pub(crate) fn discard(&mut self, storage: &mut dyn Storage) {
        self.waiting.clear();
        self.end(storage);
    }

    /// The application wants the session ended. The first reason counts.
    pub(crate) fn abort(&mut self, why: CloseReason) {
        self.aborted.get_or_insert(why);
    }

    /// For `Debug`.
    pub(crate) fn phase(&self) -> &dyn core::fmt::Debug {
        &self.phase
    }

    pub(crate) fn aborted(&self) -> Option<CloseReason> {
        self.aborted
    }

    pub(crate) fn awaiting_buffer(&self) -> bool {
        self.awaiting_buffer
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether no message is half sent.
    pub(crate) fn at_boundary(&self) -> bool {
        self.encoder.at_boundary()
    }

    /// How many bytes wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The bytes that wait; gives the lease back if none do.
    pub(crate) fn pending<'a>(&mut self, storage: &'a mut dyn Storage) -> &'a [u8] {
        self.settle(storage);
        if self.is_drained() { &[] } else { &storage.bytes()[self.waiting.range()] }
    }

    /// `n` of the [`pending`](Self::pending) bytes are out.
    pub(crate) fn handle_transmitted(&mut self, n: usize, storage: &mut dyn Storage) {
        self.waiting.drop_front(n);
        self.settle(storage);
    }

    /// Gives the lease back if nothing waits, not even for a lease.
    pub(crate) fn settle(&mut self, storage: &mut dyn Storage) {
        if self.is_drained() && !self.awaiting_buffer {
            self.waiting.clear();
            storage.release();
        }
    }

    /// Whether there is now room for what was turned away; says so once.
    pub(crate) fn take_writable(&mut self, storage: &mut dyn Storage) -> bool {
        self.wanted > 0 && self.take_room(storage)
    }

    #[cold]
    fn take_room(&mut self, storage: &mut dyn Storage) -> bool {
        if self.awaiting_buffer {
            self.awaiting_buffer = !storage.lease();
        }
        let room = self.capacity as usize - self.waiting.len();
        let ready = !self.awaiting_buffer && room >= self.wanted as usize;
        if ready {
            self.wanted = 0;
        }
        ready
    }

    /// Makes room at `tail` for a header and `len` bytes.
    // For each message, from two places: left to the compiler it is a call, and its result a copy.
    #[inline(always)]
    pub(crate) fn reserve(
        &mut self,
        storage: &mut dyn Storage,
        len: usize,
        remaining: Remaining,
    ) -> Result<Plan, SendError> {
        match self.phase {
            Phase::Open => {}
            Phase::Handshake => return Err(SendError::NotEstablished),
            Phase::Finished => return Err(SendError::Finished),
            Phase::Ended => return Err(SendError::Ended),
        }
        let plan = self.encoder.plan(len, remaining)?;
        let max = self.max_chunk();
        if len > max {
            return Err(SendError::TooLong { max });
        }
        let needed = plan.whole_len();
        if needed == 0 {
            return Ok(plan);
        }
        let capacity = self.capacity as usize;
        if self.is_drained() {
            self.awaiting_buffer = !storage.lease();
        }
        if self.awaiting_buffer || capacity - self.waiting.len() < needed {
            self.wanted = self.wanted.max(needed as u32);
            return Err(SendError::Full);
        }
        if capacity - self.waiting.end() < needed {
            self.waiting.compact(storage.bytes_mut());
        }
        Ok(plan)
    }

    /// The room for what was planned, for which there is some.
    #[inline]
    pub(crate) fn frame<'a>(&self, storage: &'a mut dyn Storage, plan: &Plan) -> &'a mut [u8] {
        match plan.whole_len() {
            0 => &mut [],
            whole => &mut storage.bytes_mut()[self.waiting.end()..][..whole],
        }
    }

    /// Has `frame` sent, whose part is written.
    #[inline]
    pub(crate) fn commit(&mut self, plan: &Plan, frame: &mut [u8]) {
        if !frame.is_empty() {
            self.encoder.commit(plan, frame);
            self.waiting.grow(frame.len());
        }
    }
}

/// The longest part that fits a buffer of `capacity` bytes, and that the peer takes.
fn max_chunk(capacity: u32, encoder: &Encoder) -> u32 {
    (capacity - encoder.overhead() as u32).min(encoder.max_payload())
}
