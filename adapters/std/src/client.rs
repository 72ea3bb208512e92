//! A blocking client.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign::{Instant, Key, Peer};
use countersign_driver::{Keys, Wait};
use countersign_host::{
    Address, Caller, ClientError, ClientOptions, Clock, Post, ProtocolFactory, Received, Stream,
};

use crate::rouse::Rouse;

/// A connection to a server, for blocking programs.
///
/// All methods take `&self`: one thread may send while another receives, and several that send take
/// turns. Reading never waits for writing. Whichever thread waits first waits on the socket for all
/// of them.
///
/// Nothing happens but in calls. Where the protocol has heartbeats, a client whose threads are all
/// elsewhere gives no sign of life, and is given up by its server: leave one in
/// [`recv`](Self::recv).
///
/// For code that knows bytes alone, `&Client` is [`Read`] and [`Write`].
pub struct Client {
    stream: Stream,
    clock: Clock,
    timeout: Option<Duration>,
    max_message: usize,
    shared: Mutex<Shared>,
    /// Notified after each wait on the socket.
    moved: Condvar,
    rouse: Arc<Rouse>,
}

struct Shared {
    caller: Caller,
    /// What the thread at the socket waits for, if there is one, and how many changes it knew of.
    polling: Option<(Wait, u64)>,
}

impl Client {
    /// Connects to `address`, speaks `protocol`, and returns when the handshake is over. In a
    /// handshake that tells the client nothing, it is over when we have answered: a server that
    /// refuses us then closes, which the next call finds out.
    ///
    /// # Errors
    /// Every [`ClientError`] but [`ClientError::Send`].
    pub fn connect(
        address: &Address,
        protocol: &dyn ProtocolFactory,
        keys: &dyn Keys,
        options: &ClientOptions,
    ) -> Result<Self, ClientError> {
        let stream = address.connect(options.connect_timeout).map_err(ClientError::Connect)?;
        let rouse = Arc::new(Rouse::new().map_err(ClientError::Io)?);
        let clock = Clock::start();
        let machine =
            protocol.client(&rouse.clone().into(), clock.now()).map_err(ClientError::Start)?;
        let client = Self {
            stream,
            clock,
            timeout: options.timeout,
            max_message: options.max_message,
            shared: Mutex::new(Shared { caller: Caller::new(machine), polling: None }),
            moved: Condvar::new(),
            rouse,
        };
        client.run(keys, Caller::opened)?;
        Ok(client)
    }

    /// What `look` makes of who the peer is.
    pub fn peer<T>(&self, look: impl FnOnce(Peer<'_>) -> T) -> Option<T> {
        self.shared().caller.peer().map(look)
    }

    /// Sends `message` and returns when all of it has left this process. In a raw byte stream an
    /// empty one is nothing.
    ///
    /// # Errors
    /// Every [`ClientError`] but those of connecting. After [`ClientError::TimedOut`] the message is
    /// still on its way and is not to be sent again: it leaves as other calls, of `recv` too, get
    /// on. [`ClientError::Busy`]: another message was still on its way, and this one was not taken.
    pub fn send(&self, message: &[u8]) -> Result<(), ClientError> {
        self.post(Post::message(message.to_vec()))
    }

    /// No more messages from this side. Those of the peer can still be received. Idempotent.
    ///
    /// # Errors
    /// Every [`ClientError`] but those of connecting.
    pub fn finish(&self) -> Result<(), ClientError> {
        self.post(Post::finish())
    }

    /// The next part of a message: of a raw byte stream, whatever has arrived. `None`: the peer
    /// sends no more.
    ///
    /// # Errors
    /// Every [`ClientError`] but those of connecting and [`ClientError::Send`].
    pub fn recv_chunk(&self) -> Result<Option<Received>, ClientError> {
        self.run(&NO_KEYS, Caller::recv_chunk)
    }

    /// The next message, whole: of a raw byte stream, whatever has arrived. `None`: the peer sends
    /// no more.
    ///
    /// # Errors
    /// As [`recv_chunk`](Self::recv_chunk), and [`ClientError::TooLong`]. After a timeout, what has
    /// come of a message is kept for the next call.
    pub fn recv(&self) -> Result<Option<Vec<u8>>, ClientError> {
        self.run(&NO_KEYS, |caller| caller.recv(self.max_message))
    }

    fn post(&self, mut post: Post) -> Result<(), ClientError> {
        match self.run(&NO_KEYS, |caller| caller.post(&mut post)) {
            Err(ClientError::TimedOut) if !post.is_posted() => Err(ClientError::Busy),
            posted => posted,
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drives the connection until `done` has an answer.
    fn run<T>(
        &self,
        keys: &dyn Keys,
        mut done: impl FnMut(&mut Caller) -> Option<Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let give_up = self.timeout.map(|timeout| self.clock.now().saturating_add(timeout));
        let now = || self.clock.now();
        let mut shared = self.shared();
        loop {
            let mut wait = shared.caller.turns(&mut &self.stream, keys, now);
            let answer = done(&mut shared.caller);
            if shared.caller.wants_turn() {
                wait = shared.caller.turns(&mut &self.stream, keys, now);
                if answer.is_none() {
                    continue;
                }
            }
            // The thread at the socket may wait for what has happened, or for too little.
            let changes = shared.caller.changes();
            if shared.polling.is_some_and(|known| known != (wait, changes)) {
                self.rouse.rouse();
            }
            if let Some(answer) = answer {
                return answer;
            }
            if give_up.is_some_and(|at| at <= self.clock.now()) {
                return Err(ClientError::TimedOut);
            }
            shared = self.wait(shared, wait, give_up);
        }
    }

    /// Waits at the socket, or for the thread that does, until `give_up` at most.
    fn wait<'a>(
        &'a self,
        mut shared: MutexGuard<'a, Shared>,
        wait: Wait,
        give_up: Option<Instant>,
    ) -> MutexGuard<'a, Shared> {
        if shared.polling.is_some() {
            let left = give_up.map(|at| at.saturating_duration_since(self.clock.now()));
            return match left {
                None => self.moved.wait(shared).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let waited = self.moved.wait_timeout(shared, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        shared.polling = Some((wait, shared.caller.changes()));
        drop(shared);
        let until = wait.until.into_iter().chain(give_up).min();
        self.rouse.wait(Some(&self.stream), Wait { until, ..wait }, self.clock.now());
        let mut shared = self.shared();
        shared.polling = None;
        self.moved.notify_all();
        shared
    }
}

/// Bytes of the peer's messages, without their bounds; none more, at its end. What is left of a message
/// may be had by `recv`. Errors have the [`ClientError`] inside.
impl Read for &Client {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(self.run(&NO_KEYS, |caller| caller.read(into))?)
    }
}

/// Each write is a message, and has left this process when the call returns. Errors have the
/// [`ClientError`] inside.
impl Write for &Client {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.send(from)?;
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// After the handshake nobody asks for a key.
const NO_KEYS: Option<Key> = None;
