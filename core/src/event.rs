//! The events that a protocol reports to its driver.

/// An event on a connection, returned by [`Protocol::poll_event`](crate::Protocol::poll_event).
///
/// ```text
/// KeyNeeded (0 to 2 times) ─▶ Established ─▶ Chunk, Writable ─▶ PeerFinished ─▶ Closed
/// ```
/// `Writable` may also come after `PeerFinished`. An error can replace every event; no event follows
/// an error.
///
/// ```
/// use countersign::{Candidates, Event, Instant, Key, KeyError, Protocol};
///
/// fn on_event(
///     protocol: &mut dyn Protocol,
///     event: Event,
///     key: &Key,
///     now: Instant,
/// ) -> Result<(), KeyError> {
///     match event {
///         Event::KeyNeeded => protocol.provide_key(Ok(Candidates::one(key)), now)?,
///         Event::Chunk { .. } => {
///             println!("{} bytes", protocol.split().0.len());
///             protocol.consume(now);
///         }
///         Event::PeerFinished => protocol.finish(now),
///         _ => {}
///     }
///     Ok(())
/// }
/// # let _ = on_event;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// The handshake needs a key. Read [`Protocol::key_request`](crate::Protocol::key_request) and
    /// answer with [`Protocol::provide_key`](crate::Protocol::provide_key).
    ///
    /// A client of the scheme `mutual` asks twice: first to prove itself, then, once it knows the
    /// name of the server, whether the key may be used with that server. Each end of the scheme
    /// `multiprocessing` asks twice: to prove itself and to verify the peer.
    KeyNeeded,
    /// The handshake is complete and messages may be sent. Reported once.
    Established,
    /// A chunk of a message is available from [`Protocol::split`](crate::Protocol::split) until
    /// [`Protocol::consume`](crate::Protocol::consume).
    Chunk {
        /// Whether it is the first chunk of its message.
        first: bool,
        /// How much of the message follows.
        remaining: Remaining,
    },
    /// There is room for the message that [`SendError::Full`](crate::SendError::Full) rejected.
    Writable,
    /// The peer sends no more messages. Reported once.
    PeerFinished,
    /// Both ends have finished and all bytes are sent. The last event.
    Closed,
}

/// How much of a message follows a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remaining {
    /// Nothing: the chunk is the last or the only one of its message.
    End,
    /// This number of bytes.
    Bytes(u64),
    /// At least one more chunk, of unknown length.
    More,
    /// Unknown and possibly nothing. In a byte stream, which has no message boundaries.
    Unknown,
}
