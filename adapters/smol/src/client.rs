//! A client.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_io::Timer;
use countersign::{Key, Peer};
use countersign_driver::Keys;
use countersign_host::{
    Address, Caller, ClientError, ClientOptions, Clock, Next, Post, ProtocolFactory, Received,
};
use futures_io::{AsyncRead, AsyncWrite};

use crate::messages::Messages;
use crate::seats::{Seat, Seats};
use crate::socket::Socket;
use crate::wire::{Deadline, Wire};

/// Turns of one poll; then it is another task's turn.
const TURNS: usize = 4;
/// After the handshake nobody asks for a key.
pub(crate) const NO_KEYS: Option<Key> = None;

/// A connection to a server, for tasks on any executor, over any transport.
///
/// All methods take `&self`: one task may send while another receives, and several that send take turns.
/// Reading never waits for writing. Closing the transport has to shut its write side, as it does in
/// [`Socket`] and in the sockets of `async-net`, but not in a bare `async_io::Async`.
///
/// Nothing happens but in calls. Where the protocol has heartbeats, a client whose tasks are all elsewhere
/// gives no sign of life, and is given up by its server: leave one in [`recv`](Self::recv).
///
/// # Cancellation
///
/// Any future of a client can be dropped at any time, and what has happened until then is kept in the
/// client: no byte that was received is lost, and none is sent twice or left out. What had come of a message
/// is there for the next call that receives. A message of [`send`](Self::send) is taken, whole, in the first
/// poll that finds that all sent before it has left, which is the very first unless another task sends. If
/// the future is dropped before that, nothing of the message is sent; if later, all of it is, as
/// other calls get on. Whoever waits for something goes on waiting, whoever else was dropped.
pub struct Client<T = Socket> {
    shared: Mutex<Shared<T>>,
    seats: Arc<Seats>,
    /// Wakes all who have a seat.
    everyone: Waker,
    clock: Clock,
    timeout: Option<Duration>,
    max_message: usize,
}

struct Shared<T> {
    caller: Caller,
    wire: Wire<T>,
    deadline: Deadline,
    /// How things were when whoever has a seat was last told: how many changes, and what is next.
    told: (u64, Next),
}

/// One call that waits, or several of one kind, one after the other.
#[derive(Debug)]
pub(crate) struct Call {
    seat: Seat,
    timer: Option<Timer>,
}

impl Client {
    /// Connects to `address`, speaks `protocol`, and returns when the handshake is over: see
    /// [`over`](Self::over).
    ///
    /// # Errors
    /// Every [`ClientError`] but [`ClientError::Send`].
    pub async fn connect(
        address: &Address,
        protocol: &dyn ProtocolFactory,
        keys: &(dyn Keys + Sync),
        options: &ClientOptions,
    ) -> Result<Self, ClientError> {
        let socket = Socket::connect(address, options.connect_timeout).await;
        let wire = Wire::new(socket.map_err(ClientError::Connect)?);
        let wire = wire.with_acknowledge(Socket::acknowledge);
        Self::open(wire, protocol, keys, options).await
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
    /// Speaks `protocol` over `transport`, as the end that connected, and returns when the handshake is
    /// over. In a handshake that tells the client nothing, it is over when we have answered: a server that
    /// refuses us then closes, which the next call finds out. To drop this is to drop `transport`.
    ///
    /// # Errors
    /// Every [`ClientError`] but [`ClientError::Connect`] and [`ClientError::Send`].
    pub async fn over(
        transport: T,
        protocol: &dyn ProtocolFactory,
        keys: &(dyn Keys + Sync),
        options: &ClientOptions,
    ) -> Result<Self, ClientError> {
        Self::open(Wire::new(transport), protocol, keys, options).await
    }

    async fn open(
        wire: Wire<T>,
        protocol: &dyn ProtocolFactory,
        keys: &(dyn Keys + Sync),
        options: &ClientOptions,
    ) -> Result<Self, ClientError> {
        let (clock, seats) = (Clock::start(), Arc::<Seats>::default());
        let everyone = Waker::from(seats.clone());
        let machine = protocol.client(&everyone, clock.now()).map_err(ClientError::Start)?;
        let (caller, deadline) = (Caller::new(machine), Deadline::new());
        let shared = Mutex::new(Shared { caller, wire, deadline, told: (0, Next::Again) });
        let (timeout, max_message) = (options.timeout, options.max_message);
        let client = Self { shared, seats, everyone, clock, timeout, max_message };
        client.call(keys, Caller::opened).await?;
        Ok(client)
    }

    /// Sends `message` and returns when all of it has left this process, the transport's buffers too. In a
    /// bare stream of bytes an empty one is nothing.
    ///
    /// # Errors
    /// Every [`ClientError`] but those of connecting. After [`ClientError::TimedOut`] the message is
    /// still on its way and is not to be sent again: it leaves as other calls, of `recv` too, get
    /// on. [`ClientError::Busy`]: another message was still on its way, and this one was not taken.
    pub async fn send(&self, message: &[u8]) -> Result<(), ClientError> {
        self.post(Post::message(message.to_vec())).await
    }

    /// No more messages from this side. Those of the peer can still be received. Idempotent.
    ///
    /// # Errors
    /// Every [`ClientError`] but those of connecting.
    pub async fn finish(&self) -> Result<(), ClientError> {
        self.post(Post::finish()).await
    }

    /// The next part of a message: of a bare stream of bytes, whatever has arrived. `None`: the peer
    /// sends no more.
    ///
    /// # Errors
    /// Every [`ClientError`] but those of connecting and [`ClientError::Send`].
    pub async fn recv_chunk(&self) -> Result<Option<Received>, ClientError> {
        self.call(&NO_KEYS, Caller::recv_chunk).await
    }

    /// The next message, whole: of a bare stream of bytes, whatever has arrived. `None`: the peer sends
    /// no more.
    ///
    /// # Errors
    /// As [`recv_chunk`](Self::recv_chunk), and [`ClientError::TooLong`]. After a timeout, what has
    /// come of a message is kept for the next call.
    pub async fn recv(&self) -> Result<Option<Vec<u8>>, ClientError> {
        self.call(&NO_KEYS, |caller| caller.recv(self.max_message)).await
    }

    /// The client as a stream and a sink of messages.
    pub fn messages(&self) -> Messages<&Self> {
        Messages::of(self)
    }

    async fn post(&self, mut post: Post) -> Result<(), ClientError> {
        match self.call(&NO_KEYS, |caller| caller.post(&mut post)).await {
            Err(ClientError::TimedOut) if !post.is_posted() => Err(ClientError::Busy),
            posted => posted,
        }
    }

    async fn call<R>(
        &self,
        keys: &(dyn Keys + Sync),
        mut done: impl FnMut(&mut Caller) -> Option<Result<R, ClientError>>,
    ) -> Result<R, ClientError> {
        let mut call = self.begin();
        poll_fn(|cx| self.poll(&mut call, cx, keys, &mut done)).await
    }

    /// Drives the connection, and asks `done` for the answer to `call`. All that is to outlast the call is
    /// in `shared`, and whatever is taken from there is returned at once.
    pub(crate) fn poll<R>(
        &self,
        call: &mut Call,
        cx: &mut Context<'_>,
        keys: &(dyn Keys + Sync),
        mut done: impl FnMut(&mut Caller) -> Option<Result<R, ClientError>>,
    ) -> Poll<Result<R, ClientError>> {
        // First, lest anything happen unheard.
        call.seat.wait(cx.waker());
        let mut shared = self.shared();
        let Shared { caller, wire, deadline, told } = &mut *shared;
        let everyone = &mut Context::from_waker(&self.everyone);
        let (mut answer, mut settled, mut changed) = (None, false, false);
        for _ in 0..TURNS {
            let now = self.clock.now();
            let next = caller.turn(&mut wire.polled(everyone), keys, now);
            answer = answer.or_else(|| done(caller));
            settled = !caller.wants_turn()
                && match next {
                    Next::Again => false,
                    Next::Wait(wait) => deadline.poll(wait.until, now, everyone).is_pending(),
                    Next::Over => true,
                };
            if settled {
                let now = (caller.changes(), next);
                changed = std::mem::replace(told, now) != now;
                break;
            }
        }
        // Whoever is woken may poll at once.
        drop(shared);
        if !settled {
            // Others first. If the answer is there, it is they who go on.
            self.everyone.wake_by_ref();
        } else if changed {
            call.seat.wake_others();
        }
        if let Some(answer) = answer {
            return Poll::Ready(answer);
        }
        match &mut call.timer {
            Some(timer) => Pin::new(timer).poll(cx).map(|_| Err(ClientError::TimedOut)),
            None => Poll::Pending,
        }
    }
}

impl<T> Client<T> {
    /// What `look` makes of who the peer is.
    pub fn peer<R>(&self, look: impl FnOnce(Peer<'_>) -> R) -> Option<R> {
        self.shared().caller.peer().map(look)
    }

    /// The longest message that is received whole, in bytes.
    pub(crate) fn max_message(&self) -> usize {
        self.max_message
    }

    /// A call that begins now.
    pub(crate) fn begin(&self) -> Call {
        Call { seat: Seat::new(&self.seats), timer: self.timeout.map(Timer::after) }
    }

    fn shared(&self) -> MutexGuard<'_, Shared<T>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Client<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
