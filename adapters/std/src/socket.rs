//! A socket at which one thread waits for all.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};

use countersign::Instant;
use countersign_driver::Keys;
use countersign_host::{
    CallConnection, CallError, CallTransport, Operation, SharedConnection, Step, Stream,
};

use crate::wakeup::Wakeup;

/// A socket at which one thread waits for all that make calls. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Socket(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stream: Stream,
    /// Wakes the thread that has the turn.
    wakeup: Arc<Wakeup>,
    taken: AtomicBool,
}

/// The turn to wait at a socket. When it is given back the other threads are woken, and one of them takes
/// it.
struct Turn<'a>(&'a AtomicBool, &'a SharedConnection<Socket>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
        self.1.wake_calls();
    }
}

/// Wakes a thread that waits without a turn.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Socket {
    pub(crate) fn new(stream: Stream, wakeup: Wakeup) -> Self {
        let (wakeup, taken) = (Arc::new(wakeup), AtomicBool::new(false));
        Self(Arc::new(Shared { stream, wakeup, taken }))
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.0.stream
    }
}

/// Drives `connection` until `operation` is done.
///
/// ```text
///  poll ─▶ done ─▶ return
///   ▲ └─▶ pending ─┬─ has the turn ─────▶ wait at the socket ─┐
///   │              ├─ takes the turn ─────────────────────────┤
///   │              └─ another has it ───▶ park ───────────────┤
///   └─────────────────────────────────────────────────────────┘
/// ```
pub(crate) fn call<O: Operation>(
    connection: &SharedConnection<Socket>,
    mut operation: O,
) -> Result<O::Output, CallError> {
    let call = connection.begin_call();
    let Some(socket) = connection.transport() else {
        // It is over: no operation has to wait.
        return match connection.poll(&call, Waker::noop(), &mut operation) {
            ControlFlow::Break(result) => result,
            ControlFlow::Continue(_) => Err(CallError::Io(ErrorKind::NotConnected.into())),
        };
    };
    let Shared { stream, wakeup, taken } = &*socket.0;
    let try_turn = || (!taken.swap(true, Ordering::SeqCst)).then(|| Turn(taken, connection));
    let mut turn = try_turn();
    loop {
        let waker: Waker = match &turn {
            Some(_) => wakeup.clone().into(),
            None => Arc::new(Unpark(thread::current())).into(),
        };
        let interest = match connection.poll(&call, &waker, &mut operation) {
            ControlFlow::Break(result) => return result,
            ControlFlow::Continue(interest) => interest,
        };
        let now = connection.now();
        if turn.is_some() {
            wakeup.wait(Some(stream), interest, now);
            continue;
        }
        // Only now that the end of another turn would wake this thread. With the turn it polls again, to
        // be woken at the socket.
        turn = try_turn();
        if turn.is_none() {
            let left = interest.until.map(|at| at.saturating_duration_since(now));
            left.map_or_else(thread::park, thread::park_timeout);
        }
    }
}

impl CallTransport for Socket {
    fn poll(
        &mut self,
        connection: &mut CallConnection,
        keys: &dyn Keys,
        now: Instant,
        _: &Waker,
    ) -> Step {
        connection.poll(&mut self.stream(), keys, now)
    }
}
