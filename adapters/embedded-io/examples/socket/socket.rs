//! A host's socket with the traits of a microcontroller's UART: it reads, writes, and reports whether it
//! is ready. Firmware has its own.

use std::io;
use std::net::{Shutdown, TcpStream};

use countersign_embedded_io::{Instant, Interest};
use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};
use embedded_io_adapters::std::FromStd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A TCP connection.
pub(crate) struct Socket(FromStd<TcpStream>);

impl Socket {
    /// Without Nagle's algorithm, which would delay small frames.
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self(FromStd::new(stream)))
    }

    /// Another handle of the socket.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(FromStd::new(self.0.inner().try_clone()?)))
    }

    /// Shuts the write side.
    pub(crate) fn shut(&mut self) -> io::Result<()> {
        self.0.inner().shutdown(Shutdown::Write)
    }

    /// Waits for `interest`, from `now` on.
    pub(crate) fn wait(&self, interest: Interest, now: Instant) {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, interest.read);
        flags.set(PollFlags::OUT, interest.write);
        let timeout = interest.until.map(|at| {
            let left = at.saturating_duration_since(now);
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        // Without any flag, poll would still return at once when the peer has closed.
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
    /// Writes at most as much as fits a socket that is writable: a blocking socket waits until all fits.
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
