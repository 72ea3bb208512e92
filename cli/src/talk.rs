//! Clients on one runtime or another.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;

use countersign::{Error, Instant, Outbox, Peer, Remaining, SendError};
use countersign_driver::{Chunk, Failure, Flow, Keys, Service};
use countersign_host::{
    Address, ClientError, ClientOptions, Clock, ConnectionEvent, Mailbox, ProtocolFactory,
    Received, StartError,
};
use countersign_mio::Connections;
use mio::{Events, Poll, Token};

use crate::args::ConnectAdapter;

/// A connection to a server. One thread may receive while another sends.
pub(crate) trait Talk: Send + Sync {
    /// Sends a message.
    fn send(&self, message: &[u8]) -> Result<(), ClientError>;
    /// No more messages.
    fn finish(&self) -> Result<(), ClientError>;
    /// The next part of a message; `None`: no more come.
    fn recv_chunk(&self) -> Result<Option<Received>, ClientError>;
}

/// Connects to `address` by `adapter`; returns when the handshake is over.
pub(crate) fn connect(
    adapter: ConnectAdapter,
    address: &Address,
    protocol: &dyn ProtocolFactory,
    keys: &Arc<dyn Keys + Send + Sync>,
) -> Result<Box<dyn Talk>, ClientError> {
    let options = ClientOptions::default();
    Ok(match adapter {
        ConnectAdapter::Std => {
            Box::new(countersign_std::Client::connect(address, protocol, &**keys, &options)?)
        }
        ConnectAdapter::Smol => {
            let client = countersign_smol::Client::connect(address, protocol, &**keys, &options);
            Box::new(smol::block_on(client)?)
        }
        ConnectAdapter::Mio => {
            Box::new(InLoop::connect(address, protocol, keys.clone(), &options)?)
        }
    })
}

impl Talk for countersign_std::Client {
    fn send(&self, message: &[u8]) -> Result<(), ClientError> {
        self.send(message)
    }

    fn finish(&self) -> Result<(), ClientError> {
        self.finish()
    }

    fn recv_chunk(&self) -> Result<Option<Received>, ClientError> {
        self.recv_chunk()
    }
}

impl Talk for countersign_smol::Client {
    fn send(&self, message: &[u8]) -> Result<(), ClientError> {
        smol::block_on(self.send(message))
    }

    fn finish(&self) -> Result<(), ClientError> {
        smol::block_on(self.finish())
    }

    fn recv_chunk(&self) -> Result<Option<Received>, ClientError> {
        smol::block_on(self.recv_chunk())
    }
}

/// A connection in a mio loop on a thread of its own.
struct InLoop {
    shared: Arc<Shared>,
    /// The connection's.
    wake: Waker,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    mailbox: Mailbox,
    /// The last post.
    posted: u64,
    /// The last that has left this process, with all before it.
    sent: u64,
    /// Nothing more happens.
    over: bool,
    /// What broke the connection, until somebody is told.
    lost: Option<io::Error>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done` has something, or nothing more can come.
    fn wait<T>(&self, mut done: impl FnMut(&mut State) -> Option<T>) -> Result<T, ClientError> {
        let mut state = self.state();
        loop {
            if let Some(it) = done(&mut state) {
                return Ok(it);
            }
            if state.over {
                return Err(match (state.mailbox.closed(), state.lost.take()) {
                    (_, Some(error)) => ClientError::Io(error),
                    (Some(Ok(())), _) => ClientError::Send(SendError::Ended),
                    (None | Some(Err(Error::Transport)), _) => {
                        ClientError::Io(io::ErrorKind::NotConnected.into())
                    }
                    (Some(Err(error)), _) => ClientError::Protocol(error),
                });
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// All that was posted until then has left, unless the mailbox still has some of it.
    fn sent(&self, posted: u64) {
        let mut state = self.state();
        if state.mailbox.is_empty() && !matches!(state.mailbox.closed(), Some(Err(_))) {
            state.sent = posted;
            self.changed.notify_all();
        }
    }

    fn end(&self, lost: Option<io::Error>) {
        let mut state = self.state();
        (state.lost, state.over) = (lost, true);
        self.changed.notify_all();
    }
}

impl InLoop {
    fn connect(
        address: &Address,
        protocol: &dyn ProtocolFactory,
        keys: Arc<dyn Keys + Send + Sync>,
        options: &ClientOptions,
    ) -> Result<Self, ClientError> {
        let stream = address.connect(options.connect_timeout).map_err(ClientError::Connect)?;
        let origin = stream.peer().map_err(ClientError::Connect)?;
        let (shared, clock) = (Arc::<Shared>::default(), Clock::start());
        let poll = Poll::new().map_err(ClientError::Io)?;
        let connections = Connections::new(poll.registry(), Token(usize::MAX));
        let mut connections = connections.map_err(ClientError::Io)?;
        let mut waker = None;
        let made = connections.insert(stream, origin, (), |wake, _| {
            let machine = protocol.client(wake, clock.now()).map_err(NotBegun::Start)?;
            waker = Some(wake.clone());
            Ok::<_, NotBegun>((machine, Relay(shared.clone())))
        });
        made.map_err(|why| match why {
            NotBegun::Io(error) => ClientError::Io(error),
            NotBegun::Start(error) => ClientError::Start(error),
        })?;
        let wake = waker.unwrap_or_else(|| Waker::noop().clone());
        let told = shared.clone();
        thread::spawn(move || run(poll, connections, &*keys, clock, &told));
        shared.wait(|state| state.mailbox.is_open().then_some(()))?;
        Ok(Self { shared, wake })
    }
}

enum NotBegun {
    Io(io::Error),
    Start(StartError),
}

impl From<io::Error> for NotBegun {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The loop, as long as there is the connection.
fn run(
    mut poll: Poll,
    mut connections: Connections<Relay>,
    keys: &dyn Keys,
    clock: Clock,
    shared: &Shared,
) {
    let mut events = Events::with_capacity(8);
    loop {
        let posted = shared.state().posted;
        connections.run(keys, clock.now(), |notice, ()| {
            if let ConnectionEvent::Ended(ended) = notice {
                shared.end(match ended.how {
                    Err(Failure::Io(error)) => Some(error),
                    _ => None,
                });
            }
        });
        if connections.all_sent() {
            shared.sent(posted);
        }
        if connections.is_empty() {
            return;
        }
        match poll.poll(&mut events, connections.timeout(clock.now())) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return shared.end(Some(error)),
            Ok(()) => {}
        }
        for event in &events {
            connections.ready(event);
        }
    }
}

impl InLoop {
    /// Waits until all of it has left this process.
    fn post(&self, post: impl FnOnce(&mut Mailbox) -> u64) -> Result<(), ClientError> {
        let mut post = Some(post);
        let number = self.shared.wait(|state| {
            let free = state.mailbox.is_empty() && state.mailbox.closed().is_none();
            let post = post.take_if(|_| free)?;
            state.posted = post(&mut state.mailbox);
            self.wake.wake_by_ref();
            Some(state.posted)
        })?;
        self.shared.wait(|state| match state.mailbox.refused(number) {
            Some(refused) => Some(Err(ClientError::Send(refused))),
            None => (state.sent >= number).then_some(Ok(())),
        })?
    }
}

impl Talk for InLoop {
    fn send(&self, message: &[u8]) -> Result<(), ClientError> {
        self.post(|mailbox| mailbox.post(message.to_vec(), Remaining::End))
    }

    fn finish(&self) -> Result<(), ClientError> {
        match self.post(Mailbox::finish) {
            // Both sides had.
            Err(ClientError::Send(SendError::Ended)) => Ok(()),
            finished => finished,
        }
    }

    fn recv_chunk(&self) -> Result<Option<Received>, ClientError> {
        self.shared.wait(|state| {
            if let Some(received) = state.mailbox.take() {
                self.wake.wake_by_ref();
                return Some(Some(received));
            }
            state.mailbox.peer_finished().then_some(None)
        })
    }
}

/// The mailbox, in the loop.
struct Relay(Arc<Shared>);

impl Relay {
    fn with<T>(&self, call: impl FnOnce(&mut Mailbox) -> T) -> T {
        let done = call(&mut self.0.state().mailbox);
        self.0.changed.notify_all();
        done
    }
}

impl Service for Relay {
    fn on_open(&mut self, peer: &Peer<'_>, out: &mut Outbox<'_>, now: Instant) {
        self.with(|mailbox| mailbox.on_open(peer, out, now));
    }

    fn on_message(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow {
        self.with(|mailbox| mailbox.on_message(chunk, out, now))
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.with(|mailbox| mailbox.on_writable(out, now));
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.with(|mailbox| mailbox.on_wake(out, now));
    }

    fn on_finished(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.with(|mailbox| mailbox.on_finished(out, now));
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        self.with(|mailbox| mailbox.on_closed(why));
    }
}
