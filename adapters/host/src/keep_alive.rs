//! One thread that keeps idle connections alive which calls drive.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Instant;

use tracing::error;

/// A connection with deadlines, such as heartbeats, that must be met while no call drives it.
pub trait KeepAlive: Send + Sync {
    /// Makes progress without waiting. Returns when to call it again; `None`: not any more.
    fn keep_alive(&self) -> Option<Instant>;
}

/// Calls [`KeepAlive::keep_alive`] of `connection` at `at`, and again at each time that it returns, while the
/// connection exists. One thread serves all connections of the process. If it cannot be started, the next
/// call of this function tries again.
pub fn keep_alive(connection: Weak<dyn KeepAlive>, at: Instant) {
    static KEEPER: Keeper = Keeper::new();
    let mut state = KEEPER.lock();
    state.push(at, connection);
    if !state.running {
        let thread = thread::Builder::new().name("countersign-keepalive".into());
        state.running = thread.spawn(|| KEEPER.run()).is_ok();
    }
    KEEPER.changed.notify_one();
}

struct Keeper {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// By time, and a number that makes each key unique.
    due: BTreeMap<(Instant, u64), Weak<dyn KeepAlive>>,
    next: u64,
    /// The thread was started.
    running: bool,
}

impl State {
    fn push(&mut self, at: Instant, connection: Weak<dyn KeepAlive>) {
        self.due.insert((at, self.next), connection);
        self.next += 1;
    }
}

impl Keeper {
    const fn new() -> Self {
        let state = State { due: BTreeMap::new(), next: 0, running: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let Some(entry) = state.due.first_entry() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (at, _) = *entry.key();
            if at > now {
                let waited = self.changed.wait_timeout(state, at - now);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let connection = entry.remove();
            // Not under the lock: the connection may be dropped here, or take its time.
            drop(state);
            // Keys that panic cost their own connection its heartbeats, and no other.
            let call = || connection.upgrade().and_then(|connection| connection.keep_alive());
            let at = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
                error!(target: "countersign", "a connection panicked between calls");
                None
            });
            state = self.lock();
            if let Some(at) = at {
                state.push(at, connection);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    use super::*;

    struct Counted(Mutex<Sender<u32>>, Mutex<u32>);

    impl KeepAlive for Counted {
        fn keep_alive(&self) -> Option<Instant> {
            let mut count = self.1.lock().unwrap();
            *count += 1;
            self.0.lock().unwrap().send(*count).unwrap();
            (*count < 3).then(|| Instant::now() + Duration::from_millis(1))
        }
    }

    #[test]
    fn connection_is_kept_alive_until_it_declines() {
        let (calls, called) = channel();
        let connection: Arc<dyn KeepAlive> = Arc::new(Counted(Mutex::new(calls), Mutex::new(0)));
        keep_alive(Arc::downgrade(&connection), Instant::now());
        for count in 1..=3 {
            assert_eq!(called.recv_timeout(Duration::from_secs(30)), Ok(count));
        }
    }

    struct Panics;

    impl KeepAlive for Panics {
        fn keep_alive(&self) -> Option<Instant> {
            panic!("intended panic");
        }
    }

    #[test]
    fn panic_of_one_connection_spares_the_others() {
        let panics: Arc<dyn KeepAlive> = Arc::new(Panics);
        keep_alive(Arc::downgrade(&panics), Instant::now());
        let (calls, called) = channel();
        let connection: Arc<dyn KeepAlive> = Arc::new(Counted(Mutex::new(calls), Mutex::new(0)));
        keep_alive(Arc::downgrade(&connection), Instant::now() + Duration::from_millis(20));
        for count in 1..=3 {
            assert_eq!(called.recv_timeout(Duration::from_secs(30)), Ok(count));
        }
    }

    #[test]
    fn dropped_connection_is_not_called() {
        let (calls, called) = channel();
        let connection: Arc<dyn KeepAlive> = Arc::new(Counted(Mutex::new(calls), Mutex::new(0)));
        let at = Instant::now() + Duration::from_millis(20);
        keep_alive(Arc::downgrade(&connection), at);
        drop(connection);
        assert!(called.recv_timeout(Duration::from_secs(1)).is_err());
    }
}
