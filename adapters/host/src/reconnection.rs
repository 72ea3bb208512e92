//! When a client that reconnects tries again, and when it gives up.

use std::time::Instant;

use countersign::SendError;
use countersign_driver::Backoff;
use tracing::warn;

use crate::call_error::CallError;
use crate::connector::Connector;

/// When a client that reconnects tries again, and when it gives up. The adapter connects and waits.
#[derive(Debug)]
pub struct Reconnection {
    connector: Connector,
    backoff: Backoff,
    /// When to connect next, after a failure.
    retry_at: Option<Instant>,
}

impl Reconnection {
    /// A client that has not connected yet: its first attempt is due at once.
    #[must_use]
    pub const fn new(connector: Connector, backoff: Backoff) -> Self {
        Self { connector, backoff, retry_at: None }
    }

    /// What to connect to.
    #[must_use]
    pub const fn connector(&self) -> &Connector {
        &self.connector
    }

    /// When a call that begins now gives up, if its timeout is bounded.
    #[must_use]
    pub fn give_up(&self) -> Option<Instant> {
        self.connector.options().timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }

    /// When the next attempt is due; `None` if it is due at once.
    #[must_use]
    pub const fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Reports how a call on the connection ended. Returns whether the connection may be kept; if not,
    /// the next attempt is put off.
    #[must_use]
    pub fn note<T>(&mut self, result: &Result<T, CallError>) -> bool {
        match result {
            Ok(_) => self.backoff.reset(),
            Err(error) if is_fatal(error) => {
                self.put_off();
                return false;
            }
            Err(_) => {}
        }
        true
    }

    /// As [`note`](Self::note), of a request. Its reply may still come after a timeout, or after the part
    /// that was too long, and would be taken for that of the next request.
    #[must_use]
    pub fn note_request<T>(&mut self, result: &Result<T, CallError>) -> bool {
        if let Err(CallError::TimedOut | CallError::MessageTooLong) = result {
            self.put_off();
            return false;
        }
        self.note(result)
    }

    /// Reports an attempt to connect that failed, and puts the next one off.
    ///
    /// # Errors
    /// `error`, if it is that of our own configuration: another attempt would fail too.
    pub fn note_failed_attempt(&mut self, error: CallError) -> Result<CallError, CallError> {
        if let CallError::Start(_) = error {
            return Err(error);
        }
        self.put_off();
        let address = self.connector.address();
        warn!(target: "countersign", "cannot connect to {address}, retrying: {error}");
        Ok(error)
    }

    /// Puts the next attempt off, by the delay of the backoff.
    fn put_off(&mut self) {
        let delay = self.backoff.delay(getrandom::u64().unwrap_or(u64::MAX));
        self.retry_at = Instant::now().checked_add(delay);
    }
}

/// Whether a connection is of no more use after `error`.
const fn is_fatal(error: &CallError) -> bool {
    !matches!(
        error,
        CallError::TimedOut
            | CallError::Busy
            | CallError::MessageTooLong
            | CallError::Send(SendError::TooLong { .. })
    )
}
