//! Cancellation: futures dropped after their first poll, their second, and so on, over a pipe that transfers
//! one byte at a time and only what was flushed.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use countersign::{CloseReason, Error, Instant, Outbox, Role};
use countersign_driver::services::Echo;
use countersign_driver::{Chunk, Flow, StreamService};
use countersign_host::ProtocolFactory;
use countersign_smol::futures::Connection;
use countersign_smol::{ConnectionTask, MessageStream};
use futures_sink::Sink;
use smol::future::{self, yield_now};
use smol::stream::{Stream, StreamExt};

use super::pipe::{Pipe, PipeMode, pipe};
use super::*;

/// Numbers of polls after which futures are dropped: most futures are then pending, some are ready.
const POLLS: [usize; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 13, 40, 150, 500];
/// Lengths of messages, shorter and longer than the 300 bytes of a buffer.
const LENGTHS: [usize; 4] = [1, 60, 250, 700];

/// Output of `future`; `None` if it was still pending, and dropped, after `polls` polls.
async fn cancel_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut left = polls;
    let cancel_after = {
        let mut future = pin!(future);
        poll_fn(move |cx| match future.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => {
                left -= 1;
                if left == 0 { Poll::Ready(None) } else { Poll::Pending }
            }
        })
        .await
    };
    // Let the other end run.
    yield_now().await;
    cancel_after
}

/// Repeats a call, cancelled after `polls` polls each time, until it completes.
async fn retry<T, F: Future<Output = T>>(polls: usize, mut call: impl FnMut() -> F) -> T {
    loop {
        if let Some(done) = cancel_after(polls, call()).await {
            return done;
        }
    }
}

fn small_buffers() -> PoolOptions {
    let mut pools = PoolOptions::default();
    pools.buffer_len = 300;
    pools
}

/// Echoes messages and records them.
#[derive(Clone, Default)]
struct Recorder(Rc<RefCell<Record>>);

#[derive(Default)]
struct Record {
    messages: Vec<Vec<u8>>,
    closed: Vec<Result<(), Error>>,
}

impl Recorder {
    fn messages(&self) -> Vec<Vec<u8>> {
        self.0.borrow().messages.clone()
    }
}

impl StreamService for Recorder {
    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        let flow = send_back(chunk, out);
        if flow == Flow::Consumed {
            let messages = &mut self.0.borrow_mut().messages;
            if chunk.first {
                messages.push(Vec::new());
            }
            messages.last_mut().unwrap().extend_from_slice(chunk.bytes);
        }
        flow
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        self.0.borrow_mut().closed.push(why);
    }
}

/// Runs `talk` with a client whose server is a [`Recorder`], over a byte-by-byte pipe, until both are done.
/// Both run on one thread and nothing else does, so every run is the same.
fn with_client<F: Future>(kind: Kind, talk: impl FnOnce(Connection<Pipe>, Recorder) -> F) {
    let (ours, theirs) = pipe(PipeMode::ByteByByte, 64);
    let recorder = Recorder::default();
    let server_side = async {
        let task = ConnectionTask::new(theirs);
        let protocol = kind.sessions_in(Role::Server, &small_buffers());
        let protocol = protocol.server(&task.waker().into(), task.now()).unwrap();
        task.drive(protocol, recorder.clone(), &kind.key(SECRET)).await.1.unwrap();
    };
    let client_side = async {
        let protocol = kind.sessions_in(Role::Client, &small_buffers());
        let connector = connector_over(protocol, kind.key(SECRET));
        let client = Connection::over(ours, &connector).await.unwrap();
        talk(client, recorder.clone()).await;
    };
    run(future::zip(server_side, client_side));
    assert_eq!(recorder.0.borrow().closed, [Ok(())]);
}

fn message(n: usize) -> Vec<u8> {
    let mut message = bytes(LENGTHS[n % LENGTHS.len()]);
    message[0] = n as u8;
    message
}

/// Finishes, and receives until the end of the stream.
async fn finish(client: &Connection<Pipe>, polls: usize) -> Vec<Vec<u8>> {
    let mut remaining = Vec::new();
    retry(polls, || client.finish()).await.unwrap();
    while let Some(message) = retry(polls, || client.recv()).await.unwrap() {
        remaining.push(message);
    }
    remaining
}

#[test]
fn cancelled_calls_neither_lose_nor_repeat_messages() {
    for kind in Kind::ALL {
        for polls in POLLS {
            with_client(kind, |client, recorder| async move {
                let mut dropped = 0;
                for n in 0..8 {
                    // All earlier messages have left, so the first poll accepts this one.
                    dropped +=
                        usize::from(cancel_after(polls, client.send(&message(n))).await.is_none());
                    let received = retry(polls, || client.recv()).await.unwrap().unwrap();
                    assert!(received == message(n), "{n}");
                }
                assert!(dropped > 0 || polls > 100);
                assert_eq!(finish(&client, polls).await, Vec::<Vec<u8>>::new());
                assert!(recorder.messages() == (0..8).map(message).collect::<Vec<_>>());
            });
        }
    }
}

#[test]
fn cancelled_receive_leaves_its_chunks_for_the_next_call() {
    for kind in [Kind::None, Kind::Mutual] {
        for polls in POLLS {
            with_client(kind, |client, _| async move {
                for n in 0..4 {
                    cancel_after(polls, client.send(&message(n))).await;
                    // `recv` and `recv_chunk` alternate; each continues with what the other has received.
                    let mut received = Vec::new();
                    loop {
                        if let Some(whole) = cancel_after(polls, client.recv()).await {
                            assert_eq!(
                                received, b"",
                                "whole message after its first chunk was taken"
                            );
                            received = whole.unwrap().unwrap();
                            break;
                        }
                        if let Some(chunk) = cancel_after(polls, client.recv_chunk()).await {
                            let chunk = chunk.unwrap().unwrap();
                            assert_eq!(chunk.first, received.is_empty());
                            received.extend(chunk.bytes);
                            while received.len() < message(n).len() {
                                let next = retry(polls, || client.recv_chunk()).await;
                                received.extend(next.unwrap().unwrap().bytes);
                            }
                            break;
                        }
                    }
                    assert!(received == message(n), "{n}");
                }
                assert_eq!(finish(&client, polls).await, Vec::<Vec<u8>>::new());
            });
        }
    }
}

#[test]
fn cancelled_send_that_was_waiting_sends_nothing() {
    for polls in POLLS {
        with_client(Kind::None, |client, recorder| async move {
            // `taken` cannot complete: the client does not receive the echo.
            let (taken, waiting) = (bytes(5_000), message(1));
            assert!(cancel_after(1, client.send(&taken)).await.is_none());
            assert!(cancel_after(polls, client.send(&waiting)).await.is_none());
            assert_eq!(retry(polls, || client.recv()).await.unwrap().unwrap(), taken);
            assert_eq!(finish(&client, polls).await, Vec::<Vec<u8>>::new());
            assert!(recorder.messages() == [taken]);
        });
    }
}

#[test]
fn cancelled_stream_and_sink_polls_lose_no_message() {
    for kind in [Kind::None, Kind::Mutual] {
        for polls in POLLS {
            with_client(kind, |client, recorder| async move {
                let client = Arc::new(client);
                let (mut sink, mut stream) =
                    (MessageStream::new(client.clone()), MessageStream::new(client.clone()));
                let mut received = Vec::new();
                for n in 0..6 {
                    // The sink is ready only once the echo is received, so poll both.
                    let mut poll_both = |cx: &mut Context<'_>| {
                        let ready = Pin::new(&mut sink).poll_ready(cx);
                        while let Poll::Ready(Some(next)) = Pin::new(&mut stream).poll_next(cx) {
                            received.push(next.unwrap());
                        }
                        ready
                    };
                    while cancel_after(polls, poll_fn(&mut poll_both)).await.is_none() {}
                    Pin::new(&mut sink).start_send(message(n)).unwrap();
                }
                loop {
                    match cancel_after(polls, poll_fn(|cx| Pin::new(&mut sink).poll_close(cx)))
                        .await
                    {
                        Some(closed) => break closed.unwrap(),
                        None => {
                            // A second stream of the same client.
                            let next =
                                cancel_after(polls, client.messages().next()).await.flatten();
                            received.extend(next.map(Result::unwrap));
                        }
                    }
                }
                loop {
                    match cancel_after(polls, stream.next()).await {
                        Some(Some(next)) => received.push(next.unwrap()),
                        Some(None) => break,
                        None => {}
                    }
                }
                let all: Vec<_> = (0..6).map(message).collect();
                assert!(received == all && recorder.messages() == all);
            });
        }
    }
}

#[test]
fn cancelled_connect_ends_the_servers_connection() {
    for kind in Kind::ALL {
        for polls in POLLS {
            let (ours, theirs) = pipe(PipeMode::ByteByByte, 64);
            let recorder = Recorder::default();
            let server_side = async {
                let task = ConnectionTask::new(theirs);
                let protocol = kind.sessions_in(Role::Server, &small_buffers());
                let protocol = protocol.server(&task.waker().into(), task.now()).unwrap();
                let _ = task.drive(protocol, recorder.clone(), &kind.key(SECRET)).await;
            };
            let client_side = async {
                let protocol = kind.sessions_in(Role::Client, &small_buffers());
                let connector = connector_over(protocol, kind.key(SECRET));
                drop(cancel_after(polls, Connection::over(ours, &connector)).await);
            };
            run(future::zip(server_side, client_side));
            assert_eq!(recorder.0.borrow().closed.len(), 1);
        }
    }
}

#[test]
fn dropped_task_calls_on_closed_once() {
    for kind in Kind::ALL {
        let mut results = Vec::new();
        for polls in 1..2_000 {
            let (ours, theirs) = pipe(PipeMode::ByteByByte, 64);
            let recorder = Recorder::default();
            let server_side = async {
                let task = ConnectionTask::new(theirs);
                let protocol = kind.sessions_in(Role::Server, &small_buffers());
                let protocol = protocol.server(&task.waker().into(), task.now()).unwrap();
                cancel_after(polls, task.drive(protocol, recorder.clone(), &kind.key(SECRET)))
                    .await
                    .is_some()
            };
            let client_side = async {
                let protocol = kind.sessions_in(Role::Client, &small_buffers());
                let connector = connector_over(protocol, kind.key(SECRET));
                let client = Connection::over(ours, &connector).await?;
                client.send(b"hello").await?;
                client.recv().await?;
                client.finish().await?;
                client.recv().await
            };
            let (done, _) = run(future::zip(server_side, client_side));
            let closed = &recorder.0.borrow().closed;
            assert_eq!(closed.len(), 1);
            results.push(closed[0]);
            if done {
                break;
            }
        }
        assert_eq!(results.first(), Some(&Err(Error::Aborted(CloseReason::Shutdown))));
        assert_eq!(results.last(), Some(&Ok(())), "{kind:?}");
        assert!(results.len() > 20, "{}", results.len());
    }
}

/// Counts wake-ups.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll_once<T>(future: Pin<&mut impl Future<Output = T>>, count: &Arc<Count>) -> Poll<T> {
    let waker = Waker::from(count.clone());
    future.poll(&mut Context::from_waker(&waker))
}

#[test]
fn receiver_is_woken_after_a_later_poller_was_dropped() {
    let (ours, theirs) = pipe(PipeMode::Plain, 1 << 16);
    let (start, started) = smol::channel::bounded::<()>(1);
    let server_side = async {
        let task = ConnectionTask::new(theirs);
        let protocol = Kind::None.sessions(Role::Server);
        let protocol = protocol.server(&task.waker().into(), task.now()).unwrap();
        started.recv().await.unwrap();
        task.drive(protocol, Echo, &NO_KEY).await.1.unwrap();
    };
    let client_side = async {
        let protocol = Kind::None.sessions(Role::Client);
        let connector = connector_over(protocol, NO_KEY);
        let client = Connection::over(ours, &connector).await.unwrap();
        client.send(b"hello").await.unwrap();
        let counts = [(); 3].map(|()| Arc::new(Count::default()));
        let [first, second, third] = &counts;
        let mut waiting = Box::pin(client.recv());
        assert!(poll_once(waiting.as_mut(), first).is_pending());
        // The last poller, whose waker the transport keeps, if it keeps one.
        let mut dropped = Box::pin(client.recv());
        assert!(poll_once(dropped.as_mut(), second).is_pending());
        drop(dropped);
        let mut dropped = Box::pin(client.messages());
        assert!(poll_once(pin!(dropped.next()), third).is_pending());
        drop(dropped);
        let before = [first, second, third].map(|count| count.0.load(Ordering::SeqCst));
        start.send(()).await.unwrap();
        while first.0.load(Ordering::SeqCst) == before[0] {
            yield_now().await;
        }
        assert_eq!(waiting.await.unwrap().unwrap(), b"hello");
        assert_eq!(
            [second, third].map(|count| count.0.load(Ordering::SeqCst)),
            [before[1], before[2]]
        );
        client.finish().await.unwrap();
        assert_eq!(client.recv().await.unwrap(), None);
    };
    run(future::zip(server_side, client_side));
}
