//! When a client that reconnects tries again, and when it gives up.

use std::fmt;
use std::io;
use std::time::Instant;

use countersign::{ConfigError, SendError};
use countersign_driver::Backoff;
use tracing::warn;

use crate::call_error::CallError;
use crate::connector::Connector;
use crate::session_factory::StartError;

/// The connection of a client that reconnects: when to try again, and when to give up. The adapter
/// connects and waits.
///
/// ```text
///  begin_call ─▶ next_attempt ─▶ None: use the connection
///                 ▲       └─▶ WaitUntil, Connect ─▶ note_attempt ─┐
///                 └───────────────────────────────────────────────┘
/// ```
pub struct Reconnection<C, H: ?Sized> {
    connector: Connector,
    backoff: Backoff,
    /// Called after each connect.
    hook: Box<H>,
    connection: Option<C>,
    /// When to connect next, after a failure.
    retry_at: Option<Instant>,
    /// When the call stops trying to connect.
    give_up: Option<Instant>,
    /// Why the last attempt of the call failed.
    failed: Option<CallError>,
}

/// What to do before there is a connection.
#[derive(Clone, Copy, Debug)]
pub enum Attempt {
    /// Wait until then.
    WaitUntil(Instant),
    /// Connect, until then at most.
    Connect(Option<Instant>),
}

impl<C, H: ?Sized> Reconnection<C, H> {
    /// A client that has not connected yet: its first attempt is due at once.
    #[must_use]
    pub const fn new(connector: Connector, backoff: Backoff, hook: Box<H>) -> Self {
        let (connection, retry_at, give_up, failed) = (None, None, None, None);
        Self { connector, backoff, hook, connection, retry_at, give_up, failed }
    }

    /// What to connect to, and what to call after each connect.
    #[must_use]
    pub const fn connector_and_hook(&mut self) -> (&Connector, &mut H) {
        (&self.connector, &mut self.hook)
    }

    /// The connection, if there is one.
    #[must_use]
    pub const fn connection(&self) -> Option<&C> {
        self.connection.as_ref()
    }

    /// Begins to count the time after which no attempt begins.
    pub fn begin_call(&mut self) {
        let timeout = self.connector.options().timeout;
        self.give_up = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.failed = None;
    }

    /// What to do next; `None` if there is a connection.
    ///
    /// # Errors
    /// The time of the call has passed: the error of its last attempt, or [`CallError::Connect`] with
    /// [`io::ErrorKind::TimedOut`]. Nothing was sent then.
    pub fn next_attempt(&mut self) -> Result<Option<Attempt>, CallError> {
        if self.connection.is_some() {
            return Ok(None);
        }
        let Some(at) = self.retry_at else {
            return Ok(Some(Attempt::Connect(self.give_up)));
        };
        let (now, give_up) = (Instant::now(), self.give_up.filter(|&give_up| give_up < at));
        let until = give_up.unwrap_or(at);
        if until > now {
            Ok(Some(Attempt::WaitUntil(until)))
        } else if give_up.is_none() {
            Ok(Some(Attempt::Connect(self.give_up)))
        } else {
            Err(match self.failed.take() {
                None | Some(CallError::TimedOut) => {
                    CallError::Connect(io::ErrorKind::TimedOut.into())
                }
                Some(error) => error,
            })
        }
    }

    /// Reports how an attempt to connect ended. If it failed, the next one is put off.
    ///
    /// # Errors
    /// Its error, if it is that of our own configuration: another attempt would fail too.
    pub fn note_attempt(&mut self, result: Result<C, CallError>) -> Result<(), CallError> {
        match result {
            Ok(connection) => self.connection = Some(connection),
            Err(error) if is_misconfigured(&error) => return Err(error),
            Err(error) => {
                self.put_off();
                let address = self.connector.address();
                warn!(target: "countersign", "cannot connect to {address}, retrying: {error}");
                self.failed = Some(error);
            }
        }
        Ok(())
    }

    /// Reports how a call on the connection ended. If the connection is of no more use it is dropped, and
    /// the next attempt is put off.
    ///
    /// # Errors
    /// Those of `result`.
    pub fn note<T>(&mut self, result: Result<T, CallError>) -> Result<T, CallError> {
        match &result {
            Ok(_) => self.backoff.reset(),
            Err(error) if is_fatal(error) => self.put_off(),
            Err(_) => {}
        }
        result
    }

    /// As [`note`](Self::note), of a request. Its reply may still come after a timeout, or after the part
    /// that was too long, and would be taken for that of the next request.
    ///
    /// # Errors
    /// Those of `result`.
    pub fn note_request<T>(&mut self, result: Result<T, CallError>) -> Result<T, CallError> {
        use CallError::{MemoryExhausted, MessageTooLong, TimedOut};
        if let Err(TimedOut | MessageTooLong | MemoryExhausted) = result {
            self.put_off();
        }
        self.note(result)
    }

    /// As [`note`](Self::note), of receiving: `None` if the next connection is to be tried.
    pub fn note_recv<T>(
        &mut self,
        result: Result<Option<T>, CallError>,
    ) -> Option<Result<T, CallError>> {
        let result = result.and_then(|message| message.ok_or(CallError::PeerFinished));
        Some(self.note(result)).filter(|_| self.connection.is_some())
    }

    /// Drops the connection and puts the next attempt off, by the delay of the backoff.
    fn put_off(&mut self) {
        self.connection = None;
        let delay = self.backoff.delay(getrandom::u64().unwrap_or(u64::MAX));
        self.retry_at = Instant::now().checked_add(delay);
    }
}

impl<C, H: ?Sized> fmt::Debug for Reconnection<C, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnection")
            .field("connector", &self.connector)
            .field("connected", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}

/// Whether every other attempt would fail too. A shortage of buffers or of randomness passes.
fn is_misconfigured(error: &CallError) -> bool {
    match error {
        CallError::Start(StartError::Config(error)) => *error != ConfigError::Busy,
        CallError::Start(StartError::Channel) => true,
        _ => false,
    }
}

/// Whether a connection is of no more use after `error`.
const fn is_fatal(error: &CallError) -> bool {
    !matches!(
        error,
        CallError::TimedOut
            | CallError::Busy
            | CallError::MessageTooLong
            | CallError::MemoryExhausted
            | CallError::Send(SendError::TooLong { .. })
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use countersign::{Config, Scheme};
    use countersign_driver::NoKeys;

    use super::*;
    use crate::pool::Pools;
    use crate::session_factory::SessionFactory;

    #[test]
    fn shortage_is_retried_and_misconfiguration_is_not() {
        let factory = SessionFactory::new(Config::new(Scheme::None), Pools::default());
        let connector = Connector::new("127.0.0.1:1", factory, NoKeys).unwrap();
        let backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(60));
        let mut client = Reconnection::<(), ()>::new(connector, backoff, Box::new(()));
        client.begin_call();
        let start = |error| Err(CallError::Start(error));
        client.note_attempt(start(StartError::Config(ConfigError::Busy))).unwrap();
        assert!(matches!(client.next_attempt(), Ok(Some(Attempt::WaitUntil(_)))));
        client.note_attempt(start(StartError::Random(getrandom::Error::UNSUPPORTED))).unwrap();
        client.note_attempt(start(StartError::Channel)).unwrap_err();
        client.note_attempt(start(StartError::Config(ConfigError::Framing))).unwrap_err();
    }
}
