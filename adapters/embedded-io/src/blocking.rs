//! Over `embedded_io`, for programs without an executor: one connection, polled.

use core::fmt;
use core::ops::DerefMut;
use core::task::Poll;
use core::time::Duration;

use countersign::{Instant, Peer, Protocol, Remaining, SendError};
use countersign_driver::{Chunk, Connection, Failure, Io, Keys, Progress, Service, Wait};
use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write, WriteReady};

use crate::client::{ClientError, Message, NO_KEYS, Talk};

/// A transport, a clock, and what to do while there is nothing to do.
///
/// `pause` is called with what is waited for, and may return at any time: at the latest at
/// [`Wait::until`], if heartbeats and deadlines are to be kept, and soon after the transport has become
/// ready. A loop that does nothing will do; `wfi` with a timer's interrupt is kinder.
pub struct Link<T: ErrorType, C, P> {
    transport: T,
    clock: C,
    pause: P,
    shut: fn(&mut T) -> Result<(), T::Error>,
    /// Something was written and not flushed.
    dirty: bool,
}

impl<T, C, P> Link<T, C, P>
where
    T: Read + Write + ReadReady + WriteReady,
    C: Fn() -> Instant,
    P: FnMut(Wait),
{
    /// A link over `transport`.
    pub fn new(transport: T, clock: C, pause: P) -> Self {
        Self { transport, clock, pause, shut: |_| Ok(()), dirty: false }
    }

    /// How the transport's write side is shut, where it can be.
    #[must_use]
    pub fn with_shut(self, shut: fn(&mut T) -> Result<(), T::Error>) -> Self {
        Self { shut, ..self }
    }

    /// The transport again.
    pub fn into_transport(self) -> T {
        self.transport
    }

    /// Now.
    pub fn now(&self) -> Instant {
        (self.clock)()
    }

    /// Runs the service of `connection` until the connection is over.
    ///
    /// # Errors
    /// Why it ended, if not in order.
    pub fn run<M: DerefMut<Target: Protocol>, S: Service, K: Keys + ?Sized>(
        &mut self,
        connection: &mut Connection<M, S>,
        keys: &K,
    ) -> Result<(), Failure<T::Error>> {
        loop {
            match self.turn(connection, keys) {
                Progress::Yield => {}
                Progress::Closed(how) => return how,
                Progress::Wait(wait) => self.wait(wait),
            }
        }
    }

    /// One turn, for programs with a loop of their own: then [`wait`](Self::wait), or anything else,
    /// until what the turn says.
    pub fn turn<M: DerefMut<Target: Protocol>, S: Service, K: Keys + ?Sized>(
        &mut self,
        connection: &mut Connection<M, S>,
        keys: &K,
    ) -> Progress<T::Error> {
        let now = self.now();
        let turn = connection.turn(self, keys, now);
        // Only when nothing more is to be written: a flush may take its time. What it could not
        // deliver is missed by the peer, whose silence, or end, we then notice.
        if matches!(turn, Progress::Wait(wait) if !wait.write) {
            let _ = self.flush();
        }
        turn
    }

    /// Flushes the transport, if there is something to flush.
    fn flush(&mut self) -> Result<(), T::Error> {
        if core::mem::take(&mut self.dirty) { self.transport.flush() } else { Ok(()) }
    }

    /// Waits, as long as `pause` does.
    pub fn wait(&mut self, wait: Wait) {
        (self.pause)(wait);
    }
}

impl<T, C, P> Io for Link<T, C, P>
where
    T: Read + Write + ReadReady + WriteReady,
    C: Fn() -> Instant,
    P: FnMut(Wait),
{
    type Error = T::Error;

    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, T::Error> {
        let ready = self.transport.read_ready();
        again(ready.and_then(|ready| ready.then(|| self.transport.read(into)).transpose()))
    }

    fn write(&mut self, from: &[u8]) -> Result<Option<usize>, T::Error> {
        let ready = self.transport.write_ready();
        let wrote = ready.and_then(|ready| ready.then(|| self.transport.write(from)).transpose());
        self.dirty |= matches!(wrote, Ok(Some(_)));
        again(wrote)
    }

    fn shut_write(&mut self) -> Result<(), T::Error> {
        self.flush()?;
        (self.shut)(&mut self.transport)
    }
}

/// An interruption is nothing that has happened.
fn again<E: embedded_io::Error>(moved: Result<Option<usize>, E>) -> Result<Option<usize>, E> {
    match moved {
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(None),
        moved => moved,
    }
}

impl<T: ErrorType, C, P> fmt::Debug for Link<T, C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("dirty", &self.dirty).finish_non_exhaustive()
    }
}

/// A conversation for programs that call. Nothing happens but in calls: where there are heartbeats, a
/// client that is not called for longer than the peer is patient is given up.
#[derive(Debug)]
pub struct Client<T: ErrorType, C, P, M> {
    link: Link<T, C, P>,
    talk: Talk<M>,
    timeout: Option<Duration>,
}

impl<T, C, P, M> Client<T, C, P, M>
where
    T: Read + Write + ReadReady + WriteReady,
    C: Fn() -> Instant,
    P: FnMut(Wait),
    M: DerefMut<Target: Protocol>,
{
    /// Speaks as `machine` over `link` until the handshake is over. In a handshake that tells the
    /// client nothing, that is when we have answered: a refusal is found out by a later call.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Protocol`].
    pub fn connect<K: Keys + ?Sized>(
        link: Link<T, C, P>,
        machine: M,
        keys: &K,
    ) -> Result<Self, ClientError<T::Error>> {
        let mut client = Self { link, talk: Talk::new(machine), timeout: None };
        client.drive(keys, |talk, _| talk.opened())?;
        Ok(client)
    }

    /// How long each call may take to get on, from now on; `None` for as long as it takes.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Who the peer is.
    pub fn peer(&self) -> Option<Peer<'_>> {
        self.talk.connection.peer()
    }

    /// Sends a message of any length. When this returns, all of it is queued, and the last of it may
    /// leave with later calls: [`flush`](Self::flush) waits until it has. After
    /// [`ClientError::TimedOut`] a call with the same message goes on with it; with one of another
    /// length it is refused.
    ///
    /// # Errors
    /// Every [`ClientError`] but [`ClientError::TooLong`].
    pub fn send(&mut self, message: &[u8]) -> Result<(), ClientError<T::Error>> {
        self.drive(&NO_KEYS, |talk, _| talk.send(message))
    }

    /// Sends a part of a message that `rest` follows, all of it or nothing.
    ///
    /// # Errors
    /// Every [`ClientError`] but [`ClientError::TooLong`].
    pub fn send_chunk(
        &mut self,
        chunk: &[u8],
        remaining: Remaining,
    ) -> Result<(), ClientError<T::Error>> {
        self.drive(&NO_KEYS, |talk, _| talk.put(|out| out.send_chunk(chunk, remaining)))
    }

    /// Waits until all that was sent has left the transport.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Protocol`], [`ClientError::TimedOut`].
    pub fn flush(&mut self) -> Result<(), ClientError<T::Error>> {
        self.drive(&NO_KEYS, Talk::written)?;
        self.link.flush().map_err(ClientError::Io)
    }

    /// The next part of a message, where the session keeps it: of a byte stream, whatever has
    /// arrived. `None`: the peer sends no more. With the next call we are done with it.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Protocol`], [`ClientError::TimedOut`].
    pub fn recv_chunk(&mut self) -> Result<Option<Chunk<'_>>, ClientError<T::Error>> {
        self.drive(&NO_KEYS, |talk, _| talk.look())?;
        Ok(self.talk.lend())
    }

    /// The next message, whole: of a byte stream, whatever has arrived. `None`: the peer sends no
    /// more. After [`ClientError::TimedOut`] a call with the same `message` goes on with it.
    ///
    /// # Errors
    /// Every [`ClientError`] but [`ClientError::Send`].
    pub fn recv<'m>(
        &mut self,
        message: &'m mut Message<'_>,
    ) -> Result<Option<&'m [u8]>, ClientError<T::Error>> {
        if message.is_whole() {
            message.clear();
        }
        let came = self.drive(&NO_KEYS, |talk, now| talk.gather(message, now))?;
        Ok(came.then(|| message.bytes()))
    }

    /// No more messages from this side. Those of the peer can still be received. Idempotent.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Protocol`], [`ClientError::TimedOut`].
    pub fn finish(&mut self) -> Result<(), ClientError<T::Error>> {
        self.talk.connection.outbox().finish();
        self.flush()
    }

    /// Finishes, throws away what the peer still sends, and waits until both sides are done and the
    /// transport can be dropped. After [`ClientError::TimedOut`], drop it all the same.
    ///
    /// # Errors
    /// Why it did not end in order.
    pub fn close(&mut self) -> Result<(), ClientError<T::Error>> {
        self.talk.connection.outbox().finish();
        match self.drive(&NO_KEYS, Talk::discard) {
            Err(ClientError::Send(SendError::Ended)) => Ok(()),
            closed => closed,
        }
    }

    /// The link again.
    pub fn into_link(self) -> Link<T, C, P> {
        self.link
    }

    /// Drives the connection until `done` has an answer.
    fn drive<A, K: Keys + ?Sized>(
        &mut self,
        keys: &K,
        mut done: impl FnMut(&mut Talk<M>, Instant) -> Poll<Result<A, ClientError<T::Error>>>,
    ) -> Result<A, ClientError<T::Error>> {
        let now = self.link.now();
        let give_up = self.timeout.map(|timeout| now.saturating_add(timeout));
        self.talk.take_back(now);
        loop {
            if let Poll::Ready(answer) = done(&mut self.talk, self.link.now()) {
                return answer;
            }
            let known = self.talk.changes();
            match self.link.turn(&mut self.talk.connection, keys) {
                Progress::Closed(Err(failure)) => return Err(failure.into()),
                Progress::Closed(Ok(())) => {
                    let answer = done(&mut self.talk, self.link.now());
                    let Poll::Ready(answer) = answer else { return Err(self.talk.ended()) };
                    return answer;
                }
                Progress::Wait(wait) if known == self.talk.changes() => {
                    if let Poll::Ready(answer) = done(&mut self.talk, self.link.now()) {
                        return answer;
                    }
                    if give_up.is_some_and(|at| at <= self.link.now()) {
                        return Err(ClientError::TimedOut);
                    }
                    let until = wait.until.into_iter().chain(give_up).min();
                    self.link.wait(Wait { until, ..wait });
                }
                Progress::Wait(_) | Progress::Yield => {}
            }
        }
    }
}
