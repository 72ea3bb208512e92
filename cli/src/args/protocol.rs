//! The options that both ends must agree on.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use countersign::{Config, ConfigError, Digest, KeyId, Multiprocessing, Mutual, Name, Scheme};
use countersign_host::process_id;

use super::seconds::seconds;
use crate::{Exit, Failed};

/// The scheme, its parameters and the key.
#[derive(Clone, clap::Args)]
pub(crate) struct ProtocolArgs {
    /// How the ends authenticate each other
    #[arg(long, value_enum, default_value_t = SchemeName::Mutual)]
    pub(crate) scheme: SchemeName,

    /// Schemes challenge and multiprocessing: the digest of the HMAC; multiprocessing supports neither
    /// sha1 nor sha512
    #[arg(long, value_enum, default_value_t = DigestName::Sha256)]
    pub(crate) digest: DigestName,

    /// Scheme multiprocessing: allow every digest that Python allows, including md5 without a name as
    /// before Python 3.12, instead of --digest only
    #[arg(long)]
    pub(crate) compatible: bool,

    /// The file with the secret; one final newline is not part of it. Without this option the secret is
    /// the environment variable COUNTERSIGN_KEY, or the file countersign.key in the working directory,
    /// which `serve` generates if it does not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// Scheme mutual: the key id, 1 to 32 characters
    #[arg(long, value_name = "ID", default_value = Mutual::DEFAULT_KEY_ID)]
    pub(crate) kid: KeyId,

    /// Scheme mutual: a TOML file with several keys. Each is a [[key]] with id, secret, roles ("client",
    /// "server": the roles of this end), and optionally names (of the peer), not_before and not_after
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    pub(crate) keyring: Option<PathBuf>,

    /// Scheme mutual: the name of this end, 1 to 64 characters [default: `server` for serve, otherwise
    /// `client`]
    #[arg(long)]
    pub(crate) name: Option<Name>,

    /// The longest frame to accept, in bytes. With the scheme mutual it is also limited by the buffer:
    /// 16401 bytes hold 16 KiB of a message, which may continue in the next frame [default: 16 MiB, or
    /// --max-message]
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_frame: Option<u64>,

    /// How long the handshake may take
    #[arg(long, value_name = "SECS", default_value = "5", value_parser = seconds)]
    pub(crate) handshake_timeout: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemeName {
    /// Both ends prove that they hold the key; then authenticated frames
    Mutual,
    /// The client proves that it holds the key; then a byte stream
    Challenge,
    /// Python's multiprocessing.connection: both ends prove that they hold the key; then Python's frames
    Multiprocessing,
    /// No authentication; length-prefixed frames
    None,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DigestName {
    Sha256,
    Md5,
    Sha1,
    Sha384,
    Sha512,
    #[value(name = "sha3-256")]
    Sha3_256,
    #[value(name = "sha3-384")]
    Sha3_384,
}

/// The longest frame to accept unless told otherwise, in bytes.
const DEFAULT_MAX_FRAME: u64 = 16 << 20;

impl ProtocolArgs {
    /// The configuration of a session. `name` is the default name of this end. `refine` adds what depends
    /// on the role of this end to the scheme mutual.
    pub(crate) fn config(
        &self,
        name: &str,
        inside_tls: bool,
        refine: impl FnOnce(Mutual) -> Mutual,
    ) -> Result<Config, Failed> {
        let scheme = match self.scheme {
            SchemeName::None => Scheme::None,
            SchemeName::Challenge => Scheme::Challenge { digest: self.digest.digest() },
            SchemeName::Multiprocessing => {
                let policy = self.multiprocessing();
                if !policy.digests().any(|digest| digest == self.digest.digest()) {
                    return Err(Failed::new(Exit::Usage, ConfigError::Digest));
                }
                Scheme::Multiprocessing(policy)
            }
            SchemeName::Mutual => {
                let name = match self.name {
                    Some(name) => name,
                    None => Name::new(name).map_err(|error| Failed::new(Exit::Usage, error))?,
                };
                let process = process_id().map_err(|error| Failed::new(Exit::Failure, error))?;
                let mutual = refine(Mutual::new(name, process).with_key_id(self.kid));
                // TLS protects every byte, so frames need no tags. The channel binding proves that both
                // ends are in the same TLS connection.
                Scheme::Mutual(if inside_tls {
                    mutual.with_channel_binding().without_tags()
                } else {
                    mutual
                })
            }
        };
        Ok(Config::new(scheme)
            .with_max_frame(self.max_frame.unwrap_or(DEFAULT_MAX_FRAME))
            .with_handshake_timeout(self.handshake_timeout))
    }

    pub(crate) fn multiprocessing(&self) -> Multiprocessing {
        let policy = Multiprocessing::new(self.digest.digest());
        if self.compatible { policy.compatible() } else { policy }
    }

    /// The options that a client of this server needs, each preceded by a space.
    pub(crate) fn peer_options(&self) -> String {
        let mut options = String::new();
        match self.scheme {
            SchemeName::Mutual if self.kid.as_str() != Mutual::DEFAULT_KEY_ID => {
                options += " --kid ";
                options += self.kid.as_str();
            }
            SchemeName::Mutual => {}
            SchemeName::Challenge => options += " --scheme challenge",
            SchemeName::Multiprocessing => options += " --scheme multiprocessing",
            SchemeName::None => options += " --scheme none",
        }
        let has_digest = matches!(self.scheme, SchemeName::Challenge | SchemeName::Multiprocessing);
        if has_digest && self.digest != DigestName::Sha256 {
            options += " --digest ";
            options += self.digest.digest().name();
        }
        if self.scheme == SchemeName::Multiprocessing && self.compatible {
            options += " --compatible";
        }
        options
    }
}

impl DigestName {
    pub(crate) fn digest(self) -> Digest {
        match self {
            Self::Sha256 => Digest::Sha256,
            Self::Md5 => Digest::Md5,
            Self::Sha1 => Digest::Sha1,
            Self::Sha384 => Digest::Sha384,
            Self::Sha512 => Digest::Sha512,
            Self::Sha3_256 => Digest::Sha3_256,
            Self::Sha3_384 => Digest::Sha3_384,
        }
    }
}
