//! A host's socket as a microcontroller sees its UART: it reads, writes, and says whether it would
//! block. What a program for firmware does not need.

use std::io;
use std::net::{Shutdown, TcpStream};

use countersign::Instant;
use countersign_driver::Wait;
use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};
use embedded_io_adapters::std::FromStd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A TCP connection.
pub(crate) struct Socket(FromStd<TcpStream>);

impl Socket {
    /// Whoever waits for more than one thing at a time must not be held up by Nagle's algorithm.
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self(FromStd::new(stream)))
    }

    /// Another handle of it.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(FromStd::new(self.0.inner().try_clone()?)))
    }

    /// Shuts the write side.
    pub(crate) fn shut(&mut self) -> io::Result<()> {
        self.0.inner().shutdown(Shutdown::Write)
    }

    /// Waits for what `wait` says, from `now` on.
    pub(crate) fn wait(&self, wait: Wait, now: Instant) {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, wait.read);
        flags.set(PollFlags::OUT, wait.write);
        let timeout = wait.until.map(|at| {
            let left = at.saturating_duration_since(now);
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        // A socket from which nothing is wanted would still report its end, over and over.
        let sockets = &mut [PollFd::new(self.0.inner(), flags)];
        let sockets = if flags.is_empty() { &mut [] } else { &mut sockets[..] };
        let _ = poll(sockets, timeout.as_ref());
    }

    fn ready(&self, flags: PollFlags) -> io::Result<bool> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        Ok(poll(&mut [PollFd::new(self.0.inner(), flags)], Some(&now))? > 0)
    }
}

impl ErrorType for Socket {
    type Error = io::Error;
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl ReadReady for Socket {
    fn read_ready(&mut self) -> io::Result<bool> {
        self.ready(PollFlags::IN)
    }
}

impl Write for Socket {
    /// No more than surely fits once there is room: a blocking socket would wait until all fits.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(&buf[..buf.len().min(512)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl WriteReady for Socket {
    fn write_ready(&mut self) -> io::Result<bool> {
        self.ready(PollFlags::OUT)
    }
}
