//! Keyrings: many keys in one file, for the scheme `mutual`.
//!
//! ```toml
//! [[key]]
//! id = "sensors"
//! secret = "a long random text, as keygen generates"
//! roles = ["server"]                  # the roles in which this end may use the key
//! names = ["sensor-7", "sensor-8"]    # allowed names of the peer; optional, default: any
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

/// Keys by key id, with roles, allowed names and validity.
///
/// ```
/// use countersign_host::Keyring;
///
/// let keyring = Keyring::parse(
///     r#"
///     [[key]]
///     id = "sensors"
///     secret = "0c8f6d9b1f0e4a6d8b7c5a4f3e2d1c0b"
///     roles = ["server"]
///     "#,
/// )?;
/// assert_eq!(keyring.len(), 1);
/// # Ok::<(), countersign_host::KeyringError>(())
/// ```
#[derive(Debug)]
pub struct Keyring {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    key_id: KeyId,
    key: Key,
    roles: Roles,
    /// Allowed names of the peer; `None` allows any.
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

/// Why a keyring cannot be read.
#[derive(Debug)]
pub enum KeyringError {
    /// The file cannot be read, or fails the checks of key files.
    File(SecretError),
    /// The text is not a valid keyring.
    Mistake {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong. Secrets are not quoted.
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
    /// Of any type: the parser would quote a value of a wrong type in its error.
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
    pub fn of_one(key_id: KeyId, key: Key) -> Self {
        let roles = Roles { client: true, server: true };
        let entry = Entry { key_id, key, roles, names: None, not_before: None, not_after: None };
        Self { entries: vec![entry] }
    }

    /// Reads the keyring in the file `path`, which must be accessible by its owner only.
    ///
    /// # Errors
    /// Every [`KeyringError`]. A file with one mistake is refused as a whole.
    pub fn read(path: &Path) -> Result<Self, KeyringError> {
        let bytes = key_file::read_file(path, Self::MAX_LEN).map_err(KeyringError::File)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let line = line_of(&bytes, error.valid_up_to());
            KeyringError::Mistake { line, what: "not UTF-8".into() }
        })?;
        Self::parse(text)
    }

    /// Parses a keyring in TOML.
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
        let mut by_id: BTreeMap<KeyId, Vec<usize>> = BTreeMap::new();
        for raw in file.key {
            let at = raw.span().start;
            let entry =
                Entry::from_raw(raw.into_inner()).map_err(|(at, what)| mistake(at, what))?;
            let same = by_id.entry(entry.key_id).or_default();
            same.push(entries.len());
            entries.push(entry);
            // Most keys are valid at a time at which one becomes valid.
            let too_many = same.iter().any(|&begins| {
                let at = entries[begins].not_before.unwrap_or(SystemTime::UNIX_EPOCH);
                same.iter().filter(|&&other| entries[other].is_valid(at)).count() > MAX_VALID
            });
            if too_many {
                let key_id = entries[entries.len() - 1].key_id;
                return Err(mistake(
                    at,
                    format!("more than {MAX_VALID} keys with the id `{key_id}` are valid at once"),
                ));
            }
        }
        Ok(Self { entries })
    }

    /// The number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys. Never true.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The keys for `request` at the time `at`, the newest first. Looks at all entries for every request, so
    /// that its duration does not depend on the key id.
    ///
    /// # Errors
    /// [`KeyRejection::Unknown`], [`KeyRejection::OutOfDate`] or [`KeyRejection::WrongRole`].
    pub fn candidates_at(
        &self,
        request: &KeyRequest<'_>,
        at: SystemTime,
    ) -> Result<Candidates<'_>, KeyRejection> {
        let (mut known, mut out_of_date) = (false, false);
        let mut newest: Option<&Entry> = None;
        let mut other: Option<&Entry> = None;
        for entry in &self.entries {
            let same = request.key_id == Some(entry.key_id.as_str());
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

    /// A key that is still in the keyring holds, even out of date: it was valid when it was used.
    fn hold(&self, peer: &Peer<'_>) -> bool {
        self.entries.iter().any(|entry| {
            peer.key_id == Some(entry.key_id.as_str())
                && entry.roles.allow(peer.role.other())
                && peer.fingerprint == entry.key.fingerprint()
                && entry.allows(peer.name)
        })
    }
}

impl Entry {
    /// Validates `raw`. An error is the byte offset of the field, and what is wrong.
    fn from_raw(raw: RawKey) -> Result<Self, (usize, String)> {
        let start = |span: std::ops::Range<usize>| span.start;
        let at = start(raw.id.span());
        let key_id = raw.id.into_inner().parse().map_err(|error| (at, format!("id: {error}")))?;

        let at = start(raw.secret.span());
        let Value::String(secret) = raw.secret.into_inner() else {
            return Err((at, "secret: give a text in quotes".into()));
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
                _ => return Err((at, "roles: each is \"client\" or \"server\"".into())),
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
                return Err((at, "names: the list is empty: remove it to allow any name".into()));
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
            return Err((before_at, "not_after: not later than not_before".into()));
        }
        Ok(Self { key_id, key, roles, names, not_before, not_after })
    }
}

/// The message of the parser, replaced if it may quote a value: a secret in the wrong place.
fn without_values(message: &str) -> &str {
    // A missing field is one of ours, not a value.
    if message.starts_with("missing field `") || !message.contains(['"', '\'', '`']) {
        message
    } else if message.starts_with("unknown field") {
        "unknown field: a [[key]] has id, secret, roles, names, not_before, not_after"
    } else {
        "not a valid keyring"
    }
}

/// The line of the byte `at`, counted from 1.
fn line_of(text: &[u8], at: usize) -> usize {
    1 + text[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests;
