//! Sockets: TCP and Unix, non-blocking, by address.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

/// Connections that the system may hold for us before we accept them.
const BACKLOG: i32 = 4096;
/// How long to leave a Unix socket alone at which a crowd waits already.
const CROWDED: Duration = Duration::from_millis(10);

/// Where to listen or connect: `host:port`, `[v6]:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A name or an IP address, and a port.
    Tcp {
        /// Without brackets.
        host: String,
        /// 0 takes any free one when listening.
        port: u16,
    },
    /// A Unix socket's path.
    Unix(PathBuf),
}

/// A text is not an [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressError;

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address is host:port, [v6]:port or unix:/path")
    }
}

impl std::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(AddressError) } else { Ok(Self::Unix(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or(AddressError)?;
        let host = match host.strip_prefix('[') {
            Some(host) => host.strip_suffix(']').ok_or(AddressError)?,
            None if host.contains(':') => return Err(AddressError),
            None => host,
        };
        let port = port.parse().map_err(|_| AddressError)?;
        if host.is_empty() {
            return Err(AddressError);
        }
        Ok(Self::Tcp { host: host.into(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// The places that it stands for, the best first. Looking up a name waits.
    ///
    /// # Errors
    /// The system's.
    pub fn targets(&self) -> io::Result<Vec<ResolvedAddr>> {
        match self {
            Self::Tcp { .. } => Ok(self.resolve()?.into_iter().map(ResolvedAddr::Tcp).collect()),
            Self::Unix(path) => Ok(vec![ResolvedAddr::Unix(path.clone())]),
        }
    }

    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Tcp { host, port } => Ok((host.as_str(), *port).to_socket_addrs()?.collect()),
            Self::Unix(_) => Ok(Vec::new()),
        }
    }

    /// Listens here `times` times over, for as many event loops: TCP listeners share the port by
    /// `SO_REUSEPORT`, Unix listeners are one socket. A socket file that nobody listens on is
    /// replaced.
    ///
    /// # Errors
    /// The system's.
    pub fn listen(&self, times: usize) -> io::Result<Vec<Listener>> {
        if let Self::Unix(path) = self {
            let listener = listen_unix(path)?;
            return (0..times.max(1)).map(|_| Ok(Listener::Unix(listener.try_clone()?))).collect();
        }
        let addresses = self.resolve()?;
        let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
        for mut address in addresses {
            let first =
                match probe_tcp(address, times).and_then(|()| listen_tcp(address, times > 1)) {
                    Ok(listener) => listener,
                    Err(error) => {
                        last = error;
                        continue;
                    }
                };
            address = first.local_addr()?;
            let mut listeners = vec![Listener::Tcp(first)];
            for _ in 1..times {
                listeners.push(Listener::Tcp(listen_tcp(address, true)?));
            }
            return Ok(listeners);
        }
        Err(last)
    }

    /// Connects, trying each of the host's addresses for at most `timeout`.
    ///
    /// # Errors
    /// The system's, of the last address tried.
    pub fn connect(&self, timeout: Duration) -> io::Result<Stream> {
        if let Self::Unix(path) = self {
            return connect_unix(path, timeout).map(Stream::Unix);
        }
        let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
        for address in self.resolve()? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => {
                    let socket = Socket::from(stream);
                    tune(&socket)?;
                    socket.set_nonblocking(true)?;
                    return Ok(Stream::Tcp(socket.into()));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Begins to connect, and does not wait: once the stream is writable, it is connected, or
    /// [`Stream::take_error`] tells why it is not. Of a host with several addresses it is the first for which
    /// this works. Looking up a name does wait; for event loops, give an IP address.
    ///
    /// # Errors
    /// The system's. For a Unix socket, [`ErrorKind::WouldBlock`] means that its listener has a
    /// crowd waiting: try again later.
    pub fn start_connect(&self) -> io::Result<(Stream, PeerAddr)> {
        let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
        for target in self.targets()? {
            match target.start_connect() {
                Ok(stream) => return Ok((stream, target.origin())),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// One of the places that an [`Address`] stands for: nothing needs to be looked up any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolvedAddr {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl ResolvedAddr {
    /// Begins to connect, and does not wait: see [`Address::start_connect`].
    ///
    /// # Errors
    /// The system's.
    pub fn start_connect(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(address) => start_tcp(*address).map(Stream::Tcp),
            Self::Unix(path) => start_unix(path).map(Stream::Unix),
        }
    }

    /// It, as the end of a connection.
    #[must_use]
    pub fn origin(&self) -> PeerAddr {
        match self {
            Self::Tcp(address) => PeerAddr::Tcp(*address),
            Self::Unix(_) => PeerAddr::Unix,
        }
    }
}

fn start_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    tune(&socket)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// What every TCP connection wants; those accepted have it of their listener.
fn tune(socket: &Socket) -> io::Result<()> {
    // Small framed replies would otherwise wait for the acknowledgement of the last, 40 ms.
    socket.set_tcp_nodelay(true)?;
    // A peer that has vanished without a word is found out, though there is nothing to say to it.
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(120))
        .with_interval(Duration::from_secs(30))
        .with_retries(4);
    socket.set_tcp_keepalive(&keepalive)
}

/// A port that another server shares would be shared with us, and its clients too. A socket that
/// does not share finds out.
fn probe_tcp(address: SocketAddr, times: usize) -> io::Result<()> {
    if times > 1 && address.port() != 0 {
        bind_tcp(address, false)?;
    }
    Ok(())
}

fn bind_tcp(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen_tcp(address: SocketAddr, share: bool) -> io::Result<TcpListener> {
    let socket = bind_tcp(address, share)?;
    tune(&socket)?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    let bind = || -> io::Result<UnixListener> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    match bind() {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let stale = std::fs::symlink_metadata(path)?.file_type().is_socket()
                && start_unix(path)
                    .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
            if !stale {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            bind()
        }
        other => other,
    }
}

fn start_unix(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}

/// Where a crowd waits the system neither queues us nor tells when there is room: it is tried again.
fn connect_unix(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let began = Instant::now();
    loop {
        match start_unix(path) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let left = timeout.saturating_sub(began.elapsed());
                if left.is_zero() {
                    return Err(ErrorKind::TimedOut.into());
                }
                thread::sleep(left.min(CROWDED));
            }
            other => return other,
        }
    }
}

/// Where a connection comes from, or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddr {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A Unix socket: all its peers are on this machine, and have no address.
    Unix,
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// A listening socket, non-blocking.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix.
    Unix(UnixListener),
}

impl Listener {
    /// The next connection; `WouldBlock` if none waits.
    ///
    /// # Errors
    /// The system's.
    pub fn accept(&self) -> io::Result<(Stream, PeerAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                stream.set_nonblocking(true).map_err(gone)?;
                Ok((Stream::Tcp(stream), PeerAddr::Tcp(address)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true).map_err(gone)?;
                Ok((Stream::Unix(stream), PeerAddr::Unix))
            }
        }
    }

    /// Where it listens, the port filled in.
    ///
    /// # Errors
    /// The system's.
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

/// A connected socket, non-blocking; for TCP without Nagle's delay.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
}

impl Stream {
    /// Reads what is there; `None` if nothing is. Interruptions are retried.
    ///
    /// # Errors
    /// The system's.
    pub fn read(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        retry(|| match self {
            Self::Tcp(stream) => (&*stream).read(into),
            Self::Unix(stream) => (&*stream).read(into),
        })
    }

    /// Writes what there is room for; `None` if there is none.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, from: &[u8]) -> io::Result<Option<usize>> {
        retry(|| match self {
            Self::Tcp(stream) => (&*stream).write(from),
            Self::Unix(stream) => (&*stream).write(from),
        })
    }

    /// Whom it is connected to.
    ///
    /// # Errors
    /// The system's.
    pub fn peer(&self) -> io::Result<PeerAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map(PeerAddr::Tcp),
            Self::Unix(_) => Ok(PeerAddr::Unix),
        }
    }

    /// What has gone wrong with it since it was last asked, such as that it could not be connected.
    ///
    /// # Errors
    /// The system's, of asking.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Self::Tcp(stream) => stream.take_error(),
            Self::Unix(stream) => stream.take_error(),
        }
    }

    /// Acknowledges at once what has arrived, where the system can.
    pub fn acknowledge(&self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Self::Tcp(stream) = self {
            // If it fails the peer waits a little longer.
            let _ = socket2::SockRef::from(stream).set_tcp_quickack(true);
        }
    }

    /// Shuts the write side; a peer that is already gone is no error.
    ///
    /// # Errors
    /// The system's.
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

/// What fails on a connection just accepted is its own matter, not the listener's.
fn gone(error: io::Error) -> io::Error {
    io::Error::new(ErrorKind::ConnectionAborted, error)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["127.0.0.1:9999", "localhost:0", "[::1]:80", "unix:/tmp/s", "unix:s"] {
            assert_eq!(text.parse::<Address>().map(|a| a.to_string()).as_deref(), Ok(text));
        }
        for text in
            ["", "9999", ":9999", "host:", "host:port", "host:70000", "::1:80", "[::1:80", "unix:"]
        {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
        }
    }

    #[test]
    fn a_socket_file_is_replaced_only_if_nobody_listens() {
        let path = std::env::temp_dir().join(format!("countersign-net-{}", std::process::id()));
        let address = Address::Unix(path.clone());
        let first = address.listen(2).unwrap();
        assert_eq!(address.listen(1).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(first);
        drop(address.listen(1).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "a file").unwrap();
        assert_eq!(address.listen(1).unwrap_err().kind(), ErrorKind::AddrInUse);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_unix_socket_at_which_a_crowd_waits_is_waited_for() {
        let path = std::env::temp_dir().join(format!("countersign-crowd-{}", std::process::id()));
        let address = Address::Unix(path.clone());
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(1).unwrap();
        let listener = UnixListener::from(socket);
        let mut crowd = Vec::new();
        while let Ok((stream, _)) = address.start_connect() {
            crowd.push(stream);
        }
        // Somebody does listen.
        assert_eq!(address.listen(1).unwrap_err().kind(), ErrorKind::AddrInUse);
        let soon = Duration::from_millis(50);
        assert_eq!(address.connect(soon).unwrap_err().kind(), ErrorKind::TimedOut);
        thread::scope(|scope| {
            let last = scope.spawn(|| address.connect(Duration::from_secs(30)));
            thread::sleep(soon);
            for _ in 0..=crowd.len() {
                listener.accept().unwrap();
            }
            last.join().unwrap().unwrap();
        });
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn listeners_of_one_address_share_its_port() {
        let address: Address = "127.0.0.1:0".parse().unwrap();
        let listeners = address.listen(3).unwrap();
        assert_eq!(listeners.len(), 3);
        let at = listeners[0].address().unwrap();
        assert!(listeners.iter().all(|listener| listener.address().unwrap() == at));
    }
}
