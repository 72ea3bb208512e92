//! Where the keys come from.

use std::env;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;

use countersign::Key;
use countersign_driver::Keys;
use countersign_host::KeyList;
use countersign_host::Keyring;
use countersign_host::key_file::{self, Secret, SecretError};

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

/// Keys, and where they were found.
pub(crate) struct Found {
    pub(crate) keys: Arc<dyn Keys + Send + Sync>,
    /// Which file the key is in, if nobody named it.
    pub(crate) default_file: Option<&'static str>,
    /// It was made just now.
    pub(crate) made: bool,
    /// What is wrong with the key, if it will do all the same.
    pub(crate) warning: Option<String>,
    /// They are in a file, which may change.
    pub(crate) in_file: bool,
}

fn usage(error: impl std::fmt::Display) -> Failed {
    Failed::new(Exit::Usage, error)
}

/// The keys for `args`, by the rule that `--help` states; none for a scheme that asks for none.
pub(crate) fn find(args: &ProtocolArgs, missing: Missing) -> Result<Found, Failed> {
    if args.keyring.is_some() && args.scheme != SchemeName::Mutual {
        return Err(usage("--keyring is for the scheme mutual: give --key-file"));
    }
    let found =
        |keys, in_file| Found { keys, default_file: None, made: false, warning: None, in_file };
    if args.scheme == SchemeName::None {
        return Ok(found(Arc::new(None::<Key>), false));
    }
    if let Some(path) = &args.keyring {
        let keyring = Keyring::read(path)
            .map_err(|error| usage(format!("keyring {}: {error}", path.display())))?;
        return Ok(found(Arc::new(keyring), true));
    }
    let (mut default_file, mut made, mut in_file) = (None, false, true);
    let secret = if let Some(path) = &args.key_file {
        key_file::read(path).map_err(usage)?
    } else if let Some(value) = env::var_os("COUNTERSIGN_KEY") {
        in_file = false;
        Secret::new(value.into_vec())
    } else {
        default_file = Some(DEFAULT_FILE);
        let path = Path::new(DEFAULT_FILE);
        match key_file::read(path) {
            Err(SecretError::Io(_, error)) if error.kind() == ErrorKind::NotFound => {
                if missing == Missing::Fail {
                    return Err(usage(format!(
                        "no key: give --key-file, set COUNTERSIGN_KEY, or run this where `countersign serve` has made {DEFAULT_FILE}"
                    )));
                }
                let failure = |error| Failed::new(Exit::Failure, error);
                let secret = key_file::generate().map_err(failure)?;
                match key_file::write_new(path, &secret) {
                    Ok(()) => {
                        made = true;
                        secret
                    }
                    // Another server has made one in the meantime.
                    Err(SecretError::Io(_, error)) if error.kind() == ErrorKind::AlreadyExists => {
                        key_file::read(path).map_err(usage)?
                    }
                    Err(error) => return Err(failure(error)),
                }
            }
            other => other.map_err(usage)?,
        }
    };
    let warning = (secret.len() < GOOD_LEN).then(|| {
        format!(
            "the secret has {} bytes, and one under {GOOD_LEN} can be guessed by whoever sees a handshake: make one with `countersign keygen`",
            secret.len()
        )
    });
    let keys: Arc<dyn Keys + Send + Sync> = match args.scheme {
        SchemeName::Mutual => {
            Arc::new(Keyring::of_one(args.kid, Key::mutual(&secret).map_err(usage)?))
        }
        SchemeName::Multiprocessing => {
            let digests = args.multiprocessing().digests();
            let keys = digests.map(|digest| Key::challenge(digest, &secret));
            Arc::new(keys.collect::<Result<KeyList, _>>().map_err(usage)?)
        }
        SchemeName::Challenge | SchemeName::None => {
            Arc::new(Key::challenge(args.digest.digest(), &secret).map_err(usage)?)
        }
    };
    Ok(Found { keys, default_file, made, warning, in_file })
}
