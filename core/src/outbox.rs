//! The sending half of a session: messages in, bytes out.

use core::fmt;

use crate::error::{Reason, SendError};
use crate::framing::{Control, Encoder, MAX_CONTROL, Plan};
use crate::handshake::Sealing;
use crate::machine::Rest;
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
pub(crate) struct Queue {
    encoder: Encoder,
    phase: Phase,
    /// The bytes that wait to be transmitted; while there are any, the lease is held.
    waiting: Span,
    /// Length of the buffer, in bytes.
    capacity: u32,
    /// The longest part that it takes, and the peer does, in bytes.
    max_part: u32,
    /// Room that was asked for and not to be had, in bytes; 0 if none.
    wanted: u32,
    /// It was the lease that was not to be had.
    starved: bool,
    /// The application wants the session ended.
    aborted: Option<Reason>,
}

impl Queue {
    /// Of a buffer that is [long enough](crate::Config::MIN_BUFFER).
    pub(crate) fn new(encoder: Encoder, storage: &dyn Storage) -> Self {
        let capacity = Span::capacity(storage) as u32;
        Self {
            max_part: max_part(capacity, &encoder),
            encoder,
            phase: Phase::Handshake,
            waiting: Span::default(),
            capacity,
            wanted: 0,
            starved: false,
            aborted: None,
        }
    }

    /// The handshake is over; `sealing`: what protects the frames, if anything does.
    pub(crate) fn open(&mut self, sealing: Option<&Sealing>) {
        if self.phase == Phase::Handshake {
            self.phase = Phase::Open;
        }
        if let Some(sealing) = sealing {
            self.encoder.open(sealing);
            self.max_part = max_part(self.capacity, &self.encoder);
        }
    }

    /// The longest part that an empty buffer takes, and the peer does, in bytes.
    pub(crate) fn max_part(&self) -> usize {
        self.max_part as usize
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
            self.starved = false;
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
        self.starved = false;
        self.settle(storage);
    }

    /// Nor does what waits.
    pub(crate) fn discard(&mut self, storage: &mut dyn Storage) {
        self.waiting.clear();
        self.end(storage);
    }

    pub(crate) fn aborted(&self) -> Option<Reason> {
        self.aborted
    }

    pub(crate) fn starved(&self) -> bool {
        self.starved
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
        if self.is_drained() && !self.starved {
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
        if self.starved {
            self.starved = !storage.lease();
        }
        let room = self.capacity as usize - self.waiting.len();
        let ready = !self.starved && room >= self.wanted as usize;
        if ready {
            self.wanted = 0;
        }
        ready
    }

    /// Makes room at `tail` for a header and `len` bytes.
    // For each message, from two places: left to the compiler it is a call, and its result a copy.
    #[inline(always)]
    fn reserve(
        &mut self,
        storage: &mut dyn Storage,
        len: usize,
        rest: Rest,
    ) -> Result<Plan, SendError> {
        match self.phase {
            Phase::Open => {}
            Phase::Handshake => return Err(SendError::NotEstablished),
            Phase::Finished => return Err(SendError::Finished),
            Phase::Ended => return Err(SendError::Ended),
        }
        let plan = self.encoder.plan(len, rest)?;
        let max = self.max_part();
        if len > max {
            return Err(SendError::TooLong { max });
        }
        let needed = plan.whole_len();
        if needed == 0 {
            return Ok(plan);
        }
        let capacity = self.capacity as usize;
        if self.is_drained() {
            self.starved = !storage.lease();
        }
        if self.starved || capacity - self.waiting.len() < needed {
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
    fn frame<'a>(&self, storage: &'a mut dyn Storage, plan: &Plan) -> &'a mut [u8] {
        match plan.whole_len() {
            0 => &mut [],
            whole => &mut storage.bytes_mut()[self.waiting.end()..][..whole],
        }
    }

    /// Has `frame` sent, whose part is written.
    #[inline]
    fn commit(&mut self, plan: &Plan, frame: &mut [u8]) {
        if !frame.is_empty() {
            self.encoder.commit(plan, frame);
            self.waiting.grow(frame.len());
        }
    }
}

/// The longest part that fits a buffer of `capacity` bytes, and that the peer takes.
fn max_part(capacity: u32, encoder: &Encoder) -> u32 {
    (capacity - encoder.overhead() as u32).min(encoder.max_payload())
}

/// Where an application sends messages: all of one, or none of it.
///
/// Whatever is [`Full`](SendError::Full) changes nothing and is followed by one
/// [`Event::Writable`](crate::Event::Writable).
pub struct Outbox<'a> {
    queue: &'a mut Queue,
    storage: &'a mut dyn Storage,
    reserved: Option<Plan>,
}

impl<'a> Outbox<'a> {
    pub(crate) fn new(queue: &'a mut Queue, storage: &'a mut dyn Storage) -> Self {
        Self { queue, storage, reserved: None }
    }

    /// Sends `message`. In a raw byte stream an empty one is nothing.
    ///
    /// # Errors
    /// Every [`SendError`]; [`SendError::TooLong`] asks for parts.
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_part(message, Rest::End)
    }

    /// Sends a part of a message that `rest` follows. Framings that write a message's length first
    /// need to know it: to them [`Rest::More`] and [`Rest::Unknown`] are errors, and so are parts that
    /// do not add up.
    ///
    /// # Errors
    /// Every [`SendError`].
    pub fn send_part(&mut self, part: &[u8], rest: Rest) -> Result<(), SendError> {
        self.reserved = None;
        let plan = self.queue.reserve(self.storage, part.len(), rest)?;
        let frame = self.queue.frame(self.storage, &plan);
        frame[plan.part()].copy_from_slice(part);
        self.queue.commit(&plan, frame);
        Ok(())
    }

    /// Room for a part of `len` bytes that `rest` follows, all 0, to write it in place. It is sent
    /// by [`commit`](Self::commit), and not at all without.
    ///
    /// # Errors
    /// Every [`SendError`].
    pub fn send_space(&mut self, len: usize, rest: Rest) -> Result<&mut [u8], SendError> {
        self.reserved = None;
        let plan = self.queue.reserve(self.storage, len, rest)?;
        self.reserved = Some(plan);
        let space = &mut self.queue.frame(self.storage, &plan)[plan.part()];
        // What the buffer held before was perhaps another connection's.
        space.fill(0);
        Ok(space)
    }

    /// Sends what was written to the last [`send_space`](Self::send_space); nothing if there is
    /// none.
    pub fn commit(&mut self) {
        if let Some(plan) = self.reserved.take() {
            let frame = self.queue.frame(self.storage, &plan);
            self.queue.commit(&plan, frame);
        }
    }

    /// The longest part that an empty send side takes, in bytes. No received part is longer.
    #[must_use]
    pub fn max_part(&self) -> usize {
        self.queue.max_part()
    }

    /// Ends the session, both ways, with [`Error::Aborted`](crate::Error::Aborted); what was sent
    /// still goes out. See [`Machine::abort`](crate::Machine::abort).
    pub fn abort(&mut self, why: Reason) {
        self.reserved = None;
        self.queue.aborted.get_or_insert(why);
    }

    /// No more messages from this side; what was sent still goes out. Idempotent. See
    /// [`Machine::finish`](crate::Machine::finish).
    pub fn finish(&mut self) {
        self.reserved = None;
        self.queue.finish(self.storage);
    }
}

impl fmt::Debug for Outbox<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("phase", &self.queue.phase).finish_non_exhaustive()
    }
}
