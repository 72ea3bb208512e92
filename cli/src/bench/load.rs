//! What each connection does.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use countersign::{Instant as Moment, Outbox, Peer, Remaining, SendError};
use countersign_driver::{Chunk, Flow, Service};

use super::report::Times;

/// What is to be sent, and how.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) message: Rc<[u8]>,
    /// Messages without an answer on one connection.
    pub(crate) pipeline: usize,
    /// A reply is over when as many bytes have come.
    pub(crate) raw: bool,
    /// One message, and then the end of the connection.
    pub(crate) once: bool,
    /// One message so often, however many have no answer.
    pub(crate) every: Option<Duration>,
    /// When the connections' clock began, or a moment before.
    pub(crate) epoch: Instant,
}

/// What all connections have done together.
pub(crate) struct Tally {
    begun: bool,
    /// Messages that may still be sent.
    left: u64,
    /// How many are to be answered.
    wanted: u64,
    /// Messages that were sent, or are to be at once.
    pub(crate) asked: u64,
    /// Messages that were answered.
    pub(crate) done: u64,
    /// How long each of these took.
    pub(crate) latencies: Times,
}

impl Tally {
    pub(crate) fn new(wanted: Option<u64>) -> Self {
        let wanted = wanted.unwrap_or(u64::MAX);
        Self { begun: false, left: wanted, wanted, asked: 0, done: 0, latencies: Times::new() }
    }

    pub(crate) fn begin(&mut self) {
        self.begun = true;
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.begun
    }

    /// No more messages.
    pub(crate) fn end(&mut self) {
        self.left = 0;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.done >= self.wanted
    }

    fn take(&mut self) -> bool {
        let takes = self.begun && self.left > 0;
        self.left -= u64::from(takes);
        self.asked += u64::from(takes);
        takes
    }
}

/// Sends messages, as many at a time as are to be without an answer, and counts the answers.
pub(crate) struct Load {
    plan: Plan,
    tally: Rc<RefCell<Tally>>,
    /// When those without an answer were sent.
    sent: VecDeque<Instant>,
    /// How much of the last one is on its way, if not all.
    partly: Option<usize>,
    /// Bytes that have come of the next answer.
    come: usize,
    finished: bool,
    /// Where in the interval its messages are sent, from 0 to 1: not all at once.
    place: f64,
    /// When the next one is due, if it is not sent as soon as there is room.
    due: Option<Moment>,
    /// Those that were due and are not sent.
    late: VecDeque<Instant>,
}

impl Load {
    pub(crate) fn new(plan: Plan, tally: Rc<RefCell<Tally>>, place: f64) -> Self {
        Self {
            plan,
            tally,
            sent: VecDeque::new(),
            partly: None,
            come: 0,
            finished: false,
            place,
            due: None,
            late: VecDeque::new(),
        }
    }

    /// Since when the next message is to be sent, if it is to be.
    fn next(&mut self) -> Option<Instant> {
        if self.plan.every.is_some() {
            return self.late.pop_front();
        }
        let full = self.sent.len() >= self.plan.pipeline;
        (!full && !self.finished && self.tally.borrow_mut().take()).then(Instant::now)
    }

    /// Sends what is to be sent, for as long as there is room.
    fn pump(&mut self, out: &mut Outbox<'_>) {
        loop {
            if self.partly.is_none() {
                let Some(since) = self.next() else { return };
                self.sent.push_back(since);
                self.partly = Some(0);
                self.finished = self.plan.once;
            }
            let Some(from) = self.partly else { return };
            let left = &self.plan.message[from..];
            let chunk = &left[..left.len().min(out.max_chunk())];
            let remaining = match left.len() - chunk.len() {
                0 => Remaining::End,
                more => Remaining::Bytes(more as u64),
            };
            match out.send_chunk(chunk, remaining) {
                Ok(()) if remaining == Remaining::End => self.partly = None,
                Ok(()) => self.partly = Some(from + chunk.len()),
                Err(SendError::Full) => return,
                // The connection is ending.
                Err(_) => return self.partly = None,
            }
        }
    }

    fn answered(&mut self) {
        // What nobody asked for is no answer.
        if let Some(sent) = self.sent.pop_front() {
            let mut tally = self.tally.borrow_mut();
            tally.done += 1;
            tally.latencies.add(sent.elapsed());
        }
    }
}

impl Service for Load {
    fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, _: Moment) {
        self.pump(out);
    }

    fn on_message(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Moment) -> Flow {
        if self.plan.raw {
            self.come += chunk.bytes.len();
            while self.come >= self.plan.message.len() && !self.sent.is_empty() {
                self.come -= self.plan.message.len();
                self.answered();
            }
        } else if chunk.remaining == Remaining::End {
            self.answered();
        }
        if self.finished && self.sent.is_empty() {
            out.finish();
        }
        self.pump(out);
        Flow::Consumed
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, _: Moment) {
        self.pump(out);
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, now: Moment) {
        if let Some(every) = self.plan.every
            && self.due.is_none()
        {
            self.due = Some(now.saturating_add(every.mul_f64(self.place)));
        }
        self.pump(out);
    }

    fn poll_timeout(&self) -> Option<Moment> {
        self.due
    }

    fn on_timeout(&mut self, out: &mut Outbox<'_>, now: Moment) {
        while let Some(every) = self.plan.every
            && let Some(due) = self.due.filter(|due| *due <= now)
        {
            self.due = Some(due.saturating_add(every));
            // Counted from when it is due: who is late answers for it.
            if self.tally.borrow_mut().take() {
                let since = due.saturating_duration_since(Moment::EPOCH);
                self.late.push_back(self.plan.epoch + since);
            }
        }
        self.pump(out);
    }
}
