//! Services beside those of the crates: answers that come later, and endings that are reported.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::Waker;
use std::thread;
use std::time::Duration;

use countersign::{Error, Instant, Outbox, Peer, Remaining, SendError};
use countersign_driver::{Chunk, Flow, StreamService};

/// Answers in capitals, one part at a time, later.
pub(crate) struct Later {
    how: How,
    stage: Stage,
    finishing: bool,
}

/// Who has the answer.
pub(crate) enum How {
    /// Another thread, which then wakes the connection: as a gateway's.
    Worker(Waker),
    /// The clock.
    Timer(Duration),
}

enum Stage {
    Idle,
    /// The other thread has it.
    Asked(Remaining, Slot),
    /// It is ready then.
    Due(Instant, Vec<u8>, Remaining),
    /// There was no room for it yet.
    Ready(Vec<u8>, Remaining),
}

type Slot = Arc<Mutex<Option<Vec<u8>>>>;

struct Job {
    question: Vec<u8>,
    slot: Slot,
    wake: Waker,
}

/// The thread that answers for everybody.
static WORKER: LazyLock<Mutex<Sender<Job>>> = LazyLock::new(|| {
    let (jobs, work) = channel::<Job>();
    thread::spawn(move || {
        for Job { question, slot, wake } in work {
            *slot.lock().unwrap() = Some(question.to_ascii_uppercase());
            wake.wake();
        }
    });
    Mutex::new(jobs)
});

impl Later {
    pub(crate) fn new(how: How) -> Self {
        Self { how, stage: Stage::Idle, finishing: false }
    }

    /// Sends the answer if it is there.
    fn flush(&mut self, out: &mut Outbox<'_>, now: Instant) {
        let (answer, remaining) = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Asked(remaining, slot) => match slot.lock().unwrap().take() {
                Some(answer) => (answer, remaining),
                None => {
                    self.stage = Stage::Asked(remaining, slot.clone());
                    return;
                }
            },
            Stage::Due(at, answer, remaining) if at <= now => (answer, remaining),
            Stage::Ready(answer, remaining) => (answer, remaining),
            other => {
                self.stage = other;
                return self.finish(out);
            }
        };
        if out.send_chunk(&answer, remaining) == Err(SendError::Full) {
            self.stage = Stage::Ready(answer, remaining);
        }
        self.finish(out);
    }

    fn finish(&self, out: &mut Outbox<'_>) {
        if self.finishing && matches!(self.stage, Stage::Idle) {
            out.finish();
        }
    }
}

impl StreamService for Later {
    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow {
        self.flush(out, now);
        let Stage::Idle = self.stage else { return Flow::Backpressure };
        self.stage = match &self.how {
            How::Worker(wake) => {
                let slot = Slot::default();
                let job =
                    Job { question: chunk.bytes.to_vec(), slot: slot.clone(), wake: wake.clone() };
                WORKER.lock().unwrap().send(job).unwrap();
                Stage::Asked(chunk.remaining, slot)
            }
            How::Timer(time) => Stage::Due(
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
        if let Stage::Due(at, ..) = self.stage { Some(at) } else { None }
    }

    fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    fn on_finished(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.finishing = true;
        self.flush(out, now);
    }
}

/// Any service, and how its connection came to its end.
pub(crate) struct Reporting<S>(pub(crate) S, pub(crate) Sender<Result<(), Error>>);

impl<S: StreamService> StreamService for Reporting<S> {
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

    fn on_closed(&mut self, why: Result<(), Error>) {
        self.0.on_closed(why);
        // A test that has seen enough does not listen any more.
        let _ = self.1.send(why);
    }
}

/// Hands each question out, and answers it, as it was asked, once it is told to.
pub(crate) struct Sleeper {
    waker: Waker,
    out: Sender<Asked>,
    asked: VecDeque<(Vec<u8>, Arc<AtomicBool>)>,
}

/// A question that a [`Sleeper`] was asked.
pub(crate) struct Asked {
    waker: Waker,
    told: Arc<AtomicBool>,
}

impl Asked {
    /// Has it answered.
    pub(crate) fn tell(self) {
        self.told.store(true, Ordering::SeqCst);
        self.waker.wake();
    }
}

impl Sleeper {
    pub(crate) fn new(waker: Waker, out: Sender<Asked>) -> Self {
        Self { waker, out, asked: VecDeque::new() }
    }
}

impl StreamService for Sleeper {
    fn on_chunk(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        let told = Arc::<AtomicBool>::default();
        self.asked.push_back((chunk.bytes.to_vec(), told.clone()));
        self.out.send(Asked { waker: self.waker.clone(), told }).unwrap();
        Flow::Consumed
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, _: Instant) {
        while self.asked.front().is_some_and(|(_, told)| told.load(Ordering::SeqCst)) {
            let (answer, _) = self.asked.pop_front().unwrap();
            out.send(&answer).unwrap();
        }
    }

    fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }
}
