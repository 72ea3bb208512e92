//! Sockets of the host, as smol waits for them.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_io::{Async, Timer};
use blocking::unblock;
use countersign_futures::Connect;
use countersign_host::{Address, ResolvedAddr, Stream};
use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::future;

/// How long to leave a Unix socket alone whose queue of connections is full.
const FULL_QUEUE: Duration = Duration::from_millis(10);

/// A connected socket, TCP or Unix. Closing it shuts its write side. It has no buffer that would need a
/// flush.
#[derive(Debug)]
pub struct Socket(Async<Stream>);

impl Socket {
    /// A socket that is connected already.
    ///
    /// # Errors
    /// The system's, of registering it.
    pub fn new(stream: Stream) -> io::Result<Self> {
        Async::new_nonblocking(stream).map(Self)
    }

    /// Connects: tries each of the host's addresses for at most `timeout`. A name is looked up on a thread of
    /// its own, for as long as the system takes.
    ///
    /// # Errors
    /// The system's, of the last address tried, and [`ErrorKind::TimedOut`].
    pub async fn connect(address: &Address, timeout: Duration) -> io::Result<Self> {
        let named = matches!(address, Address::Tcp { host, .. } if host.parse::<IpAddr>().is_err());
        let targets = if named {
            let address = address.clone();
            unblock(move || address.targets()).await?
        } else {
            address.targets()?
        };
        let mut connected = Err(io::Error::new(ErrorKind::NotFound, "the host has no address"));
        for target in targets {
            let timed_out = async {
                Timer::after(timeout).await;
                Err(ErrorKind::TimedOut.into())
            };
            connected = future::or(Self::connect_to(&target), timed_out).await;
            if connected.is_ok() {
                break;
            }
        }
        connected
    }

    async fn connect_to(target: &ResolvedAddr) -> io::Result<Self> {
        let stream = loop {
            match target.start_connect() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    Timer::after(FULL_QUEUE).await
                }
                started => break started?,
            };
        };
        let socket = Self::new(stream)?;
        poll_fn(|cx| socket.0.poll_writable(cx)).await?;
        socket.get_ref().take_error()?.map_or(Ok(socket), Err)
    }

    /// The socket itself.
    #[must_use]
    pub fn get_ref(&self) -> &Stream {
        self.0.get_ref()
    }
}

impl Connect for Socket {
    async fn connect(address: &Address, timeout: Duration) -> io::Result<Self> {
        Self::connect(address, timeout).await
    }

    fn acknowledge(&self) {
        self.get_ref().acknowledge();
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(n) = Self::get_ref(&self).read(into)? {
                return Poll::Ready(Ok(n));
            }
            ready!(self.0.poll_readable(cx))?;
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(n) = Self::get_ref(&self).write(from)? {
                return Poll::Ready(Ok(n));
            }
            ready!(self.0.poll_writable(cx))?;
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Self::get_ref(&self).shut_write())
    }
}
