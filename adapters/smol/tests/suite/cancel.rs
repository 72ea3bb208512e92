//! Futures that are dropped before they are done: after the first of their polls, after the second, and so
//! on. Over a transport that gives and takes a byte at a time and holds back what is not flushed.

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

use super::pipe::{Manner, Pipe, pipe};
use super::*;

/// Polls after which futures are dropped. Few enough that most are not done, and enough that some are.
const POLLS: [usize; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 13, 40, 150, 500];
/// Longer than a buffer of this length takes, and not.
const LENGTHS: [usize; 4] = [1, 60, 250, 700];

/// What `future` came to; `None` if it was dropped after `polls` polls.
async fn cut<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut left = polls;
    let cut = {
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
    // The other end has its turn too.
    yield_now().await;
    cut
}

/// The same future again and again, until one is done.
async fn insist<T, F: Future<Output = T>>(polls: usize, mut again: impl FnMut() -> F) -> T {
    loop {
        if let Some(done) = cut(polls, again()).await {
            return done;
        }
    }
}

fn small() -> PoolOptions {
    let mut pools = PoolOptions::default();
    pools.buffer_len = 300;
    pools
}

/// Echoes, and says what it has heard.
#[derive(Clone, Default)]
struct Hearing(Rc<RefCell<Heard>>);

#[derive(Default)]
struct Heard {
    messages: Vec<Vec<u8>>,
    closed: Vec<Result<(), Error>>,
}

impl Hearing {
    fn messages(&self) -> Vec<Vec<u8>> {
        self.0.borrow().messages.clone()
    }
}

impl StreamService for Hearing {
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

/// Runs `talk` with a client of a [`Hearing`] at the other end of a hard transport, to the end of both.
/// Nothing but these two runs, on one thread, so every run is like the last.
fn with_client<F: Future>(kind: Kind, talk: impl FnOnce(Connection<Pipe>, Hearing) -> F) {
    let (ours, theirs) = pipe(Manner::Fine, 64);
    let hearing = Hearing::default();
    let serving = async {
        let task = ConnectionTask::new(theirs);
        let protocol = kind.sessions_in(Role::Server, &small());
        let protocol = protocol.server(&task.waker(), task.now()).unwrap();
        task.drive(protocol, hearing.clone(), &kind.key(SECRET)).await.1.unwrap();
    };
    let talking = async {
        let protocol = kind.sessions_in(Role::Client, &small());
        let connector = connector_over(protocol, kind.key(SECRET));
        let client = Connection::over(ours, &connector).await.unwrap();
        talk(client, hearing.clone()).await;
    };
    run(future::zip(serving, talking));
    assert_eq!(hearing.0.borrow().closed, [Ok(())]);
}

fn message(n: usize) -> Vec<u8> {
    let mut message = bytes(LENGTHS[n % LENGTHS.len()]);
    message[0] = n as u8;
    message
}

/// All that is yet to be received, and then the end.
async fn finish(client: &Connection<Pipe>, polls: usize) -> Vec<Vec<u8>> {
    let mut remaining = Vec::new();
    insist(polls, || client.finish()).await.unwrap();
    while let Some(message) = insist(polls, || client.recv()).await.unwrap() {
        remaining.push(message);
    }
    remaining
}

#[test]
fn sends_and_receives_that_are_dropped_lose_nothing_and_double_nothing() {
    for kind in Kind::ALL {
        for polls in POLLS {
            with_client(kind, |client, hearing| async move {
                let mut dropped = 0;
                for n in 0..8 {
                    // All sent before has left, so it is taken in the first poll.
                    dropped += usize::from(cut(polls, client.send(&message(n))).await.is_none());
                    let heard = insist(polls, || client.recv()).await.unwrap().unwrap();
                    assert!(heard == message(n), "{n}");
                }
                assert!(dropped > 0 || polls > 100);
                assert_eq!(finish(&client, polls).await, Vec::<Vec<u8>>::new());
                assert!(hearing.messages() == (0..8).map(message).collect::<Vec<_>>());
            });
        }
    }
}

#[test]
fn parts_that_nobody_waited_for_are_there_for_the_next_call() {
    for kind in [Kind::None, Kind::Mutual] {
        for polls in POLLS {
            with_client(kind, |client, _| async move {
                for n in 0..4 {
                    cut(polls, client.send(&message(n))).await;
                    // Whole, and in parts, in turn: what has come of it for one is there for the other.
                    let mut heard = Vec::new();
                    loop {
                        if let Some(whole) = cut(polls, client.recv()).await {
                            assert_eq!(heard, b"", "a message that began in the middle");
                            heard = whole.unwrap().unwrap();
                            break;
                        }
                        if let Some(chunk) = cut(polls, client.recv_chunk()).await {
                            let chunk = chunk.unwrap().unwrap();
                            assert_eq!(chunk.first, heard.is_empty());
                            heard.extend(chunk.bytes);
                            while heard.len() < message(n).len() {
                                let next = insist(polls, || client.recv_chunk()).await;
                                heard.extend(next.unwrap().unwrap().bytes);
                            }
                            break;
                        }
                    }
                    assert!(heard == message(n), "{n}");
                }
                assert_eq!(finish(&client, polls).await, Vec::<Vec<u8>>::new());
            });
        }
    }
}

#[test]
fn of_two_that_send_at_once_the_one_that_waits_is_dropped_without_a_trace() {
    for polls in POLLS {
        with_client(Kind::None, |client, hearing| async move {
            // No poll is enough for it, as nobody receives the echo.
            let (taken, waiting) = (bytes(5_000), message(1));
            assert!(cut(1, client.send(&taken)).await.is_none());
            assert!(cut(polls, client.send(&waiting)).await.is_none());
            assert_eq!(insist(polls, || client.recv()).await.unwrap().unwrap(), taken);
            assert_eq!(finish(&client, polls).await, Vec::<Vec<u8>>::new());
            assert!(hearing.messages() == [taken]);
        });
    }
}

#[test]
fn a_stream_and_a_sink_that_are_polled_now_and_then_lose_nothing() {
    for kind in [Kind::None, Kind::Mutual] {
        for polls in POLLS {
            with_client(kind, |client, hearing| async move {
                let client = Arc::new(client);
                let (mut sink, mut stream) =
                    (MessageStream::new(client.clone()), MessageStream::new(client.clone()));
                let mut heard = Vec::new();
                for n in 0..6 {
                    // The sink alone would wait for ever: the echo has to be received meanwhile.
                    let mut poll_both = |cx: &mut Context<'_>| {
                        let ready = Pin::new(&mut sink).poll_ready(cx);
                        while let Poll::Ready(Some(next)) = Pin::new(&mut stream).poll_next(cx) {
                            heard.push(next.unwrap());
                        }
                        ready
                    };
                    while cut(polls, poll_fn(&mut poll_both)).await.is_none() {}
                    Pin::new(&mut sink).start_send(message(n)).unwrap();
                }
                loop {
                    match cut(polls, poll_fn(|cx| Pin::new(&mut sink).poll_close(cx))).await {
                        Some(closed) => break closed.unwrap(),
                        None => {
                            // Another stream of the same client, for this once.
                            let next = cut(polls, client.messages().next()).await.flatten();
                            heard.extend(next.map(Result::unwrap));
                        }
                    }
                }
                loop {
                    match cut(polls, stream.next()).await {
                        Some(Some(next)) => heard.push(next.unwrap()),
                        Some(None) => break,
                        None => {}
                    }
                }
                let all: Vec<_> = (0..6).map(message).collect();
                assert!(heard == all && hearing.messages() == all);
            });
        }
    }
}

#[test]
fn a_client_that_is_dropped_while_it_connects_leaves_its_server_in_peace() {
    for kind in Kind::ALL {
        for polls in POLLS {
            let (ours, theirs) = pipe(Manner::Fine, 64);
            let hearing = Hearing::default();
            let serving = async {
                let task = ConnectionTask::new(theirs);
                let protocol = kind.sessions_in(Role::Server, &small());
                let protocol = protocol.server(&task.waker(), task.now()).unwrap();
                let _ = task.drive(protocol, hearing.clone(), &kind.key(SECRET)).await;
            };
            let connecting = async {
                let protocol = kind.sessions_in(Role::Client, &small());
                let connector = connector_over(protocol, kind.key(SECRET));
                drop(cut(polls, Connection::over(ours, &connector)).await);
            };
            run(future::zip(serving, connecting));
            assert_eq!(hearing.0.borrow().closed.len(), 1);
        }
    }
}

#[test]
fn a_service_is_told_once_whenever_its_link_is_dropped() {
    for kind in Kind::ALL {
        let mut told = Vec::new();
        for polls in 1..2_000 {
            let (ours, theirs) = pipe(Manner::Fine, 64);
            let hearing = Hearing::default();
            let serving = async {
                let task = ConnectionTask::new(theirs);
                let protocol = kind.sessions_in(Role::Server, &small());
                let protocol = protocol.server(&task.waker(), task.now()).unwrap();
                cut(polls, task.drive(protocol, hearing.clone(), &kind.key(SECRET))).await.is_some()
            };
            let talking = async {
                let protocol = kind.sessions_in(Role::Client, &small());
                let connector = connector_over(protocol, kind.key(SECRET));
                let client = Connection::over(ours, &connector).await?;
                client.send(b"hello").await?;
                client.recv().await?;
                client.finish().await?;
                client.recv().await
            };
            let (done, _) = run(future::zip(serving, talking));
            let closed = &hearing.0.borrow().closed;
            assert_eq!(closed.len(), 1);
            told.push(closed[0]);
            if done {
                break;
            }
        }
        assert_eq!(told.first(), Some(&Err(Error::Aborted(CloseReason::Shutdown))));
        assert_eq!(told.last(), Some(&Ok(())), "{kind:?}");
        assert!(told.len() > 20, "{}", told.len());
    }
}

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
fn who_waits_is_woken_though_the_task_that_polled_the_transport_is_gone() {
    let (ours, theirs) = pipe(Manner::Plain, 1 << 16);
    let (go, told) = smol::channel::bounded::<()>(1);
    let serving = async {
        let task = ConnectionTask::new(theirs);
        let protocol = Kind::None.sessions(Role::Server);
        let protocol = protocol.server(&task.waker(), task.now()).unwrap();
        told.recv().await.unwrap();
        task.drive(protocol, Echo, &NO_KEY).await.1.unwrap();
    };
    let talking = async {
        let protocol = Kind::None.sessions(Role::Client);
        let connector = connector_over(protocol, NO_KEY);
        let client = Connection::over(ours, &connector).await.unwrap();
        client.send(b"hello").await.unwrap();
        let counts = [(); 3].map(|()| Arc::new(Count::default()));
        let [first, second, third] = &counts;
        let mut waits = Box::pin(client.recv());
        assert!(poll_once(waits.as_mut(), first).is_pending());
        // The last to poll, and so the one that the transport knows, if any.
        let mut gone = Box::pin(client.recv());
        assert!(poll_once(gone.as_mut(), second).is_pending());
        drop(gone);
        let mut gone = Box::pin(client.messages());
        assert!(poll_once(pin!(gone.next()), third).is_pending());
        drop(gone);
        let before = [first, second, third].map(|count| count.0.load(Ordering::SeqCst));
        go.send(()).await.unwrap();
        while first.0.load(Ordering::SeqCst) == before[0] {
            yield_now().await;
        }
        assert_eq!(waits.await.unwrap().unwrap(), b"hello");
        assert_eq!(
            [second, third].map(|count| count.0.load(Ordering::SeqCst)),
            [before[1], before[2]]
        );
        client.finish().await.unwrap();
        assert_eq!(client.recv().await.unwrap(), None);
    };
    run(future::zip(serving, talking));
}
