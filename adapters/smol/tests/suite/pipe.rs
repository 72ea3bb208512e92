//! A transport in memory, easy or hard on whoever uses it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use smol::io::{AsyncRead, AsyncWrite};

/// One direction.
#[derive(Default)]
struct Lane {
    bytes: VecDeque<u8>,
    room: usize,
    /// No more comes.
    shut: bool,
    /// Nobody reads any more.
    deaf: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

fn wake(waker: &mut Option<Waker>) {
    waker.take().into_iter().for_each(Waker::wake);
}

/// How it treats its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As many bytes as there are, or there is room for.
    Plain,
    /// One byte at a time, and before each it has the task polled again; what is written stays with the
    /// writer until it is flushed or closed.
    Fine,
}

/// One end. Dropped, it is gone for the other.
pub(crate) struct Pipe {
    manner: Manner,
    incoming: Arc<Mutex<Lane>>,
    outgoing: Arc<Mutex<Lane>>,
    /// Written, and not flushed.
    held: VecDeque<u8>,
    /// How often it was polled: to read, to write, to hand over what was written.
    polls: [usize; 3],
}

/// Two ends, with room for `room` bytes in each direction.
pub(crate) fn pipe(manner: Manner, room: usize) -> (Pipe, Pipe) {
    let lane = || Arc::new(Mutex::new(Lane { room, ..Lane::default() }));
    let (there, back) = (lane(), lane());
    let end = |incoming: &Arc<Mutex<Lane>>, outgoing: &Arc<Mutex<Lane>>| {
        let (incoming, outgoing) = (incoming.clone(), outgoing.clone());
        Pipe { manner, incoming, outgoing, held: VecDeque::new(), polls: [0; 3] }
    };
    (end(&back, &there), end(&there, &back))
}

fn lock(lane: &Mutex<Lane>) -> MutexGuard<'_, Lane> {
    lane.lock().unwrap()
}

impl Pipe {
    /// How many bytes it takes now.
    fn most(&mut self, what: usize, cx: &Context<'_>) -> Poll<usize> {
        if self.manner == Manner::Plain {
            return Poll::Ready(usize::MAX);
        }
        self.polls[what] += 1;
        if self.polls[what] % 2 == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(1)
    }

    /// Hands bytes over to the other end.
    fn give(&self, bytes: &[u8], cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let mut lane = lock(&self.outgoing);
        assert!(!lane.shut, "written to after it was closed");
        if lane.deaf {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let n = bytes.len().min(lane.room - lane.bytes.len());
        if n == 0 {
            lane.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        lane.bytes.extend(&bytes[..n]);
        wake(&mut lane.reader);
        Poll::Ready(Ok(n))
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let most = ready!(self.most(0, cx));
        let mut lane = lock(&self.incoming);
        let n = into.len().min(most).min(lane.bytes.len());
        if n == 0 && !lane.shut {
            lane.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        into[..n].iter_mut().for_each(|to| *to = lane.bytes.pop_front().unwrap());
        wake(&mut lane.writer);
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.most(1, cx)).min(from.len());
        if self.manner == Manner::Plain {
            return self.give(&from[..n], cx);
        }
        if self.held.len() >= 5 {
            ready!(self.as_mut().poll_flush(cx))?;
        }
        self.held.extend(&from[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(&byte) = self.held.front() {
            ready!(self.most(2, cx));
            ready!(self.give(&[byte], cx))?;
            self.held.pop_front();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        ready!(self.most(2, cx));
        let mut lane = lock(&self.outgoing);
        lane.shut = true;
        wake(&mut lane.reader);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut lane = lock(&self.outgoing);
        lane.shut = true;
        wake(&mut lane.reader);
        drop(lane);
        let mut lane = lock(&self.incoming);
        lane.deaf = true;
        wake(&mut lane.writer);
    }
}
