//! What ends another thread's wait.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::Wake;

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

    /// Forgets all calls of [`rouse`](Self::rouse) so far.
    pub(crate) fn settle(&self) {
        while matches!((&self.here).read(&mut [0; 64]), Ok(64)) {}
    }
}

impl AsFd for Rouse {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }
}

impl Wake for Rouse {
    fn wake(self: Arc<Self>) {
        self.rouse();
    }
}
