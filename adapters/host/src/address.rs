//! Addresses to listen on and to connect to.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::listener::Listener;
use crate::peer_addr::PeerAddr;
use crate::socket_file::SocketFile;
use crate::stream::Stream;

/// Length of the queue of connections that were not accepted yet.
const BACKLOG: i32 = 4096;
/// Time between attempts to connect to a Unix socket whose queue is full.
const RETRY: Duration = Duration::from_millis(10);

/// An address to listen on or connect to: `host:port`, `[v6]:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP port of a host.
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// 0 means any free port when listening.
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// The error for a text that is not an [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressError;

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address is host:port, [v6]:port or unix:/path")
    }
}

impl std::error::Error for AddressError {}

impl From<AddressError> for io::Error {
    fn from(error: AddressError) -> Self {
        Self::new(ErrorKind::InvalidInput, error)
    }
}

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
    /// The socket addresses of this address, in order of preference. Blocks while it looks up a name.
    ///
    /// # Errors
    /// The lookup failed.
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

    /// Opens `count` listeners, for as many event loops. TCP listeners share the port by `SO_REUSEPORT`;
    /// Unix listeners are duplicates of one socket. A socket file without a listener is replaced; which
    /// process owns the file is settled by a lock on the file `PATH.lock`, which stays.
    ///
    /// # Errors
    /// [`ErrorKind::AddrInUse`] if another socket listens there; other errors of the system.
    pub fn listen(&self, count: usize) -> io::Result<Vec<Listener>> {
        if let Self::Unix(path) = self {
            let (socket, file) = SocketFile::listen(path, BACKLOG)?;
            let file = Arc::new(file);
            return (0..count.max(1))
                .map(|_| Ok(Listener::with_file(socket.try_clone()?, file.clone())))
                .collect();
        }
        let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
        for address in self.resolve()? {
            match listen_tcp(address, count) {
                Ok(listeners) => return Ok(listeners),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Connects, trying each address of the host for at most `timeout`. The stream is non-blocking.
    ///
    /// # Errors
    /// The error of the last address.
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

    /// Begins to connect without waiting, to the first address of the host for which that succeeds. When
    /// the stream becomes writable it is connected, or [`Stream::take_error`] returns the error. Blocks
    /// while it looks up a name: for event loops, use an IP address.
    ///
    /// # Errors
    /// Errors of the system. For a Unix socket, [`ErrorKind::WouldBlock`] means that the queue of its
    /// listener is full: try again later.
    pub fn start_connect(&self) -> io::Result<(Stream, PeerAddr)> {
        let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
        for target in self.targets()? {
            match target.start_connect() {
                Ok(stream) => return Ok((stream, target.peer_addr())),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// One of the socket addresses of an [`Address`]. No name is left to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolvedAddr {
    /// A TCP port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl ResolvedAddr {
    /// Begins to connect without waiting, as [`Address::start_connect`].
    ///
    /// # Errors
    /// As [`Address::start_connect`].
    pub fn start_connect(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(address) => start_tcp(*address).map(Stream::Tcp),
            Self::Unix(path) => start_unix(path).map(Stream::Unix),
        }
    }

    /// The address of the peer of such a connection.
    #[must_use]
    pub fn peer_addr(&self) -> PeerAddr {
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

/// Sets the options of TCP connections. Accepted ones inherit them from their listener.
fn tune(socket: &Socket) -> io::Result<()> {
    // Without it a small reply waits up to 40 ms for the acknowledgement of the previous one.
    socket.set_tcp_nodelay(true)?;
    // Detects a peer that has vanished while the connection is idle.
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(120))
        .with_interval(Duration::from_secs(30))
        .with_retries(4);
    socket.set_tcp_keepalive(&keepalive)
}

/// Opens `count` listeners on one port.
///
/// The first binds and listens without `SO_REUSEPORT`, which fails if any other socket listens there. Only
/// then the port is shared: with the option from the start, two servers of this program could share a port
/// and each get a part of the clients.
fn listen_tcp(mut address: SocketAddr, count: usize) -> io::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    let first = tcp_socket(address)?;
    first.bind(&address.into())?;
    first.listen(BACKLOG)?;
    if count > 1 {
        first.set_reuse_port(true)?;
    }
    let first = TcpListener::from(first);
    address = first.local_addr()?;
    listeners.push(first.try_into()?);
    for _ in 1..count {
        let socket = tcp_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        listeners.push(TcpListener::from(socket).try_into()?);
    }
    Ok(listeners)
}

/// A socket to listen with.
fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    tune(&socket)?;
    Ok(socket)
}

fn start_unix(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}

/// Connects, and retries while the queue of the listener is full: the system does not report when there is
/// room.
fn connect_unix(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let started = Instant::now();
    loop {
        match start_unix(path) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let left = timeout.saturating_sub(started.elapsed());
                if left.is_zero() {
                    return Err(ErrorKind::TimedOut.into());
                }
                thread::sleep(left.min(RETRY));
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn addresses_survive_a_round_trip() {
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
    fn socket_file_without_a_listener_is_replaced() {
        let path = std::env::temp_dir().join(format!("countersign-net-{}", std::process::id()));
        let address = Address::Unix(path.clone());
        let first = address.listen(2).unwrap();
        assert_eq!(address.listen(1).unwrap_err().kind(), ErrorKind::AddrInUse);
        // The file of a process that was killed.
        let copy = first[0].try_clone().unwrap();
        drop(first);
        assert!(!path.exists(), "removed with the last listener");
        drop((copy, UnixListener::bind(&path).unwrap()));
        let other = UnixListener::bind(&path);
        assert_eq!(other.unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(address.listen(1).unwrap());
        std::fs::write(&path, "a file").unwrap();
        assert_eq!(address.listen(1).unwrap_err().kind(), ErrorKind::AddrInUse);
        std::fs::remove_file(&path).unwrap();
        // One that does not lock.
        let _other = UnixListener::bind(&path).unwrap();
        assert_eq!(address.listen(1).unwrap_err().kind(), ErrorKind::AddrInUse);
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(lock_of(&path)).unwrap();
    }

    fn lock_of(path: &Path) -> PathBuf {
        PathBuf::from(format!("{}.lock", path.display()))
    }

    /// Lets several threads listen at once, again and again; exactly one may succeed each time.
    fn contend(address: &Address, count: usize, prepare: impl Fn()) {
        const THREADS: usize = 4;
        let barrier = Barrier::new(THREADS);
        for round in 0..200 {
            prepare();
            let results: Vec<_> = thread::scope(|scope| {
                let listen = || {
                    barrier.wait();
                    address.listen(count)
                };
                let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(listen)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let listening = results.iter().filter(|result| result.is_ok()).count();
            assert_eq!(listening, 1, "in round {round}: {results:?}");
            for error in results.iter().filter_map(|result| result.as_ref().err()) {
                assert_eq!(error.kind(), ErrorKind::AddrInUse);
            }
            // Who connects reaches the one that listens.
            let client = address.connect(Duration::from_secs(9)).unwrap();
            let listeners = results.into_iter().flatten().flatten();
            let accepted = listeners.filter(|listener| listener.accept().is_ok()).count();
            assert_eq!(accepted, 1, "in round {round}");
            drop(client);
        }
    }

    #[test]
    fn one_of_several_servers_listens_on_a_stale_socket_file() {
        let path = std::env::temp_dir().join(format!("countersign-race-{}", std::process::id()));
        contend(&Address::Unix(path.clone()), 2, || drop(UnixListener::bind(&path).unwrap()));
        std::fs::remove_file(lock_of(&path)).unwrap();
    }

    #[test]
    fn one_of_several_servers_with_workers_listens_on_a_port() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        contend(&Address::Tcp { host: "127.0.0.1".into(), port }, 2, || ());
    }

    #[test]
    fn connect_retries_while_the_unix_queue_is_full() {
        let path = std::env::temp_dir().join(format!("countersign-crowd-{}", std::process::id()));
        let address = Address::Unix(path.clone());
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(1).unwrap();
        let listener = UnixListener::from(socket);
        let mut queued = Vec::new();
        while let Ok((stream, _)) = address.start_connect() {
            queued.push(stream);
        }
        // The listener exists, though its queue is full.
        assert_eq!(address.listen(1).unwrap_err().kind(), ErrorKind::AddrInUse);
        let soon = Duration::from_millis(50);
        assert_eq!(address.connect(soon).unwrap_err().kind(), ErrorKind::TimedOut);
        thread::scope(|scope| {
            let last = scope.spawn(|| address.connect(Duration::from_secs(30)));
            thread::sleep(soon);
            for _ in 0..=queued.len() {
                listener.accept().unwrap();
            }
            last.join().unwrap().unwrap();
        });
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(lock_of(&path)).unwrap();
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
