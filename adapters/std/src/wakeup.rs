//! Ends the wait of another thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Wake;

use countersign::Instant;
use countersign_driver::Interest;
use countersign_host::{Listener, Stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A file that one thread polls beside its socket and that other threads make readable.
///
/// ```text
///  wake ──▶ file readable ──▶ wait returns, and clears it
/// ```
///
/// A wake-up during no wait ends the next one.
#[derive(Debug)]
pub(crate) struct Wakeup {
    file: OwnedFd,
    /// The other end of a socket pair, where the system has no eventfd.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    sender: OwnedFd,
}

impl Wakeup {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self { file: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn new() -> io::Result<Self> {
        let (file, sender) = std::os::unix::net::UnixStream::pair()?;
        file.set_nonblocking(true)?;
        sender.set_nonblocking(true)?;
        Ok(Self { file: file.into(), sender: sender.into() })
    }

    fn sender(&self) -> BorrowedFd<'_> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return self.file.as_fd();
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        return self.sender.as_fd();
    }

    /// Ends the wait in progress, or the next one.
    pub(crate) fn notify(&self) {
        // It fails only where the file is full of earlier wake-ups, and readable. An eventfd counts, and
        // wants eight bytes.
        let _ = rustix::io::write(self.sender(), &1_u64.to_ne_bytes());
    }

    /// Waits at `stream`, if there is one, for `interest`, or for a wake-up. Returns whether there was a
    /// wake-up, in this wait or since the last one.
    pub(crate) fn wait(&self, stream: Option<&Stream>, interest: Interest, now: Instant) -> bool {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, interest.read);
        flags.set(PollFlags::OUT, interest.write);
        let own = PollFd::from_borrowed_fd(self.file.as_fd(), PollFlags::IN);
        // poll(2) reports a hang-up though nothing is asked of the socket: that would be a busy loop.
        match stream.filter(|_| !flags.is_empty()) {
            Some(stream) => {
                let socket = PollFd::from_borrowed_fd(stream.as_fd(), flags);
                self.poll(&mut [own, socket], interest.until, now)
            }
            None => self.poll(&mut [own], interest.until, now),
        }
    }

    /// Waits until one of `listeners` has a connection, `until` at most, or for a wake-up.
    pub(crate) fn wait_for_any<'a>(
        &'a self,
        listeners: impl Iterator<Item = &'a Listener>,
        until: Option<Instant>,
        now: Instant,
    ) {
        let mut files = vec![PollFd::from_borrowed_fd(self.file.as_fd(), PollFlags::IN)];
        files.extend(listeners.map(|it| PollFd::from_borrowed_fd(it.as_fd(), PollFlags::IN)));
        self.poll(&mut files, until, now);
    }

    /// Waits for any of `files`, the first of which is our own. Returns whether that one was readable.
    fn poll(&self, files: &mut [PollFd<'_>], until: Option<Instant>, now: Instant) -> bool {
        // A wait that is interrupted, or for which there is no memory, ends early.
        let _ = poll(files, until.map(|at| timespec(at, now)).as_ref());
        let woken = !files[0].revents().is_empty();
        if woken {
            self.clear();
        }
        woken
    }

    /// Forgets all wake-ups so far.
    fn clear(&self) {
        while matches!(rustix::io::read(&self.file, &mut [0_u8; 64]), Ok(64)) {}
    }
}

fn timespec(at: Instant, now: Instant) -> Timespec {
    let left = at.saturating_duration_since(now);
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    }
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.notify();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notify();
    }
}
