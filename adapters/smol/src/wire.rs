//! A transport as a turn sees it, in the task that polls it.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_io::Timer;
use countersign::Instant;
use countersign_driver::Io;
use futures_io::{AsyncRead, AsyncWrite};

/// A transport, and what of ours it may hold back.
#[derive(Debug)]
pub(crate) struct Wire<T> {
    transport: T,
    acknowledge: fn(&T),
    unsent: Unsent,
}

#[derive(Clone, Copy, Debug)]
enum Unsent {
    Nothing,
    Bytes,
    /// The end of our stream, and perhaps bytes.
    End,
}

impl<T> Wire<T> {
    pub(crate) fn new(transport: T) -> Self {
        Self { transport, acknowledge: |_| (), unsent: Unsent::Nothing }
    }

    pub(crate) fn with_acknowledge(self, acknowledge: fn(&T)) -> Self {
        Self { acknowledge, ..self }
    }

    pub(crate) fn get_ref(&self) -> &T {
        &self.transport
    }

    /// It, polled by the task of `cx`, which is woken when there is more to be had.
    pub(crate) fn polled<'a, 'c>(&'a mut self, cx: &'a mut Context<'c>) -> Polled<'a, 'c, T> {
        Polled { wire: self, cx }
    }
}

/// A [`Wire`] within one poll.
pub(crate) struct Polled<'a, 'c, T> {
    wire: &'a mut Wire<T>,
    cx: &'a mut Context<'c>,
}

/// What there is now.
fn now<R>(polled: Poll<io::Result<R>>) -> io::Result<Option<R>> {
    match polled {
        Poll::Ready(result) => result.map(Some),
        Poll::Pending => Ok(None),
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for Polled<'_, '_, T> {
    type Error = io::Error;

    fn read(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        now(Pin::new(&mut self.wire.transport).poll_read(self.cx, into))
    }

    fn write(&mut self, from: &[u8]) -> io::Result<Option<usize>> {
        let written = now(Pin::new(&mut self.wire.transport).poll_write(self.cx, from))?;
        match written {
            // Nothing would ever tell that there is room.
            Some(0) => return Err(ErrorKind::WriteZero.into()),
            Some(_) => self.wire.unsent = Unsent::Bytes,
            None => {}
        }
        Ok(written)
    }

    fn shut_write(&mut self) -> io::Result<()> {
        self.wire.unsent = Unsent::End;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<bool> {
        let transport = Pin::new(&mut self.wire.transport);
        let sent = match self.wire.unsent {
            Unsent::Nothing => return Ok(true),
            Unsent::Bytes => now(transport.poll_flush(self.cx)),
            Unsent::End => match now(transport.poll_close(self.cx)) {
                // A peer that is already gone is no error.
                Err(error) if error.kind() == ErrorKind::NotConnected => Ok(Some(())),
                closed => closed,
            },
        };
        let sent = sent?.is_some();
        if sent {
            self.wire.unsent = Unsent::Nothing;
        }
        Ok(sent)
    }

    fn acknowledge(&mut self) {
        (self.wire.acknowledge)(&self.wire.transport);
    }
}

/// A timer that may be early, and is not late.
#[derive(Debug)]
pub(crate) struct Deadline {
    timer: Timer,
    /// When it goes off.
    set: Option<Instant>,
}

impl Deadline {
    pub(crate) fn new() -> Self {
        Self { timer: Timer::never(), set: None }
    }

    /// Has the task of `cx` woken at `until`, or earlier. Ready if it has gone off.
    pub(crate) fn poll(
        &mut self,
        until: Option<Instant>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        // Most deadlines are put off again and again: to look early, once, costs less than to set the
        // timer anew each time.
        if let Some(until) = until
            && self.set.is_none_or(|set| until < set)
        {
            self.timer.set_after(until.saturating_duration_since(now));
            self.set = Some(until);
        }
        if self.set.is_some() {
            ready!(Future::poll(Pin::new(&mut self.timer), cx));
            self.set = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}
