//! What every adapter has to do, over real sockets: each test here runs on each of them.
//!
//! The adapters are listed in `adapters.rs`, and what is spoken in `ways.rs`. A test is a function of
//! an adapter; `on_every_adapter!` names it once for each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[macro_use]
mod adapters;

mod answers;
mod closing;
mod crowds;
mod deadlines;
mod devices;
mod files;
mod handles;
mod keys;
mod looped;
mod peer;
mod pressure;
mod running;
mod services;
mod shared;
mod stopping;
mod ways;

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

/// For anything that must happen; never how long it is expected to take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `done`, of which nothing tells.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `each` on all `cases`, several at once, and says of which it failed.
pub(crate) fn at_once<T: Debug + Send>(
    cases: impl IntoIterator<Item = T, IntoIter: Send>,
    each: impl Fn(&T) + Sync,
) {
    /// Most of what they do is waiting.
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
