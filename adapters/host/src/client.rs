//! What every client that is called, and does not call, has in common.

use std::fmt;
use std::io;
use std::mem;
use std::time::Duration;

use countersign::{Error, Instant, Peer, Remaining, SendError};

use crate::mailbox::{Mailbox, Received};
use crate::monitored_connection::Next;
use crate::session_factory::{BoxedProtocol, StartError};
use countersign_driver::Io;
use countersign_driver::Keys;
use countersign_driver::{Connection, Failure, Progress, Wait};

/// How long a client waits.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ClientOptions {
    /// For the connection to be made, per address of the host. The handshake has its own deadline.
    pub connect_timeout: Duration,
    /// For each call to get on; `None` for as long as it takes.
    pub timeout: Option<Duration>,
    /// The longest message that `recv` puts together, in bytes.
    pub max_message: usize,
}

impl Default for ClientOptions {
    /// 10 s to connect, and then as long as it takes; messages of 16 MiB.
    fn default() -> Self {
        let connect_timeout = Duration::from_secs(10);
        Self { connect_timeout, timeout: None, max_message: 16 << 20 }
    }
}

/// Why a call failed.
#[derive(Debug)]
pub enum ClientError {
    /// The connection could not be made.
    Connect(io::Error),
    /// There could be no handshake.
    Start(StartError),
    /// The transport failed.
    Io(io::Error),
    /// The protocol did.
    Protocol(Error),
    /// The message was not sent.
    Send(SendError),
    /// [`ClientOptions::timeout`] passed. The connection is as it was.
    TimedOut,
    /// [`ClientOptions::timeout`] passed, and what was sent before had still not left. Nothing was
    /// done.
    Busy,
    /// The message is longer than [`ClientOptions::max_message`]. Nothing of it is lost: take it in
    /// parts.
    TooLong,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::Start(error) => error.fmt(f),
            Self::Io(error) => write!(f, "the connection broke: {error}"),
            Self::Protocol(error) => error.fmt(f),
            Self::Send(error) => error.fmt(f),
            Self::TimedOut => f.write_str("nothing happened for too long"),
            Self::Busy => f.write_str("what was sent before has not left yet"),
            Self::TooLong => {
                f.write_str("the peer's message is longer than is taken whole: take it in parts")
            }
        }
    }
}

impl std::error::Error for ClientError {}

/// For callers who read and write bytes; what went wrong is inside.
impl From<ClientError> for io::Error {
    fn from(error: ClientError) -> Self {
        let kind = match &error {
            ClientError::Connect(error) | ClientError::Io(error) => error.kind(),
            ClientError::Protocol(Error::Truncated(_)) => io::ErrorKind::UnexpectedEof,
            ClientError::Protocol(_) => io::ErrorKind::InvalidData,
            ClientError::Send(_) => io::ErrorKind::BrokenPipe,
            ClientError::TimedOut | ClientError::Busy => io::ErrorKind::TimedOut,
            ClientError::Start(_) | ClientError::TooLong => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// A connection that a client's calls drive: each takes a [`turn`](Self::turn), looks whether what it
/// waits for is there, takes another turn if [that is called for](Self::wants_turn), and waits.
pub struct Caller {
    connection: Connection<BoxedProtocol, Mailbox>,
    /// What has come of a message that was asked for whole.
    partial: Option<Received>,
    /// How much of it was read.
    read: usize,
    /// Whether all that was sent has left.
    flushed: bool,
    lost: Option<io::Error>,
}

/// Something to be sent, and how far that has come.
#[derive(Debug)]
pub struct Post {
    what: What,
    /// The mailbox's, once it is posted.
    number: Option<u64>,
}

#[derive(Debug)]
enum What {
    Message(Vec<u8>),
    Finish,
}

impl Post {
    /// A message.
    #[must_use]
    pub fn message(message: Vec<u8>) -> Self {
        Self { what: What::Message(message), number: None }
    }

    /// That no more messages come.
    #[must_use]
    pub fn finish() -> Self {
        Self { what: What::Finish, number: None }
    }

    /// Whether it was taken, and is on its way.
    #[must_use]
    pub fn is_posted(&self) -> bool {
        self.number.is_some()
    }
}

impl Caller {
    /// A connection at its beginning.
    #[must_use]
    pub fn new(machine: BoxedProtocol) -> Self {
        let connection = Connection::new(machine, Mailbox::default());
        Self { connection, partial: None, read: 0, flushed: false, lost: None }
    }

    /// Who the peer is, once the handshake is over.
    #[must_use]
    pub fn peer(&self) -> Option<Peer<'_>> {
        self.connection.peer()
    }

    /// Takes a turn, and says when the next one is.
    pub fn turn<I: Io<Error = io::Error>, K: Keys + ?Sized>(
        &mut self,
        io: &mut I,
        keys: &K,
        now: Instant,
    ) -> Next {
        match self.connection.turn(io, keys, now) {
            Progress::Yield => Next::Again,
            Progress::Wait(wait) => {
                self.flushed = !wait.write;
                Next::Wait(wait)
            }
            Progress::Closed(how) => {
                self.flushed = true;
                if let Err(Failure::Io(error)) = how {
                    self.lost = Some(error);
                }
                Next::Over
            }
        }
    }

    /// Takes turns until there is nothing to do but wait, and says for what; when the connection is
    /// over, for nothing.
    pub fn turns<I: Io<Error = io::Error>, K: Keys + ?Sized>(
        &mut self,
        io: &mut I,
        keys: &K,
        now: impl Fn() -> Instant,
    ) -> Wait {
        loop {
            match self.turn(io, keys, now()) {
                Next::Again => {}
                Next::Wait(wait) => return wait,
                Next::Over => return Wait { read: false, write: false, until: None },
            }
        }
    }

    /// Whether looking gave the connection something to do.
    #[must_use]
    pub fn wants_turn(&self) -> bool {
        self.connection.is_woken()
    }

    /// The connection's waker was woken.
    pub fn woken(&mut self) {
        self.connection.wake();
    }

    /// How often something happened that a caller may wait for.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.connection.service().changes()
    }

    /// Whether the handshake is over, and all of it has left.
    pub fn opened(&mut self) -> Option<Result<(), ClientError>> {
        let mailbox = self.connection.service();
        if !mailbox.is_open() {
            return self.over().map(Err);
        }
        // If it has ended meanwhile, that is for the next call to find out.
        (self.flushed || mailbox.closed().is_some()).then_some(Ok(()))
    }

    /// The next part of a message; `None` within, that the peer sends no more.
    pub fn recv_chunk(&mut self) -> Option<Result<Option<Received>, ClientError>> {
        match self.take_partial() {
            Some(partial) => Some(Ok(Some(partial))),
            None => self.next_part(),
        }
    }

    /// The next message, whole, of at most `max` bytes; `None` within, that the peer sends no more.
    /// What has come of a message that is not whole yet is kept, for the next time or for
    /// [`recv_chunk`](Self::recv_chunk).
    pub fn recv(&mut self, max: usize) -> Option<Result<Option<Vec<u8>>, ClientError>> {
        loop {
            if let Some(partial) = &self.partial {
                if partial.bytes.len() - self.read > max {
                    return Some(Err(ClientError::TooLong));
                }
                if matches!(partial.remaining, Remaining::End | Remaining::Unknown) {
                    return Some(Ok(self.take_partial().map(|whole| whole.bytes)));
                }
            }
            match (self.next_part()?, &mut self.partial) {
                (Ok(Some(part)), Some(partial)) => {
                    partial.bytes.extend_from_slice(&part.bytes);
                    partial.remaining = part.remaining;
                }
                (Ok(Some(part)), partial) => *partial = Some(part),
                (Ok(None), _) => return Some(Ok(None)),
                (Err(error), _) => return Some(Err(error)),
            }
        }
    }

    /// Bytes of the next message, or of what is left of one; 0 bytes if the peer sends no more.
    pub fn read(&mut self, into: &mut [u8]) -> Option<Result<usize, ClientError>> {
        loop {
            if into.is_empty() {
                return Some(Ok(0));
            }
            if let Some(partial) = &self.partial {
                let left = &partial.bytes[self.read..];
                let n = left.len().min(into.len());
                into[..n].copy_from_slice(&left[..n]);
                self.read += n;
                if self.read == partial.bytes.len() {
                    self.take_partial();
                }
                if n > 0 {
                    return Some(Ok(n));
                }
            }
            match self.next_part()? {
                Ok(Some(part)) => self.partial = Some(part),
                Ok(None) => return Some(Ok(0)),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// What has come of a message and was not read.
    fn take_partial(&mut self) -> Option<Received> {
        let read = mem::take(&mut self.read);
        let mut partial = self.partial.take()?;
        if read > 0 {
            partial.bytes.drain(..read);
            partial.first = false;
        }
        Some(partial)
    }

    fn next_part(&mut self) -> Option<Result<Option<Received>, ClientError>> {
        let mailbox = self.connection.service_mut();
        if let Some(received) = mailbox.take() {
            // There is room for the next one.
            self.connection.wake();
            return Some(Ok(Some(received)));
        }
        if mailbox.peer_finished() {
            return Some(Ok(None));
        }
        self.over().map(Err)
    }

    /// Puts `post` in the mailbox once there is room, and then tells whether it has left.
    pub fn post(&mut self, post: &mut Post) -> Option<Result<(), ClientError>> {
        let mailbox = self.connection.service_mut();
        let refused = post.number.and_then(|number| mailbox.refused(number));
        // What was posted is gone with the connection.
        let failed = matches!(mailbox.closed(), Some(Err(_)));
        let ended = match refused {
            Some(refused) => Some(ClientError::Send(refused)),
            None if failed || !mailbox.is_empty() || !self.flushed => self.over(),
            None if post.is_posted() => return Some(Ok(())),
            None => {
                post.number = Some(match &mut post.what {
                    What::Message(message) => mailbox.post(mem::take(message), Remaining::End),
                    What::Finish => mailbox.finish(),
                });
                self.flushed = false;
                self.connection.wake();
                None
            }
        };
        match (ended?, &post.what) {
            // Both sides had.
            (ClientError::Send(SendError::Ended), What::Finish) => Some(Ok(())),
            (error, _) => Some(Err(error)),
        }
    }

    /// Why nothing more will happen, if that is so.
    fn over(&mut self) -> Option<ClientError> {
        match self.connection.service().closed()? {
            Ok(()) => Some(ClientError::Send(SendError::Ended)),
            Err(Error::Transport) => Some(ClientError::Io(match self.lost.take() {
                Some(error) => error,
                None => io::ErrorKind::NotConnected.into(),
            })),
            Err(error) => Some(ClientError::Protocol(error)),
        }
    }
}
