//! Over `embedded_io`, for programs without an executor: one connection, polled.

use core::fmt;
use core::ops::DerefMut;
use core::task::Poll;
use core::time::Duration;

use countersign::{Instant, Protocol, Remaining};
use countersign_driver::{
    CallProgress, Chunk, ConnectionError, ConnectionResult, Failure, Interest, Io, Keys, NoKeys,
    Progress, Reassembler, ResumableConnection, ServiceConnection, SliceBuffer, StreamService,
};
use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write, WriteReady};

/// A transport, a clock, and a way to wait.
///
/// `wait` is called with the events that the connection waits for. It may return at any time: at the
/// latest at [`Interest::until`], so that heartbeats and deadlines are kept, and soon after the transport
/// has become ready. A function that returns at once is correct; `wfi` with a timer interrupt saves
/// power.
///
/// A program with a loop of its own polls a `ServiceConnection`, `Connection` or `Driver` of
/// `countersign_driver` with the link, which is an [`Io`].
pub struct Link<T: ErrorType, C, W> {
    transport: T,
    clock: C,
    wait: W,
    shut: fn(&mut T) -> Result<(), T::Error>,
    /// Bytes were written and not flushed.
    unflushed: bool,
    /// The longest that a call of a client waits.
    timeout: Option<Duration>,
}

impl<T, C, W> Link<T, C, W>
where
    T: Read + Write + ReadReady + WriteReady,
    C: Fn() -> Instant,
    W: FnMut(Interest),
{
    /// A link over `transport`.
    pub fn new(transport: T, clock: C, wait: W) -> Self {
        Self { transport, clock, wait, shut: |_| Ok(()), unflushed: false, timeout: None }
    }

    /// Sets how to shut the write side of the transport. By default it stays open.
    #[must_use]
    pub fn with_shut(self, shut: fn(&mut T) -> Result<(), T::Error>) -> Self {
        Self { shut, ..self }
    }

    /// The transport.
    pub fn into_transport(self) -> T {
        self.transport
    }

    /// The time by the link's clock.
    pub fn now(&self) -> Instant {
        (self.clock)()
    }

    /// Runs the service of `connection` until the connection is over.
    ///
    /// # Errors
    /// Why the connection failed.
    pub fn run<P: DerefMut<Target: Protocol>, S: StreamService, K: Keys + ?Sized>(
        &mut self,
        connection: &mut ServiceConnection<P, S, T::Error>,
        keys: &K,
    ) -> Result<(), Failure<T::Error>> {
        loop {
            let now = self.now();
            match connection.poll(self, keys, now) {
                Progress::Event(_) | Progress::Yield => {}
                Progress::Wait(interest) => (self.wait)(interest),
                Progress::Closed(result) => return result,
            }
        }
    }
}

impl<T: Read + Write + ReadReady + WriteReady, C, W> Io for Link<T, C, W> {
    type Error = T::Error;

    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, T::Error> {
        retry(|| self.transport.read_ready()?.then(|| self.transport.read(into)).transpose())
    }

    fn write(&mut self, from: &[u8]) -> Result<Option<usize>, T::Error> {
        let written =
            retry(|| self.transport.write_ready()?.then(|| self.transport.write(from)).transpose());
        self.unflushed |= matches!(written, Ok(Some(_)));
        written
    }

    fn shut_write(&mut self) -> Result<(), T::Error> {
        (self.shut)(&mut self.transport)
    }

    /// Blocks until the transport has sent all. On a UART that takes as long as its FIFO is deep.
    fn flush(&mut self) -> Result<bool, T::Error> {
        if core::mem::take(&mut self.unflushed) {
            retry(|| self.transport.flush())?;
        }
        Ok(true)
    }
}

/// Repeats an operation that was interrupted.
fn retry<A, E: embedded_io::Error>(mut operation: impl FnMut() -> Result<A, E>) -> Result<A, E> {
    loop {
        match operation() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl<T: ErrorType, C, W> fmt::Debug for Link<T, C, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("unflushed", &self.unflushed).finish_non_exhaustive()
    }
}

/// A client whose calls block.
pub type Client<T, C, W, P> = crate::Client<Link<T, C, W>, P>;

/// Blocking calls. After [`ConnectionError::TimedOut`] the connection is as it was, and the same call
/// with the same arguments continues.
impl<T, C, W, P> Client<T, C, W, P>
where
    T: Read + Write + ReadReady + WriteReady,
    C: Fn() -> Instant,
    W: FnMut(Interest),
    P: DerefMut<Target: Protocol>,
{
    /// Runs the handshake of `protocol` over `link`. In a handshake that proves nothing to the client it
    /// is over when the client has answered: a later call reports a refusal.
    ///
    /// # Errors
    /// [`ConnectionError::Io`], [`ConnectionError::Protocol`].
    pub fn connect<K: Keys + ?Sized>(
        link: Link<T, C, W>,
        protocol: P,
        keys: &K,
    ) -> ConnectionResult<Self, T::Error> {
        let mut client = Self { link, connection: ResumableConnection::new(protocol) };
        client.drive(keys, |call, _| call.get_mut().poll_established())?;
        Ok(client)
    }

    /// Sets the longest time that each later call waits; `None`, the default, for no limit.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.link.timeout = timeout;
    }

    /// Sends a message of any length. It is queued when this returns, and its end may leave with later
    /// calls: [`flush`](Self::flush) waits for that. While a message is partly sent, one of another
    /// length is refused.
    ///
    /// # Errors
    /// [`ConnectionError::Io`], [`ConnectionError::Protocol`], [`ConnectionError::Send`],
    /// [`ConnectionError::TimedOut`].
    pub fn send(&mut self, message: &[u8]) -> ConnectionResult<(), T::Error> {
        self.drive(&NoKeys, |call, _| call.poll_send(message))
    }

    /// Sends a chunk of a message, and `remaining` of it follows. All of the chunk is queued, or nothing.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_chunk(
        &mut self,
        chunk: &[u8],
        remaining: Remaining,
    ) -> ConnectionResult<(), T::Error> {
        self.drive(&NoKeys, |call, _| call.poll_send_chunk(chunk, remaining))
    }

    /// Receives a message; of a byte stream, the bytes that have arrived. `None`: the peer sends no more.
    ///
    /// # Errors
    /// [`ConnectionError::Io`], [`ConnectionError::Protocol`], [`ConnectionError::TimedOut`];
    /// [`ConnectionError::Buffer`]: the message does not fit. `message` holds its beginning;
    /// [`recv_chunk`](Self::recv_chunk) returns the rest.
    pub fn recv<'m>(
        &mut self,
        message: &'m mut Reassembler<SliceBuffer<'_>>,
    ) -> ConnectionResult<Option<&'m [u8]>, T::Error> {
        let received = self.drive(&NoKeys, |call, now| call.poll_recv(message, now))?;
        Ok(received.then(|| message.bytes()))
    }

    /// Receives a chunk of a message, which stays in the receive buffer until the next call. `None`: the
    /// peer sends no more.
    ///
    /// # Errors
    /// [`ConnectionError::Io`], [`ConnectionError::Protocol`], [`ConnectionError::TimedOut`].
    pub fn recv_chunk(&mut self) -> Result<Option<Chunk<'_>>, ConnectionError<T::Error>> {
        self.drive(&NoKeys, |call, _| call.poll_chunk())?;
        Ok(self.connection.lend_chunk())
    }

    /// Sends a message and receives the reply. A call that continues one that timed out does not send
    /// again; until the reply is received, a request of another length is refused.
    ///
    /// # Errors
    /// As [`send`](Self::send) and [`recv`](Self::recv); [`ConnectionError::PeerFinished`] if the peer
    /// sends no reply.
    pub fn request<'m>(
        &mut self,
        request: &[u8],
        reply: &'m mut Reassembler<SliceBuffer<'_>>,
    ) -> ConnectionResult<&'m [u8], T::Error> {
        self.drive(&NoKeys, |call, now| call.poll_request(request, reply, now))?;
        Ok(reply.bytes())
    }

    /// Waits until all that was sent has left the transport.
    ///
    /// # Errors
    /// [`ConnectionError::Io`], [`ConnectionError::Protocol`], [`ConnectionError::TimedOut`].
    pub fn flush(&mut self) -> ConnectionResult<(), T::Error> {
        self.drive(&NoKeys, |call, _| call.get_mut().poll_sent())
    }

    /// Ends the messages of this side and flushes. Those of the peer can still be received. Idempotent.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn finish(&mut self) -> ConnectionResult<(), T::Error> {
        self.connection.get_mut().finish();
        self.flush()
    }

    /// Finishes, drops what the peer still sends, and waits until the connection is over.
    ///
    /// # Errors
    /// Why the connection failed; [`ConnectionError::TimedOut`].
    pub fn close(&mut self) -> ConnectionResult<(), T::Error> {
        self.connection.get_mut().finish();
        self.drive(&NoKeys, |call, now| call.get_mut().poll_closed(now))
    }

    /// Drives the connection until `operation` is ready.
    fn drive<A>(
        &mut self,
        keys: &(impl Keys + ?Sized),
        mut operation: impl FnMut(
            &mut ResumableConnection<P, T::Error>,
            Instant,
        ) -> Poll<ConnectionResult<A, T::Error>>,
    ) -> ConnectionResult<A, T::Error> {
        let Self { link, connection } = self;
        let deadline = link.timeout.map(|timeout| link.now().saturating_add(timeout));
        connection.begin_call(link.now());
        loop {
            let now = link.now();
            let step = connection.poll_call(link, keys, now, &mut operation);
            match step {
                CallProgress::Ready(result) => return result,
                _ if deadline.is_some_and(|at| at <= link.now()) => {
                    return Err(ConnectionError::TimedOut);
                }
                CallProgress::Yield => {}
                CallProgress::Wait(interest) => (link.wait)(interest.until_at_most(deadline)),
            }
        }
    }
}
