//! `countersign keygen`.

use std::io::{self, Write};

use countersign_host::key_file::{self, SecretError};

use crate::args::KeygenArgs;
use crate::{Exit, Failed};

pub(crate) fn run(args: &KeygenArgs) -> Result<(), Failed> {
    let secret = key_file::generate().map_err(|error| Failed::new(Exit::Failure, error))?;
    match &args.out {
        Some(path) => {
            key_file::write_new(path, &secret).map_err(|error| {
                let exists = matches!(&error, SecretError::Io(_, io) if io.kind() == io::ErrorKind::AlreadyExists);
                Failed::new(if exists { Exit::Usage } else { Exit::Failure }, error)
            })
        }
        None => {
            let mut out = io::stdout().lock();
            out.write_all(&secret)
                .and_then(|()| out.write_all(b"\n"))
                .map_err(|error| Failed::new(Exit::Failure, error))
        }
    }
}
