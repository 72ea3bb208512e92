//! Listening sockets.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use crate::address::Address;
use crate::peer_addr::PeerAddr;
use crate::socket_file::SocketFile;
use crate::stream::Stream;

/// A non-blocking listening socket.
///
/// The file of a Unix socket that [`Address::listen`] made is removed when its last listener is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    _file: Option<Arc<SocketFile>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// A listener whose socket file is `file`.
    pub(crate) fn with_file(socket: UnixListener, file: Arc<SocketFile>) -> Self {
        Self { socket: Socket::Unix(socket), _file: Some(file) }
    }

    /// Accepts the next connection. The stream is non-blocking.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] if the queue is empty; [`ErrorKind::ConnectionAborted`] if the connection
    /// has failed meanwhile; other errors of the system.
    pub fn accept(&self) -> io::Result<(Stream, PeerAddr)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                stream.set_nonblocking(true).map_err(aborted)?;
                Ok((Stream::Tcp(stream), PeerAddr::Tcp(address)))
            }
            Socket::Unix(listener) => {
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
        Ok(match &self.socket {
            Socket::Tcp(listener) => {
                let address = listener.local_addr()?;
                Address::Tcp { host: address.ip().to_string(), port: address.port() }
            }
            Socket::Unix(listener) => Address::Unix(
                listener.local_addr()?.as_pathname().map(PathBuf::from).unwrap_or_default(),
            ),
        })
    }

    /// A second descriptor of the same socket. It does not keep the file of a Unix socket.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            Socket::Tcp(listener) => Socket::Tcp(listener.try_clone()?),
            Socket::Unix(listener) => Socket::Unix(listener.try_clone()?),
        };
        Ok(Self { socket, _file: None })
    }
}

/// Makes the socket non-blocking. Its other options are left as they are.
impl TryFrom<TcpListener> for Listener {
    type Error = io::Error;

    fn try_from(socket: TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Socket::Tcp(socket), _file: None })
    }
}

/// Makes the socket non-blocking. Its file is left to whoever bound it.
impl TryFrom<UnixListener> for Listener {
    type Error = io::Error;

    fn try_from(socket: UnixListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Socket::Unix(socket), _file: None })
    }
}

impl AsRef<Self> for Listener {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Unix(listener) => listener.as_fd(),
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
