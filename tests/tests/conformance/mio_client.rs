//! [`MioClient`]: a connection in a mio loop, whose service passes messages to and from other
//! threads.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;
use std::thread::{self, JoinHandle};

use countersign::{Error, Instant, Outbox, Peer, Remaining};
use countersign_driver::{Chunk, Failure, Flow, SendQueue, StreamService};
use countersign_host::{Address, Clock, ConnectionEvent, MessageBytes, MessageMemory};
use countersign_mio::Connections;
use mio::{Events, Poll, Token};

use crate::TEST_TIMEOUT;
use crate::adapters::{Client, ClientSetup};

const WAKE: Token = Token(usize::MAX);
/// Most received chunks that wait for the application.
const MAX_QUEUED_CHUNKS: usize = 4;

pub(crate) struct MioClient {
    commands: Mutex<SyncSender<Command>>,
    chunks: Mutex<Receiver<Received>>,
    shared: Arc<Shared>,
    wake: Waker,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Message(Vec<u8>),
    Finish,
}

enum Received {
    Chunk(Vec<u8>, Remaining),
    Finished,
}

#[derive(Default)]
struct Shared {
    queued_chunks: AtomicUsize,
    ended: OnceLock<Result<(), Error>>,
    stopped: AtomicBool,
}

impl MioClient {
    /// Runs the loop on a new thread, with one connection. Returns after the handshake.
    pub(crate) fn connect(address: &Address, client_setup: &ClientSetup) -> Result<Self, Error> {
        let (command_sender, commands) = sync_channel(1);
        let (chunk_sender, chunks) = channel();
        let (established_sender, established) = sync_channel(1);
        let (waker_sender, waker) = sync_channel(1);
        let shared = Arc::<Shared>::default();
        let service = ClientService {
            commands,
            queue: SendQueue::new(MessageMemory::default().buffer()),
            chunks: Some(chunk_sender),
            established: Some(established_sender),
            shared: shared.clone(),
        };
        let (address, client_setup) = (address.clone(), client_setup.clone());
        let of_loop = shared.clone();
        let thread =
            thread::spawn(move || run(&address, &client_setup, service, &waker_sender, &of_loop));
        let wake = waker.recv_timeout(TEST_TIMEOUT).map_err(|_| Error::Transport)?;
        let client = Self {
            commands: Mutex::new(command_sender),
            chunks: Mutex::new(chunks),
            shared,
            wake,
            thread: Some(thread),
        };
        match established.recv_timeout(TEST_TIMEOUT) {
            Ok(()) => Ok(client),
            Err(RecvTimeoutError::Timeout) => panic!("the handshake timed out"),
            Err(RecvTimeoutError::Disconnected) => Err(client.end_error()),
        }
    }

    /// Returns the error with which the connection ended.
    fn end_error(&self) -> Error {
        self.shared.ended.get().copied().and_then(Result::err).unwrap_or(Error::Transport)
    }

    fn send_command(&self, command: Command) -> Result<(), Error> {
        // The channel holds one command. A blocked sender proceeds once the service has received
        // it: on a wake, or when the session becomes writable.
        self.commands.lock().unwrap().send(command).map_err(|_| self.end_error())?;
        self.wake.wake_by_ref();
        Ok(())
    }
}

fn run(
    address: &Address,
    client_setup: &ClientSetup,
    service: ClientService,
    waker_sender: &SyncSender<Waker>,
    shared: &Shared,
) {
    let mut poll = Poll::new().unwrap();
    let clock = Clock::start();
    let mut connections = Connections::new(poll.registry(), WAKE).unwrap();
    let now = clock.now();
    let made = connections.connect::<io::Error>(
        address,
        now.saturating_add(TEST_TIMEOUT),
        (),
        |wake, _, ()| {
            let _ = waker_sender.send(wake.clone());
            Ok((client_setup.factory.client(&wake.into(), now).map_err(io::Error::other)?, service))
        },
    );
    if made.is_err() {
        return;
    }
    let mut events = Events::with_capacity(8);
    while !connections.is_empty() && !shared.stopped.load(Ordering::SeqCst) {
        connections.run(&*client_setup.keys, clock.now(), |event, ()| {
            // The result of the session, if it has ended, takes precedence over a later reset.
            if let ConnectionEvent::Ended(ended) = event {
                let result = ended.result.map_err(|failure| match failure {
                    Failure::Io(_) => Error::Transport,
                    Failure::Protocol(error) => error,
                });
                let _ = shared.ended.set(result);
            }
        });
        if connections.is_empty() {
            break;
        }
        poll.poll(&mut events, connections.timeout(clock.now())).unwrap();
        for event in &events {
            connections.handle_event(event);
        }
    }
}

impl Client for MioClient {
    fn send(&self, message: &[u8]) -> Result<(), Error> {
        self.send_command(Command::Message(message.to_vec()))
    }

    fn recv(&self) -> Result<Option<Vec<u8>>, Error> {
        let chunks = self.chunks.lock().unwrap();
        let mut message = Vec::new();
        loop {
            match chunks.recv_timeout(TEST_TIMEOUT) {
                Ok(Received::Chunk(bytes, remaining)) => {
                    self.shared.queued_chunks.fetch_sub(1, Ordering::SeqCst);
                    self.wake.wake_by_ref();
                    message.extend(bytes);
                    if matches!(remaining, Remaining::End | Remaining::Unknown) {
                        return Ok(Some(message));
                    }
                }
                Ok(Received::Finished) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => panic!("no message arrived in time"),
                Err(RecvTimeoutError::Disconnected) => return Err(self.end_error()),
            }
        }
    }

    fn finish(&self) -> Result<(), Error> {
        self.send_command(Command::Finish)
    }
}

impl Drop for MioClient {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.wake.wake_by_ref();
        let joined = self.thread.take().unwrap().join();
        if !thread::panicking() {
            joined.unwrap();
        }
    }
}

/// The service on the loop's thread.
struct ClientService {
    commands: Receiver<Command>,
    queue: SendQueue<MessageBytes>,
    /// `None` after the end, so that receivers fail.
    chunks: Option<Sender<Received>>,
    established: Option<SyncSender<()>>,
    shared: Arc<Shared>,
}

impl ClientService {
    fn flush(&mut self, out: &mut Outbox<'_>) {
        // The outbox refuses messages once the session has ended.
        while self.queue.flush(out).is_ok() && self.queue.is_empty() {
            match self.commands.try_recv() {
                Ok(Command::Message(message)) => drop(self.queue.send(&message, out)),
                Ok(Command::Finish) => out.finish(),
                Err(_) => return,
            }
        }
    }
}

impl StreamService for ClientService {
    fn on_open(&mut self, _: &Peer<'_>, _: &mut Outbox<'_>, _: Instant) {
        if let Some(established) = self.established.take() {
            let _ = established.send(());
        }
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        if self.shared.queued_chunks.load(Ordering::SeqCst) >= MAX_QUEUED_CHUNKS {
            return Flow::Backpressure;
        }
        self.shared.queued_chunks.fetch_add(1, Ordering::SeqCst);
        if let Some(chunks) = &self.chunks {
            let _ = chunks.send(Received::Chunk(chunk.bytes.to_vec(), chunk.remaining));
        }
        Flow::Consumed
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, _: Instant) {
        self.flush(out);
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, _: Instant) {
        self.flush(out);
    }

    fn on_finished(&mut self, _: &mut Outbox<'_>, _: Instant) {
        if let Some(chunks) = &self.chunks {
            let _ = chunks.send(Received::Finished);
        }
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        let _ = self.shared.ended.set(result);
        (self.chunks, self.established) = (None, None);
    }
}
