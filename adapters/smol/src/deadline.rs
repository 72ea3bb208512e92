//! A deadline that moves.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_io::Timer;
use countersign::Instant;

/// A deadline that may be reported early, but not late.
#[derive(Debug)]
pub(crate) struct Deadline {
    timer: Timer,
    /// When the timer fires.
    armed: Option<Instant>,
}

impl Deadline {
    pub(crate) fn new() -> Self {
        Self { timer: Timer::never(), armed: None }
    }

    /// Wakes the task of `cx` at `until` or earlier. Ready when the timer has fired.
    pub(crate) fn poll(
        &mut self,
        until: Option<Instant>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        // Most deadlines move later with every message. One early report costs less than to arm the timer
        // anew each time.
        if let Some(until) = until
            && self.armed.is_none_or(|armed| until < armed)
        {
            self.timer.set_after(until.saturating_duration_since(now));
            self.armed = Some(until);
        }
        if self.armed.is_some() {
            ready!(Future::poll(Pin::new(&mut self.timer), cx));
            self.armed = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}
