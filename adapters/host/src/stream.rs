//! Connected sockets.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;

use crate::peer_addr::PeerAddr;

/// How many bytes [`Stream::discard`] reads at once.
const DISCARD: usize = 4096;

/// A non-blocking connected socket. TCP sockets have Nagle's algorithm disabled.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
}

impl Stream {
    /// Reads available bytes; `None` if there are none, 0 at the end of the stream. Retries interrupted
    /// calls.
    ///
    /// # Errors
    /// The transport has failed.
    pub fn read(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        retry(|| match self {
            Self::Tcp(stream) => (&*stream).read(into),
            Self::Unix(stream) => (&*stream).read(into),
        })
    }

    /// Reads up to 4 KiB and drops them; returns as [`read`](Self::read) does.
    ///
    /// # Errors
    /// The transport has failed.
    pub fn discard(&self) -> io::Result<Option<usize>> {
        self.read(&mut [0; DISCARD])
    }

    /// Writes as many bytes as the send buffer takes; `None` if it is full.
    ///
    /// # Errors
    /// The transport has failed.
    pub fn write(&self, from: &[u8]) -> io::Result<Option<usize>> {
        retry(|| match self {
            Self::Tcp(stream) => (&*stream).write(from),
            Self::Unix(stream) => (&*stream).write(from),
        })
    }

    /// The address of the peer.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn peer(&self) -> io::Result<PeerAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map(PeerAddr::Tcp),
            Self::Unix(_) => Ok(PeerAddr::Unix),
        }
    }

    /// Takes the pending error of the socket, such as why it could not be connected.
    ///
    /// # Errors
    /// The error could not be read.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Self::Tcp(stream) => stream.take_error(),
            Self::Unix(stream) => stream.take_error(),
        }
    }

    /// Acknowledges received bytes at once, where the system supports it.
    pub fn acknowledge(&self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Self::Tcp(stream) = self {
            // On failure the acknowledgement is delayed as usual.
            let _ = socket2::SockRef::from(stream).set_tcp_quickack(true);
        }
    }

    /// Shuts the write side. That the peer has disconnected is not an error.
    ///
    /// # Errors
    /// The transport has failed.
    pub fn shut_write(&self) -> io::Result<()> {
        let shut = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
        match shut {
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            other => other,
        }
    }
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        return match call() {
            Ok(n) => Ok(Some(n)),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        };
    }
}

impl countersign_driver::Io for &Stream {
    type Error = io::Error;

    fn read(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        Stream::read(self, into)
    }

    fn discard(&mut self) -> io::Result<Option<usize>> {
        Stream::discard(self)
    }

    fn write(&mut self, from: &[u8]) -> io::Result<Option<usize>> {
        Stream::write(self, from)
    }

    fn shut_write(&mut self) -> io::Result<()> {
        Stream::shut_write(self)
    }

    fn acknowledge(&mut self) {
        Stream::acknowledge(self);
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
