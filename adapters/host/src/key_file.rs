//! Secrets from files.
//!
//! The bytes of a key file are the secret, without one final newline. The file must be readable by its
//! owner only.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use countersign::Key;
use getrandom::SysRng;
use getrandom::rand_core::TryRng;
use rustix::fs::OFlags;
use rustix::process::geteuid;
use zeroize::Zeroizing;

/// A secret, wiped on drop.
pub type Secret = Zeroizing<Vec<u8>>;

/// Symbolic links that are followed from one path.
const MAX_LINKS: usize = 40;
/// Random bytes in a new secret.
const NEW_LEN: usize = 32;

/// Why a secret cannot be read, generated or written. The texts say what to do.
#[derive(Debug)]
pub enum SecretError {
    /// The file cannot be read or written.
    Io(PathBuf, io::Error),
    /// The path is a directory, a device or a pipe.
    NotAFile(PathBuf),
    /// Users other than the owner can access the file; its mode.
    Exposed(PathBuf, u32),
    /// The file belongs to another user than this process or root, who knows the secret.
    Foreign(PathBuf),
    /// The path is, or leads to, a symbolic link of another user, who can point it at any file of ours.
    ForeignLink(PathBuf),
    /// The file is empty.
    Empty(PathBuf),
    /// The file exceeds this many bytes.
    TooLong(PathBuf, usize),
    /// The random number generator of the system failed.
    Random(getrandom::Error),
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "key file {}: {error}", path.display()),
            Self::NotAFile(path) => {
                write!(
                    f,
                    "key file {}: not a file: give the path of a file with a secret",
                    path.display()
                )
            }
            Self::Exposed(path, mode) => write!(
                f,
                "key file {0}: other users can access it (mode {mode:04o}): run `chmod 600 {0}`",
                path.display()
            ),
            Self::Foreign(path) => write!(
                f,
                "key file {0}: it belongs to another user, who knows the secret: run `chown $USER {0}` if you trust it",
                path.display()
            ),
            Self::ForeignLink(path) => write!(
                f,
                "key file {}: a symbolic link of another user, who can replace the secret: give the path of the file",
                path.display()
            ),
            Self::Empty(path) => write!(
                f,
                "key file {}: it is empty: make a secret with `countersign keygen`",
                path.display()
            ),
            Self::TooLong(path, max) => {
                write!(f, "key file {}: it exceeds {max} bytes: check the path", path.display())
            }
            Self::Random(error) => {
                write!(f, "the random number generator of the system failed: {error}")
            }
        }
    }
}

impl std::error::Error for SecretError {}

/// Reads the secret in the file `path`.
///
/// # Errors
/// Every [`SecretError`].
pub fn read(path: &Path) -> Result<Secret, SecretError> {
    let mut secret = read_file(path, Key::MAX_LEN + 1)?;
    if secret.last() == Some(&b'\n') {
        secret.pop();
    }
    match secret.len() {
        0 => Err(SecretError::Empty(path.into())),
        1..=Key::MAX_LEN => Ok(secret),
        _ => Err(SecretError::TooLong(path.into(), Key::MAX_LEN)),
    }
}

/// Reads a file of at most `max` bytes that only its owner can access, such as a keyring or a private key
/// in PEM. Ownership and mode are checked on the open file. Symbolic links are followed if they belong to
/// this user or to root.
///
/// # Errors
/// Every [`SecretError`].
pub fn read_file(path: &Path, max: usize) -> Result<Secret, SecretError> {
    let io = |error| SecretError::Io(path.into(), error);
    let file = open(path)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(SecretError::NotAFile(path.into()));
    }
    let mode = metadata.mode() & 0o7777;
    if !is_trusted(metadata.uid()) {
        return Err(SecretError::Foreign(path.into()));
    }
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed(path.into(), mode));
    }
    // One allocation of the maximal length: growth would leave unwiped copies behind.
    let mut secret = Secret::new(Vec::with_capacity(max + 1));
    file.take(max as u64 + 1).read_to_end(&mut secret).map_err(io)?;
    if secret.len() > max { Err(SecretError::TooLong(path.into(), max)) } else { Ok(secret) }
}

/// Whether a file of this user can be relied on.
fn is_trusted(user: u32) -> bool {
    [0, geteuid().as_raw()].contains(&user)
}

/// Opens `path` for reading, if it is a file. What it is must be checked again on the open file: the path
/// may be replaced meanwhile.
fn open(path: &Path) -> Result<File, SecretError> {
    let io = |error: io::Error| SecretError::Io(path.into(), error);
    let mut target = PathBuf::from(path);
    for _ in 0..MAX_LINKS {
        let (metadata, link) = examine(&target).map_err(io)?;
        if let Some(link) = link {
            if !is_trusted(metadata.uid()) {
                return Err(SecretError::ForeignLink(target));
            }
            // A link counts from its own directory.
            target.set_file_name(link);
            continue;
        }
        // Opening a device may have side effects.
        if !metadata.is_file() {
            return Err(SecretError::NotAFile(path.into()));
        }
        // Opening a pipe would block until its other end is opened.
        let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
        return OpenOptions::new().read(true).custom_flags(flags).open(&target).map_err(io);
    }
    Err(io(rustix::io::Errno::LOOP.into()))
}

/// What `path` is, and where it leads if it is a symbolic link: both of one and the same link.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn examine(path: &Path) -> io::Result<(Metadata, Option<PathBuf>)> {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    // Without access to the contents, and so without side effects.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    let metadata = file.metadata()?;
    let link = match metadata.is_symlink() {
        true => Some(rustix::fs::readlinkat(&file, "", Vec::new())?),
        false => None,
    };
    Ok((metadata, link.map(|link| OsString::from_vec(link.into_bytes()).into())))
}

/// What `path` is, and where it leads if it is a symbolic link. The link could be replaced in between.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn examine(path: &Path) -> io::Result<(Metadata, Option<PathBuf>)> {
    let metadata = fs::symlink_metadata(path)?;
    let link = if metadata.is_symlink() { Some(fs::read_link(path)?) } else { None };
    Ok((metadata, link))
}

/// Generates a secret of 256 random bits, as 64 hexadecimal digits.
///
/// # Errors
/// [`SecretError::Random`].
pub fn generate() -> Result<Secret, SecretError> {
    let mut random = Zeroizing::new([0; NEW_LEN]);
    SysRng.try_fill_bytes(random.as_mut_slice()).map_err(SecretError::Random)?;
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).map_or(b'0', |c| c as u8);
    let mut secret = Secret::new(Vec::with_capacity(2 * NEW_LEN));
    for byte in random.iter() {
        secret.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    Ok(secret)
}

/// Writes `secret` and a newline to a new file `path` with mode 0600. The file appears complete or not at
/// all.
///
/// # Errors
/// [`SecretError::Io`], also if the file exists; [`SecretError::Random`].
pub fn write_new(path: &Path, secret: &Secret) -> Result<(), SecretError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Random, so that a draft that a crash has left does not collide.
    name.push(format!(".{}", getrandom::u64().map_err(SecretError::Random)?));
    let draft = path.with_file_name(name);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        let linked = file
            .write_all(secret)
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::hard_link(&draft, path));
        fs::remove_file(&draft)?;
        linked
    };
    write().map_err(|error| SecretError::Io(path.into(), error))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    use super::*;

    fn temporary(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("countersign-{name}-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    fn file(name: &str, bytes: &[u8], mode: u32) -> PathBuf {
        let path = temporary(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn final_newline_is_not_part_of_the_secret() {
        for (bytes, secret) in [
            (&b"nick"[..], &b"nick"[..]),
            (b"nick\n", b"nick"),
            (b"nick\n\n", b"nick\n"),
            (b" \r\n", b" \r"),
        ] {
            let path = file("newline", bytes, 0o600);
            assert_eq!(read(&path).unwrap().as_slice(), secret);
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn readable_by_others_is_refused_with_the_remedy() {
        for mode in [0o640, 0o604, 0o660, 0o644] {
            let path = file("exposed", b"nick", mode);
            let error = read(&path).unwrap_err();
            assert!(matches!(error, SecretError::Exposed(..)));
            assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())));
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn file_of_another_user_is_refused() {
        let path = file("foreign", b"nick", 0o600);
        // Only root can change the owner of a file.
        if std::os::unix::fs::chown(&path, Some(geteuid().as_raw() + 1), None).is_ok() {
            assert!(matches!(read(&path), Err(SecretError::Foreign(_))));
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn own_symbolic_links_are_followed_and_those_of_others_refused() {
        let path = file("linked", b"nick", 0o600);
        let (first, second) = (temporary("link-1"), temporary("link-2"));
        symlink(path.file_name().unwrap(), &first).unwrap();
        symlink(&first, &second).unwrap();
        assert_eq!(read(&second).unwrap().as_slice(), b"nick");
        // Only root can change the owner of a link.
        if lchown(&first, Some(geteuid().as_raw() + 1), None).is_ok() {
            for from in [&first, &second] {
                let error = read(from).unwrap_err();
                assert!(
                    matches!(&error, SecretError::ForeignLink(link) if *link == first),
                    "{error}"
                );
            }
        }
        fs::remove_file(&first).unwrap();
        symlink(&second, &first).unwrap();
        assert!(matches!(read(&first), Err(SecretError::Io(..))), "the links form a circle");
        fs::remove_file(&first).unwrap();
        symlink("/dev/zero", &first).unwrap();
        assert!(matches!(read(&second), Err(SecretError::NotAFile(_))));
        for path in [path, first, second] {
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn pipes_and_sockets_are_refused_at_once() {
        let path = temporary("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        assert!(matches!(read(&path), Err(SecretError::NotAFile(_))));
        fs::remove_file(&path).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(read(&path), Err(SecretError::NotAFile(_))));
        drop(listener);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn directories_and_devices_are_refused() {
        for path in ["/", "/dev/null", "/dev/zero"] {
            let error = read(Path::new(path)).unwrap_err();
            assert!(matches!(error, SecretError::NotAFile(_)), "{error}");
        }
    }

    #[test]
    fn secret_length_is_limited() {
        for (bytes, good) in [
            (vec![b'x'; Key::MAX_LEN], true),
            ([vec![b'x'; Key::MAX_LEN], vec![b'\n']].concat(), true),
            (vec![b'x'; Key::MAX_LEN + 1], false),
            (vec![b'x'; 1 << 20], false),
            (vec![], false),
            (vec![b'\n'], false),
        ] {
            let path = file("length", &bytes, 0o400);
            assert_eq!(read(&path).is_ok(), good, "{} bytes", bytes.len());
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn new_secret_is_written_once_and_read_back() {
        let path = temporary("new");
        let secret = generate().unwrap();
        assert_eq!(secret.len(), 64);
        assert!(secret.iter().all(u8::is_ascii_hexdigit));
        assert_ne!(secret, generate().unwrap());
        write_new(&path, &secret).unwrap();
        assert_eq!(read(&path).unwrap(), secret);
        assert!(matches!(write_new(&path, &secret), Err(SecretError::Io(..))));
        fs::remove_file(path).unwrap();
    }
}
