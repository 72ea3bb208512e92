//! Over `embedded_io_async`, on any executor: one connection, one task.
//!
//! # Cancellation
//!
//! A future of this module can be dropped at any await: whatever has happened is kept in the link, the
//! connection, the client and the [`Message`], and the next call goes on from there. What was sent is
//! either queued or not, what was received is still to be had, and no byte is lost or doubled.
//! That takes halves whose `read` and `write`, dropped unfinished, have read or written nothing, as their
//! traits encourage and as sockets, pipes and buffered UARTs do; the link itself drops one whenever
//! something else happens first. Those that move bytes by DMA straight from and to the caller's buffer
//! may not: put a buffered half around them.

use core::fmt;
use core::future::{Future, pending, poll_fn};
use core::ops::DerefMut;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;

use countersign::{Instant, Peer, Protocol, Remaining, SendError};
use countersign_driver::{Chunk, Connection, Failure, Io, Keys, Progress, Service, Wait};
use embedded_hal_async::delay::DelayNs;
use embedded_io::ErrorKind;
use embedded_io_async::{ErrorType, Read, Write};

use crate::client::{ClientError, Message, NO_KEYS, Talk};

/// Waits in a row that may be over at once; then other tasks get their turn.
const STREAK: u8 = 8;
/// Reads of what a peer had sent before writing to it failed; then it is lost.
const BROKEN_READS: u8 = 64;
/// How long each of them may take: what has come is there, if not always at the first look.
const BROKEN_WAIT: Duration = Duration::from_millis(10);

/// The two halves of a transport, a clock and a timer.
///
/// Reading needs `N` bytes of its own, since the machine can be read to or written from, not both at
/// once: 64 are enough for a UART, a network wants some hundred. Writing needs none.
pub struct Link<R, W: ErrorType, C, D, const N: usize> {
    reader: R,
    writer: W,
    clock: C,
    delay: D,
    shut: fn(&mut W) -> Result<(), W::Error>,
    /// What was read and is not yet taken: from `taken` to `filled`.
    chunk: [u8; N],
    taken: usize,
    filled: usize,
    eof: bool,
    read_error: Option<W::Error>,
    write_error: Option<W::Error>,
    /// How often what had come before writing failed may yet be read.
    reads_left: u8,
    /// Something was written and not flushed.
    dirty: bool,
    /// The write side is to be shut once all is flushed.
    shutting: bool,
    /// Waits in a row that were over at once.
    streak: u8,
}

impl<R, W, C, D, const N: usize> Link<R, W, C, D, N>
where
    R: Read<Error = W::Error>,
    W: Write,
    C: Fn() -> Instant,
    D: DelayNs,
{
    /// A link over a transport of these halves.
    pub fn new(reader: R, writer: W, clock: C, delay: D) -> Self {
        const { assert!(N > 0, "nothing can be read to no bytes") };
        Self {
            reader,
            writer,
            clock,
            delay,
            shut: |_| Ok(()),
            chunk: [0; N],
            taken: 0,
            filled: 0,
            eof: false,
            read_error: None,
            write_error: None,
            reads_left: BROKEN_READS,
            dirty: false,
            shutting: false,
            streak: 0,
        }
    }

    /// How the transport's write side is shut, where it can be.
    #[must_use]
    pub fn with_shut(self, shut: fn(&mut W) -> Result<(), W::Error>) -> Self {
        Self { shut, ..self }
    }

    /// The halves again.
    pub fn into_halves(self) -> (R, W) {
        (self.reader, self.writer)
    }

    /// Now.
    pub fn now(&self) -> Instant {
        (self.clock)()
    }

    /// Runs the service of `connection` until the connection is over. To wake or stop the connection
    /// meanwhile, drop this, do so, and call again.
    ///
    /// # Errors
    /// Why it ended, if not in order.
    pub async fn run<M: DerefMut<Target: Protocol>, S: Service, K: Keys + ?Sized>(
        &mut self,
        connection: &mut Connection<M, S>,
        keys: &K,
    ) -> Result<(), Failure<W::Error>> {
        loop {
            match self.turn(connection, keys) {
                Progress::Yield => self.yield_now().await,
                // The connection says so once; what fails here has nothing left to say.
                Progress::Closed(how @ Err(Failure::Io(_))) => return how,
                Progress::Closed(how) => {
                    self.settle().await;
                    return how;
                }
                Progress::Wait(wait) => self.wait(connection, wait).await,
            }
        }
    }

    /// One turn, which waits for nothing; then [`wait`](Self::wait).
    pub fn turn<M: DerefMut<Target: Protocol>, S: Service, K: Keys + ?Sized>(
        &mut self,
        connection: &mut Connection<M, S>,
        keys: &K,
    ) -> Progress<W::Error> {
        let now = self.now();
        connection.turn(self, keys, now)
    }

    /// Waits for what a turn of `connection` said, and reads and writes it.
    pub async fn wait<M: DerefMut<Target: Protocol>, S: Service>(
        &mut self,
        connection: &mut Connection<M, S>,
        wait: Wait,
    ) {
        let now = self.now();
        let broken = self.write_error.is_some();
        let to_write = if broken { &[][..] } else { connection.transmit(now) };
        let flushing = to_write.is_empty();
        let Self { reader, writer, chunk, delay, .. } = self;
        let reads = wait.read && self.taken == self.filled;
        let read = async { if reads { reader.read(chunk).await } else { pending().await } };
        let write = async {
            match to_write {
                [] if self.dirty => writer.flush().await.map(|()| 0),
                [] => pending().await,
                bytes => writer.write(bytes).await,
            }
        };
        let due = async {
            match wait.until {
                _ if broken => delay.delay_us(micros(BROKEN_WAIT)).await,
                // Woken too early, there is another turn and another wait.
                Some(at) => delay.delay_us(micros(at.saturating_duration_since(now))).await,
                None => pending().await,
            }
        };
        let Done { came, went, at_once } = any(read, write, due).await;
        if let (Some(Ok(n)), false) = (&went, flushing) {
            connection.transmitted(*n, self.now());
        }
        self.note(came, went, flushing);
        self.streak = if at_once { self.streak + 1 } else { 0 };
        if self.streak >= STREAK {
            self.yield_now().await;
        }
    }

    /// What a wait came to.
    fn note(
        &mut self,
        came: Option<Result<usize, W::Error>>,
        went: Option<Result<usize, W::Error>>,
        flushing: bool,
    ) {
        if self.write_error.is_some() {
            self.reads_left = if came.is_some() { self.reads_left.saturating_sub(1) } else { 0 };
        }
        match came {
            Some(Ok(0)) => self.eof = true,
            Some(Ok(n)) => (self.taken, self.filled) = (0, n.min(N)),
            Some(Err(error)) if is_interruption(&error) => {}
            Some(Err(error)) => self.read_error = Some(error),
            None => {}
        }
        match went {
            // What a flush could not deliver is missed by the peer, whose silence, or end, we notice.
            Some(_) if flushing => {
                self.dirty = false;
                if core::mem::take(&mut self.shutting) {
                    let _ = (self.shut)(&mut self.writer);
                }
            }
            Some(Ok(_)) => self.dirty = true,
            Some(Err(error)) if is_interruption(&error) => {}
            Some(Err(error)) => self.write_error = Some(error),
            None => {}
        }
    }

    /// The connection is over: has its last bytes leave the writer, and waits 1 s for it at most.
    async fn settle(&mut self) {
        if self.dirty {
            let Self { writer, delay, .. } = self;
            let flush = async { writer.flush().await.map(|()| 0) };
            let went = any(pending::<()>(), flush, delay.delay_ms(1_000)).await.went;
            self.note(None, went.or(Some(Ok(0))), true);
        }
    }

    /// Lets other tasks run.
    async fn yield_now(&mut self) {
        self.streak = 0;
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

impl<R, W, C, D, const N: usize> Io for Link<R, W, C, D, N>
where
    R: Read<Error = W::Error>,
    W: Write,
{
    type Error = W::Error;

    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, W::Error> {
        let came = &self.chunk[self.taken..self.filled];
        if came.is_empty() {
            return match self.read_error.take() {
                Some(error) => Err(error),
                None => Ok(self.eof.then_some(0)),
            };
        }
        let n = came.len().min(into.len());
        into[..n].copy_from_slice(&came[..n]);
        self.taken += n;
        Ok(Some(n))
    }

    /// Writing takes waiting.
    fn write(&mut self, _: &[u8]) -> Result<Option<usize>, W::Error> {
        // What the peer had sent before is read first.
        match self.write_error.take_if(|_| self.reads_left == 0) {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    fn shut_write(&mut self) -> Result<(), W::Error> {
        self.shutting = self.dirty;
        if self.dirty { Ok(()) } else { (self.shut)(&mut self.writer) }
    }
}

impl<R, W: ErrorType, C, D, const N: usize> fmt::Debug for Link<R, W, C, D, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("eof", &self.eof).finish_non_exhaustive()
    }
}

fn is_interruption(error: &impl embedded_io::Error) -> bool {
    error.kind() == ErrorKind::Interrupted
}

/// As many microseconds as a timer takes, some 71 minutes.
fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// What was done of three things.
struct Done<A, B> {
    came: Option<A>,
    went: Option<B>,
    /// Nobody else had a turn meanwhile.
    at_once: bool,
}

/// Waits until any of three is done. All are looked at each time: what is done
/// and not looked at would be lost.
async fn any<A, B>(
    read: impl Future<Output = A>,
    write: impl Future<Output = B>,
    due: impl Future<Output = ()>,
) -> Done<A, B> {
    let (mut read, mut write, mut due) = (pin!(read), pin!(write), pin!(due));
    let mut at_once = true;
    poll_fn(|context| {
        let came = ready(read.as_mut().poll(context));
        let went = ready(write.as_mut().poll(context));
        let due = due.as_mut().poll(context).is_ready();
        if due || came.is_some() || went.is_some() {
            return Poll::Ready(Done { came, went, at_once });
        }
        at_once = false;
        Poll::Pending
    })
    .await
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

/// A conversation for programs that call. Nothing happens but while one of its futures is awaited: where
/// there are heartbeats, a client that is not awaited for longer than the peer is patient is given up.
/// To wait for something else at the same time, select between that and [`recv_chunk`](Self::recv_chunk):
/// dropped, it loses nothing.
#[derive(Debug)]
pub struct Client<R, W: ErrorType, C, D, M, const N: usize> {
    link: Link<R, W, C, D, N>,
    talk: Talk<M>,
}

impl<R, W, C, D, M, const N: usize> Client<R, W, C, D, M, N>
where
    R: Read<Error = W::Error>,
    W: Write,
    C: Fn() -> Instant,
    D: DelayNs,
    M: DerefMut<Target: Protocol>,
{
    /// Speaks as `machine` over `link` until the handshake is over. In a handshake that tells the
    /// client nothing, that is when we have answered: a refusal is found out by a later call.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Protocol`].
    pub async fn connect<K: Keys + ?Sized>(
        link: Link<R, W, C, D, N>,
        machine: M,
        keys: &K,
    ) -> Result<Self, ClientError<W::Error>> {
        let mut client = Self { link, talk: Talk::new(machine) };
        client.drive(keys, |talk, _| talk.opened()).await?;
        Ok(client)
    }

    /// Who the peer is.
    pub fn peer(&self) -> Option<Peer<'_>> {
        self.talk.connection.peer()
    }

    /// Sends a message of any length. When this returns, all of it is queued, and the last of it may
    /// leave with later calls: [`flush`](Self::flush) waits until it has. Dropped before it returns,
    /// it has queued nothing, or of a message longer than one part its first parts: then a call with
    /// the same message goes on with it, and one with a message of another length is refused.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Protocol`], [`ClientError::Send`].
    pub async fn send(&mut self, message: &[u8]) -> Result<(), ClientError<W::Error>> {
        self.drive(&NO_KEYS, |talk, _| talk.send(message)).await
    }

    /// Sends a part of a message that `rest` follows, all of it or, dropped before it returns, nothing.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Protocol`], [`ClientError::Send`].
    pub async fn send_chunk(
        &mut self,
        chunk: &[u8],
        remaining: Remaining,
    ) -> Result<(), ClientError<W::Error>> {
        self.drive(&NO_KEYS, |talk, _| talk.put(|out| out.send_chunk(chunk, remaining))).await
    }

    /// Waits until all that was sent has left the transport.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Protocol`].
    pub async fn flush(&mut self) -> Result<(), ClientError<W::Error>> {
        loop {
            self.drive(&NO_KEYS, Talk::written).await?;
            if !self.link.dirty {
                return Ok(());
            }
            // What the transport holds back leaves while we wait, for whatever it is.
            match self.link.turn(&mut self.talk.connection, &NO_KEYS) {
                Progress::Wait(wait) => self.link.wait(&mut self.talk.connection, wait).await,
                Progress::Yield => self.link.yield_now().await,
                Progress::Closed(how) => return how.map_err(Into::into),
            }
        }
    }

    /// The next part of a message, where the session keeps it: of a byte stream, whatever has
    /// arrived. `None`: the peer sends no more. With the next call we are done with it; dropped before
    /// it returns, it has taken nothing.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Protocol`].
    pub async fn recv_chunk(&mut self) -> Result<Option<Chunk<'_>>, ClientError<W::Error>> {
        self.drive(&NO_KEYS, |talk, _| talk.look()).await?;
        Ok(self.talk.lend())
    }

    /// The next message, whole: of a byte stream, whatever has arrived. `None`: the peer sends no
    /// more. Dropped before it returns, what came is in `message`: a call with the same goes on with it.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Protocol`], [`ClientError::TooLong`].
    pub async fn recv<'m>(
        &mut self,
        message: &'m mut Message<'_>,
    ) -> Result<Option<&'m [u8]>, ClientError<W::Error>> {
        if message.is_whole() {
            message.clear();
        }
        let came = self.drive(&NO_KEYS, |talk, now| talk.gather(message, now)).await?;
        Ok(came.then(|| message.bytes()))
    }

    /// No more messages from this side. Those of the peer can still be received. Idempotent.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Protocol`].
    pub async fn finish(&mut self) -> Result<(), ClientError<W::Error>> {
        self.talk.connection.outbox().finish();
        self.flush().await
    }

    /// Finishes, throws away what the peer still sends, and waits until both sides are done and the
    /// transport can be dropped.
    ///
    /// # Errors
    /// Why it did not end in order.
    pub async fn close(&mut self) -> Result<(), ClientError<W::Error>> {
        self.talk.connection.outbox().finish();
        match self.drive(&NO_KEYS, Talk::discard).await {
            Err(ClientError::Send(SendError::Ended)) => Ok(()),
            closed => closed,
        }
    }

    /// The link again.
    pub fn into_link(self) -> Link<R, W, C, D, N> {
        self.link
    }

    /// Drives the connection until `done` has an answer.
    async fn drive<A, K: Keys + ?Sized>(
        &mut self,
        keys: &K,
        mut done: impl FnMut(&mut Talk<M>, Instant) -> Poll<Result<A, ClientError<W::Error>>>,
    ) -> Result<A, ClientError<W::Error>> {
        self.talk.take_back(self.link.now());
        loop {
            if let Poll::Ready(answer) = done(&mut self.talk, self.link.now()) {
                return answer;
            }
            let known = self.talk.changes();
            match self.link.turn(&mut self.talk.connection, keys) {
                Progress::Closed(Err(failure)) => return Err(failure.into()),
                Progress::Closed(Ok(())) => {
                    self.link.settle().await;
                    let answer = done(&mut self.talk, self.link.now());
                    let Poll::Ready(answer) = answer else { return Err(self.talk.ended()) };
                    return answer;
                }
                Progress::Wait(wait) if known == self.talk.changes() => {
                    if let Poll::Ready(answer) = done(&mut self.talk, self.link.now()) {
                        return answer;
                    }
                    self.link.wait(&mut self.talk.connection, wait).await;
                }
                Progress::Wait(_) => {}
                Progress::Yield => self.link.yield_now().await,
            }
        }
    }
}
