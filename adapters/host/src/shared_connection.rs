//! A connection that any number of calls drive, from any threads or tasks.

use std::fmt;
use std::mem;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::task::Waker;
use std::time::{self, Duration};

use countersign::Instant;
use countersign_driver::{Interest, Keys, NoKeys};

use crate::call_connection::CallConnection;
use crate::call_error::CallError;
use crate::clock::Clock;
use crate::connection_handle::ConnectionHandle;
use crate::connector::Connector;
use crate::keep_alive::KeepAlive;
use crate::monitored_connection::Step;
use crate::operation::Operation;
use crate::peer_addr::PeerAddr;
use crate::server_context::{AdmissionGuard, ServerContext};
use crate::stream::Stream;
use crate::waiters::{Call, Waiters, WakeCalls};

/// How soon bytes that could not leave are tried again when no call waits for it.
const RETRY: Duration = Duration::from_millis(250);
/// How soon the keep-alive thread tries again to poll a connection that a call is polling.
const CONTENDED: Duration = Duration::from_millis(10);

/// Polls of a connection within one poll of a call, or one turn of the keep-alive thread. A peer that sends
/// without end must not keep a call from its timeout, nor hold up other calls and connections.
const POLLS: usize = 4;

/// The transport of a [`SharedConnection`].
pub trait CallTransport {
    /// Polls `connection` on this transport. `waker` is to be woken when the transport is ready, unless
    /// the calls wait at it themselves.
    fn poll(
        &mut self,
        connection: &mut CallConnection,
        keys: &dyn Keys,
        now: Instant,
        waker: &Waker,
    ) -> Step;
}

/// A connection that any number of calls drive, from any threads or tasks.
///
/// Each poll of a call polls the connection, and wakes the other calls if something has happened. What
/// has a deadline is left to the keep-alive thread: those of the connection, and the timeouts of calls.
///
/// ```text
///  poll: operation ─▶ done, nothing left to do ───────────▶ Break
///            └─▶ drive ─▶ operation ─▶ arm ─▶ wake others ─┬▶ Break
///                  ▲         │                             └▶ Continue, when woken
///                  └─────────┘ as long as there is something to do
/// ```
pub struct SharedConnection<T> {
    state: Mutex<State<T>>,
    waiters: Arc<Waiters>,
    /// Wakes the calls, for the transport.
    waker: Waker,
    keys: Arc<dyn Keys + Send + Sync>,
    clock: Clock,
    timeout: Option<Duration>,
}

struct State<T> {
    /// Dropped when the connection is over, though the application may keep the connection.
    transport: Option<T>,
    connection: CallConnection,
    /// When the keep-alive thread polls, the next time last. Only an earlier time is added: most deadlines
    /// move later with every message.
    armed: Vec<Instant>,
    /// What all calls know: the [changes](CallConnection::changes), and whether the connection reads and
    /// writes.
    reported: (u32, bool, bool),
}

impl<T: CallTransport + Send + 'static> SharedConnection<T> {
    /// A client's connection over `transport`, which is connected already.
    ///
    /// # Errors
    /// [`CallError::Start`].
    pub fn begin(transport: T, connector: &Connector) -> Result<Arc<Self>, CallError> {
        let (clock, waiters) = (Clock::start(), Arc::<Waiters>::default());
        let connection = connector.begin(&waiters.clone().into(), clock.now())?;
        let (keys, timeout) = (connector.keys().clone(), connector.options().timeout);
        Ok(Self::new(transport, connection, waiters, keys, clock, timeout))
    }

    /// A connection that a server has accepted on `stream(&transport)` and admitted; `None` if it cannot
    /// begin. Its handshake has its deadline though no call is made.
    pub fn accepted(
        context: &Arc<ServerContext>,
        transport: T,
        stream: impl FnOnce(&T) -> &Stream,
        addr: PeerAddr,
        guard: AdmissionGuard,
    ) -> Option<Arc<Self>> {
        let (clock, waiters) = (context.options().clock, Arc::<Waiters>::default());
        let (stream, waker) = (stream(&transport), waiters.clone().into());
        let connection = CallConnection::accepted(context.clone(), stream, addr, guard, &waker)?;
        let shared = Self::new(transport, connection, waiters, Arc::new(NoKeys), clock, None);
        shared.waiters.schedule();
        Some(shared)
    }

    fn new(
        transport: T,
        connection: CallConnection,
        waiters: Arc<Waiters>,
        keys: Arc<dyn Keys + Send + Sync>,
        clock: Clock,
        timeout: Option<Duration>,
    ) -> Arc<Self> {
        let (armed, reported) = (Vec::new(), (0, false, false));
        let state = State { transport: Some(transport), connection, armed, reported };
        let state = Mutex::new(state);
        let waker = Arc::new(WakeCalls(waiters.clone())).into();
        let shared = Arc::new(Self { state, waiters, waker, keys, clock, timeout });
        let connection: Weak<Self> = Arc::downgrade(&shared);
        // It is set once.
        let _ = shared.waiters.connection.set(connection);
        shared
    }
}

impl<T> SharedConnection<T> {
    /// Now, by the clock of its deadlines.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The handle of a connection that a server has accepted.
    #[must_use]
    pub fn handle(&self) -> Option<ConnectionHandle> {
        self.lock().connection.handle().cloned()
    }

    /// The transport, where clones are the same; `None` if the connection is over.
    #[must_use]
    pub fn transport(&self) -> Option<T>
    where
        T: Clone,
    {
        self.lock().transport.clone()
    }

    /// A call that begins now.
    #[must_use]
    pub fn begin_call(&self) -> Call {
        let give_up = self.timeout.map(|timeout| self.clock.now().saturating_add(timeout));
        Call::new(&self.waiters, give_up)
    }

    /// Wakes the calls that wait.
    pub fn wake_calls(&self) {
        self.waiters.wake_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the keep-alive thread poll at `until`, unless it polls before.
    fn arm(&self, state: &mut State<T>, until: Option<Instant>) -> Option<time::Instant> {
        let earlier = |at: &Instant| state.armed.last().is_none_or(|armed| at < armed);
        let at = until.filter(earlier)?;
        state.armed.push(at);
        // In this order: the keep-alive thread is late rather than early, when nothing would be due.
        let left = at.saturating_duration_since(self.clock.now());
        time::Instant::now().checked_add(left)
    }

    /// When to poll next if no call waits.
    fn idle_until(&self, step: Step) -> Option<Instant> {
        match step {
            Step::Yield => Some(self.clock.now()),
            Step::Wait(it) => it.until_at_most(self.retry_at().filter(|_| it.write)).until,
            Step::Closed => None,
        }
    }

    fn retry_at(&self) -> Option<Instant> {
        Some(self.clock.now().saturating_add(RETRY))
    }
}

impl<T> State<T> {
    /// Whether something has happened that not all calls know.
    fn report(&mut self, step: Step) -> bool {
        let (read, write) = match step {
            Step::Wait(interest) => (interest.read, interest.write),
            Step::Yield | Step::Closed => (false, false),
        };
        let news = (self.connection.changes(), read, write);
        mem::replace(&mut self.reported, news) != news
    }
}

impl<T: CallTransport> SharedConnection<T> {
    /// Drives the connection, with `operation` before, so that what it sends is written in the same poll,
    /// and after each poll. If it is not done, poll it again when `waker` is woken or, if the calls wait at
    /// the transport themselves, when the [`Interest`] is satisfied.
    pub fn poll<O: Operation>(
        &self,
        call: &Call,
        waker: &Waker,
        operation: &mut O,
    ) -> ControlFlow<Result<O::Output, CallError>, Interest> {
        // Registered first, so that no wake-up is missed.
        call.wait(waker);
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut result = operation.poll(&mut state.connection, self.clock.now());
        if let Some(result) = result.take_if(|_| !state.connection.wants_poll()) {
            drop(guard);
            call.end();
            return ControlFlow::Break(result);
        }
        let step = self.drive(state, |connection, now| {
            if result.is_none() {
                result = operation.poll(connection, now);
            }
        });
        if result.is_none() && call.give_up.is_some_and(|at| at <= self.clock.now()) {
            result = Some(Err(operation.timed_out()));
        }
        let interest = match step {
            Step::Wait(interest) => interest.until_at_most(call.give_up),
            // In case that its task is not polled again.
            Step::Yield => Interest::default().until_at_most(self.retry_at()),
            Step::Closed => Interest::default(),
        };
        let until = if result.is_some() { self.idle_until(step) } else { interest.until };
        let (at, changed) = (self.arm(state, until), state.report(step));
        drop(guard);
        // Without the lock: calls that are woken may poll at once.
        if let Some(at) = at {
            self.waiters.keep_alive_at(at);
        }
        if result.is_some() {
            call.end();
        }
        if step == Step::Yield {
            // All of them: if this call is done or dropped, another one has to go on.
            self.waiters.wake_all();
        } else if changed {
            call.wake_others();
        }
        result.map_or(ControlFlow::Continue(interest), ControlFlow::Break)
    }

    /// Polls the connection, and calls `attempt` after each poll, until there is nothing to do but wait.
    fn drive(
        &self,
        state: &mut State<T>,
        mut attempt: impl FnMut(&mut CallConnection, Instant),
    ) -> Step {
        let State { transport, connection, .. } = state;
        for _ in 0..POLLS {
            let now = self.clock.now();
            let step = match transport {
                Some(transport) => transport.poll(connection, &*self.keys, now, &self.waker),
                None => Step::Closed,
            };
            if step == Step::Closed && transport.take().is_some() {
                connection.release();
            }
            attempt(connection, now);
            if step != Step::Yield && !connection.wants_poll() {
                return step;
            }
        }
        Step::Yield
    }
}

impl<T: CallTransport + Send> KeepAlive for SharedConnection<T> {
    fn keep_alive(&self) -> Option<time::Instant> {
        let mut guard = match self.state.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
            // One connection does not hold up the others.
            Err(TryLockError::WouldBlock) => return time::Instant::now().checked_add(CONTENDED),
        };
        self.waiters.scheduled.store(false, Ordering::SeqCst);
        let (state, now) = (&mut *guard, self.clock.now());
        // The time of a call may have passed too.
        let due = state.armed.pop_if(|at| *at <= now).is_some();
        state.armed.retain(|&at| at > now);
        let step = self.drive(state, |_, _| ());
        let changed = state.report(step);
        let at = self.arm(state, self.idle_until(step));
        drop(guard);
        if due || changed {
            self.waiters.wake_all();
        }
        at
    }
}

impl<T> fmt::Debug for SharedConnection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedConnection").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
