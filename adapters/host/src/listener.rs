//! Listening sockets.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use crate::address::Address;
use crate::peer_addr::PeerAddr;
use crate::stream::Stream;

/// A non-blocking listening socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix.
    Unix(UnixListener),
}

impl Listener {
    /// Accepts the next connection. The stream is non-blocking.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] if the queue is empty; [`ErrorKind::ConnectionAborted`] if the connection
    /// has failed meanwhile; other errors of the system.
    pub fn accept(&self) -> io::Result<(Stream, PeerAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                stream.set_nonblocking(true).map_err(aborted)?;
                Ok((Stream::Tcp(stream), PeerAddr::Tcp(address)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true).map_err(aborted)?;
                Ok((Stream::Unix(stream), PeerAddr::Unix))
            }
        }
    }

    /// The local address, with the port that the system chose.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn address(&self) -> io::Result<Address> {
        Ok(match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr()?;
                Address::Tcp { host: address.ip().to_string(), port: address.port() }
            }
            Self::Unix(listener) => Address::Unix(
                listener.local_addr()?.as_pathname().map(PathBuf::from).unwrap_or_default(),
            ),
        })
    }
}

impl AsRef<Self> for Listener {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// The error of a connection that was accepted and failed at once. It is not an error of the listener.
fn aborted(error: io::Error) -> io::Error {
    io::Error::new(ErrorKind::ConnectionAborted, error)
}
