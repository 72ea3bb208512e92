//! A client made of a connection in a mio loop: a service that passes messages on to other threads, as
//! an application's would.

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

use crate::PATIENCE;
use crate::adapters::{Client, With};

const WAKE: Token = Token(usize::MAX);
/// Parts that may wait for the application.
const WAITING: usize = 4;

pub(crate) struct Looped {
    post: Mutex<SyncSender<Post>>,
    chunks: Mutex<Receiver<Received>>,
    shared: Arc<Shared>,
    wake: Waker,
    thread: Option<JoinHandle<()>>,
}

enum Post {
    Message(Vec<u8>),
    Finish,
}

enum Received {
    Chunk(Vec<u8>, Remaining),
    Finished,
}

#[derive(Default)]
struct Shared {
    waiting: AtomicUsize,
    ended: OnceLock<Result<(), Error>>,
    leave: AtomicBool,
}

impl Looped {
    /// The loop has a thread and a connection of its own.
    pub(crate) fn connect(to: &Address, with: &With) -> Result<Self, Error> {
        let (post, posted) = sync_channel(1);
        let (arrived, chunks) = channel();
        let (opened, is_open) = sync_channel(1);
        let (woken_by, waker) = sync_channel(1);
        let shared = Arc::<Shared>::default();
        let talk = Talk {
            posted,
            queue: SendQueue::new(MessageMemory::default().buffer()),
            arrived: Some(arrived),
            opened: Some(opened),
            shared: shared.clone(),
        };
        let (to, with) = (to.clone(), with.clone());
        let here = shared.clone();
        let thread = thread::spawn(move || run(&to, &with, talk, &woken_by, &here));
        let wake = waker.recv_timeout(PATIENCE).map_err(|_| Error::Transport)?;
        let client = Self {
            post: Mutex::new(post),
            chunks: Mutex::new(chunks),
            shared,
            wake,
            thread: Some(thread),
        };
        match is_open.recv_timeout(PATIENCE) {
            Ok(()) => Ok(client),
            Err(RecvTimeoutError::Timeout) => panic!("no handshake"),
            Err(RecvTimeoutError::Disconnected) => Err(client.why()),
        }
    }

    /// Why there is nothing any more.
    fn why(&self) -> Error {
        self.shared.ended.get().copied().and_then(Result::err).unwrap_or(Error::Transport)
    }

    fn post(&self, post: Post) -> Result<(), Error> {
        // There is room for one: when the next is there the service takes it, or is not done with
        // this one and will look again when there is room to send.
        self.post.lock().unwrap().send(post).map_err(|_| self.why())?;
        self.wake.wake_by_ref();
        Ok(())
    }
}

fn run(to: &Address, with: &With, talk: Talk, woken_by: &SyncSender<Waker>, shared: &Shared) {
    let mut poll = Poll::new().unwrap();
    let clock = Clock::start();
    let mut connections = Connections::new(poll.registry(), WAKE).unwrap();
    let now = clock.now();
    let made =
        connections.connect::<io::Error>(to, now.saturating_add(PATIENCE), (), |wake, _, ()| {
            let _ = woken_by.send(wake.clone());
            Ok((with.factory.client(wake, now).map_err(io::Error::other)?, talk))
        });
    if made.is_err() {
        return;
    }
    let mut events = Events::with_capacity(8);
    while !connections.is_empty() && !shared.leave.load(Ordering::SeqCst) {
        connections.run(&*with.keys, clock.now(), |notice, ()| {
            // A reset after the end is none of the application's business.
            if let ConnectionEvent::Ended(ended) = notice {
                let how = ended.result.map_err(|failure| match failure {
                    Failure::Io(_) => Error::Transport,
                    Failure::Protocol(error) => error,
                });
                let _ = shared.ended.set(how);
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

impl Client for Looped {
    fn send(&self, message: &[u8]) -> Result<(), Error> {
        self.post(Post::Message(message.to_vec()))
    }

    fn recv(&self) -> Result<Option<Vec<u8>>, Error> {
        let chunks = self.chunks.lock().unwrap();
        let mut message = Vec::new();
        loop {
            match chunks.recv_timeout(PATIENCE) {
                Ok(Received::Chunk(bytes, remaining)) => {
                    self.shared.waiting.fetch_sub(1, Ordering::SeqCst);
                    self.wake.wake_by_ref();
                    message.extend(bytes);
                    if matches!(remaining, Remaining::End | Remaining::Unknown) {
                        return Ok(Some(message));
                    }
                }
                Ok(Received::Finished) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => panic!("nothing comes"),
                Err(RecvTimeoutError::Disconnected) => return Err(self.why()),
            }
        }
    }

    fn finish(&self) -> Result<(), Error> {
        self.post(Post::Finish)
    }
}

impl Drop for Looped {
    fn drop(&mut self) {
        self.shared.leave.store(true, Ordering::SeqCst);
        self.wake.wake_by_ref();
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.unwrap();
        }
    }
}

struct Talk {
    posted: Receiver<Post>,
    queue: SendQueue<MessageBytes>,
    arrived: Option<Sender<Received>>,
    opened: Option<SyncSender<()>>,
    shared: Arc<Shared>,
}

impl Talk {
    fn flush(&mut self, out: &mut Outbox<'_>) {
        // If the outbox takes no more, the session has ended.
        while self.queue.flush(out).is_ok() && self.queue.is_empty() {
            match self.posted.try_recv() {
                Ok(Post::Message(message)) => drop(self.queue.send(&message, out)),
                Ok(Post::Finish) => out.finish(),
                Err(_) => return,
            }
        }
    }
}

impl StreamService for Talk {
    fn on_open(&mut self, _: &Peer<'_>, _: &mut Outbox<'_>, _: Instant) {
        if let Some(opened) = self.opened.take() {
            let _ = opened.send(());
        }
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        if self.shared.waiting.load(Ordering::SeqCst) >= WAITING {
            return Flow::Backpressure;
        }
        self.shared.waiting.fetch_add(1, Ordering::SeqCst);
        if let Some(arrived) = &self.arrived {
            let _ = arrived.send(Received::Chunk(chunk.bytes.to_vec(), chunk.remaining));
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
        if let Some(arrived) = &self.arrived {
            let _ = arrived.send(Received::Finished);
        }
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        let _ = self.shared.ended.set(why);
        (self.arrived, self.opened) = (None, None);
    }
}
