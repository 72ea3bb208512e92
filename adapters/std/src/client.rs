//! A blocking client.

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign::{Error, Instant, Key, Peer, Rest, SendError};
use countersign_drive::{
    Address, BoxedMachine, Clock, Connection, Failure, Keys, Mailbox, Protocol, Received,
    StartError, Stream, Turn, Wait,
};

use crate::rouse::Rouse;

/// How long a [`Client`] waits.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ClientOptions {
    /// For the connection to be made, per address of the host. The handshake has its own deadline.
    pub connect_timeout: Duration,
    /// For each call to get on; `None` for as long as it takes.
    pub timeout: Option<Duration>,
    /// The longest message that [`Client::recv`] puts together, in bytes.
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
    /// The message is longer than [`ClientOptions::max_message`]. What came of it is lost, and the
    /// rest is still to come: take it in parts.
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

/// A connection to a server, for blocking programs.
///
/// All methods take `&self`: one thread may send while another receives, and several that send take
/// turns. Reading never waits for writing. Whichever thread waits first waits on the socket for all
/// of them.
///
/// Nothing happens but in calls. Where the protocol has heartbeats, a client whose threads are all
/// elsewhere gives no sign of life, and is given up by its server: leave one in
/// [`recv`](Self::recv).
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
    connection: Connection<BoxedMachine, Mailbox>,
    /// What the thread at the socket waits for, if there is one, and how many changes it knew of.
    polling: Option<(Wait, u64)>,
    /// Whether all that was sent has left.
    flushed: bool,
    lost: Option<io::Error>,
}

impl Client {
    /// Connects to `address`, speaks `protocol`, and returns when the handshake is over. In a
    /// handshake that tells the client nothing, as `challenge` is, it is over when we have answered:
    /// a server that refuses us then closes, which the next call finds out.
    ///
    /// # Errors
    /// Every [`ClientError`] but [`ClientError::Send`].
    pub fn connect(
        address: &Address,
        protocol: &dyn Protocol,
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
            shared: Mutex::new(Shared {
                connection: Connection::new(machine, Mailbox::default()),
                polling: None,
                flushed: false,
                lost: None,
            }),
            moved: Condvar::new(),
            rouse,
        };
        client.run(keys, |shared| shared.connection.service().is_open().then_some(Ok(())))?;
        Ok(client)
    }

    /// What `look` makes of who the peer is.
    pub fn peer<T>(&self, look: impl FnOnce(Peer<'_>) -> T) -> Option<T> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.connection.peer().map(look)
    }

    /// Sends `message` and returns when all of it has left this process. In a raw byte stream an
    /// empty one is nothing.
    ///
    /// # Errors
    /// Every [`ClientError`] but those of connecting. After [`ClientError::TimedOut`] the message is
    /// still on its way and is not to be sent again: it leaves as other calls, of `recv` too, get
    /// on. [`ClientError::Busy`]: another message was still on its way, and this one was not taken.
    pub fn send(&self, message: &[u8]) -> Result<(), ClientError> {
        self.post(|mailbox| mailbox.post(message.to_vec(), Rest::End))
    }

    /// No more messages from this side. Those of the peer can still be received. Idempotent.
    ///
    /// # Errors
    /// Every [`ClientError`] but those of connecting.
    pub fn finish(&self) -> Result<(), ClientError> {
        match self.post(Mailbox::finish) {
            // Both sides had.
            Err(ClientError::Send(SendError::Ended)) => Ok(()),
            finished => finished,
        }
    }

    /// The next part of a message: of a raw byte stream, whatever has arrived. `None`: the peer
    /// sends no more.
    ///
    /// # Errors
    /// Every [`ClientError`] but those of connecting and [`ClientError::Send`].
    pub fn recv_part(&self) -> Result<Option<Received>, ClientError> {
        self.run(&NO_KEYS, |shared| {
            let mailbox = shared.connection.service_mut();
            let received = mailbox.take();
            if received.is_some() {
                shared.connection.wake();
                return Some(Ok(received));
            }
            mailbox.peer_finished().then_some(Ok(None))
        })
    }

    /// The next message, whole: of a raw byte stream, whatever has arrived. `None`: the peer sends
    /// no more.
    ///
    /// # Errors
    /// As [`recv_part`](Self::recv_part), and [`ClientError::TooLong`]. After a timeout within a message its first parts are
    /// lost; who sets a timeout and expects long messages takes them in parts.
    pub fn recv(&self) -> Result<Option<Vec<u8>>, ClientError> {
        let mut message = Vec::new();
        loop {
            let Some(Received { bytes, rest, .. }) = self.recv_part()? else { return Ok(None) };
            if message.len() + bytes.len() > self.max_message {
                return Err(ClientError::TooLong);
            }
            if message.is_empty() {
                message = bytes;
            } else {
                message.extend_from_slice(&bytes);
            }
            if matches!(rest, Rest::End | Rest::Unknown) {
                return Ok(Some(message));
            }
        }
    }

    /// Puts something in the mailbox once there is room, and waits until it has left.
    fn post(&self, put: impl FnOnce(&mut Mailbox) -> u64) -> Result<(), ClientError> {
        let (mut put, mut post) = (Some(put), None);
        let posted = self.run(&NO_KEYS, |shared| {
            let mailbox = shared.connection.service_mut();
            if let Some(refused) = post.and_then(|post| mailbox.refused(post)) {
                return Some(Err(ClientError::Send(refused)));
            }
            if matches!(mailbox.closed(), Some(Err(_))) {
                // What it had posted is gone with it.
                return None;
            }
            if !mailbox.is_empty() || !shared.flushed {
                return None;
            }
            match put.take() {
                None => Some(Ok(())),
                Some(put) => {
                    post = Some(put(mailbox));
                    shared.flushed = false;
                    shared.connection.wake();
                    None
                }
            }
        });
        match posted {
            Err(ClientError::TimedOut) if put.is_some() => Err(ClientError::Busy),
            posted => posted,
        }
    }

    /// Drives the connection until `done` has an answer.
    fn run<T>(
        &self,
        keys: &dyn Keys,
        mut done: impl FnMut(&mut Shared) -> Option<Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let give_up = self.timeout.map(|timeout| self.clock.now().saturating_add(timeout));
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut wait = self.turn(&mut shared, keys);
            let answer = done(&mut shared).or_else(|| shared.error().map(Err));
            if shared.connection.is_woken() {
                // `done` gave the connection something to do.
                wait = self.turn(&mut shared, keys);
                if answer.is_none() {
                    continue;
                }
            }
            // The thread at the socket may wait for what has happened, or for too little.
            let changes = shared.connection.service().changes();
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

    /// Turns until there is nothing to do but wait.
    fn turn(&self, shared: &mut Shared, keys: &dyn Keys) -> Wait {
        loop {
            match shared.connection.turn(&mut &self.stream, keys, self.clock.now()) {
                Turn::Again => {}
                Turn::Wait(wait) => {
                    shared.flushed = !wait.write;
                    return wait;
                }
                Turn::Over(how) => {
                    shared.flushed = true;
                    if let Err(Failure::Io(error)) = how {
                        shared.lost = Some(error);
                    }
                    return Wait { read: false, write: false, until: None };
                }
            }
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
        shared.polling = Some((wait, shared.connection.service().changes()));
        drop(shared);
        let until = wait.until.into_iter().chain(give_up).min();
        self.rouse.wait(Some(&self.stream), Wait { until, ..wait }, self.clock.now());
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.polling = None;
        self.moved.notify_all();
        shared
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Shared {
    /// Why nothing more will happen, if that is so.
    fn error(&mut self) -> Option<ClientError> {
        match self.connection.service().closed()? {
            Ok(()) => Some(ClientError::Send(SendError::Ended)),
            Err(Error::Lost) => Some(ClientError::Io(match self.lost.take() {
                Some(error) => error,
                None => io::ErrorKind::NotConnected.into(),
            })),
            Err(error) => Some(ClientError::Protocol(error)),
        }
    }
}

/// After the handshake nobody asks for a key.
const NO_KEYS: Option<Key> = None;
