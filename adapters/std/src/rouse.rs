//! What ends another thread's wait.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::Wake;

use countersign::Instant;
use countersign_driver::Wait;
use countersign_host::{Listener, Stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A pair of sockets: a byte in one end makes the other readable.
#[derive(Debug)]
pub(crate) struct Rouse {
    here: UnixStream,
    there: UnixStream,
}

impl Rouse {
    pub(crate) fn new() -> io::Result<Self> {
        let (here, there) = UnixStream::pair()?;
        here.set_nonblocking(true)?;
        there.set_nonblocking(true)?;
        Ok(Self { here, there })
    }

    /// Ends the wait, or the next one. A full pipe is as good as one more byte.
    pub(crate) fn rouse(&self) {
        let _ = (&self.there).write(&[0]);
    }

    /// Waits at `stream`, if there is one, for what `wait` says, or for [`rouse`](Self::rouse).
    /// Returns whether it was roused, now or since the last wait.
    pub(crate) fn wait(&self, stream: Option<&Stream>, wait: Wait, now: Instant) -> bool {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, wait.read);
        flags.set(PollFlags::OUT, wait.write);
        // A socket from which nothing is wanted would still report its end, over and over.
        let stream = stream.filter(|_| !flags.is_empty());
        let here = PollFd::from_borrowed_fd(self.here.as_fd(), PollFlags::IN);
        match stream {
            Some(stream) => self.poll(
                &mut [here, PollFd::from_borrowed_fd(stream.as_fd(), flags)],
                wait.until,
                now,
            ),
            None => self.poll(&mut [here], wait.until, now),
        }
    }

    /// Waits for a connection to come to one of `listeners`, until `until` at most, or for
    /// [`rouse`](Self::rouse).
    pub(crate) fn wait_for_any<'a>(
        &'a self,
        listeners: impl Iterator<Item = &'a Listener>,
        until: Option<Instant>,
        now: Instant,
    ) {
        let mut fds = vec![PollFd::from_borrowed_fd(self.here.as_fd(), PollFlags::IN)];
        fds.extend(listeners.map(|it| PollFd::from_borrowed_fd(it.as_fd(), PollFlags::IN)));
        self.poll(&mut fds, until, now);
    }

    /// Waits for any of `fds`, of which the first is our own; whether it was that.
    fn poll(&self, fds: &mut [PollFd<'_>], until: Option<Instant>, now: Instant) -> bool {
        // An interruption or a want of memory is a wait that ended early.
        let _ = poll(fds, until.map(|at| timespec(at, now)).as_ref());
        let roused = !fds[0].revents().is_empty();
        if roused {
            self.settle();
        }
        roused
    }

    /// Forgets all calls of [`rouse`](Self::rouse) so far.
    fn settle(&self) {
        while matches!((&self.here).read(&mut [0; 64]), Ok(64)) {}
    }
}

fn timespec(at: Instant, now: Instant) -> Timespec {
    let left = at.saturating_duration_since(now);
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    }
}

impl Wake for Rouse {
    fn wake(self: Arc<Self>) {
        self.rouse();
    }
}
