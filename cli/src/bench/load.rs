//! What each connection does.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use countersign::{Instant as Moment, Outbox, Peer, Rest, SendError};
use countersign_drive::{Flow, Part, Service};

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
}

/// What all connections have done together.
pub(crate) struct Tally {
    begun: bool,
    /// Messages that may still be sent.
    left: u64,
    /// How many are to be answered.
    wanted: u64,
    /// Messages that were answered.
    pub(crate) done: u64,
    /// How long each of these took.
    pub(crate) latencies: Times,
}

impl Tally {
    pub(crate) fn new(wanted: Option<u64>) -> Self {
        let wanted = wanted.unwrap_or(u64::MAX);
        Self { begun: false, left: wanted, wanted, done: 0, latencies: Times::new() }
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
}

impl Load {
    pub(crate) fn new(plan: Plan, tally: Rc<RefCell<Tally>>) -> Self {
        Self { plan, tally, sent: VecDeque::new(), partly: None, come: 0, finished: false }
    }

    /// Sends what is to be sent, for as long as there is room.
    fn pump(&mut self, out: &mut Outbox<'_>) {
        loop {
            if self.partly.is_none() {
                let full = self.sent.len() >= self.plan.pipeline;
                if full || self.finished || !self.tally.borrow_mut().take() {
                    return;
                }
                self.sent.push_back(Instant::now());
                self.partly = Some(0);
                self.finished = self.plan.once;
            }
            let Some(from) = self.partly else { return };
            let left = &self.plan.message[from..];
            let part = &left[..left.len().min(out.max_part())];
            let rest = match left.len() - part.len() {
                0 => Rest::End,
                more => Rest::Bytes(more as u64),
            };
            match out.send_part(part, rest) {
                Ok(()) if rest == Rest::End => self.partly = None,
                Ok(()) => self.partly = Some(from + part.len()),
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

    fn on_message(&mut self, part: Part<'_>, out: &mut Outbox<'_>, _: Moment) -> Flow {
        if self.plan.raw {
            self.come += part.bytes.len();
            while self.come >= self.plan.message.len() && !self.sent.is_empty() {
                self.come -= self.plan.message.len();
                self.answered();
            }
        } else if part.rest == Rest::End {
            self.answered();
        }
        if self.finished && self.sent.is_empty() {
            out.finish();
        }
        self.pump(out);
        Flow::Done
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, _: Moment) {
        self.pump(out);
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, _: Moment) {
        self.pump(out);
    }
}
