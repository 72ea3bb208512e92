//! What a call does on a connection.

use std::borrow::Cow;

use countersign::Instant;

use crate::call_connection::CallConnection;
use crate::call_error::CallError;

/// What a call does on a connection. Functions such as [`CallConnection::recv`] are operations.
pub trait Operation {
    /// Its result.
    type Output;

    /// Makes progress; `None` if it has to wait. Not called again after a result.
    fn poll(
        &mut self,
        connection: &mut CallConnection,
        now: Instant,
    ) -> Option<Result<Self::Output, CallError>>;

    /// Why it failed when the time of its call has passed.
    fn timed_out(&self) -> CallError {
        CallError::TimedOut
    }
}

impl<F, T> Operation for F
where
    F: FnMut(&mut CallConnection, Instant) -> Option<Result<T, CallError>>,
{
    type Output = T;

    fn poll(&mut self, on: &mut CallConnection, now: Instant) -> Option<Result<T, CallError>> {
        self(on, now)
    }
}

/// A message that is being sent.
#[derive(Debug)]
pub struct Sending<'m> {
    /// `None`: the end of our messages.
    pub(crate) message: Option<Cow<'m, [u8]>>,
    pub(crate) taken: bool,
}

impl<'m> Sending<'m> {
    /// A message, borrowed or owned.
    pub fn message(message: impl Into<Cow<'m, [u8]>>) -> Self {
        Self { message: Some(message.into()), taken: false }
    }

    /// The end of our messages.
    #[must_use]
    pub const fn finish() -> Self {
        Self { message: None, taken: false }
    }

    /// Whether the connection has taken it: it leaves even if its call is given up.
    #[must_use]
    pub const fn is_taken(&self) -> bool {
        self.taken
    }
}

/// Done when all of the message has left.
impl Operation for Sending<'_> {
    type Output = ();

    fn poll(&mut self, on: &mut CallConnection, _: Instant) -> Option<Result<(), CallError>> {
        on.send(self)
    }

    fn timed_out(&self) -> CallError {
        if self.taken { CallError::TimedOut } else { CallError::Busy }
    }
}

/// A message that is being sent, and the next one of the peer, which is received while ours is leaving.
#[derive(Debug)]
pub struct Request<'m> {
    sending: Sending<'m>,
    sent: bool,
}

impl<'m> Request<'m> {
    /// A request.
    #[must_use]
    pub fn new(message: &'m [u8]) -> Self {
        Self { sending: Sending::message(message), sent: false }
    }
}

impl Operation for Request<'_> {
    type Output = Vec<u8>;

    fn poll(
        &mut self,
        on: &mut CallConnection,
        now: Instant,
    ) -> Option<Result<Vec<u8>, CallError>> {
        if !self.sent {
            match on.send(&mut self.sending) {
                Some(Ok(())) => self.sent = true,
                Some(Err(error)) => return Some(Err(error)),
                None if self.sending.taken => {}
                None => return None,
            }
        }
        on.recv(now).map(|received| received?.ok_or(CallError::PeerFinished))
    }

    fn timed_out(&self) -> CallError {
        self.sending.timed_out()
    }
}
