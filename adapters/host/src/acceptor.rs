//! Accepts connections.

use std::io::{self, ErrorKind};
use std::time::Duration;

use countersign::Instant;
use tracing::warn;

use crate::listener::Listener;
use crate::peer_addr::PeerAddr;
use crate::stream::Stream;

/// How long to pause when the system has no descriptor or memory left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections from one listener. Pauses while the system has no descriptor or memory left.
#[derive(Debug, Default)]
pub struct Acceptor {
    /// No connections are accepted until this instant.
    pause: Option<Instant>,
    /// The shortage was logged.
    warned: bool,
}

/// The result of [`Acceptor::accept`].
#[derive(Debug)]
pub enum AcceptResult {
    /// An accepted connection and the address of its peer.
    Connection(Stream, PeerAddr),
    /// The queue of the listener is empty.
    Empty,
    /// The system has no descriptor or memory left. Connections stay in the queue of the listener, for which
    /// there may be no further event: try again at this instant.
    Paused(Instant),
}

impl Acceptor {
    /// When to try again, during a pause.
    #[must_use]
    pub fn pause(&self) -> Option<Instant> {
        self.pause
    }

    /// Accepts the next connection.
    pub fn accept(&mut self, listener: &Listener, now: Instant) -> AcceptResult {
        if let Some(until) = self.pause.filter(|until| now < *until) {
            return AcceptResult::Paused(until);
        }
        self.pause = None;
        loop {
            let error = match listener.accept() {
                Ok((stream, addr)) => {
                    self.warned = false;
                    return AcceptResult::Connection(stream, addr);
                }
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::WouldBlock => return AcceptResult::Empty,
                // The connection has failed before it was accepted.
                ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                // Most likely no descriptor or memory is left.
                _ => return AcceptResult::Paused(self.pause_for(&error, now)),
            }
        }
    }

    /// Pauses for 100 ms because the system lacks resources for another connection; returns until when.
    /// Connections stay in the queue of the listener meanwhile.
    pub fn pause_for(&mut self, error: &io::Error, now: Instant) -> Instant {
        if !std::mem::replace(&mut self.warned, true) {
            warn!(target: "countersign", "cannot accept connections, retrying: {error}: raise the limit of open files (`ulimit -n`), or allow fewer connections");
        }
        let until = now.saturating_add(ACCEPT_PAUSE);
        self.pause = Some(until);
        until
    }
}
