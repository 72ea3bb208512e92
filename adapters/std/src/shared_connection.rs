//! A connection that several threads drive by their calls.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Wake;
use std::time::{self, Duration};

use countersign::Instant;
use countersign_driver::{Interest, Keys};
use countersign_host::{CallConnection, CallError, Clock, KeepAlive, Stream, keep_alive};

use crate::wakeup::Wakeup;

/// A connection that several threads drive by their calls.
///
/// The first thread that has to wait does so at the socket, for all of them; the others wait for it. A
/// thread that changes what the first one should wait for interrupts it. Between calls the keep-alive
/// thread polls the connection when a deadline passes.
///
/// ```text
///  run: operation ─▶ done ─────────────────────────────▶ return
///           ▲    └─▶ pending ─▶ poll ─▶ operation ─▶ done ─▶ arm ─▶ return
///           │                              └─▶ pending ─▶ wait ─┐
///           └───────────────────────────────────────────────────┘
/// ```
pub(crate) struct SharedConnection {
    stream: Stream,
    clock: Clock,
    timeout: Option<Duration>,
    keys: Arc<dyn Keys + Send + Sync>,
    state: Mutex<State>,
    /// Notified after each wait at the socket.
    moved: Condvar,
    notify: Arc<Notify>,
}

struct State {
    connection: CallConnection,
    /// What the thread at the socket waits for, if there is one, and the changes that it knows of.
    polling: Option<(Interest, u32)>,
    /// When the keep-alive thread polls next.
    armed: Option<Instant>,
}

/// The waker of a [`SharedConnection`].
///
/// Wakes the thread at the socket. If there is none it has the keep-alive thread poll the connection: a
/// buffer that was granted, or a request of the handle, does not wait for the next call.
///
/// Takes no lock of the connection, since another connection may wake it under its own.
pub(crate) struct Notify {
    wakeup: Wakeup,
    /// A thread waits at the socket, and polls afterwards.
    waiting: AtomicBool,
    /// The keep-alive thread is about to poll.
    scheduled: AtomicBool,
    connection: OnceLock<Weak<SharedConnection>>,
}

impl Notify {
    pub(crate) fn new(wakeup: Wakeup) -> Arc<Self> {
        Arc::new(Self {
            wakeup,
            waiting: AtomicBool::new(false),
            scheduled: AtomicBool::new(false),
            connection: OnceLock::new(),
        })
    }
}

impl Wake for Notify {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Before `waiting` is read: a thread that begins to wait afterwards finds the wake-up.
        self.wakeup.notify();
        if !self.waiting.load(Ordering::SeqCst)
            && let Some(connection) = self.connection.get()
            && !self.scheduled.swap(true, Ordering::SeqCst)
        {
            keep_alive(connection.clone(), time::Instant::now());
        }
    }
}

impl SharedConnection {
    /// A connection whose protocol has `notify` as its waker.
    pub(crate) fn new(
        stream: Stream,
        clock: Clock,
        timeout: Option<Duration>,
        keys: Arc<dyn Keys + Send + Sync>,
        connection: CallConnection,
        notify: Arc<Notify>,
    ) -> Arc<Self> {
        let state = Mutex::new(State { connection, polling: None, armed: None });
        let moved = Condvar::new();
        let shared = Arc::new(Self { stream, clock, timeout, keys, state, moved, notify });
        let _ = shared.notify.connection.set(Arc::downgrade(&shared));
        shared
    }

    /// Has the keep-alive thread poll the connection soon.
    pub(crate) fn schedule(&self) {
        self.notify.wake_by_ref();
    }

    pub(crate) fn look_at<T>(&self, look: impl FnOnce(&CallConnection) -> T) -> T {
        look(&self.lock().connection)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drives the connection until `operation` is done.
    pub(crate) fn run<T>(
        &self,
        mut operation: impl FnMut(&mut CallConnection, Instant) -> Option<Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let give_up = self.timeout.map(|timeout| self.clock.now().saturating_add(timeout));
        let mut state = self.lock();
        let mut result = operation(&mut state.connection, self.clock.now());
        loop {
            let mut interest = Interest::default();
            if result.is_none() || state.connection.wants_poll() {
                interest = self.poll(&mut state);
                if result.is_none() {
                    result = operation(&mut state.connection, self.clock.now());
                }
                if state.connection.wants_poll() {
                    continue;
                }
                self.interrupt(&state, interest);
            }
            if result.is_none() && give_up.is_some_and(|at| at <= self.clock.now()) {
                result = Some(Err(CallError::TimedOut));
            }
            if let Some(result) = result {
                if let Some(at) = self.arm(&mut state, interest.until)
                    && let Some(connection) = self.notify.connection.get()
                {
                    keep_alive(connection.clone(), at);
                }
                return result;
            }
            state = self.wait(state, interest, give_up);
        }
    }

    /// Makes progress until there is nothing to do but wait.
    fn poll(&self, state: &mut State) -> Interest {
        state.connection.poll_until_wait(&mut &self.stream, &*self.keys, || self.clock.now())
    }

    /// Ends the wait of the thread at the socket if it waits for something else than `interest`, or for
    /// what has happened.
    fn interrupt(&self, state: &State, interest: Interest) {
        let changes = state.connection.changes();
        if state.polling.is_some_and(|known| known != (interest, changes)) {
            self.notify.wakeup.notify();
        }
    }

    /// Waits at the socket, or for the thread that does, until `give_up` at most.
    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        interest: Interest,
        give_up: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        if state.polling.is_some() {
            let left = give_up.map(|at| at.saturating_duration_since(self.clock.now()));
            return match left {
                None => self.moved.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let waited = self.moved.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.polling = Some((interest, state.connection.changes()));
        drop(state);
        self.notify.waiting.store(true, Ordering::SeqCst);
        let interest = interest.until_at_most(give_up);
        self.notify.wakeup.wait(Some(&self.stream), interest, self.clock.now());
        self.notify.waiting.store(false, Ordering::SeqCst);
        let mut state = self.lock();
        state.polling = None;
        self.moved.notify_all();
        state
    }

    /// When the keep-alive thread has to poll for a deadline at `until`; `None` if it will not be later
    /// anyway.
    fn arm(&self, state: &mut State, until: Option<Instant>) -> Option<time::Instant> {
        let at = until.filter(|&at| state.armed.is_none_or(|armed| at < armed))?;
        state.armed = Some(at);
        // In this order: the keep-alive thread is late rather than early, when nothing would be due.
        let left = at.saturating_duration_since(self.clock.now());
        time::Instant::now().checked_add(left)
    }
}

impl KeepAlive for SharedConnection {
    fn keep_alive(&self) -> Option<time::Instant> {
        self.notify.scheduled.store(false, Ordering::SeqCst);
        let mut state = self.lock();
        let now = self.clock.now();
        if state.armed.is_some_and(|at| at <= now) {
            state.armed = None;
        }
        let interest = self.poll(&mut state);
        self.interrupt(&state, interest);
        self.arm(&mut state, interest.until)
    }
}

impl fmt::Debug for SharedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedConnection").field("stream", &self.stream).finish_non_exhaustive()
    }
}
