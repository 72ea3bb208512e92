//! The file of a Unix socket, which one server at a time owns.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

/// The file of a Unix socket that this process bound. On drop it is removed, unless it was replaced.
///
/// A lock on `PATH.lock` is held from before the file is examined until after it is removed. Without it two
/// servers that find a stale file could each remove it, the second that of the first, which would then
/// listen where nobody can connect. The lock file stays: removing it would allow two locks of one path.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    _lock: OwnedFd,
}

impl SocketFile {
    /// Binds a socket to `path` and listens. Replaces a socket file that nothing listens on.
    ///
    /// # Errors
    /// [`ErrorKind::AddrInUse`] if another process holds the lock or listens there, or if the file is not a
    /// socket; other errors of the system.
    pub(crate) fn listen(path: &Path, backlog: i32) -> io::Result<(UnixListener, Self)> {
        let lock = lock(path)?;
        let socket = match bind(path, backlog) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if !is_stale(path)? {
                    return Err(error);
                }
                fs::remove_file(path)?;
                bind(path, backlog)?
            }
            other => other?,
        };
        let file = fs::symlink_metadata(path)?;
        let (device, inode) = (file.dev(), file.ino());
        Ok((socket, Self { path: path.into(), device, inode, _lock: lock }))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == (self.device, self.inode));
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn lock(path: &Path) -> io::Result<OwnedFd> {
    let mut lock_path = OsString::from(path);
    lock_path.push(".lock");
    let flags = OFlags::CREATE | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = rustix::fs::open(&lock_path, flags, Mode::RUSR | Mode::WUSR).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("{}: {error}", lock_path.display()))
    })?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(io::Error::new(
            ErrorKind::AddrInUse,
            format!("another server holds {}", lock_path.display()),
        )),
        Err(error) => Err(error.into()),
    }
}

fn bind(path: &Path, backlog: i32) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether the file is a socket that nothing listens on.
fn is_stale(path: &Path) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Ok(false);
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let connected = socket.connect(&SockAddr::unix(path)?);
    Ok(connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused))
}
