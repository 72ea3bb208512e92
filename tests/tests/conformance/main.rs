//! Conformance tests of the adapters, over real sockets. Each test runs on every adapter.
//!
//! `adapters.rs` lists the adapters, and `protocol_spec.rs` the protocols. A test is a function
//! that is generic over the adapter; `on_every_adapter!` makes a `#[test]` of it for each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[macro_use]
mod adapters;

mod backpressure;
mod closing;
mod deadlines;
mod devices;
mod file_descriptors;
mod handles;
mod keys;
mod limits;
mod load;
mod mio_client;
mod protocol_spec;
mod replies;
mod server;
mod services;
mod sharing;
mod socket_peer;
mod stopping;
mod wakes_and_panics;

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

/// Limit for anything that must happen, much longer than it is expected to take.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Polls `done` until it returns true. For conditions without an event. `what` describes it in the
/// failure.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !done() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `each` on all `cases`, several at a time. Names the case that fails.
pub(crate) fn for_each_concurrently<T: Debug + Send>(
    cases: impl IntoIterator<Item = T, IntoIter: Send>,
    each: impl Fn(&T) + Sync,
) {
    /// More than processors, because the cases mostly wait.
    const THREADS: usize = 12;
    let cases = std::sync::Mutex::new(cases.into_iter());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let Some(case) = cases.lock().unwrap().next() else { return };
                    let ran =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| each(&case)));
                    assert!(ran.is_ok(), "failed with {case:?}");
                }
            });
        }
    });
}
