//! Services of these tests: delayed replies, replies on demand, and reports of ends.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::Waker;
use std::thread;
use std::time::Duration;

use countersign::{Error, Instant, Outbox, Peer, Remaining, SendError};
use countersign_driver::{Chunk, Flow, StreamService};

/// Replies in upper case to one chunk at a time, with a delay.
pub(crate) struct DelayedUpper {
    delay: Delay,
    stage: Stage,
    finishing: bool,
}

/// What the reply waits for.
pub(crate) enum Delay {
    /// Until another thread has made the reply. It then wakes the connection.
    Worker(Waker),
    /// For this time.
    Timer(Duration),
}

enum Stage {
    Idle,
    /// The other thread makes the reply.
    Working(Remaining, Slot),
    /// The reply is due at that time.
    Delayed(Instant, Vec<u8>, Remaining),
    /// The reply does not fit into the send buffer yet.
    Ready(Vec<u8>, Remaining),
}

type Slot = Arc<Mutex<Option<Vec<u8>>>>;

struct Job {
    request: Vec<u8>,
    slot: Slot,
    wake: Waker,
}

/// The jobs of the thread that makes the replies of all connections.
static WORKER: LazyLock<Mutex<Sender<Job>>> = LazyLock::new(|| {
    let (jobs, work) = channel::<Job>();
    thread::spawn(move || {
        for Job { request, slot, wake } in work {
            *slot.lock().unwrap() = Some(request.to_ascii_uppercase());
            wake.wake();
        }
    });
    Mutex::new(jobs)
});

impl DelayedUpper {
    pub(crate) fn new(delay: Delay) -> Self {
        Self { delay, stage: Stage::Idle, finishing: false }
    }

    /// Sends the reply if it is ready.
    fn flush(&mut self, out: &mut Outbox<'_>, now: Instant) {
        let (reply, remaining) = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Working(remaining, slot) => match slot.lock().unwrap().take() {
                Some(reply) => (reply, remaining),
                None => {
                    self.stage = Stage::Working(remaining, slot.clone());
                    return;
                }
            },
            Stage::Delayed(at, reply, remaining) if at <= now => (reply, remaining),
            Stage::Ready(reply, remaining) => (reply, remaining),
            other => {
                self.stage = other;
                return self.finish(out);
            }
        };
        if out.send_chunk(&reply, remaining) == Err(SendError::Full) {
            self.stage = Stage::Ready(reply, remaining);
        }
        self.finish(out);
    }

    fn finish(&self, out: &mut Outbox<'_>) {
        if self.finishing && matches!(self.stage, Stage::Idle) {
            out.finish();
        }
    }
}

impl StreamService for DelayedUpper {
    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow {
        self.flush(out, now);
        let Stage::Idle = self.stage else { return Flow::Backpressure };
        self.stage = match &self.delay {
            Delay::Worker(wake) => {
                let slot = Slot::default();
                let job =
                    Job { request: chunk.bytes.to_vec(), slot: slot.clone(), wake: wake.clone() };
                WORKER.lock().unwrap().send(job).unwrap();
                Stage::Working(chunk.remaining, slot)
            }
            Delay::Timer(time) => Stage::Delayed(
                now.saturating_add(*time),
                chunk.bytes.to_ascii_uppercase(),
                chunk.remaining,
            ),
        };
        Flow::Consumed
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.flush(out, now);
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.flush(out, now);
    }

    fn on_timeout(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.flush(out, now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if let Stage::Delayed(at, ..) = self.stage { Some(at) } else { None }
    }

    fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    fn on_finished(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.finishing = true;
        self.flush(out, now);
    }
}

/// Wraps a service, and reports the result of its connection.
pub(crate) struct ReportEnd<S>(pub(crate) S, pub(crate) Sender<Result<(), Error>>);

impl<S: StreamService> StreamService for ReportEnd<S> {
    fn on_open(&mut self, peer: &Peer<'_>, out: &mut Outbox<'_>, now: Instant) {
        self.0.on_open(peer, out, now);
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow {
        self.0.on_chunk(chunk, out, now)
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.0.on_writable(out, now);
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.0.on_wake(out, now);
    }

    fn on_finished(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.0.on_finished(out, now);
    }

    fn on_timeout(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.0.on_timeout(out, now);
    }

    fn is_idle(&self) -> bool {
        self.0.is_idle()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.0.poll_timeout()
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        self.0.on_closed(result);
        // The test may have dropped the receiver.
        let _ = self.1.send(result);
    }
}

/// Echoes each chunk once the test releases the reply.
pub(crate) struct ManualEcho {
    waker: Waker,
    out: Sender<PendingReply>,
    pending: VecDeque<(Vec<u8>, Arc<AtomicBool>)>,
}

/// A reply that a [`ManualEcho`] holds back.
pub(crate) struct PendingReply {
    waker: Waker,
    released: Arc<AtomicBool>,
}

impl PendingReply {
    /// Lets the service send the reply.
    pub(crate) fn release(self) {
        self.released.store(true, Ordering::SeqCst);
        self.waker.wake();
    }
}

impl ManualEcho {
    pub(crate) fn new(waker: Waker, out: Sender<PendingReply>) -> Self {
        Self { waker, out, pending: VecDeque::new() }
    }
}

impl StreamService for ManualEcho {
    fn on_chunk(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        let released = Arc::<AtomicBool>::default();
        self.pending.push_back((chunk.bytes.to_vec(), released.clone()));
        self.out.send(PendingReply { waker: self.waker.clone(), released }).unwrap();
        Flow::Consumed
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, _: Instant) {
        while self.pending.front().is_some_and(|(_, released)| released.load(Ordering::SeqCst)) {
            let (reply, _) = self.pending.pop_front().unwrap();
            out.send(&reply).unwrap();
        }
    }

    fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }
}
