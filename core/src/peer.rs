//! The two ends of a connection.

use crate::crypto::key_schedule::Fingerprint;

/// Which end of a connection a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The one that connected.
    Client,
    /// The one that was connected to.
    Server,
}

impl Role {
    /// The end at the other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Peer<'a> {
    /// Which end it is.
    pub role: Role,
    /// Whether it has proved that it holds the key, or in the scheme `multiprocessing` that it can
    /// have it used; inside TLS also whether it has shown a certificate that is trusted. Otherwise
    /// not so for any peer of the scheme `none`, nor for the server of a `challenge`.
    pub authenticated: bool,
    /// What it calls itself, in schemes that have names. Whoever holds the key can take any name
    /// that the key's holder admits; see [`KeyRequest::name`].
    pub name: Option<&'a str>,
    /// The id of the key that was used, in schemes that have them.
    pub key_id: Option<&'a str>,
    /// Which of the keys of that id it was: its [`Key::fingerprint`](crate::Key::fingerprint).
    pub fingerprint: Option<Fingerprint>,
    /// What both ends, and nobody else's session, have in common; public, for logs. In the scheme
    /// `mutual`.
    pub session_id: Option<&'a [u8; 16]>,
    /// A secret of both ends of this session, to derive the keys of other protocols from. In the
    /// scheme `mutual`; a secret from all who do not hold the key.
    pub exporter: Option<&'a [u8; 32]>,
}

impl core::fmt::Debug for Peer<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Peer")
            .field("role", &self.role)
            .field("authenticated", &self.authenticated)
            .field("name", &self.name)
            .field("key_id", &self.key_id)
            .field("session_id", &self.session_id)
            .finish_non_exhaustive()
    }
}
