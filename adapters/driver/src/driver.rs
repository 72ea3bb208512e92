//! Drives one protocol over one transport.

use core::fmt;
use core::ops::DerefMut;
use core::time::Duration;

use countersign::{
    CloseReason, Error, Event, Instant, KeyRejection, Outbox, Peer, Protocol, Remaining,
};

use crate::chunk::Chunk;
use crate::io::Io;
use crate::keys::Keys;

/// Rounds of one pass, each at most one read. Then other connections are polled.
const ROUNDS: u8 = 8;
/// Rounds to read what the peer sent before writing to it failed.
const BROKEN_ROUNDS: u8 = 64;
/// How long a connection has to be idle before an orderly stop finishes it: bytes may be in flight.
const QUIET: Duration = Duration::from_millis(100);
/// How long a closing connection waits for the peer's end of stream.
const LINGER: Duration = Duration::from_secs(1);
/// How many bytes of the peer it discards meanwhile.
const DISCARD: u32 = 256 << 10;
/// How often a session that waits for a buffer asks for it.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// A protocol and the state of its connection.
///
/// ```text
///  poll ─▶ Event(..)   handle it: chunk(), outbox(), consume()   ─▶ poll again, at once
///       ─▶ Yield       more can be done, after other connections ─▶ poll again, later
///       ─▶ Wait(..)    wait for the transport, the deadline or a wake-up
///       ─▶ Closed(..)  drop the transport
/// ```
///
/// After an error the connection is not dropped at once: closing a socket with unread input makes most
/// systems send a reset, which destroys what was sent last. The driver writes what is queued, shuts the
/// write side and discards input until the peer's end of stream, 1 s or 256 KiB.
///
/// `P` is a pointer to the protocol (`Box<dyn Protocol>`, `&mut Session<_>`), `E` the error of the
/// transport.
///
/// ```
/// use std::collections::VecDeque;
///
/// use countersign::*;
/// use countersign_driver::{Driver, Io, Progress};
///
/// /// One direction of a connection in memory, and the other.
/// struct Pipe<'a>(&'a mut VecDeque<u8>, &'a mut VecDeque<u8>);
///
/// impl Io for Pipe<'_> {
///     type Error = std::convert::Infallible;
///
///     fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Self::Error> {
///         let n = into.len().min(self.0.len());
///         self.0.drain(..n).zip(into).for_each(|(byte, to)| *to = byte);
///         Ok((n > 0).then_some(n))
///     }
///
///     fn write(&mut self, from: &[u8]) -> Result<Option<usize>, Self::Error> {
///         self.1.extend(from);
///         Ok(Some(from.len()))
///     }
///
///     fn shut_write(&mut self) -> Result<(), Self::Error> {
///         Ok(())
///     }
/// }
///
/// let key = Key::challenge(Digest::Sha256, b"a shared secret").unwrap();
/// let config = Config::new(Scheme::Challenge { digest: Digest::Sha256 });
/// let buffers = || Buffers { handshake: [0; 1024], receive: [0; 1024], send: [0; 1024] };
/// let now = Instant::EPOCH;
/// // A real nonce is Nonce::generate(&mut rng).
/// let nonce = || Nonce::from_bytes([7; Nonce::LEN]);
/// let server = Session::server(&config, nonce(), buffers(), now).unwrap();
/// let client = Session::client(&config, nonce(), buffers(), now).unwrap();
///
/// let (mut server, mut client) = (Driver::new(Box::new(server)), Driver::new(Box::new(client)));
/// let (mut up, mut down) = (VecDeque::new(), VecDeque::new());
/// let mut reply: Vec<u8> = Vec::new();
/// while reply.is_empty() {
///     while let Progress::Event(event) = server.poll(&mut Pipe(&mut up, &mut down), &key, now) {
///         if let Event::Chunk { .. } = event {
///             let request = server.chunk().unwrap().bytes.to_ascii_uppercase();
///             server.outbox().send(&request).unwrap();
///             server.consume(now);
///         }
///     }
///     while let Progress::Event(event) = client.poll(&mut Pipe(&mut down, &mut up), &key, now) {
///         match event {
///             Event::Established => client.outbox().send(b"hello").unwrap(),
///             Event::Chunk { .. } => reply.extend(client.chunk().unwrap().bytes),
///             _ => {}
///         }
///     }
/// }
/// assert_eq!(reply, b"HELLO");
/// ```
#[derive(Debug)]
pub struct Driver<P, E> {
    protocol: P,
    stage: Stage,
    stop: Stop,
    /// When the stop or the closing goes on though nothing happens.
    deadline: Option<Instant>,
    /// How many more bytes are discarded while closing.
    discard: u32,
    pass: Pass,
    /// The chunk that was not consumed is the first of its message.
    first: bool,
    established: bool,
    /// Our write side is shut.
    shut: bool,
    /// The peer's write side is shut.
    eof: bool,
    /// The application has yet to answer the peer: an orderly stop waits for it.
    busy: bool,
    /// The transport failed, while what the peer sent before may still be read, or taken.
    io_error: Option<E>,
}

/// How far the connection is.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// `chunk`: what follows the chunk that was not consumed.
    Open {
        chunk: Option<Remaining>,
    },
    /// The session has ended. Input is discarded until the deadline, which is set when all is written.
    Closing {
        result: Result<(), Error>,
    },
    Closed,
}

/// How far an orderly stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    /// Something is in progress.
    Requested,
    /// Nothing has been in progress since [`QUIET`] before the deadline.
    Quiet,
    /// We have finished; the peer has until the deadline to finish too.
    Finished,
}

/// What happened since [`Driver::poll`] last returned anything but an event.
#[derive(Clone, Copy, Debug, Default)]
struct Pass {
    begun: bool,
    rounds: u8,
    /// Something happened in this round.
    moved: bool,
    /// Something was written after the last read, which acknowledges what was read.
    answered: bool,
    /// The deadlines were looked at.
    timed: bool,
    /// The handshake was not over when the pass began.
    opening: bool,
}

/// Why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// The transport failed.
    Io(E),
    /// The protocol failed.
    Protocol(Error),
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Protocol(error) => error.fmt(f),
        }
    }
}

impl<E: core::error::Error> core::error::Error for Failure<E> {}

/// What [`Driver::poll`] came to.
#[derive(Debug)]
#[must_use]
pub enum Progress<E> {
    /// Something happened that concerns the application. Poll again after handling it.
    Event(Event),
    /// More can be done at once. Poll again after the other connections.
    Yield,
    /// Nothing can be done until the transport is ready, the deadline passes or a waker is woken.
    Wait(Interest),
    /// The connection is over: drop the transport.
    Closed(Result<(), Failure<E>>),
}

/// What a connection waits for: any of these, or a wake-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Bytes to read.
    pub read: bool,
    /// Room to write, or that buffered bytes leave the transport.
    pub write: bool,
    /// A deadline.
    pub until: Option<Instant>,
}

impl Interest {
    /// The same, but until `at` at the latest.
    #[must_use]
    pub fn until_at_most(self, at: Option<Instant>) -> Self {
        Self { until: self.until.into_iter().chain(at).min(), ..self }
    }
}

/// What an attempt to read came to.
enum Read {
    Moved,
    WouldBlock,
    Unwanted,
}

impl<P: DerefMut<Target: Protocol>, E> Driver<P, E> {
    /// A driver at the beginning of a connection.
    pub fn new(protocol: P) -> Self {
        Self {
            protocol,
            stage: Stage::Open { chunk: None },
            stop: Stop::No,
            deadline: None,
            discard: DISCARD,
            first: false,
            pass: Pass::default(),
            established: false,
            shut: false,
            eof: false,
            busy: false,
            io_error: None,
        }
    }

    /// Makes progress until there is an event, or nothing more can be done now.
    ///
    /// Handles key requests by `keys`. [`Event::Established`] is not reported when the key was revoked
    /// meanwhile. An error is not an event: see [`error`](Self::error).
    pub fn poll<I: Io<Error = E>, K: Keys + ?Sized>(
        &mut self,
        io: &mut I,
        keys: &K,
        now: Instant,
    ) -> Progress<E> {
        loop {
            if let Some(event) = self.poll_event(keys, now) {
                return Progress::Event(event);
            }
            // The caller takes the chunk at hand when it likes, also after the transport failed.
            if let Some(progress) = self.poll_io(io, now, true) {
                return progress;
            }
        }
    }

    /// The next event, without input or output.
    // Chunks take the short way, inlined into the loop of the caller.
    #[inline]
    pub(crate) fn poll_event<K: Keys + ?Sized>(&mut self, keys: &K, now: Instant) -> Option<Event> {
        if !self.pass.begun {
            self.begin_pass(now);
        }
        while self.is_open() {
            match self.protocol.poll_event(now) {
                Ok(Some(event)) => {
                    self.pass.moved = true;
                    if let Event::Chunk { first, remaining } = event {
                        self.first = first;
                        self.stage = Stage::Open { chunk: Some(remaining) };
                        return Some(event);
                    }
                    if self.handle_event(event, keys, now) {
                        return Some(event);
                    }
                }
                Ok(None) => return None,
                Err(error) => {
                    self.pass.moved = true;
                    self.close(Err(error));
                }
            }
        }
        None
    }

    /// Takes note of an event other than a chunk; returns whether it concerns the application.
    #[cold]
    fn handle_event<K: Keys + ?Sized>(&mut self, event: Event, keys: &K, now: Instant) -> bool {
        match event {
            Event::KeyNeeded => {
                let answer = match self.protocol.key_request() {
                    Some(request) => keys.candidates(&request),
                    None => Err(KeyRejection::Unknown),
                };
                if self.protocol.provide_key(answer, now).is_err() {
                    // A key that was made for another purpose is no key for this session.
                    let _ = self.protocol.provide_key(Err(KeyRejection::Unknown), now);
                }
                return false;
            }
            Event::Established => {
                if self.revoke(keys, now) {
                    return false;
                }
                self.established = true;
            }
            Event::Closed => {
                // Closing with unread input could destroy what the peer has yet to read.
                if self.eof {
                    self.discard = 0;
                }
                self.close(Ok(()));
            }
            _ => {}
        }
        true
    }

    #[cold]
    fn begin_pass(&mut self, now: Instant) {
        self.pass = Pass { begun: true, opening: !self.established, ..Pass::default() };
        let give_up = match self.stop {
            Stop::No => false,
            Stop::Requested | Stop::Quiet => !self.established,
            Stop::Finished => self.is_due(now),
        };
        if give_up {
            self.protocol.abort(CloseReason::Shutdown, now);
        }
    }

    /// One round of input and output; `None` if another one is due, after events. `keep_chunk`: an error
    /// of the transport is reported when the chunk at hand was consumed.
    pub(crate) fn poll_io<I: Io<Error = E>>(
        &mut self,
        io: &mut I,
        now: Instant,
        keep_chunk: bool,
    ) -> Option<Progress<E>> {
        let mut interest = Interest { write: self.write_all(io, now), ..Interest::default() };
        let keeps = keep_chunk && matches!(self.stage, Stage::Open { chunk: Some(_) });
        let read = match self.io_error {
            Some(_) if keeps => Ok(Read::Unwanted),
            _ => self.read(io, now),
        };
        match read {
            Ok(Read::Moved) => (self.pass.moved, self.pass.answered) = (true, false),
            Ok(Read::WouldBlock) => interest.read = true,
            Ok(Read::Unwanted) => {}
            Err(error) if keeps => self.io_error = Some(error),
            Err(error) => return Some(self.transport_failed(error)),
        }
        if !self.pass.moved
            && !keeps
            && let Some(error) = self.io_error.take()
        {
            return Some(self.write_failed(error));
        }
        if !self.pass.moved && (interest.read || !self.protocol.wants_read()) {
            self.pass.moved |= self.finish_if_idle(now);
        } else if self.stop == Stop::Quiet && self.is_open() {
            (self.stop, self.deadline) = (Stop::Requested, None);
        }
        if self.io_error.is_none() && self.protocol.wants_shutdown() && !self.shut {
            self.shut = true;
            if let Err(error) = io.shut_write() {
                return Some(self.transport_failed(error));
            }
            match io.flush() {
                Ok(flushed) => interest.write = !flushed,
                Err(error) => return Some(self.write_failed(error)),
            }
        }
        self.pass.rounds += 1;
        let spent = self.pass.rounds >= ROUNDS;
        // Timers run last, so that our own scheduling delay is not charged to the peer, and once a pass,
        // so that its bytes cannot postpone them.
        if !self.pass.timed && (spent || !self.pass.moved) {
            self.pass.timed = true;
            if self.protocol.poll_timeout().is_some_and(|at| at <= now) {
                self.protocol.handle_timeout(now);
                self.pass.moved = true;
            }
        }
        if let Some(result) = self.poll_closed(!interest.write, now) {
            self.pass.begun = false;
            return Some(match self.io_error.take() {
                Some(error) => self.write_failed(error),
                None => Progress::Closed(result.map_err(Failure::Protocol)),
            });
        }
        if !self.pass.moved {
            // The peer may hold back the rest of a message until what it sent of it is acknowledged, and
            // its first message until the last of the handshake is.
            let opened = self.pass.opening && self.established;
            if interest.read && !self.pass.answered && (opened || self.protocol.is_receiving()) {
                io.acknowledge();
            }
            self.pass.begun = false;
            interest.until = self.poll_timeout();
            if self.protocol.awaiting_buffer() {
                // Asking again tells the owner of the buffers for how long the session has waited.
                interest = interest.until_at_most(Some(now.saturating_add(ASK_AGAIN)));
            }
            return Some(Progress::Wait(interest));
        }
        self.pass.moved = false;
        if self.io_error.is_some() {
            // The next pass could not tell: what the peer had sent is read in this one.
            if self.pass.rounds >= BROKEN_ROUNDS
                && !keeps
                && let Some(error) = self.io_error.take()
            {
                return Some(self.write_failed(error));
            }
        } else if spent {
            self.pass.begun = false;
            return Some(Progress::Yield);
        }
        None
    }

    /// Writes all there is. Returns whether to wait for the transport.
    fn write_all<I: Io<Error = E>>(&mut self, io: &mut I, now: Instant) -> bool {
        while self.io_error.is_none() {
            let bytes = self.protocol.poll_transmit(now);
            if bytes.is_empty() {
                match io.flush() {
                    Ok(flushed) => return !flushed,
                    Err(error) => self.io_error = Some(error),
                }
                break;
            }
            match io.write(bytes) {
                Ok(Some(n)) if n > 0 => {
                    self.protocol.handle_transmitted(n, now);
                    (self.pass.moved, self.pass.answered) = (true, true);
                }
                Ok(_) => {
                    // What was written before may not have left either.
                    self.pass.answered = false;
                    return true;
                }
                Err(error) => self.io_error = Some(error),
            }
        }
        false
    }

    fn read<I: Io<Error = E>>(&mut self, io: &mut I, now: Instant) -> Result<Read, E> {
        if let Stage::Closing { .. } = self.stage {
            if self.discard == 0 {
                return Ok(Read::Unwanted);
            }
            return Ok(match io.discard()? {
                None => Read::WouldBlock,
                Some(n) => {
                    self.discard = if n == 0 { 0 } else { self.discard.saturating_sub(n as u32) };
                    Read::Moved
                }
            });
        }
        if !io.may_read() && self.protocol.wants_read() {
            return Ok(Read::WouldBlock);
        }
        let space = self.protocol.recv_space();
        if space.is_empty() {
            return Ok(Read::Unwanted);
        }
        let read = io.read(space);
        let n = read.as_ref().ok().copied().flatten().unwrap_or(0);
        self.protocol.handle_received(n, now);
        Ok(match read? {
            None => Read::WouldBlock,
            Some(0) => {
                self.eof = true;
                self.protocol.handle_eof(now);
                Read::Moved
            }
            Some(_) => Read::Moved,
        })
    }

    /// If an orderly stop was requested and the peer has sent nothing that was not read: finishes once
    /// nothing has been in progress for long enough. Returns whether it did.
    fn finish_if_idle(&mut self, now: Instant) -> bool {
        if !self.is_open() {
            return false;
        }
        let before = self.stop;
        let idle = self.protocol.is_idle() && !self.busy;
        (self.stop, self.deadline) = match before {
            Stop::Requested | Stop::Quiet if !idle => (Stop::Requested, None),
            Stop::Requested => (Stop::Quiet, Some(now.saturating_add(QUIET))),
            Stop::Quiet if self.is_due(now) => {
                self.protocol.finish(now);
                (Stop::Finished, Some(now.saturating_add(LINGER)))
            }
            other => (other, self.deadline),
        };
        self.stop != before && self.stop == Stop::Finished
    }

    fn is_due(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|at| at <= now)
    }

    /// Begins to close: the session ended with `result`.
    #[cold]
    fn close(&mut self, result: Result<(), Error>) {
        // A peer that had its time to finish gets no more to close, unless nothing of it is awaited.
        if self.stop != Stop::Finished || self.discard == 0 {
            self.deadline = None;
        }
        self.stage = Stage::Closing { result };
    }

    /// The connection's result, once it is over. `flushed`: all that was written has left.
    fn poll_closed(&mut self, flushed: bool, now: Instant) -> Option<Result<(), Error>> {
        match self.stage {
            Stage::Open { .. } => None,
            Stage::Closed => Some(Ok(())),
            Stage::Closing { result } => {
                // Set before all is written only by an orderly stop.
                if !self.protocol.is_done() && !self.is_due(now) {
                    return None;
                }
                self.deadline.get_or_insert(now.saturating_add(LINGER));
                ((self.discard == 0 && flushed) || self.is_due(now)).then_some(result)
            }
        }
    }

    /// When to poll though nothing has happened.
    fn poll_timeout(&self) -> Option<Instant> {
        self.protocol.poll_timeout().into_iter().chain(self.deadline).min()
    }

    /// The chunk at hand, from [`Event::Chunk`] until [`consume`](Self::consume) or the end of the
    /// session.
    pub fn chunk(&mut self) -> Option<Chunk<'_>> {
        self.split().0
    }

    /// The chunk at hand, and where to answer it.
    pub fn split(&mut self) -> (Option<Chunk<'_>>, Outbox<'_>) {
        let at_hand = match self.stage {
            Stage::Open { chunk } => chunk,
            Stage::Closing { .. } | Stage::Closed => None,
        };
        let (first, (bytes, outbox)) = (self.first, self.protocol.split());
        (at_hand.map(|remaining| Chunk { bytes, first, remaining }), outbox)
    }

    /// The bytes of the chunk at hand, which the event of this moment describes, and where to answer it.
    pub(crate) fn split_bytes(&mut self) -> (&[u8], Outbox<'_>) {
        self.protocol.split()
    }

    /// Releases the chunk at hand, so that more is read. Poll afterwards.
    pub fn consume(&mut self, now: Instant) {
        if let Stage::Open { chunk: chunk @ Some(_) } = &mut self.stage {
            *chunk = None;
            self.protocol.consume(now);
        }
    }

    /// Where to send. Poll afterwards.
    pub fn outbox(&mut self) -> Outbox<'_> {
        self.protocol.split().1
    }

    /// The peer, and where to send to it; `None` before the handshake is over.
    pub fn split_peer(&mut self) -> Option<(Peer<'_>, Outbox<'_>)> {
        self.protocol.split_peer()
    }

    /// The peer, once the handshake is over.
    pub fn peer(&self) -> Option<Peer<'_>> {
        self.protocol.peer()
    }

    /// Whether the handshake was completed, also after the connection has ended.
    pub const fn is_established(&self) -> bool {
        self.established
    }

    /// Whether the session has not ended.
    pub const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open { .. })
    }

    /// Whether the transport failed, which is reported when the chunk at hand was consumed. Nothing that is
    /// sent leaves any more.
    pub const fn is_broken(&self) -> bool {
        self.io_error.is_some() && self.is_open()
    }

    /// Why the session failed, as soon as that is known; the connection may still be closing.
    pub const fn error(&self) -> Option<Error> {
        match self.stage {
            Stage::Closing { result: Err(error), .. } => Some(error),
            _ => None,
        }
    }

    /// The bytes to write, for a transport that can only be written while waiting: its [`Io::write`]
    /// returns `None`. Stale after any other call.
    pub fn transmit(&mut self, now: Instant) -> &[u8] {
        self.protocol.poll_transmit(now)
    }

    /// Reports that the first `n` bytes of [`transmit`](Self::transmit) were written. Poll afterwards.
    pub fn handle_transmitted(&mut self, n: usize, now: Instant) {
        self.protocol.handle_transmitted(n, now);
    }

    /// Ends the session if the key that authenticated it is not among `keys` any more; returns whether
    /// it did. Poll afterwards.
    pub fn revoke<K: Keys + ?Sized>(&mut self, keys: &K, now: Instant) -> bool {
        let revoked = self.is_open() && self.protocol.peer().is_some_and(|peer| !keys.hold(&peer));
        if revoked {
            self.protocol.abort(CloseReason::Application, now);
        }
        revoked
    }

    /// Ends the session with [`Error::Aborted`]; queued bytes still go out. Poll afterwards.
    pub fn abort(&mut self, why: CloseReason, now: Instant) {
        self.protocol.abort(why, now);
    }

    /// Stops in order: what the peer has begun to send is read and answered, then this end finishes. A
    /// handshake in progress is given up. Poll afterwards.
    pub fn stop(&mut self) {
        if self.stop == Stop::No {
            self.stop = Stop::Requested;
        }
    }

    /// Sets whether the application has yet to answer the peer. An orderly stop waits for that.
    pub fn set_busy(&mut self, busy: bool) {
        self.busy = busy;
    }

    /// Reports that the transport failed between polls.
    pub fn transport_failed(&mut self, error: E) -> Progress<E> {
        self.pass.begun = false;
        Progress::Closed(match core::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Open { .. } => Err(Failure::Io(error)),
            Stage::Closing { result, .. } => result.map_err(Failure::Protocol),
            Stage::Closed => Ok(()),
        })
    }

    /// Ends the connection because writing or flushing failed. A session may have ended in order before
    /// the transport lost its last bytes: that is an error too.
    fn write_failed(&mut self, error: E) -> Progress<E> {
        if let Stage::Closing { result: Ok(()), .. } = self.stage {
            self.stage = Stage::Open { chunk: None };
        }
        self.transport_failed(error)
    }

    /// Ends the connection at once, without a last word; returns whether it was open.
    pub fn abandon(&mut self) -> bool {
        matches!(core::mem::replace(&mut self.stage, Stage::Closed), Stage::Open { .. })
    }
}
