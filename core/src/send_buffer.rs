//! The send buffer of a session: messages in, bytes out.

use crate::error::{CloseReason, SendError};
use crate::event::Remaining;
use crate::framing::{Control, Encoder, MAX_CONTROL, Plan, SealingParams};
use crate::storage::{Storage, UsedRange};

/// Which calls of the application are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Open,
    Finished,
    Ended,
}

/// The state of the send buffer. The storage is passed to each call, so that
/// [`Outbox`](crate::Outbox) need not be generic over its type.
pub(crate) struct SendBuffer {
    encoder: Encoder,
    phase: Phase,
    /// The bytes that wait to be transmitted. While there are any, the lease is held.
    queued: UsedRange,
    /// Length of the buffer, in bytes.
    capacity: u32,
    /// Length of the longest chunk that fits an empty buffer and that the peer accepts, in bytes.
    max_chunk: u32,
    /// Room that the chunks rejected as `Full` need, in bytes; 0 if no `Writable` is due.
    wanted_len: u32,
    /// Whether the last `Full` was caused by a missing lease.
    awaiting_buffer: bool,
    /// Whether the queued bytes have to leave before more are queued, so that the lease is returned.
    draining: bool,
    /// The application has ended the session, for this reason.
    aborted: Option<CloseReason>,
}

impl SendBuffer {
    /// `storage` has at least [`Config::MIN_BUFFER`](crate::Config::MIN_BUFFER) bytes.
    pub(crate) fn new(encoder: Encoder, storage: &dyn Storage) -> Self {
        let capacity = UsedRange::capacity(storage) as u32;
        Self {
            max_chunk: max_chunk(capacity, &encoder),
            encoder,
            phase: Phase::Handshake,
            queued: UsedRange::default(),
            capacity,
            wanted_len: 0,
            awaiting_buffer: false,
            draining: false,
            aborted: None,
        }
    }

    /// Starts to accept messages, after the handshake. `sealing` is set for sealed frames.
    pub(crate) fn open(&mut self, sealing: Option<&SealingParams>) {
        if self.phase == Phase::Handshake {
            self.phase = Phase::Open;
        }
        if let Some(sealing) = sealing {
            self.encoder.open(sealing);
            self.max_chunk = max_chunk(self.capacity, &self.encoder);
        }
    }

    /// Length of the longest chunk that an empty buffer takes and the peer accepts, in bytes.
    pub(crate) fn max_chunk(&self) -> usize {
        self.max_chunk as usize
    }

    /// Whether the end of our messages is a FIN frame rather than the end of the stream.
    pub(crate) fn is_sealed(&self) -> bool {
        self.encoder.is_sealed()
    }

    /// Encodes a control frame, to be transmitted before any later message. Returns its length.
    /// No message may be queued, because frames are numbered in the order of encoding.
    pub(crate) fn control(&mut self, control: Control, to: &mut [u8; MAX_CONTROL]) -> usize {
        self.encoder.control(control, to)
    }

    /// The token of the next PING.
    pub(crate) fn token(&self) -> [u8; 8] {
        self.encoder.token()
    }

    pub(crate) fn finish(&mut self, storage: &mut dyn Storage) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Finished;
            // No later message waits for a lease. A `Writable` that is due is still reported,
            // because a received chunk may wait for it.
            self.awaiting_buffer = false;
            self.release_if_idle(storage);
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// Accepts no more messages. Queued bytes are still transmitted.
    pub(crate) fn end(&mut self, storage: &mut dyn Storage) {
        self.phase = Phase::Ended;
        self.wanted_len = 0;
        self.awaiting_buffer = false;
        self.release_if_idle(storage);
    }

    /// Accepts no more messages and drops the queued bytes.
    pub(crate) fn discard(&mut self, storage: &mut dyn Storage) {
        self.queued.clear();
        self.end(storage);
    }

    /// Records that the application ends the session. The first reason counts.
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
        self.queued.is_empty()
    }

    /// Whether no message is queued in part.
    pub(crate) fn at_boundary(&self) -> bool {
        self.encoder.at_boundary()
    }

    /// Number of queued bytes.
    pub(crate) fn len(&self) -> usize {
        self.queued.len()
    }

    /// The queued bytes. Releases the lease if there are none.
    pub(crate) fn pending<'a>(&mut self, storage: &'a mut dyn Storage) -> &'a [u8] {
        self.release_if_idle(storage);
        if self.is_drained() { &[] } else { &storage.bytes()[self.queued.range()] }
    }

    /// Queues nothing more until all queued bytes have left.
    pub(crate) fn drain(&mut self) {
        self.draining = !self.is_drained();
    }

    /// The first `n` of the [`pending`](Self::pending) bytes were transmitted.
    pub(crate) fn handle_transmitted(&mut self, n: usize, storage: &mut dyn Storage) {
        self.queued.advance(n);
        self.release_if_idle(storage);
    }

    /// Releases the lease if no bytes are queued and no message waits for the lease.
    pub(crate) fn release_if_idle(&mut self, storage: &mut dyn Storage) {
        if self.is_drained() && !self.awaiting_buffer {
            self.queued.clear();
            self.draining = false;
            storage.release();
        }
    }

    /// Whether there is now room for the chunk that was rejected as `Full`. True once per `Full`.
    pub(crate) fn take_writable(&mut self, storage: &mut dyn Storage) -> bool {
        self.wanted_len > 0 && self.take_wanted_room(storage)
    }

    #[cold]
    fn take_wanted_room(&mut self, storage: &mut dyn Storage) -> bool {
        if self.awaiting_buffer {
            self.awaiting_buffer = !storage.lease();
        }
        let room = self.capacity as usize - self.queued.len();
        let ready = !self.awaiting_buffer && !self.draining && room >= self.wanted_len as usize;
        if ready {
            self.wanted_len = 0;
        }
        ready
    }

    /// Makes room behind the queued bytes for a chunk of `len` bytes with its header and tag.
    // Inlined: called for each message, where a call would copy its result.
    #[inline(always)]
    fn reserve(
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
        let needed = plan.whole_len(len);
        if needed == 0 {
            return Ok(plan);
        }
        let capacity = self.capacity as usize;
        // Queued bytes mean that the lease is held.
        if self.is_drained() {
            self.awaiting_buffer = !storage.lease();
        }
        if self.awaiting_buffer || self.draining || capacity - self.queued.len() < needed {
            // One `Writable` answers every `Full` before it, so it waits for the longest of them.
            self.wanted_len = self.wanted_len.max(needed as u32);
            return Err(SendError::Full);
        }
        if capacity - self.queued.end() < needed {
            self.queued.compact(storage.bytes_mut());
        }
        Ok(plan)
    }

    /// Queues a chunk of `len` bytes, which `fill` writes, with its header and tag.
    #[inline]
    pub(crate) fn send(
        &mut self,
        storage: &mut dyn Storage,
        len: usize,
        remaining: Remaining,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        let plan = self.reserve(storage, len, remaining)?;
        let whole = plan.whole_len(len);
        if whole == 0 {
            fill(&mut []);
            return Ok(());
        }
        let frame = &mut storage.bytes_mut()[self.queued.end()..][..whole];
        fill(plan.chunk(frame));
        self.encoder.commit(plan, remaining, frame);
        self.queued.extend(whole);
        Ok(())
    }
}

/// Length of the longest chunk that fits `capacity` bytes and that the peer accepts.
fn max_chunk(capacity: u32, encoder: &Encoder) -> u32 {
    (capacity - encoder.overhead() as u32).min(encoder.max_payload())
}
