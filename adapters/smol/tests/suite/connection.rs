//! The client, with scripted servers and real ones.

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

/// More bytes than the sockets buffer for a peer that does not read.
const MUCH: usize = 32 << 20;

/// A server that accepts one connection and runs `script` on it.
fn scripted_server<T: Send + 'static>(
    script: impl FnOnce(RawClient) -> T + Send + 'static,
) -> (Address, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        script(RawClient(stream))
    });
    (address, server)
}

/// Connects a client of the scheme `none`.
async fn connect(address: &Address, timeout: Duration) -> Connection {
    let sessions = Kind::None.sessions(Role::Client);
    Connection::connect(&connector(address, sessions, NO_KEY, timeout)).await.unwrap()
}

fn read_all(raw: &RawClient) -> Vec<u8> {
    let mut all = Vec::new();
    (&raw.0).read_to_end(&mut all).unwrap();
    all
}

/// Repeats a call that times out or is busy, until [`PATIENCE`] has passed.
async fn retry<T>(mut call: impl AsyncFnMut() -> Result<T, CallError>) -> T {
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
    for runtime in Runtime::ALL {
        let services = echo();
        let config = Kind::None.config(Role::Server).with_max_frame(LEN as u64);
        let sessions = SessionFactory::new(config.clone(), Pools::new(&PoolOptions::default()));
        let keys = Arc::new(NO_KEY);
        let server = Running::start_at(runtime, &tcp(), sessions, keys, services, options());
        let executor = Executor::new();
        let (over, is_over) = async_channel::bounded::<()>(1);
        thread::scope(|scope| {
            // Two threads, so that both tasks run at once.
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
fn client_is_a_stream_and_a_sink() {
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
fn timed_out_receive_loses_nothing() {
    let (go, proceed) = channel();
    let (address, server) = scripted_server(move |raw| {
        let whole = frame(b"late");
        (&raw.0).write_all(&whole[..6]).unwrap();
        proceed.recv_timeout(PATIENCE).unwrap();
        (&raw.0).write_all(&whole[6..]).unwrap();
    });
    run(async {
        let client = connect(&address, SHORT).await;
        let begun = Instant::now();
        let failed = client.recv().await;
        assert!(matches!(failed, Err(CallError::TimedOut)), "{failed:?}");
        assert!(begun.elapsed() >= SHORT);
        // A stream continues after a timeout as well.
        let mut messages = client.messages();
        for _ in 0..2 {
            let begun = Instant::now();
            assert!(matches!(messages.next().await, Some(Err(CallError::TimedOut))));
            assert!(begun.elapsed() >= SHORT);
        }
        go.send(()).unwrap();
        let late = retry(async || messages.next().await.transpose()).await;
        assert_eq!(late.unwrap(), b"late");
    });
    server.join().unwrap();
}

#[test]
fn timed_out_send_completes_and_the_next_one_is_busy() {
    let (go, proceed) = channel();
    let (address, server) = scripted_server(move |raw| {
        proceed.recv_timeout(PATIENCE).unwrap();
        let received = (raw.read_frame(), raw.read_frame());
        raw.send_frame(b"thanks");
        assert_eq!(read_all(&raw), b"");
        received
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
        // The sink still holds the message, and sends it when flushed again.
        retry(async || future::poll_fn(|cx| Pin::new(&mut sink).poll_flush(cx)).await).await;
        assert_eq!(retry(async || client.recv().await).await.unwrap(), b"thanks");
        retry(async || client.finish().await).await;
    });
    let (first, second) = server.join().unwrap();
    assert!(first == message, "received {} bytes of {}, or wrong ones", first.len(), message.len());
    assert_eq!(second, b"next");
}

#[test]
fn deadline_set_by_a_receive_holds_without_calls() {
    let (go, proceed) = channel();
    let (address, server) = scripted_server(move |raw| {
        proceed.recv_timeout(PATIENCE).unwrap();
        (&raw.0).write_all(&[&frame(b"first")[..], &frame(b"second")[..7]].concat()).unwrap();
        // Returns when the client closes the connection.
        read_all(&raw)
    });
    let config = Kind::None.config(Role::Client).with_stall_timeout(SHORT);
    let sessions = SessionFactory::new(config, Pools::default());
    let connector = connector(&address, sessions, NO_KEY, PATIENCE);
    let client = run(async {
        let client = Connection::connect(&connector).await.unwrap();
        // The connection has no deadline so far.
        go.send(()).unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), b"first");
        client
    });
    assert_eq!(server.join().unwrap(), b"");
    let failed = run(client.recv());
    let timed_out = Error::TimedOut(TimedOut::Receive);
    assert!(matches!(&failed, Err(CallError::Protocol(it)) if *it == timed_out), "{failed:?}");
}

#[test]
fn receive_completes_a_dropped_send() {
    let (go, proceed) = channel();
    let (address, server) = scripted_server(move |raw| {
        proceed.recv_timeout(PATIENCE).unwrap();
        let message = raw.read_frame();
        raw.send_frame(b"thanks");
        message
    });
    let message = bytes(MUCH);
    run(async {
        let client = connect(&address, PATIENCE).await;
        assert_eq!(future::poll_once(client.send(&message)).await.map(Result::unwrap), None);
        go.send(()).unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), b"thanks");
    });
    assert!(server.join().unwrap() == message);
}

#[test]
fn failed_handshake_reports_its_cause() {
    let attempt = |kind: Kind, timeout, script: fn(RawClient)| {
        let (address, server) = scripted_server(script);
        let config = kind.config(Role::Client).with_handshake_timeout(SHORT);
        let sessions = SessionFactory::new(config, Pools::new(&PoolOptions::default()));
        let connector = connector(&address, sessions, kind.key(SECRET), timeout);
        let failed = run(Connection::connect(&connector)).unwrap_err();
        server.join().unwrap();
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
    let (address, server) = scripted_server(|raw| drop(read_all(&raw)));
    let sessions = Kind::Challenge.sessions_in(Role::Client, &{
        let mut none = PoolOptions::default();
        none.handshakes = 0;
        none
    });
    let failed = run(Connection::connect(&connector(&address, sessions, NO_KEY, PATIENCE)));
    assert!(matches!(failed, Err(CallError::Start(_))), "{failed:?}");
    server.join().unwrap();
}

#[test]
fn reset_fails_all_later_calls() {
    let (go, proceed) = channel();
    let (address, server) = scripted_server(move |raw| {
        assert_eq!(raw.read_frame(), b"hello");
        proceed.recv_timeout(PATIENCE).unwrap();
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
    server.join().unwrap();
}

#[test]
fn message_above_the_limit_can_be_received_in_chunks() {
    let message = bytes(300_000);
    let long = message.clone();
    let (address, server) = scripted_server(move |raw| {
        raw.send_frame(&long);
        let next = raw.read_frame();
        raw.send_frame(&next);
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
        let mut received = Vec::new();
        loop {
            let chunk = client.recv_chunk().await.unwrap().unwrap();
            assert_eq!(chunk.first, received.is_empty());
            received.extend(chunk.bytes);
            if chunk.remaining == Remaining::End {
                break;
            }
        }
        assert!(received == message);
        client.send(b"next").await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), b"next");
        client.finish().await.unwrap();
        let failed = client.send(b"more").await;
        let over = matches!(failed, Err(CallError::Send(SendError::Finished | SendError::Ended)));
        assert!(over, "{failed:?}");
    });
    server.join().unwrap();
}

#[test]
fn connect_fails_without_a_listener() {
    let refused = tcp().listen(1).unwrap()[0].address().unwrap();
    for address in [refused, unix()] {
        let sessions = Kind::None.sessions(Role::Client);
        let failed = run(Connection::connect(&connector(&address, sessions, NO_KEY, PATIENCE)));
        assert!(matches!(failed, Err(CallError::Connect(_))), "{failed:?}");
    }
}

#[test]
fn connect_waits_while_a_unix_socket_is_full() {
    let Address::Unix(path) = unix() else { panic!() };
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let listener = UnixListener::from(socket);
    let address = Address::Unix(path.clone());
    run(async {
        let mut pending = Vec::new();
        let failed = loop {
            match Socket::connect(&address, SHORT).await {
                Ok(socket) => pending.push(socket),
                Err(failed) => break failed,
            }
        };
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        let waiting = Socket::connect(&address, PATIENCE);
        let accepting =
            smol::unblock(move || (0..=pending.len()).for_each(|_| drop(listener.accept())));
        let (connected, ()) = future::zip(waiting, accepting).await;
        connected.unwrap();
    });
    std::fs::remove_file(path).unwrap();
}

#[test]
fn host_name_is_resolved() {
    let server = Running::start(echo(), options());
    let Address::Tcp { port, .. } = server.address else { panic!() };
    run(async {
        let address = Address::Tcp { host: "localhost".into(), port };
        let client = connect(&address, PATIENCE).await;
        client.send(b"hello").await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), b"hello");
    });
}

/// A waker that calls the client when it is woken, and drops a pending call of it when it is dropped.
struct ReentrantWaker {
    client: Arc<Connection>,
    woken: Arc<AtomicUsize>,
    _call: Mutex<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Wake for ReentrantWaker {
    fn wake(self: Arc<Self>) {
        drop(run(future::poll_once(self.client.peer(|_| ()))));
        self.woken.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn wakers_may_call_the_client_when_woken_or_dropped() {
    let (done, is_done) = channel();
    thread::spawn(move || {
        let server = Running::start(echo(), options());
        // No timeout: a timer would hold the waker too.
        let (sessions, options) = (Kind::None.sessions(Role::Client), ConnectionOptions::default());
        let connector = connector(&server.address, sessions, NO_KEY, PATIENCE);
        let client = run(Connection::connect(&connector.with_options(options)));
        let client = Arc::new(client.unwrap());
        let woken = Arc::new(AtomicUsize::new(0));
        let reentrant_waker = || {
            let caller = client.clone();
            let mut call = Box::pin(async move { drop(caller.recv().await) });
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let (client, woken) = (client.clone(), woken.clone());
            Waker::from(Arc::new(ReentrantWaker { client, woken, _call: Mutex::new(call) }))
        };
        let mut waiting = pin!(client.recv());
        // The second poll drops the waker of the first.
        for waker in [reentrant_waker(), reentrant_waker()] {
            assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        run(client.send(b"hello")).unwrap();
        wait_until("the receiver was not woken", || woken.load(Ordering::Relaxed) > 0);
        assert_eq!(run(waiting).unwrap().unwrap(), b"hello");
        done.send(()).unwrap();
    });
    is_done.recv_timeout(PATIENCE).unwrap();
}
