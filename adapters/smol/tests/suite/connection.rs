//! The client, against servers that a test plays itself and against real ones.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::task::{Context, Wake, Waker};
use std::thread::JoinHandle;

use countersign::{Error, Remaining, SendError, TimedOut, Truncated};
use countersign_host::CallError;
use countersign_smol::{Connection, MessageStream, Socket};
use futures_sink::Sink;
use smol::stream::StreamExt;

use super::*;

/// More than the system keeps for a peer that does not read.
const MUCH: usize = 32 << 20;

/// A server that a test plays: `play` has the one connection that is made to it.
fn played<T: Send + 'static>(
    play: impl FnOnce(Raw) -> T + Send + 'static,
) -> (Address, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let playing = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        play(Raw(stream))
    });
    (address, playing)
}

/// A client of the scheme `none`.
async fn connect(address: &Address, timeout: Duration) -> Connection {
    let sessions = Kind::None.sessions(Role::Client);
    Connection::connect(&connector(address, sessions, NO_KEY, timeout)).await.unwrap()
}

fn read_all(raw: &Raw) -> Vec<u8> {
    let mut all = Vec::new();
    (&raw.0).read_to_end(&mut all).unwrap();
    all
}

/// Calls again after a timeout: on a slow protocol one is not enough.
async fn patiently<T>(mut call: impl AsyncFnMut() -> Result<T, CallError>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Err(CallError::TimedOut | CallError::Busy) if Instant::now() < until => {}
            other => return other.unwrap(),
        }
    }
}

#[test]
fn one_task_sends_while_another_receives_on_every_executor() {
    const LEN: usize = 20 << 20;
    for on in On::ALL {
        let services = echo();
        let config = Kind::None.config(Role::Server).with_max_frame(LEN as u64);
        let sessions = SessionFactory::new(config.clone(), Pools::new(&PoolOptions::default()));
        let keys = Arc::new(NO_KEY);
        let server = Running::start_at(on, &tcp(), sessions, keys, services, options());
        let executor = Executor::new();
        let (over, is_over) = async_channel::bounded::<()>(1);
        thread::scope(|scope| {
            // Two threads, so that they really are at once.
            for _ in 0..2 {
                scope.spawn(|| smol::block_on(executor.run(is_over.recv())));
            }
            run(async {
                let sessions = SessionFactory::new(config, Pools::new(&PoolOptions::default()));
                let connector = connector(&server.address, sessions, NO_KEY, PATIENCE);
                let client = Arc::new(Connection::connect(&connector).await.unwrap());
                let sender = client.clone();
                let sending = executor.spawn(async move {
                    let message = bytes(LEN);
                    sender.send(&message).await?;
                    for n in 0..1_000_u16 {
                        sender.send(&n.to_be_bytes()).await?;
                    }
                    sender.finish().await
                });
                let receiving = executor.spawn(async move {
                    assert!(client.recv().await.unwrap().unwrap() == bytes(LEN));
                    for n in 0..1_000_u16 {
                        assert_eq!(client.recv().await.unwrap().unwrap(), n.to_be_bytes());
                    }
                    assert_eq!(client.recv().await.unwrap(), None);
                });
                receiving.await;
                sending.await.unwrap();
            });
            drop(over);
        });
    }
}

#[test]
fn a_client_is_a_stream_and_a_sink() {
    let server = Running::start(echo(), options());
    run(async {
        let client = Arc::new(connect(&server.address, PATIENCE).await);
        let mut sink = MessageStream::new(client.clone());
        let sending = async {
            for n in 0..1_000_u16 {
                future::poll_fn(|cx| Pin::new(&mut sink).poll_ready(cx)).await?;
                Pin::new(&mut sink).start_send(n.to_be_bytes().to_vec())?;
            }
            let full = Pin::new(&mut sink).start_send(Vec::new());
            assert!(matches!(full, Err(CallError::Busy)), "{full:?}");
            future::poll_fn(|cx| Pin::new(&mut sink).poll_flush(cx)).await?;
            future::poll_fn(|cx| Pin::new(&mut sink).poll_close(cx)).await
        };
        let received = client.messages().try_collect::<_, _, Vec<_>>();
        let (sent, received) = future::zip(sending, received).await;
        sent.unwrap();
        assert_eq!(received.unwrap(), (0..1_000_u16).map(u16::to_be_bytes).collect::<Vec<_>>());
        let after = client.send(b"more").await;
        assert!(matches!(after, Err(CallError::Send(_))), "{after:?}");
    });
}

#[test]
fn a_recv_that_times_out_leaves_the_connection_as_it_was() {
    let (go, told) = channel();
    let (address, playing) = played(move |raw| {
        let whole = frame(b"late");
        (&raw.0).write_all(&whole[..6]).unwrap();
        told.recv_timeout(PATIENCE).unwrap();
        (&raw.0).write_all(&whole[6..]).unwrap();
    });
    run(async {
        let client = connect(&address, SHORT).await;
        let begun = Instant::now();
        let failed = client.recv().await;
        assert!(matches!(failed, Err(CallError::TimedOut)), "{failed:?}");
        assert!(begun.elapsed() >= SHORT);
        // A stream goes on, too.
        let mut messages = client.messages();
        for _ in 0..2 {
            let begun = Instant::now();
            assert!(matches!(messages.next().await, Some(Err(CallError::TimedOut))));
            assert!(begun.elapsed() >= SHORT);
        }
        go.send(()).unwrap();
        let late = patiently(async || messages.next().await.transpose()).await;
        assert_eq!(late.unwrap(), b"late");
    });
    playing.join().unwrap();
}

#[test]
fn a_send_that_times_out_is_still_sent_whole_and_the_next_one_is_told_to_wait() {
    let (go, told) = channel();
    let (address, playing) = played(move |raw| {
        told.recv_timeout(PATIENCE).unwrap();
        let heard = (raw.hear(), raw.hear());
        raw.say(b"thanks");
        assert_eq!(read_all(&raw), b"");
        heard
    });
    let message = bytes(MUCH);
    run(async {
        let client = connect(&address, SHORT).await;
        let failed = client.send(&message).await;
        assert!(matches!(failed, Err(CallError::TimedOut)), "{failed:?}");
        let failed = client.send(b"never sent").await;
        assert!(matches!(failed, Err(CallError::Busy)), "{failed:?}");
        let mut sink = client.messages();
        Pin::new(&mut sink).start_send(b"next".to_vec()).unwrap();
        let failed = future::poll_fn(|cx| Pin::new(&mut sink).poll_flush(cx)).await;
        assert!(matches!(failed, Err(CallError::TimedOut)), "{failed:?}");
        go.send(()).unwrap();
        // It is still held, and on its way if it was tried again.
        patiently(async || future::poll_fn(|cx| Pin::new(&mut sink).poll_flush(cx)).await).await;
        assert_eq!(patiently(async || client.recv().await).await.unwrap(), b"thanks");
        patiently(async || client.finish().await).await;
    });
    let (first, second) = playing.join().unwrap();
    assert!(first == message, "{} bytes of {}, or others", first.len(), message.len());
    assert_eq!(second, b"next");
}

#[test]
fn deadline_that_begins_later_holds_without_calls() {
    let (go, told) = channel();
    let (address, playing) = played(move |raw| {
        told.recv_timeout(PATIENCE).unwrap();
        (&raw.0).write_all(&[&frame(b"first")[..], &frame(b"second")[..7]].concat()).unwrap();
        // Until the client has closed the connection.
        read_all(&raw)
    });
    let config = Kind::None.config(Role::Client).with_stall_timeout(SHORT);
    let sessions = SessionFactory::new(config, Pools::default());
    let connector = connector(&address, sessions, NO_KEY, PATIENCE);
    let client = run(async {
        let client = Connection::connect(&connector).await.unwrap();
        // So far it has no deadline.
        go.send(()).unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), b"first");
        client
    });
    assert_eq!(playing.join().unwrap(), b"");
    let failed = run(client.recv());
    let timed_out = Error::TimedOut(TimedOut::Receive);
    assert!(matches!(&failed, Err(CallError::Protocol(it)) if *it == timed_out), "{failed:?}");
}

#[test]
fn what_a_dropped_send_left_over_leaves_while_another_call_receives() {
    let (go, told) = channel();
    let (address, playing) = played(move |raw| {
        told.recv_timeout(PATIENCE).unwrap();
        let message = raw.hear();
        raw.say(b"thanks");
        message
    });
    let message = bytes(MUCH);
    run(async {
        let client = connect(&address, PATIENCE).await;
        assert_eq!(future::poll_once(client.send(&message)).await.map(Result::unwrap), None);
        go.send(()).unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), b"thanks");
    });
    assert!(playing.join().unwrap() == message);
}

#[test]
fn handshakes_that_fail_say_why() {
    let attempt = |kind: Kind, timeout, play: fn(Raw)| {
        let (address, playing) = played(play);
        let config = kind.config(Role::Client).with_handshake_timeout(SHORT);
        let sessions = SessionFactory::new(config, Pools::new(&PoolOptions::default()));
        let connector = connector(&address, sessions, kind.key(SECRET), timeout);
        let failed = run(Connection::connect(&connector)).unwrap_err();
        playing.join().unwrap();
        failed
    };
    for kind in [Kind::Challenge, Kind::Mutual, Kind::Multiprocessing] {
        let failed = attempt(kind, PATIENCE, |raw| (&raw.0).write_all(&[0]).unwrap());
        let truncated = Error::Truncated(Truncated::Handshake);
        assert!(matches!(failed, CallError::Protocol(error) if error == truncated), "{failed}");
        let failed = attempt(kind, PATIENCE, |raw| drop(read_all(&raw)));
        let timed_out = Error::TimedOut(TimedOut::Handshake);
        assert!(matches!(failed, CallError::Protocol(error) if error == timed_out), "{failed}");
        let failed = attempt(kind, SHORT / 3, |raw| drop(read_all(&raw)));
        assert!(matches!(failed, CallError::TimedOut), "{failed}");
    }
    let (address, playing) = played(|raw| drop(read_all(&raw)));
    let sessions = Kind::Challenge.sessions_in(Role::Client, &{
        let mut none = PoolOptions::default();
        none.handshakes = 0;
        none
    });
    let failed = run(Connection::connect(&connector(&address, sessions, NO_KEY, PATIENCE)));
    assert!(matches!(failed, Err(CallError::Start(_))), "{failed:?}");
    playing.join().unwrap();
}

#[test]
fn a_reset_is_the_transports_failure_and_stays_one() {
    let (go, told) = channel();
    let (address, playing) = played(move |raw| {
        assert_eq!(raw.hear(), b"hello");
        told.recv_timeout(PATIENCE).unwrap();
        socket2::SockRef::from(&raw.0).set_linger(Some(Duration::ZERO)).unwrap();
    });
    run(async {
        let client = connect(&address, PATIENCE).await;
        client.send(b"hello").await.unwrap();
        go.send(()).unwrap();
        let failed = client.recv().await;
        let reset = io::ErrorKind::ConnectionReset;
        assert!(
            matches!(&failed, Err(CallError::Io(error)) if error.kind() == reset),
            "{failed:?}"
        );
        assert!(matches!(client.recv().await, Err(CallError::Io(_))));
        assert!(matches!(client.send(b"again").await, Err(CallError::Io(_))));
        let mut messages = client.messages();
        assert!(matches!(messages.next().await, Some(Err(CallError::Io(_)))));
        assert!(messages.next().await.is_none());
    });
    playing.join().unwrap();
}

#[test]
fn a_message_longer_than_is_taken_whole_can_be_had_in_parts() {
    let message = bytes(300_000);
    let long = message.clone();
    let (address, playing) = played(move |raw| {
        raw.say(&long);
        let next = raw.hear();
        raw.say(&next);
        assert_eq!(read_all(&raw), b"");
    });
    run(async {
        let sessions = Kind::None.sessions(Role::Client);
        let mut options = ConnectionOptions::default();
        options.message_memory = MessageMemory::new(100_000, 1 << 20);
        let connector = connector(&address, sessions, NO_KEY, PATIENCE).with_options(options);
        let client = Connection::connect(&connector).await.unwrap();
        let max = 100_000;
        let failed = client.send(&message).await;
        assert!(
            matches!(failed, Err(CallError::Send(SendError::TooLong { max: it })) if it == max)
        );
        for _ in 0..2 {
            assert!(matches!(client.recv().await, Err(CallError::MessageTooLong)));
        }
        let mut heard = Vec::new();
        loop {
            let part = client.recv_chunk().await.unwrap().unwrap();
            assert_eq!(part.first, heard.is_empty());
            heard.extend(part.bytes);
            if part.remaining == Remaining::End {
                break;
            }
        }
        assert!(heard == message);
        client.send(b"next").await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), b"next");
        client.finish().await.unwrap();
        let failed = client.send(b"more").await;
        let over = matches!(failed, Err(CallError::Send(SendError::Finished | SendError::Ended)));
        assert!(over, "{failed:?}");
    });
    playing.join().unwrap();
}

#[test]
fn where_nobody_listens_there_is_no_connection() {
    let refused = tcp().listen(1).unwrap()[0].address().unwrap();
    for address in [refused, unix()] {
        let sessions = Kind::None.sessions(Role::Client);
        let failed = run(Connection::connect(&connector(&address, sessions, NO_KEY, PATIENCE)));
        assert!(matches!(failed, Err(CallError::Connect(_))), "{failed:?}");
    }
}

#[test]
fn at_a_unix_socket_a_crowd_is_waited_for() {
    let Address::Unix(path) = unix() else { panic!() };
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let listener = UnixListener::from(socket);
    let address = Address::Unix(path.clone());
    run(async {
        let mut crowd = Vec::new();
        let failed = loop {
            match Socket::connect(&address, SHORT).await {
                Ok(socket) => crowd.push(socket),
                Err(failed) => break failed,
            }
        };
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        let waiting = Socket::connect(&address, PATIENCE);
        let accepting =
            smol::unblock(move || (0..=crowd.len()).for_each(|_| drop(listener.accept())));
        let (connected, ()) = future::zip(waiting, accepting).await;
        connected.unwrap();
    });
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_name_is_looked_up() {
    let server = Running::start(echo(), options());
    let Address::Tcp { port, .. } = server.address else { panic!() };
    run(async {
        let address = Address::Tcp { host: "localhost".into(), port };
        let client = connect(&address, PATIENCE).await;
        client.send(b"hello").await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), b"hello");
    });
}

/// Woken, it looks at the client at once; with it goes a call that is not done.
struct Prying {
    client: Arc<Connection>,
    woken: Arc<AtomicUsize>,
    _call: Mutex<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Wake for Prying {
    fn wake(self: Arc<Self>) {
        drop(run(future::poll_once(self.client.peer(|_| ()))));
        self.woken.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn whoever_is_woken_or_let_go_may_use_the_client_at_once() {
    let (done, is_done) = channel();
    thread::spawn(move || {
        let server = Running::start(echo(), options());
        // Without a timeout: a timer has the waker too.
        let (sessions, options) = (Kind::None.sessions(Role::Client), ConnectionOptions::default());
        let connector = connector(&server.address, sessions, NO_KEY, PATIENCE);
        let client = run(Connection::connect(&connector.with_options(options)));
        let client = Arc::new(client.unwrap());
        let woken = Arc::new(AtomicUsize::new(0));
        let prying = || {
            let caller = client.clone();
            let mut call = Box::pin(async move { drop(caller.recv().await) });
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let (client, woken) = (client.clone(), woken.clone());
            Waker::from(Arc::new(Prying { client, woken, _call: Mutex::new(call) }))
        };
        let mut waiting = pin!(client.recv());
        // For the second, the first is let go.
        for waker in [prying(), prying()] {
            assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        run(client.send(b"hello")).unwrap();
        until("nobody is woken", || woken.load(Ordering::Relaxed) > 0);
        assert_eq!(run(waiting).unwrap().unwrap(), b"hello");
        done.send(()).unwrap();
    });
    is_done.recv_timeout(PATIENCE).unwrap();
}
