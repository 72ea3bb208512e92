//! Over `embedded_io_async`, on any executor: one connection in one task.
//!
//! # Cancellation
//!
//! A future of this module can be dropped at any await. The link, the connection, the client and the
//! message keep what has happened, and the next call continues: no byte is lost or doubled.
//!
//! That requires a transport whose `read` and `write` have moved no bytes when their futures are dropped
//! unfinished, as its traits recommend and as sockets, pipes and buffered UARTs do. The link itself drops
//! such a future when another event comes first. A driver that moves bytes by DMA from and to the
//! caller's buffer may not meet that requirement: put a buffer around it.

use core::fmt;
use core::future::{Future, pending, poll_fn};
use core::ops::{DerefMut, Range};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;

use countersign::{Instant, Protocol, Remaining};
use countersign_driver::{
    CallProgress, Chunk, ConnectionError, ConnectionResult, Driver, Failure, Interest, Io, Keys,
    NoKeys, Progress, Reassembler, ResumableConnection, ServiceConnection, SliceBuffer,
    StreamService,
};
use embedded_hal_async::delay::DelayNs;
use embedded_io::{Error as _, ErrorKind::Interrupted};
use embedded_io_async::{ErrorType, Read, Write};

/// Consecutive waits that may end without waiting. Then the link yields to other tasks.
const MAX_IMMEDIATE: u8 = 8;
/// Reads of bytes that the peer had sent before writing to it failed.
const READS_AFTER_ERROR: u8 = 64;
/// Time for each of these reads: a transport may need more than one poll to return bytes that it has.
const READ_AFTER_ERROR: Duration = Duration::from_millis(10);

/// A transport of two halves, a clock and a timer.
///
/// Received bytes pass through a buffer of `N` bytes, because the session's memory cannot be lent to a
/// `read` and a `write` at once: 64 are enough for a UART; a network needs some hundred.
///
/// A program with a loop of its own polls a `ServiceConnection`, `Connection` or `Driver` of
/// `countersign_driver` with the link, which is an [`Io`], and [`wait`](Self::wait)s in between.
pub struct Link<R, W: ErrorType, C, D, const N: usize> {
    reader: R,
    writer: W,
    clock: C,
    delay: D,
    shut: fn(&mut W) -> Result<(), W::Error>,
    buffer: [u8; N],
    /// Where in `buffer` the received bytes are that the connection has not taken.
    received: Range<usize>,
    eof: bool,
    read_error: Option<W::Error>,
    /// Why writing failed, and how many reads may precede the report of it.
    write_error: Option<(W::Error, u8)>,
    /// Bytes were written and not flushed.
    unflushed: bool,
    /// The write side is to be shut after the flush.
    shutting: bool,
    /// Consecutive waits that ended without waiting.
    immediate: u8,
}

impl<R, W, C, D, const N: usize> Link<R, W, C, D, N>
where
    R: Read<Error = W::Error>,
    W: Write,
    C: Fn() -> Instant,
    D: DelayNs,
{
    /// A link over the halves of a transport.
    pub fn new(reader: R, writer: W, clock: C, delay: D) -> Self {
        const { assert!(N > 0, "a link needs a buffer to read to") };
        Self {
            reader,
            writer,
            clock,
            delay,
            shut: |_| Ok(()),
            buffer: [0; N],
            received: 0..0,
            eof: false,
            read_error: None,
            write_error: None,
            unflushed: false,
            shutting: false,
            immediate: 0,
        }
    }

    /// Sets how to shut the write side of the transport. By default it stays open.
    #[must_use]
    pub fn with_shut(self, shut: fn(&mut W) -> Result<(), W::Error>) -> Self {
        Self { shut, ..self }
    }

    /// The halves of the transport.
    pub fn into_halves(self) -> (R, W) {
        (self.reader, self.writer)
    }

    /// The time by the link's clock.
    pub fn now(&self) -> Instant {
        (self.clock)()
    }

    /// Runs the service of `connection` until the connection is over. To wake or stop the connection
    /// meanwhile, drop the future, do so, and call again.
    ///
    /// # Errors
    /// Why the connection failed.
    pub async fn run<P: DerefMut<Target: Protocol>, S: StreamService, K: Keys + ?Sized>(
        &mut self,
        connection: &mut ServiceConnection<P, S, W::Error>,
        keys: &K,
    ) -> Result<(), Failure<W::Error>> {
        loop {
            let now = self.now();
            match connection.poll(self, keys, now) {
                Progress::Event(_) => {}
                Progress::Yield => self.yield_now().await,
                Progress::Wait(interest) => self.wait(connection.driver_mut(), interest).await,
                Progress::Closed(result) => return result,
            }
        }
    }

    /// Waits for what a poll returned as its `interest`, and reads, writes and flushes meanwhile. Poll
    /// afterwards.
    pub async fn wait<P: DerefMut<Target: Protocol>>(
        &mut self,
        driver: &mut Driver<P, W::Error>,
        interest: Interest,
    ) {
        let now = self.now();
        let failed = self.write_error.is_some();
        let outgoing = if failed { &[][..] } else { driver.transmit(now) };
        let flushing = outgoing.is_empty();
        let Self { reader, writer, buffer, delay, .. } = self;
        let reads = interest.read && self.received.is_empty();
        let (mut read, mut written) = (None, None);
        let reading =
            async { read = Some(if reads { reader.read(buffer).await } else { pending().await }) };
        let writing = async {
            written = Some(match outgoing {
                [] if self.unflushed && !failed => writer.flush().await.map(|()| 0),
                [] => pending().await,
                bytes => writer.write(bytes).await,
            });
        };
        let until =
            if failed { Some(now.saturating_add(READ_AFTER_ERROR)) } else { interest.until };
        let timer = async {
            let Some(at) = until else { return pending().await };
            // At most the 71 minutes that a timer takes: then there is another poll and another wait.
            let micros = at.saturating_duration_since(now).as_micros();
            delay.delay_us(u32::try_from(micros).unwrap_or(u32::MAX)).await;
        };
        let immediate = any(reading, writing, timer).await;
        if let Some((_, reads)) = &mut self.write_error {
            *reads = if read.is_some() { reads.saturating_sub(1) } else { 0 };
        }
        match read {
            Some(Ok(0)) => self.eof = true,
            Some(Ok(n)) => self.received = 0..n.min(N),
            Some(Err(error)) if error.kind() != Interrupted => self.read_error = Some(error),
            _ => {}
        }
        match written {
            Some(Ok(_)) if flushing => self.handle_flushed(),
            Some(Ok(n)) => {
                self.unflushed = true;
                driver.handle_transmitted(n, self.now());
            }
            Some(Err(error)) if error.kind() != Interrupted => {
                self.write_error = Some((error, READS_AFTER_ERROR));
            }
            _ => {}
        }
        self.immediate = if immediate { self.immediate + 1 } else { 0 };
        if self.immediate >= MAX_IMMEDIATE {
            self.yield_now().await;
        }
    }

    fn handle_flushed(&mut self) {
        self.unflushed = false;
        // All bytes have left, so an error here matters only to a connection that still reads.
        if core::mem::take(&mut self.shutting)
            && let Err(error) = (self.shut)(&mut self.writer)
        {
            self.read_error = Some(error);
        }
    }

    /// Lets other tasks run.
    async fn yield_now(&mut self) {
        self.immediate = 0;
        let mut yielded = false;
        poll_fn(|context| match core::mem::replace(&mut yielded, true) {
            true => Poll::Ready(()),
            false => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await;
    }
}

impl<R: Read<Error = W::Error>, W: Write, C, D, const N: usize> Io for Link<R, W, C, D, N> {
    type Error = W::Error;

    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, W::Error> {
        let received = &self.buffer[self.received.clone()];
        if received.is_empty() {
            return self.read_error.take().map_or(Ok(self.eof.then_some(0)), Err);
        }
        let n = received.len().min(into.len());
        into[..n].copy_from_slice(&received[..n]);
        self.received.start += n;
        Ok(Some(n))
    }

    /// `None`: [`Link::wait`] writes.
    fn write(&mut self, _: &[u8]) -> Result<Option<usize>, W::Error> {
        self.flush().map(|_| None)
    }

    fn shut_write(&mut self) -> Result<(), W::Error> {
        self.shutting = self.unflushed;
        if self.shutting { Ok(()) } else { (self.shut)(&mut self.writer) }
    }

    /// Whether [`Link::wait`] has flushed all. Reports its errors, after what the peer had sent before.
    fn flush(&mut self) -> Result<bool, W::Error> {
        match self.write_error.take_if(|(_, reads)| *reads == 0) {
            Some((error, _)) => Err(error),
            None => Ok(!self.unflushed && self.write_error.is_none()),
        }
    }
}

impl<R, W: ErrorType, C, D, const N: usize> fmt::Debug for Link<R, W, C, D, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("unflushed", &self.unflushed).finish_non_exhaustive()
    }
}

/// Waits until one of three futures is done; returns whether one was done at once.
async fn any(
    read: impl Future<Output = ()>,
    write: impl Future<Output = ()>,
    timer: impl Future<Output = ()>,
) -> bool {
    let (mut read, mut write, mut timer) = (pin!(read), pin!(write), pin!(timer));
    let mut immediate = true;
    poll_fn(|context| {
        // Every time all of them: reads that are always ready must not keep writes from being polled.
        let read = read.as_mut().poll(context).is_ready();
        let written = write.as_mut().poll(context).is_ready();
        if timer.as_mut().poll(context).is_ready() || read || written {
            return Poll::Ready(immediate);
        }
        immediate = false;
        Poll::Pending
    })
    .await
}

/// A client with asynchronous calls.
pub type Client<R, W, C, D, P, const N: usize> = crate::Client<Link<R, W, C, D, N>, P>;

/// Asynchronous calls. A future that was dropped has lost nothing: the same call with the same arguments
/// continues. To wait for another event too, select between it and [`recv_chunk`](Self::recv_chunk).
impl<R, W, C, D, P, const N: usize> Client<R, W, C, D, P, N>
where
    R: Read<Error = W::Error>,
    W: Write,
    C: Fn() -> Instant,
    D: DelayNs,
    P: DerefMut<Target: Protocol>,
{
    /// Runs the handshake of `protocol` over `link`. In a handshake that proves nothing to the client it
    /// is over when the client has answered: a later call reports a refusal.
    ///
    /// # Errors
    /// [`ConnectionError::Io`], [`ConnectionError::Protocol`].
    pub async fn connect<K: Keys + ?Sized>(
        link: Link<R, W, C, D, N>,
        protocol: P,
        keys: &K,
    ) -> ConnectionResult<Self, W::Error> {
        let mut client = Self { link, connection: ResumableConnection::new(protocol) };
        client.drive(keys, |call, _| call.get_mut().poll_established()).await?;
        Ok(client)
    }

    /// Sends a message of any length. It is queued when this returns, and its end may leave with later
    /// calls: [`flush`](Self::flush) waits for that. While a message is partly sent, one of another
    /// length is refused.
    ///
    /// # Errors
    /// [`ConnectionError::Io`], [`ConnectionError::Protocol`], [`ConnectionError::Send`].
    pub async fn send(&mut self, message: &[u8]) -> ConnectionResult<(), W::Error> {
        self.drive(&NoKeys, |call, _| call.poll_send(message)).await
    }

    /// Sends a chunk of a message, and `remaining` of it follows. All of the chunk is queued, or nothing.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_chunk(
        &mut self,
        chunk: &[u8],
        remaining: Remaining,
    ) -> ConnectionResult<(), W::Error> {
        self.drive(&NoKeys, |call, _| call.poll_send_chunk(chunk, remaining)).await
    }

    /// Receives a message; of a byte stream, the bytes that have arrived. `None`: the peer sends no more.
    ///
    /// # Errors
    /// [`ConnectionError::Io`], [`ConnectionError::Protocol`];
    /// [`ConnectionError::Buffer`]: the message does not fit. `message` holds its beginning;
    /// [`recv_chunk`](Self::recv_chunk) returns the rest.
    pub async fn recv<'m>(
        &mut self,
        message: &'m mut Reassembler<SliceBuffer<'_>>,
    ) -> ConnectionResult<Option<&'m [u8]>, W::Error> {
        let received = self.drive(&NoKeys, |call, now| call.poll_recv(message, now)).await?;
        Ok(received.then(|| message.bytes()))
    }

    /// Receives a chunk of a message, which stays in the receive buffer until the next call. `None`: the
    /// peer sends no more.
    ///
    /// # Errors
    /// [`ConnectionError::Io`], [`ConnectionError::Protocol`].
    pub async fn recv_chunk(&mut self) -> Result<Option<Chunk<'_>>, ConnectionError<W::Error>> {
        self.drive(&NoKeys, |call, _| call.poll_chunk()).await?;
        Ok(self.connection.lend_chunk())
    }

    /// Sends a message and receives the reply. A call that continues one that was dropped does not
    /// send again; until the reply is received, a request of another length is refused.
    ///
    /// # Errors
    /// As [`send`](Self::send) and [`recv`](Self::recv); [`ConnectionError::PeerFinished`] if the peer
    /// sends no reply.
    pub async fn request<'m>(
        &mut self,
        request: &[u8],
        reply: &'m mut Reassembler<SliceBuffer<'_>>,
    ) -> ConnectionResult<&'m [u8], W::Error> {
        self.drive(&NoKeys, |call, now| call.poll_request(request, reply, now)).await?;
        Ok(reply.bytes())
    }

    /// Waits until all that was sent has left the transport.
    ///
    /// # Errors
    /// [`ConnectionError::Io`], [`ConnectionError::Protocol`].
    pub async fn flush(&mut self) -> ConnectionResult<(), W::Error> {
        self.drive(&NoKeys, |call, _| call.get_mut().poll_sent()).await
    }

    /// Ends the messages of this side and flushes. Those of the peer can still be received. Idempotent.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn finish(&mut self) -> ConnectionResult<(), W::Error> {
        self.connection.get_mut().finish();
        self.flush().await
    }

    /// Finishes, drops what the peer still sends, and waits until the connection is over.
    ///
    /// # Errors
    /// Why the connection failed.
    pub async fn close(&mut self) -> ConnectionResult<(), W::Error> {
        self.connection.get_mut().finish();
        self.drive(&NoKeys, |call, now| call.get_mut().poll_closed(now)).await
    }

    /// Drives the connection until `operation` is ready.
    async fn drive<A>(
        &mut self,
        keys: &(impl Keys + ?Sized),
        mut operation: impl FnMut(&mut ResumableConnection<P, W::Error>, Instant) -> Poll<A>,
    ) -> A {
        let Self { link, connection } = self;
        connection.begin_call(link.now());
        loop {
            let now = link.now();
            match connection.poll_call(link, keys, now, &mut operation) {
                CallProgress::Ready(result) => return result,
                CallProgress::Yield => link.yield_now().await,
                CallProgress::Wait(interest) => {
                    link.wait(connection.get_mut().driver_mut(), interest).await;
                }
            }
        }
    }
}
