//! A well-behaved client beside a hostile one.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use crate::common::At;
use crate::peer::{Peer, Way};

/// Between two conversations.
const PACE: Duration = Duration::from_millis(10);
/// Far more than an answer takes on a busy machine, far less than any time-out of the server's
/// that a hostile client could make it wait for.
const PROMPT: Duration = Duration::from_secs(3);

/// Asks over an old connection and over a new one, in turns, until it is told to stop.
pub(crate) struct Neighbour {
    stop: Sender<()>,
    thread: JoinHandle<(u32, Duration)>,
}

impl Neighbour {
    pub(crate) fn move_in(at: &At, way: Way) -> Self {
        let at = at.clone();
        let old = Peer::enter(&at, way);
        assert_eq!(old.ask(way, b"first"), b"FIRST");
        let (stop, stopped) = channel();
        let thread = spawn(move || {
            let (mut answers, mut slowest) = (0, Duration::ZERO);
            while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                let asked = Instant::now();
                assert_eq!(old.ask(way, b"old"), b"OLD");
                let new = Peer::enter(&at, way);
                assert_eq!(new.ask(way, b"new"), b"NEW");
                new.finish();
                assert!(new.rest().is_empty());
                slowest = slowest.max(asked.elapsed());
                answers += 2;
            }
            assert_eq!(old.ask(way, b"last"), b"LAST");
            (answers, slowest)
        });
        Self { stop, thread }
    }

    /// Fails unless it was served well throughout.
    pub(crate) fn move_out(self) {
        // It is gone if it had to complain, which is what joining it tells.
        let _ = self.stop.send(());
        let (answers, slowest) = self.thread.join().unwrap();
        assert!(slowest < PROMPT, "of {answers} answers the slowest took {slowest:?}");
    }
}
