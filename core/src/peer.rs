//! The remote end of a connection.

use crate::crypto::key_schedule::Fingerprint;
use crate::role::Role;

/// The result of a handshake: the identity of the remote end and what both ends share.
///
/// [`Protocol::peer`](crate::Protocol::peer) returns it from
/// [`Event::Established`](crate::Event::Established) on. Which fields are set depends on the
/// [`Scheme`](crate::Scheme).
///
/// ```
/// use countersign::Peer;
///
/// /// One line for a log.
/// fn describe(peer: &Peer<'_>) -> String {
///     match (peer.name, peer.key_id) {
///         (Some(name), Some(key_id)) => format!("{name} (key {key_id})"),
///         _ if peer.authenticated => "a peer that holds the key".into(),
///         _ => "an unauthenticated peer".into(),
///     }
/// }
/// # let _ = describe;
/// ```
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Peer<'a> {
    /// The role of the peer.
    pub role: Role,
    /// Whether the peer is authenticated.
    ///
    /// `true` if the peer proved possession of the key, or, inside TLS, presented a trusted
    /// certificate. In the scheme `multiprocessing` the proof shows only that the peer can have the
    /// key used: it may relay the challenge to a holder of the key. Without TLS always `false` for
    /// the scheme `none` and for the server of the scheme `challenge`.
    pub authenticated: bool,
    /// The name that the peer sent, in the scheme `mutual`.
    ///
    /// A holder of the key can use any name that the key allows; see
    /// [`KeyRequest::name`](crate::KeyRequest::name).
    pub name: Option<&'a str>,
    /// The id of the key that authenticated the session, in the scheme `mutual`.
    pub key_id: Option<&'a str>,
    /// The fingerprint of that key, which tells apart two keys of one id; see
    /// [`Key::fingerprint`](crate::Key::fingerprint). In the scheme `mutual`.
    pub fingerprint: Option<Fingerprint>,
    /// An identifier that both ends share and no other session has, in the scheme `mutual`. Public;
    /// suitable for logs.
    pub session_id: Option<&'a [u8; 16]>,
    /// A secret that both ends share, from which the application can derive keys for other
    /// protocols, in the scheme `mutual`. Unknown to every party that does not hold the key.
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
