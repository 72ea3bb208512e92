//! Many keys in one file, for the scheme `mutual`.
//!
//! ```toml
//! [[key]]
//! id = "sensors"
//! secret = "a long random text, as keygen makes"
//! roles = ["server"]                  # what this end may be when it uses the key
//! names = ["sensor-7", "sensor-8"]    # what the peer may be called; any name without it
//! not_before = 2026-01-01T00:00:00Z   # both optional
//! not_after = 2027-01-01T00:00:00Z
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use countersign::{
    Candidate, Candidates, Key, KeyError, KeyId, KeyRejection, KeyRequest, Name, Peer, Role,
};
use jiff::Timestamp;
use serde::Deserialize;
use toml::{Spanned, Value};
use zeroize::Zeroizing;

use crate::key_file::{self, SecretError};
use countersign_driver::Keys;

/// How many keys of one id may be valid at once.
const MAX_VALID: usize = 2;

/// Keys by their ids.
#[derive(Debug)]
pub struct Keyring {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    kid: KeyId,
    key: Key,
    roles: Roles,
    /// What the peer may be called; `None`: anything.
    names: Option<Vec<Name>>,
    not_before: Option<SystemTime>,
    not_after: Option<SystemTime>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Roles {
    client: bool,
    server: bool,
}

impl Roles {
    fn allow(self, role: Role) -> bool {
        match role {
            Role::Client => self.client,
            Role::Server => self.server,
        }
    }
}

impl Entry {
    fn is_valid(&self, at: SystemTime) -> bool {
        self.not_before.is_none_or(|from| from <= at) && self.not_after.is_none_or(|to| at < to)
    }

    fn allows(&self, name: Option<&str>) -> bool {
        match (&self.names, name) {
            (Some(names), Some(name)) => names.iter().any(|known| known.as_str() == name),
            _ => true,
        }
    }

    fn candidate(&self, name: Option<&str>) -> Candidate<'_> {
        match self.allows(name) {
            true => Candidate::new(&self.key),
            false => Candidate::name_not_allowed(&self.key),
        }
    }
}

/// Why there is no keyring.
#[derive(Debug)]
pub enum KeyringError {
    /// The file is not to be had, or not as a key file must be.
    File(SecretError),
    /// It has a mistake, in this line, counted from 1.
    Mistake {
        /// The line.
        line: usize,
        /// What is wrong with it. Secrets are not quoted.
        what: String,
    },
}

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Mistake { line, what } => write!(f, "line {line}: {what}"),
        }
    }
}

impl std::error::Error for KeyringError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileOfKeys {
    #[serde(default)]
    key: Vec<Spanned<RawKey>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    id: Spanned<String>,
    /// Of any type, so that what is wrong with it is told without quoting it.
    secret: Spanned<Value>,
    roles: Spanned<Vec<String>>,
    names: Option<Spanned<Vec<String>>>,
    not_before: Option<Spanned<toml::value::Datetime>>,
    not_after: Option<Spanned<toml::value::Datetime>>,
}

impl Keyring {
    /// The longest file that is read, in bytes.
    pub const MAX_LEN: usize = 1 << 20;

    /// A keyring of one key, for every role, name and time.
    #[must_use]
    pub fn of_one(kid: KeyId, key: Key) -> Self {
        let roles = Roles { client: true, server: true };
        let entry = Entry { kid, key, roles, names: None, not_before: None, not_after: None };
        Self { entries: vec![entry] }
    }

    /// The keyring in the file `path`, which nobody but its owner may read.
    ///
    /// # Errors
    /// Every [`KeyringError`]: a file with a mistake is refused whole.
    pub fn read(path: &Path) -> Result<Self, KeyringError> {
        let bytes = key_file::read_file(path, Self::MAX_LEN).map_err(KeyringError::File)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let line = line_of(&bytes, error.valid_up_to());
            KeyringError::Mistake { line, what: "it is not UTF-8".into() }
        })?;
        Self::parse(text)
    }

    /// The keyring that `text` describes, in TOML.
    ///
    /// # Errors
    /// [`KeyringError::Mistake`].
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        let mistake = |at: usize, what: String| KeyringError::Mistake {
            line: line_of(text.as_bytes(), at),
            what,
        };
        let file: FileOfKeys = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            mistake(at, without_values(error.message()).into())
        })?;
        if file.key.is_empty() {
            return Err(mistake(0, "there is no [[key]]".into()));
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(file.key.len());
        let mut places: BTreeMap<KeyId, Vec<usize>> = BTreeMap::new();
        for raw in file.key {
            let at = raw.span().start;
            let entry =
                Entry::from_raw(raw.into_inner()).map_err(|(at, what)| mistake(at, what))?;
            let same = places.entry(entry.kid).or_default();
            same.push(entries.len());
            entries.push(entry);
            // The most are valid at a moment at which one begins to be.
            let crowded = same.iter().any(|&begins| {
                let at = entries[begins].not_before.unwrap_or(SystemTime::UNIX_EPOCH);
                same.iter().filter(|&&other| entries[other].is_valid(at)).count() > MAX_VALID
            });
            if crowded {
                let kid = entries[entries.len() - 1].kid;
                return Err(mistake(
                    at,
                    format!("more than {MAX_VALID} keys of the id `{kid}` are valid at once"),
                ));
            }
        }
        Ok(Self { entries })
    }

    /// How many keys it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none. None has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What [`Keys::candidates`] answers at the moment `at`. All entries are looked at, whichever
    /// is asked for.
    ///
    /// # Errors
    /// There is no such key, or there is none that is valid, or for this role.
    pub fn candidates_at(
        &self,
        request: &KeyRequest<'_>,
        at: SystemTime,
    ) -> Result<Candidates<'_>, KeyRejection> {
        let (mut known, mut out_of_date) = (false, false);
        let mut newest: Option<&Entry> = None;
        let mut other: Option<&Entry> = None;
        for entry in &self.entries {
            let same = request.key_id == Some(entry.kid.as_str());
            let role = entry.roles.allow(request.role);
            let valid = entry.is_valid(at);
            known |= same;
            out_of_date |= same && role && !valid;
            if same && role && valid {
                if newest.is_none_or(|newest| newest.not_before < entry.not_before) {
                    other = newest.replace(entry);
                } else {
                    other = Some(entry);
                }
            }
        }
        match newest {
            Some(newest) => {
                let other = other.map(|entry| entry.candidate(request.name));
                Ok(Candidates::new(newest.candidate(request.name), other))
            }
            None if out_of_date => Err(KeyRejection::OutOfDate),
            None if known => Err(KeyRejection::WrongRole),
            None => Err(KeyRejection::Unknown),
        }
    }
}

impl Keys for Keyring {
    fn candidates(&self, request: &KeyRequest<'_>) -> Result<Candidates<'_>, KeyRejection> {
        self.candidates_at(request, SystemTime::now())
    }

    /// A key that is still there holds, even out of date: it was valid when it was used.
    fn hold(&self, peer: &Peer<'_>) -> bool {
        self.entries.iter().any(|entry| {
            peer.key_id == Some(entry.kid.as_str())
                && entry.roles.allow(peer.role.other())
                && peer.fingerprint == entry.key.fingerprint()
                && entry.allows(peer.name)
        })
    }
}

impl Entry {
    /// What `raw` says; or where it is wrong, and why.
    fn from_raw(raw: RawKey) -> Result<Self, (usize, String)> {
        let start = |span: std::ops::Range<usize>| span.start;
        let at = start(raw.id.span());
        let kid = raw.id.into_inner().parse().map_err(|error| (at, format!("id: {error}")))?;

        let at = start(raw.secret.span());
        let Value::String(secret) = raw.secret.into_inner() else {
            return Err((at, "secret: it is a text, in quotes".into()));
        };
        let secret = Zeroizing::new(secret);
        let key = Key::mutual(secret.as_bytes())
            .map_err(|error: KeyError| (at, format!("secret: {error}")))?;

        let at = start(raw.roles.span());
        let mut roles = Roles::default();
        for role in raw.roles.into_inner() {
            match role.as_str() {
                "client" => roles.client = true,
                "server" => roles.server = true,
                _ => return Err((at, "roles: one is neither client nor server".into())),
            }
        }
        if !roles.client && !roles.server {
            return Err((at, "roles: give \"client\", \"server\" or both".into()));
        }

        let mut names = None;
        if let Some(raw) = raw.names {
            let at = start(raw.span());
            let parsed: Result<Vec<Name>, _> =
                raw.into_inner().iter().map(|name| name.parse()).collect();
            let parsed = parsed.map_err(|error| (at, format!("names: {error}")))?;
            if parsed.is_empty() {
                return Err((at, "names: leave it out, or nobody may use the key".into()));
            }
            names = Some(parsed);
        }

        let time = |what: &str, raw: Option<Spanned<toml::value::Datetime>>| {
            raw.map(|raw| {
                let at = start(raw.span());
                let parsed: Result<Timestamp, _> = raw.into_inner().to_string().parse();
                parsed.map(SystemTime::from).map_err(|_| {
                    (at, format!("{what}: give date, time and offset: 2026-01-01T00:00:00Z"))
                })
            })
            .transpose()
        };
        let before_at = raw.not_after.as_ref().map_or(at, |raw| start(raw.span()));
        let not_before = time("not_before", raw.not_before)?;
        let not_after = time("not_after", raw.not_after)?;
        if let (Some(from), Some(to)) = (not_before, not_after)
            && to <= from
        {
            return Err((before_at, "not_after: it is not after not_before".into()));
        }
        Ok(Self { kid, key, roles, names, not_before, not_after })
    }
}

/// What the parser has to say, unless it quotes a value: that may be a secret, in whatever place.
fn without_values(message: &str) -> &str {
    // The fields that are missing are ours.
    if message.starts_with("missing field `") || !message.contains(['"', '\'', '`']) {
        message
    } else if message.starts_with("unknown field") {
        "that is no field of a keyring: a [[key]] has id, secret, roles, names, not_before, not_after"
    } else {
        "it is not as a keyring is written: see `countersign serve --help`"
    }
}

/// The line in which byte `at` is, counted from 1.
fn line_of(text: &[u8], at: usize) -> usize {
    1 + text[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests;
