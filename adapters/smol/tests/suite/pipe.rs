//! An in-memory transport: plain, or one byte at a time.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use smol::io::{AsyncRead, AsyncWrite};

/// One direction of a pipe.
#[derive(Default)]
struct Direction {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// The writer is closed.
    write_closed: bool,
    /// The reader is dropped.
    read_closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

fn wake(waker: &mut Option<Waker>) {
    waker.take().into_iter().for_each(Waker::wake);
}

/// How many bytes a poll transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PipeMode {
    /// As many bytes as are available, or fit.
    Plain,
    /// One byte on every second poll; the others are pending and wake the task. Written bytes stay in the
    /// writer until they are flushed or the writer is closed.
    ByteByByte,
}

/// One end of a pipe. Dropping it closes both directions.
pub(crate) struct Pipe {
    mode: PipeMode,
    incoming: Arc<Mutex<Direction>>,
    outgoing: Arc<Mutex<Direction>>,
    /// Bytes written but not flushed.
    unflushed: VecDeque<u8>,
    /// Number of polls of read, write and flush.
    polls: [usize; 3],
}

/// Two connected ends that buffer up to `capacity` bytes in each direction.
pub(crate) fn pipe(mode: PipeMode, capacity: usize) -> (Pipe, Pipe) {
    let direction = || Arc::new(Mutex::new(Direction { capacity, ..Direction::default() }));
    let (there, back) = (direction(), direction());
    let end = |incoming: &Arc<Mutex<Direction>>, outgoing: &Arc<Mutex<Direction>>| {
        let (incoming, outgoing) = (incoming.clone(), outgoing.clone());
        Pipe { mode, incoming, outgoing, unflushed: VecDeque::new(), polls: [0; 3] }
    };
    (end(&back, &there), end(&there, &back))
}

fn lock(direction: &Mutex<Direction>) -> MutexGuard<'_, Direction> {
    direction.lock().unwrap()
}

impl Pipe {
    /// How many bytes the current poll may transfer.
    fn poll_budget(&mut self, what: usize, cx: &Context<'_>) -> Poll<usize> {
        if self.mode == PipeMode::Plain {
            return Poll::Ready(usize::MAX);
        }
        self.polls[what] += 1;
        if self.polls[what] % 2 == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(1)
    }

    /// Transfers bytes to the other end.
    fn transfer(&self, bytes: &[u8], cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let mut direction = lock(&self.outgoing);
        assert!(!direction.write_closed, "write after close");
        if direction.read_closed {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let n = bytes.len().min(direction.capacity - direction.bytes.len());
        if n == 0 {
            direction.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        direction.bytes.extend(&bytes[..n]);
        wake(&mut direction.reader);
        Poll::Ready(Ok(n))
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let limit = ready!(self.poll_budget(0, cx));
        let mut direction = lock(&self.incoming);
        let n = into.len().min(limit).min(direction.bytes.len());
        if n == 0 && !direction.write_closed {
            direction.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        into[..n].iter_mut().for_each(|to| *to = direction.bytes.pop_front().unwrap());
        wake(&mut direction.writer);
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.poll_budget(1, cx)).min(from.len());
        if self.mode == PipeMode::Plain {
            return self.transfer(&from[..n], cx);
        }
        if self.unflushed.len() >= 5 {
            ready!(self.as_mut().poll_flush(cx))?;
        }
        self.unflushed.extend(&from[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(&byte) = self.unflushed.front() {
            ready!(self.poll_budget(2, cx));
            ready!(self.transfer(&[byte], cx))?;
            self.unflushed.pop_front();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        ready!(self.poll_budget(2, cx));
        let mut direction = lock(&self.outgoing);
        direction.write_closed = true;
        wake(&mut direction.reader);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut direction = lock(&self.outgoing);
        direction.write_closed = true;
        wake(&mut direction.reader);
        drop(direction);
        let mut direction = lock(&self.incoming);
        direction.read_closed = true;
        wake(&mut direction.writer);
    }
}
