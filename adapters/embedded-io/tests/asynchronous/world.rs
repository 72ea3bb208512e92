//! [`World`]: in-memory pipes that split the stream at random, a clock that jumps to the next deadline, and
//! an executor that detects when no task can make progress.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use countersign::Instant;
use embedded_hal_async::delay::DelayNs;
use embedded_io::{ErrorKind, ErrorType};
use embedded_io_async::{Read, Write};

/// Virtual time and randomness, shared by both ends.
#[derive(Clone)]
pub(crate) struct World(Rc<State>);

struct State {
    micros: Cell<u64>,
    /// The next deadline of a timer.
    next: Cell<Option<u64>>,
    /// State of the random number generator.
    random: Cell<u64>,
    /// Whether a pipe or a timer has made progress.
    moved: Cell<bool>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rc::new(State {
            micros: Cell::new(0),
            next: Cell::new(None),
            random: Cell::new(seed.wrapping_mul(2).wrapping_add(1)),
            moved: Cell::new(false),
        }))
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_micros(self.0.micros.get())
    }

    pub(crate) fn clock(&self) -> impl Fn() -> Instant + use<> {
        let world = self.clone();
        move || world.now()
    }

    /// A number below `end`.
    pub(crate) fn below(&self, end: usize) -> usize {
        let mut x = self.0.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.random.set(x);
        (x >> 11) as usize % end
    }

    /// Two ends, connected by a pipe of `capacity` bytes in each direction.
    pub(crate) fn pair(&self, capacity: usize) -> (End, End) {
        let pipe = || Pipe {
            world: self.clone(),
            inner: Rc::new(RefCell::new(Inner { capacity, flushed: true, ..Inner::default() })),
        };
        let (up, down) = (pipe(), pipe());
        (End { input: down.clone(), output: up.clone() }, End { input: up, output: down })
    }

    /// Runs both futures; `None` for one that can make no progress.
    pub(crate) fn run<A, B>(
        &self,
        one: impl Future<Output = A>,
        other: impl Future<Output = B>,
    ) -> (Option<A>, Option<B>) {
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(flag.clone());
        let mut context = Context::from_waker(&waker);
        let (mut one, mut other) = (pin!(one), pin!(other));
        let (mut first, mut second) = (None, None);
        let mut idle = 0;
        loop {
            self.0.moved.set(false);
            self.0.next.set(None);
            if first.is_none() {
                first = ready(one.as_mut(), &mut context);
            }
            if second.is_none() {
                second = ready(other.as_mut(), &mut context);
            }
            if first.is_some() && second.is_some() {
                return (first, second);
            }
            let woken = flag.0.swap(false, Ordering::SeqCst);
            if self.0.moved.get() || woken {
                idle = 0;
                continue;
            }
            // A future may wait for the other, which has just ended.
            idle += 1;
            match self.0.next.get() {
                Some(at) if idle > 2 => self.0.micros.set(at.max(self.0.micros.get())),
                None if idle > 2 => return (first, second),
                _ => {}
            }
        }
    }
}

fn ready<T>(future: Pin<&mut impl Future<Output = T>>, context: &mut Context<'_>) -> Option<T> {
    match future.poll(context) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl DelayNs for World {
    async fn delay_ns(&mut self, ns: u32) {
        let at = self.0.micros.get() + u64::from(ns.div_ceil(1000));
        poll_fn(|_| {
            if self.0.micros.get() >= at {
                self.0.moved.set(true);
                return Poll::Ready(());
            }
            self.0.next.set(Some(self.0.next.get().map_or(at, |next| next.min(at))));
            Poll::Pending
        })
        .await;
    }
}

/// Runs `future`, and drops it when it waits more than `waits` times. Counts `waits` down.
pub(crate) async fn cancel_after<T>(
    waits: &Cell<usize>,
    future: impl Future<Output = T>,
) -> Option<T> {
    let done = {
        let mut future = pin!(future);
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if waits.get() == 0 => Poll::Ready(None),
            Poll::Pending => {
                waits.set(waits.get() - 1);
                Poll::Pending
            }
        })
        .await
    };
    if done.is_none() {
        // Other futures make progress before the call is repeated.
        let mut waited = false;
        poll_fn(|_| match std::mem::replace(&mut waited, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
    done
}

/// One direction of a pair.
#[derive(Clone)]
pub(crate) struct Pipe {
    world: World,
    inner: Rc<RefCell<Inner>>,
}

#[derive(Default)]
struct Inner {
    bytes: VecDeque<u8>,
    capacity: usize,
    shut: bool,
    broken: bool,
    flushed: bool,
    flushes_fail: bool,
}

/// One end of a pair.
pub(crate) struct End {
    pub(crate) input: Pipe,
    pub(crate) output: Pipe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

impl embedded_io::Error for Broken {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BrokenPipe
    }
}

impl Pipe {
    /// Ends the stream. All output must be flushed before.
    pub(crate) fn shut(&mut self) -> Result<(), Broken> {
        let mut inner = self.inner.borrow_mut();
        assert!(inner.flushed, "shut before it was flushed");
        inner.shut = true;
        self.world.0.moved.set(true);
        Ok(())
    }

    /// Ends the stream after the bytes that were written.
    pub(crate) fn truncate(&self) {
        self.inner.borrow_mut().shut = true;
    }

    /// Breaks the pipe for both ends.
    pub(crate) fn break_down(&self) {
        self.inner.borrow_mut().broken = true;
    }

    /// Makes all flushes fail.
    pub(crate) fn fail_flushes(&self) {
        self.inner.borrow_mut().flushes_fail = true;
    }

    pub(crate) fn len(&self) -> usize {
        self.inner.borrow().bytes.len()
    }

    /// Whether the operation waits for another poll for no reason, as hardware may.
    fn later(&self, context: &mut Context<'_>) -> bool {
        let later = self.world.below(3) == 0;
        if later {
            context.waker().wake_by_ref();
        }
        later
    }
}

impl ErrorType for Pipe {
    type Error = Broken;
}

impl Read for Pipe {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Broken> {
        poll_fn(|context| {
            if self.later(context) {
                return Poll::Pending;
            }
            let mut inner = self.inner.borrow_mut();
            if inner.bytes.is_empty() {
                return match () {
                    () if inner.broken => Poll::Ready(Err(Broken)),
                    () if inner.shut => Poll::Ready(Ok(0)),
                    () => Poll::Pending,
                };
            }
            let most = buf.len().min(inner.bytes.len());
            let n = 1 + self.world.below(most);
            for (to, from) in buf.iter_mut().zip(inner.bytes.drain(..n)) {
                *to = from;
            }
            self.world.0.moved.set(true);
            Poll::Ready(Ok(n))
        })
        .await
    }
}

impl Write for Pipe {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, Broken> {
        poll_fn(|context| {
            if self.later(context) {
                return Poll::Pending;
            }
            let mut inner = self.inner.borrow_mut();
            if inner.broken {
                return Poll::Ready(Err(Broken));
            }
            let most = buf.len().min(inner.capacity - inner.bytes.len());
            if most == 0 {
                return Poll::Pending;
            }
            let n = 1 + self.world.below(most);
            inner.bytes.extend(&buf[..n]);
            inner.flushed = false;
            self.world.0.moved.set(true);
            Poll::Ready(Ok(n))
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        poll_fn(|context| {
            if self.later(context) {
                return Poll::Pending;
            }
            let mut inner = self.inner.borrow_mut();
            inner.flushed = true;
            if inner.broken || inner.flushes_fail {
                Poll::Ready(Err(Broken))
            } else {
                Poll::Ready(Ok(()))
            }
        })
        .await
    }
}
