//! What a protocol reports to its driver.

/// What has happened on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// The handshake needs a key: see [`Protocol::key_request`]. A client of the scheme `mutual` asks
    /// twice: to prove itself, and when it knows the server's name, whether the key is for such a
    /// peer. Either end of the scheme `multiprocessing` does: to prove itself, and to verify.
    KeyNeeded,
    /// The handshake is over and messages may be sent. Once.
    Established,
    /// A message, or a part of one, is at hand: see [`Protocol::split`].
    Chunk {
        /// Whether it is the message's first part.
        first: bool,
        /// What follows it.
        remaining: Remaining,
    },
    /// There is room for what [`SendError::Full`](crate::SendError::Full) turned away.
    Writable,
    /// The peer sends no more messages. Once.
    PeerFinished,
    /// Both sides have finished and all is sent. The last event.
    Closed,
}

/// What of a message is still to come after a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remaining {
    /// Nothing: this part is the last, or the only one.
    End,
    /// That many bytes.
    Bytes(u64),
    /// Something; how much is not known yet.
    More,
    /// In a byte stream, which has no messages: perhaps nothing.
    Unknown,
}
