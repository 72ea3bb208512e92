//! A futures-io stream as the driver uses it.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};

use countersign_driver::Io;
use futures_io::{AsyncRead, AsyncWrite};

/// A stream, and what it may not have sent yet. The crate of a runtime, or a task of the program, drives a
/// connection over it.
#[derive(Debug)]
pub struct Transport<T> {
    stream: T,
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

impl<T> Transport<T> {
    /// A transport on `stream`, which has sent everything.
    pub const fn new(stream: T) -> Self {
        Self { stream, acknowledge: |_| (), unsent: Unsent::Nothing }
    }

    /// With a function that acknowledges received bytes at once: [`Io::acknowledge`].
    #[must_use]
    pub fn with_acknowledge(self, acknowledge: fn(&T)) -> Self {
        Self { acknowledge, ..self }
    }

    /// The stream.
    pub const fn get_ref(&self) -> &T {
        &self.stream
    }

    /// The transport for one poll by the task of `cx`, which is woken when the stream is ready.
    pub const fn polled<'a, 'c>(
        &'a mut self,
        cx: &'a mut Context<'c>,
    ) -> PolledTransport<'a, 'c, T> {
        PolledTransport { transport: self, cx, read_pending: false }
    }
}

/// A [`Transport`] within one poll: [`Transport::polled`].
#[derive(Debug)]
pub struct PolledTransport<'a, 'c, T> {
    transport: &'a mut Transport<T>,
    cx: &'a mut Context<'c>,
    /// The stream had nothing to read: the task is woken when it has.
    read_pending: bool,
}

fn not_blocking<R>(polled: Poll<io::Result<R>>) -> io::Result<Option<R>> {
    match polled {
        Poll::Ready(result) => result.map(Some),
        Poll::Pending => Ok(None),
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for PolledTransport<'_, '_, T> {
    type Error = io::Error;

    fn may_read(&self) -> bool {
        !self.read_pending
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let read = Pin::new(&mut self.transport.stream).poll_read(self.cx, into);
        self.read_pending = read.is_pending();
        not_blocking(read)
    }

    fn write(&mut self, from: &[u8]) -> io::Result<Option<usize>> {
        let written = Pin::new(&mut self.transport.stream).poll_write(self.cx, from);
        let written = not_blocking(written)?;
        match written {
            // No wake-up would follow.
            Some(0) => return Err(ErrorKind::WriteZero.into()),
            Some(_) => self.transport.unsent = Unsent::Bytes,
            None => {}
        }
        Ok(written)
    }

    fn shut_write(&mut self) -> io::Result<()> {
        self.transport.unsent = Unsent::End;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<bool> {
        let stream = Pin::new(&mut self.transport.stream);
        let sent = match self.transport.unsent {
            Unsent::Nothing => return Ok(true),
            Unsent::Bytes => not_blocking(stream.poll_flush(self.cx)),
            Unsent::End => match not_blocking(stream.poll_close(self.cx)) {
                // The peer is already gone.
                Err(error) if error.kind() == ErrorKind::NotConnected => Ok(Some(())),
                closed => closed,
            },
        };
        let sent = sent?.is_some();
        if sent {
            self.transport.unsent = Unsent::Nothing;
        }
        Ok(sent)
    }

    fn acknowledge(&mut self) {
        (self.transport.acknowledge)(&self.transport.stream);
    }
}
