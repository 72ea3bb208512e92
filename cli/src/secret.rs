//! Where the secret comes from.

use std::env;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use countersign::Key;
use countersign_drive::keys::{self, Secret, SecretError};

use crate::args::{ProtocolArgs, SchemeName};
use crate::{Exit, Failed};

/// Used when no other key is given, by both ends.
const DEFAULT_FILE: &str = "countersign.key";
/// A shorter secret can be guessed by whoever sees one handshake.
const GOOD_LEN: usize = 16;

/// What to do when there is no key at all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Make,
    Fail,
}

/// A key, where it was found by default.
pub(crate) struct Found {
    pub(crate) key: Option<Key>,
    /// Which file it is in, if nobody named it.
    pub(crate) default_file: Option<&'static str>,
    /// It was made just now.
    pub(crate) made: bool,
    /// Length of the secret in bytes.
    len: usize,
}

impl Found {
    /// What is wrong with the key, if it will do all the same.
    pub(crate) fn warning(&self) -> Option<String> {
        (self.key.is_some() && self.len < GOOD_LEN).then(|| {
            format!(
                "the secret has {} bytes, and one under {GOOD_LEN} can be guessed by whoever sees a handshake: make one with `countersign keygen`",
                self.len
            )
        })
    }
}

fn usage(error: impl std::fmt::Display) -> Failed {
    Failed::new(Exit::Usage, error)
}

/// The key for `args`, by the rule that `--help` states; none for a scheme that asks for none.
pub(crate) fn find(args: &ProtocolArgs, missing: Missing) -> Result<Found, Failed> {
    let mut found = Found { key: None, default_file: None, made: false, len: 0 };
    if args.scheme == SchemeName::None {
        return Ok(found);
    }
    let secret = if let Some(path) = &args.key_file {
        keys::read(path).map_err(usage)?
    } else if let Some(value) = env::var_os("COUNTERSIGN_KEY") {
        Secret::new(value.into_vec())
    } else {
        found.default_file = Some(DEFAULT_FILE);
        let path = Path::new(DEFAULT_FILE);
        match keys::read(path) {
            Err(SecretError::Io(_, error)) if error.kind() == ErrorKind::NotFound => {
                if missing == Missing::Fail {
                    return Err(usage(format!(
                        "no key: give --key-file, set COUNTERSIGN_KEY, or run this where `countersign serve` has made {DEFAULT_FILE}"
                    )));
                }
                let failure = |error| Failed::new(Exit::Failure, error);
                let secret = keys::generate().map_err(failure)?;
                match keys::write_new(path, &secret) {
                    Ok(()) => {
                        found.made = true;
                        secret
                    }
                    // Another server has made one in the meantime.
                    Err(SecretError::Io(_, error)) if error.kind() == ErrorKind::AlreadyExists => {
                        keys::read(path).map_err(usage)?
                    }
                    Err(error) => return Err(failure(error)),
                }
            }
            other => other.map_err(usage)?,
        }
    };
    found.len = secret.len();
    found.key = Some(Key::challenge(args.digest.digest(), &secret).map_err(usage)?);
    Ok(found)
}
