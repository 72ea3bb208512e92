//! The load: the service of each connection.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use countersign::{Instant as Moment, Outbox, Peer, Remaining, SendError};
use countersign_driver::{Chunk, Flow, StreamService, send_from};

use super::report::Times;

/// What each connection sends.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) message: Rc<[u8]>,
    /// The limit of unanswered messages on one connection.
    pub(crate) pipeline: usize,
    /// A byte stream: a reply is complete after as many bytes as the message has.
    pub(crate) raw: bool,
    /// One message, then the connection is closed.
    pub(crate) once: bool,
    /// The interval between messages, regardless of answers.
    pub(crate) every: Option<Duration>,
    /// The start of the connections' clock, or slightly before it.
    pub(crate) epoch: Instant,
}

/// The counters of all connections together.
pub(crate) struct Tally {
    begun: bool,
    /// Messages that may still be sent.
    left: u64,
    /// The number of answers after which the measurement ends.
    wanted: u64,
    /// Messages that were sent, or are due.
    pub(crate) asked: u64,
    /// Messages that were answered.
    pub(crate) done: u64,
    /// The latency of each answered message.
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

    /// Allows no more messages.
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

/// Sends messages, up to the limit of unanswered ones, and counts the answers.
pub(crate) struct Load {
    plan: Plan,
    tally: Rc<RefCell<Tally>>,
    /// When the unanswered messages were sent.
    sent: VecDeque<Instant>,
    /// How many bytes of the last message were sent, if it is incomplete.
    partial: Option<usize>,
    /// Bytes received of the next answer.
    received: usize,
    finished: bool,
    /// The offset of this connection in the interval, from 0 to 1, so that connections do not send in
    /// phase.
    offset: f64,
    /// When the next message is due, with an interval.
    due: Option<Moment>,
    /// When each message was due that could not be sent yet.
    late: VecDeque<Instant>,
}

impl Load {
    pub(crate) fn new(plan: Plan, tally: Rc<RefCell<Tally>>, offset: f64) -> Self {
        Self {
            plan,
            tally,
            sent: VecDeque::new(),
            partial: None,
            received: 0,
            finished: false,
            offset,
            due: None,
            late: VecDeque::new(),
        }
    }

    /// Takes the next message: the time from which its latency counts. `None` if none is allowed now.
    fn next(&mut self) -> Option<Instant> {
        if self.plan.every.is_some() {
            return self.late.pop_front();
        }
        let full = self.sent.len() >= self.plan.pipeline;
        (!full && !self.finished && self.tally.borrow_mut().take()).then(Instant::now)
    }

    /// Sends messages while there is room.
    fn pump(&mut self, out: &mut Outbox<'_>) {
        loop {
            if self.partial.is_none() {
                let Some(since) = self.next() else { return };
                self.sent.push_back(since);
                self.partial = Some(0);
                self.finished = self.plan.once;
            }
            let Some(sent) = &mut self.partial else { return };
            match send_from(out, &self.plan.message, sent) {
                Ok(()) => self.partial = None,
                Err(SendError::Full) => return,
                // The connection is ending.
                Err(_) => return self.partial = None,
            }
        }
    }

    fn answered(&mut self) {
        // An answer without a message is not counted.
        if let Some(sent) = self.sent.pop_front() {
            let mut tally = self.tally.borrow_mut();
            tally.done += 1;
            tally.latencies.add(sent.elapsed());
        }
    }
}

impl StreamService for Load {
    fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, _: Moment) {
        self.pump(out);
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Moment) -> Flow {
        if self.plan.raw {
            self.received += chunk.bytes.len();
            while self.received >= self.plan.message.len() && !self.sent.is_empty() {
                self.received -= self.plan.message.len();
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
            self.due = Some(now.saturating_add(every.mul_f64(self.offset)));
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
            // The latency counts from the due time, so that a slow server cannot slow down the measurement.
            if self.tally.borrow_mut().take() {
                let since = due.saturating_duration_since(Moment::EPOCH);
                self.late.push_back(self.plan.epoch + since);
            }
        }
        self.pump(out);
    }
}
