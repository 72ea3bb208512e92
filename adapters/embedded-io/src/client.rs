//! What blocking and asynchronous clients have in common.

use core::fmt;
use core::ops::DerefMut;

use countersign::{Peer, Protocol};
use countersign_driver::{Io, ResumableConnection};

/// A connection that is driven by calls. The methods over a [`blocking::Link`](crate::blocking::Link) and
/// over an [`asynchronous::Link`](crate::asynchronous::Link) have the same names; call `connect` by the
/// aliases [`blocking::Client`](crate::blocking::Client) and
/// [`asynchronous::Client`](crate::asynchronous::Client).
///
/// The connection makes progress only during calls. In schemes with heartbeats the peer gives up a
/// client that makes no call for longer than two heartbeats and 5 s.
///
/// `P` is a pointer to the protocol, usually `&mut Session<_>`.
pub struct Client<L: Io, P> {
    pub(crate) link: L,
    pub(crate) connection: ResumableConnection<P, L::Error>,
}

impl<L: Io, P: DerefMut<Target: Protocol>> Client<L, P> {
    /// The peer.
    pub fn peer(&self) -> Option<Peer<'_>> {
        self.connection.get_ref().peer()
    }

    /// The link, to close or reuse its transport.
    pub fn into_link(self) -> L {
        self.link
    }
}

impl<L: Io, P: DerefMut<Target: Protocol>> fmt::Debug for Client<L, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("peer", &self.peer()).finish_non_exhaustive()
    }
}
