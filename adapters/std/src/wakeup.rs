//! Ends the wait of another thread.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Wake;

use countersign::Instant;
use countersign_driver::Interest;
use countersign_host::{Listener, Stream};
use rustix::event::{PollFd, PollFlags, poll};

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
    sender: Option<OwnedFd>,
}

impl Wakeup {
    pub(crate) fn new() -> io::Result<Self> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let (file, sender) = {
            use rustix::event::{EventfdFlags, eventfd};
            (eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?, None)
        };
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let (file, sender) = {
            let (file, sender) = std::os::unix::net::UnixStream::pair()?;
            file.set_nonblocking(true)?;
            sender.set_nonblocking(true)?;
            (file.into(), Some(sender.into()))
        };
        Ok(Self { file, sender })
    }

    /// Ends the wait in progress, or the next one.
    pub(crate) fn notify(&self) {
        // It fails only where the file is full of earlier wake-ups, and readable. An eventfd counts, and
        // wants eight bytes.
        let _ = rustix::io::write(self.sender.as_ref().unwrap_or(&self.file), &1_u64.to_ne_bytes());
    }

    /// Waits at `stream`, if there is one, for `interest`, or for a wake-up. Returns whether there was a
    /// wake-up, in this wait or since the last one.
    pub(crate) fn wait(&self, stream: Option<&Stream>, interest: Interest, now: Instant) -> bool {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, interest.read);
        flags.set(PollFlags::OUT, interest.write);
        let own = PollFd::new(&self.file, PollFlags::IN);
        // poll(2) reports a hang-up though nothing is asked of the socket: that would be a busy loop.
        match stream.filter(|_| !flags.is_empty()) {
            Some(stream) => self.poll(&mut [own, PollFd::new(stream, flags)], interest.until, now),
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
        let mut files = vec![PollFd::new(&self.file, PollFlags::IN)];
        files.extend(listeners.map(|it| PollFd::new(it, PollFlags::IN)));
        self.poll(&mut files, until, now);
    }

    /// Waits for any of `files`, the first of which is our own. Returns whether that one was readable, and
    /// forgets all wake-ups so far.
    fn poll(&self, files: &mut [PollFd<'_>], until: Option<Instant>, now: Instant) -> bool {
        // So long that it has no end, if it does not fit.
        let left = until.and_then(|at| at.saturating_duration_since(now).try_into().ok());
        // A wait that is interrupted, or for which there is no memory, ends early.
        let _ = poll(files, left.as_ref());
        let woken = !files[0].revents().is_empty();
        while woken && matches!(rustix::io::read(&self.file, &mut [0_u8; 64]), Ok(64)) {}
        woken
    }
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.notify();
    }
}
