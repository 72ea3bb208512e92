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

/// A conversation with a server that answers in capitals.
pub(crate) trait Talk {
    /// Sends `message` and returns the reply.
    fn ask(&mut self, message: &[u8]) -> Vec<u8>;
    /// Ends it in order; fails if the server does not.
    fn leave(self);
}

impl Talk for (Peer, Way) {
    fn ask(&mut self, message: &[u8]) -> Vec<u8> {
        self.0.ask(self.1, message)
    }

    fn leave(self) {
        self.0.finish();
        assert!(self.0.rest().is_empty());
    }
}

/// Asks over an old connection and over a new one, in turns, until it is told to stop.
pub(crate) struct Neighbour {
    stop: Sender<()>,
    thread: JoinHandle<(u32, Duration)>,
}

impl Neighbour {
    pub(crate) fn move_in(at: &At, way: Way) -> Self {
        let at = at.clone();
        Self::who(move || (Peer::enter(&at, way), way))
    }

    /// Whoever `enter` lets in.
    pub(crate) fn who<T: Talk + 'static>(enter: impl Fn() -> T + Send + 'static) -> Self {
        let (stop, stopped) = channel();
        let (ready, is_ready) = channel();
        let thread = spawn(move || {
            let mut old = enter();
            assert_eq!(old.ask(b"first"), b"FIRST");
            ready.send(()).unwrap();
            let (mut answers, mut slowest) = (0, Duration::ZERO);
            while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                let asked = Instant::now();
                assert_eq!(old.ask(b"old"), b"OLD");
                let mut new = enter();
                assert_eq!(new.ask(b"new"), b"NEW");
                new.leave();
                slowest = slowest.max(asked.elapsed());
                answers += 2;
            }
            assert_eq!(old.ask(b"last"), b"LAST");
            (answers, slowest)
        });
        // If it was not let in, moving out tells.
        let _ = is_ready.recv();
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
