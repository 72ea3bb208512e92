//! Blocking clients on each adapter.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;

use countersign::{Error, Instant, Outbox, Peer, SendError};
use countersign_driver::{Chunk, Failure, Flow, Keys, QueueError, SendQueue, StreamService};
use countersign_host::{
    Address, CallError, Clock, ConnectionEvent, ConnectionOptions, Connector, MessageBytes,
    OwnedChunk, ProtocolFactory, StartError,
};
use countersign_mio::Connections;
use mio::{Events, Poll, Token};

use crate::args::ConnectAdapter;

/// A connection to a server. One thread can receive while another sends.
pub(crate) trait BlockingClient: Send + Sync {
    /// Sends a message; returns when it has left this process.
    fn send(&self, message: &[u8]) -> Result<(), CallError>;
    /// Ends this side of the stream.
    fn finish(&self) -> Result<(), CallError>;
    /// The next chunk of a message; `None` after the server's end of stream.
    fn recv_chunk(&self) -> Result<Option<OwnedChunk>, CallError>;
}

/// Connects to `address` on `adapter`; returns when the handshake is complete.
pub(crate) fn connect(
    adapter: ConnectAdapter,
    address: &Address,
    factory: &Arc<dyn ProtocolFactory>,
    keys: Arc<dyn Keys + Send + Sync>,
) -> Result<Box<dyn BlockingClient>, CallError> {
    let connector = Connector::of(address.clone(), factory.clone(), keys.clone());
    Ok(match adapter {
        ConnectAdapter::Std => Box::new(countersign_std::Connection::connect(&connector)?),
        ConnectAdapter::Smol => {
            Box::new(smol::block_on(countersign_smol::Connection::connect(&connector))?)
        }
        ConnectAdapter::Mio => Box::new(LoopClient::connect(&connector, &**factory, keys)?),
    })
}

impl BlockingClient for countersign_std::Connection {
    fn send(&self, message: &[u8]) -> Result<(), CallError> {
        self.send(message)
    }

    fn finish(&self) -> Result<(), CallError> {
        self.finish()
    }

    fn recv_chunk(&self) -> Result<Option<OwnedChunk>, CallError> {
        self.recv_chunk()
    }
}

impl BlockingClient for countersign_smol::Connection {
    fn send(&self, message: &[u8]) -> Result<(), CallError> {
        smol::block_on(self.send(message))
    }

    fn finish(&self) -> Result<(), CallError> {
        smol::block_on(self.finish())
    }

    fn recv_chunk(&self) -> Result<Option<OwnedChunk>, CallError> {
        smol::block_on(self.recv_chunk())
    }
}

/// A connection in a mio loop on a thread of its own.
struct LoopClient {
    shared: Arc<Shared>,
    /// Wakes the connection.
    waker: Waker,
}

/// What the loop and the callers share.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    established: bool,
    /// The chunk that was received last and not yet taken.
    chunk: Option<OwnedChunk>,
    peer_finished: bool,
    /// What is to be sent next.
    outgoing: Option<Outgoing>,
    /// Counts what callers gave to be sent.
    given: u64,
    /// The value of `given` up to which everything has left this process.
    sent: u64,
    /// Whether the service still queues some of it.
    queued: bool,
    /// Why the last of it was refused.
    refused: Option<QueueError>,
    closed: Option<Result<(), Error>>,
    /// The loop has ended.
    over: bool,
    /// The transport error that ended the connection, until a caller gets it.
    lost: Option<io::Error>,
}

enum Outgoing {
    Message(Vec<u8>),
    Finish,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, update: impl FnOnce(&mut State)) {
        update(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until `done` returns a value or the connection has ended.
    fn wait<T>(&self, mut done: impl FnMut(&mut State) -> Option<T>) -> Result<T, CallError> {
        let mut state = self.lock();
        loop {
            if let Some(value) = done(&mut state) {
                return Ok(value);
            }
            if state.over {
                return Err(match (state.lost.take(), state.closed) {
                    (Some(error), _) => CallError::Io(error),
                    (None, Some(Ok(()))) => CallError::Send(SendError::Ended),
                    (None, None | Some(Err(Error::Transport))) => {
                        CallError::Io(io::ErrorKind::NotConnected.into())
                    }
                    (None, Some(Err(error))) => CallError::Protocol(error),
                });
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Why the connection could not be added to the loop.
enum InsertError {
    Io(io::Error),
    Start(StartError),
}

impl From<io::Error> for InsertError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl LoopClient {
    fn connect(
        connector: &Connector,
        factory: &dyn ProtocolFactory,
        keys: Arc<dyn Keys + Send + Sync>,
    ) -> Result<Self, CallError> {
        let ConnectionOptions { connect_timeout, message_memory, .. } = connector.options();
        let stream = connector.address().connect(*connect_timeout).map_err(CallError::Connect)?;
        let (shared, clock) = (Arc::<Shared>::default(), Clock::start());
        let poll = Poll::new().map_err(CallError::Io)?;
        let connections = Connections::new(poll.registry(), Token(usize::MAX));
        let mut connections = connections.map_err(CallError::Io)?;
        let mut waker = Waker::noop().clone();
        let inserted = connections.insert(stream, (), |connection_waker, _, ()| {
            let protocol = factory
                .client(&connection_waker.into(), clock.now())
                .map_err(InsertError::Start)?;
            waker = connection_waker.clone();
            let queue = SendQueue::new(message_memory.buffer());
            Ok::<_, InsertError>((protocol, LoopService { shared: shared.clone(), queue }))
        });
        inserted.map_err(|error| match error {
            InsertError::Io(error) => CallError::Io(error),
            InsertError::Start(error) => CallError::Start(error),
        })?;
        let running = shared.clone();
        thread::spawn(move || run(poll, connections, &*keys, clock, &running));
        shared.wait(|state| state.established.then_some(()))?;
        Ok(Self { shared, waker })
    }

    /// Sends when everything before has been taken; returns when it has left this process.
    fn give(&self, outgoing: Outgoing) -> Result<(), CallError> {
        let mut outgoing = Some(outgoing);
        let given = self.shared.wait(|state| {
            if state.outgoing.is_some() || state.queued || state.closed.is_some() {
                return None;
            }
            state.outgoing = outgoing.take();
            (state.given, state.refused) = (state.given + 1, None);
            self.waker.wake_by_ref();
            Some(state.given)
        })?;
        self.shared.wait(|state| match state.refused {
            Some(QueueError::Send(refused)) => Some(Err(CallError::Send(refused))),
            Some(QueueError::MemoryExhausted) => Some(Err(CallError::MemoryExhausted)),
            None => (state.sent >= given).then_some(Ok(())),
        })?
    }
}

/// Runs the loop until the connection has ended.
fn run(
    mut poll: Poll,
    mut connections: Connections<LoopService>,
    keys: &dyn Keys,
    clock: Clock,
    shared: &Shared,
) {
    let mut events = Events::with_capacity(8);
    let end = |lost: Option<io::Error>| {
        shared.update(|state| (state.lost, state.over) = (lost, true));
    };
    loop {
        let given = shared.lock().given;
        connections.run(keys, clock.now(), |event, ()| {
            if let ConnectionEvent::Ended(ended) = event {
                end(match ended.result {
                    Err(Failure::Io(error)) => Some(error),
                    _ => None,
                });
            }
        });
        if connections.all_sent() {
            shared.update(|state| {
                if state.outgoing.is_none() && !state.queued {
                    state.sent = given;
                }
            });
        }
        if connections.is_empty() {
            return;
        }
        match poll.poll(&mut events, connections.timeout(clock.now())) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return end(Some(error)),
            Ok(()) => {}
        }
        for event in &events {
            connections.handle_event(event);
        }
    }
}

impl BlockingClient for LoopClient {
    fn send(&self, message: &[u8]) -> Result<(), CallError> {
        self.give(Outgoing::Message(message.to_vec()))
    }

    fn finish(&self) -> Result<(), CallError> {
        match self.give(Outgoing::Finish) {
            // Both sides had finished already.
            Err(CallError::Send(SendError::Ended)) => Ok(()),
            finished => finished,
        }
    }

    fn recv_chunk(&self) -> Result<Option<OwnedChunk>, CallError> {
        self.shared.wait(|state| {
            if let Some(chunk) = state.chunk.take() {
                self.waker.wake_by_ref();
                return Some(Some(chunk));
            }
            state.peer_finished.then_some(None)
        })
    }
}

/// The service of the loop: passes chunks to the callers, and sends what they give.
struct LoopService {
    shared: Arc<Shared>,
    queue: SendQueue<MessageBytes>,
}

impl LoopService {
    fn flush(&mut self, out: &mut Outbox<'_>) {
        // If the outbox takes no more, the session has ended, which is reported by `on_closed`.
        let _ = self.queue.flush(out);
        let Self { shared, queue } = self;
        shared.update(|state| {
            if queue.is_empty() {
                match state.outgoing.take() {
                    Some(Outgoing::Message(message)) => {
                        state.refused = queue.send(&message, out).err();
                    }
                    Some(Outgoing::Finish) => out.finish(),
                    None => {}
                }
            }
            state.queued = !queue.is_empty();
        });
    }
}

impl StreamService for LoopService {
    fn on_open(&mut self, _: &Peer<'_>, _: &mut Outbox<'_>, _: Instant) {
        self.shared.update(|state| state.established = true);
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        let mut flow = Flow::Backpressure;
        self.shared.update(|state| {
            if state.chunk.is_none() {
                let Chunk { bytes, first, remaining } = chunk;
                state.chunk = Some(OwnedChunk { bytes: bytes.to_vec(), first, remaining });
                flow = Flow::Consumed;
            }
        });
        flow
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, _: Instant) {
        self.flush(out);
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, _: Instant) {
        self.flush(out);
    }

    fn on_finished(&mut self, _: &mut Outbox<'_>, _: Instant) {
        self.shared.update(|state| state.peer_finished = true);
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        self.shared.update(|state| state.closed = Some(result));
    }
}
