//! What ends another thread's wait.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::Wake;

use countersign::Instant;
use countersign_drive::{Stream, Wait};
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
        let timeout = wait.until.map(|at| timespec(at, now));
        let here = PollFd::from_borrowed_fd(self.here.as_fd(), PollFlags::IN);
        // An interruption or a want of memory is a wait that ended early.
        let roused = match stream {
            Some(stream) => {
                let mut fds = [here, PollFd::from_borrowed_fd(stream.as_fd(), flags)];
                let _ = poll(&mut fds, timeout.as_ref());
                !fds[0].revents().is_empty()
            }
            None => {
                let mut fds = [here];
                let _ = poll(&mut fds, timeout.as_ref());
                !fds[0].revents().is_empty()
            }
        };
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
