//! The server, with plain sockets as clients.

use std::net::Shutdown;
use std::sync::mpsc::Sender;
use std::task::{Context, Waker};

use countersign::{CloseReason, Error, Instant as Moment, Key, Peer, TimedOut};
use countersign_driver::StreamService;
use countersign_host::{CallError, ConnectionLimit};
use countersign_smol::Connection;
use futures_lite::FutureExt as _;

use super::*;

/// Sends its waker to the test when a message arrives, and answers when it is woken.
struct AnswerWhenWoken {
    waker: Waker,
    out: Sender<Waker>,
    pending: Vec<Vec<u8>>,
}

impl StreamService for AnswerWhenWoken {
    fn on_chunk(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: Moment) -> Flow {
        self.pending.push(chunk.bytes.to_vec());
        self.out.send(self.waker.clone()).unwrap();
        Flow::Consumed
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, _: Moment) {
        self.pending.drain(..).for_each(|message| out.send(&message).unwrap());
    }

    fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }
}

#[test]
fn wakes_from_other_threads_reach_their_connections() {
    const CLIENTS: usize = 50;
    const ROUNDS: usize = 20;
    for runtime in Runtime::ALL {
        let (out, wakers) = channel();
        let services = Streams(move |connection: ConnectionHandle| {
            let waker = connection.waker();
            AnswerWhenWoken { waker, out: out.clone(), pending: Vec::new() }
        });
        let sessions = Kind::None.sessions(Role::Server);
        let server =
            Running::start_at(runtime, &tcp(), sessions, Arc::new(NO_KEY), services, options());
        let clients: Vec<_> = (0..CLIENTS).map(|_| server.client()).collect();
        for round in 0..ROUNDS {
            let message = |client: usize| format!("client {client}, round {round}").into_bytes();
            for (n, client) in clients.iter().enumerate() {
                client.send_frame(&message(n));
            }
            // All at once, each on its own thread.
            let wakers: Vec<Waker> = wakers.iter().take(CLIENTS).collect();
            thread::scope(|scope| {
                for waker in wakers {
                    scope.spawn(move || waker.wake());
                }
            });
            for (n, client) in clients.iter().enumerate() {
                assert_eq!(client.read_frame(), message(n));
            }
        }
    }
}

#[test]
fn connection_above_limit_is_closed_until_one_ends() {
    let limit = ConnectionLimit::new(2);
    let mut options = options();
    options.connection_limit = limit.clone();
    let server = Running::start(echo(), options);
    let mut clients = vec![server.client(), server.client()];
    clients.iter().for_each(|client| client.request(b"hello"));
    for _ in 0..3 {
        assert!(server.client().is_closed());
    }
    clients.iter().for_each(|client| client.request(b"still here"));
    clients.remove(0);
    wait_until("connection still counts", || limit.open() == 1);
    server.client().request(b"hello");
}

#[test]
fn one_buffer_each_way_serves_many_connections() {
    const CLIENTS: usize = 50;
    let mut options = PoolOptions::default();
    (options.receiving, options.sending, options.buffer_len) = (1, 1, 4096);
    let pools = Pools::new(&options);
    let sessions = SessionFactory::new(Kind::None.config(Role::Server), pools.clone());
    let (runtime, keys, services) = (Runtime::TwoThreads, Arc::new(NO_KEY), echo());
    let server = Running::start_at(runtime, &tcp(), sessions, keys, services, super::options());
    let clients: Vec<_> = (0..=CLIENTS).map(|_| server.client()).collect();
    // Most are longer than the buffer.
    let message = |client: usize| vec![client as u8; 200 * (client + 1)];
    for round in 0..5 {
        // An incomplete message keeps the buffer; all other connections wait for it.
        let (holder, others) = clients.split_last().unwrap();
        let whole = frame(&message(CLIENTS));
        (&holder.0).write_all(&whole[..100]).unwrap();
        wait_until("no connection leased the buffer", || pools.receive.leased() > 0);
        for (n, client) in others.iter().enumerate() {
            client.send_frame(&message(n));
        }
        (&holder.0).write_all(&whole[100..]).unwrap();
        for (n, client) in clients.iter().enumerate() {
            assert!(client.read_frame() == message(n), "client {n} in round {round}");
        }
    }
}

#[test]
fn busy_connection_does_not_delay_others() {
    let server = Running::start(echo(), options());
    let (busy, other) = (server.client(), server.client());
    let over = std::sync::atomic::AtomicBool::new(false);
    let many = frame(&[7; 100]).repeat(1_000);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                (&busy.0).write_all(&many).unwrap();
            }
            busy.0.shutdown(Shutdown::Write).unwrap();
        });
        scope.spawn(|| io::copy(&mut &busy.0, &mut io::sink()).unwrap());
        for n in 0..200_u8 {
            other.request(&[n]);
        }
        over.store(true, Ordering::Relaxed);
    });
}

/// Echoes; panics on the message `panic`, then again in `on_closed` and in its destructor.
struct Panicking(Sender<Result<(), Error>>, bool);

impl StreamService for Panicking {
    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Moment) -> Flow {
        assert_ne!(chunk.bytes, b"panic", "the message demands a panic");
        send_back(chunk, out)
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        self.0.send(why).unwrap();
        self.1 = why.is_err();
        assert!(!self.1, "panics again");
    }
}

impl Drop for Panicking {
    fn drop(&mut self) {
        assert!(!self.1, "panics in drop");
    }
}

#[test]
fn panicking_service_ends_its_own_connection_only() {
    for runtime in Runtime::ALL {
        let (ended, how) = channel();
        let limit = ConnectionLimit::new(2);
        let mut options = options();
        options.connection_limit = limit.clone();
        let opened = AtomicUsize::new(0);
        let services = Streams(move |_: ConnectionHandle| {
            assert_ne!(
                opened.fetch_add(1, Ordering::Relaxed),
                2,
                "the factory panics for the third connection"
            );
            Panicking(ended.clone(), false)
        });
        let sessions = Kind::None.sessions(Role::Server);
        let server =
            Running::start_at(runtime, &tcp(), sessions, Arc::new(NO_KEY), services, options);
        let (client, other) = (server.client(), server.client());
        other.request(b"hello");
        client.send_frame(b"panic");
        assert!(client.is_closed());
        let aborted = Err(Error::Aborted(CloseReason::Application));
        assert_eq!(how.recv_timeout(PATIENCE).unwrap(), aborted);
        other.request(b"still here");
        wait_until("connection still counts", || limit.open() == 1);
        assert!(server.client().is_closed());
        other.request(b"still here");
        wait_until("connection still counts", || limit.open() == 1);
        server.client().request(b"hello");
        drop(other);
        server.handle.stop();
        server.join();
    }
}

/// Finishes at once and reports what it receives.
struct FinishOnOpen(Sender<Vec<u8>>);

impl StreamService for FinishOnOpen {
    fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, _: Moment) {
        out.send(b"bye").unwrap();
        out.finish();
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: Moment) -> Flow {
        self.0.send(chunk.bytes.to_vec()).unwrap();
        Flow::Consumed
    }
}

#[test]
fn finished_client_and_server_still_receive() {
    for kind in Kind::ALL {
        let (received, messages) = channel();
        let services = Streams(move |_: ConnectionHandle| FinishOnOpen(received.clone()));
        let (sessions, keys) = (kind.sessions(Role::Server), Arc::new(kind.key(SECRET)));
        let server =
            Running::start_at(Runtime::OneThread, &tcp(), sessions, keys, services, options());
        let (sessions, key) = (kind.sessions(Role::Client), kind.key(SECRET));
        run(async {
            let connector = connector(&server.address, sessions, key, PATIENCE);
            let client = Connection::connect(&connector).await.unwrap();
            assert_eq!(client.recv().await.unwrap().unwrap(), b"bye");
            assert_eq!(client.recv().await.unwrap(), None);
            client.send(b"more").await.unwrap();
            client.send(b"to say").await.unwrap();
            client.finish().await.unwrap();
        });
        assert_eq!(messages.recv_timeout(PATIENCE).unwrap(), b"more");
        assert_eq!(messages.recv_timeout(PATIENCE).unwrap(), b"to say");
    }
    let server = Running::start(echo(), options());
    let client = server.client();
    (&client.0).write_all(&frame(&bytes(100_000)).repeat(20)).unwrap();
    client.0.shutdown(Shutdown::Write).unwrap();
    for _ in 0..20 {
        assert!(client.read_frame() == bytes(100_000));
    }
    assert!(client.is_closed());
}

#[test]
fn silent_client_times_out() {
    for kind in [Kind::Challenge, Kind::Mutual, Kind::Multiprocessing] {
        let config = kind.config(Role::Server).with_handshake_timeout(SHORT);
        let sessions = SessionFactory::new(config, Pools::new(&PoolOptions::default()));
        let (ended, how) = channel();
        let services = Streams(move |_: ConnectionHandle| ReportingEcho(ended.clone()));
        let keys = Arc::new(kind.key(SECRET));
        let server =
            Running::start_at(Runtime::TwoThreads, &tcp(), sessions, keys, services, options());
        let begun = Instant::now();
        let client = server.client();
        let timed_out = Err(Error::TimedOut(TimedOut::Handshake));
        assert_eq!(how.recv_timeout(PATIENCE).unwrap(), timed_out);
        assert!(begun.elapsed() >= SHORT);
        // What the server sends before it closes depends on the scheme.
        io::copy(&mut &client.0, &mut io::sink()).unwrap();
    }
}

/// Echoes and reports the result of its connection.
struct ReportingEcho(Sender<Result<(), Error>>);

impl StreamService for ReportingEcho {
    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Moment) -> Flow {
        send_back(chunk, out)
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        let _ = self.0.send(why);
    }
}

#[test]
fn key_removal_ends_sessions_that_used_the_key() {
    let kind = Kind::Mutual;
    let keys = SharedKeys::new(Arc::new(Key::mutual(SECRET).unwrap()));
    let (ended, how) = channel();
    let services = Streams(move |_: ConnectionHandle| ReportingEcho(ended.clone()));
    let sessions = kind.sessions(Role::Server);
    let server =
        Running::start_at(Runtime::TwoThreads, &tcp(), sessions, keys.clone(), services, options());
    let other = b"another key that is long enough";
    let connect = async |secret: &[u8]| {
        let (sessions, key) = (kind.sessions(Role::Client), kind.key(secret));
        Connection::connect(&connector(&server.address, sessions, key, PATIENCE)).await
    };
    run(async {
        let client = connect(SECRET).await.unwrap();
        client.send(b"hello").await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), b"hello");
        // Replacing the key with an equal one ends no session.
        keys.replace(Arc::new(Key::mutual(SECRET).unwrap()));
        server.handle.keys_changed();
        client.send(b"still here").await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), b"still here");
        // The connection is idle: only `keys_changed` makes the server check its key.
        keys.replace(Arc::new(Key::mutual(other).unwrap()));
        server.handle.keys_changed();
        let lost = client.recv().await;
        assert!(matches!(lost, Err(CallError::Protocol(_))), "{lost:?}");
        assert!(connect(SECRET).await.is_err());
        assert!(connect(other).await.is_ok());
    });
    let aborted = Err(Error::Aborted(CloseReason::Application));
    assert_eq!(how.recv_timeout(PATIENCE).unwrap(), aborted);
}

#[test]
fn dropped_server_future_calls_on_closed_of_every_service() {
    for clients in [0, 1, 40] {
        let listeners = tcp().listen(2).unwrap();
        let address = listeners[0].address().unwrap();
        let (ended, how) = channel();
        let (opened, is_open) = channel();
        let services = Streams(move |_: ConnectionHandle| {
            opened.send(()).unwrap();
            ReportingEcho(ended.clone())
        });
        let protocol = Arc::new(Kind::None.sessions(Role::Server));
        let limit = ConnectionLimit::new(100);
        let mut options = options();
        options.connection_limit = limit.clone();
        let server = Server::new(listeners, protocol, Arc::new(NO_KEY), options).unwrap();
        let mut server_future = Box::pin(server.run_with(services));
        let mut poll = || {
            assert!(server_future.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        };
        poll();
        let clients: Vec<_> = (0..clients).map(|_| RawClient::connect(&address)).collect();
        clients.iter().for_each(|client| client.send_frame(b"hello"));
        let mut waiting = clients.len();
        wait_until("not accepted", || {
            poll();
            waiting -= is_open.try_iter().count();
            waiting == 0
        });
        drop(server_future);
        let shutdown = Err(Error::Aborted(CloseReason::Shutdown));
        // `on_closed` was called before the drop returned.
        assert_eq!(how.try_iter().collect::<Vec<_>>(), vec![shutdown; clients.len()]);
        assert_eq!(limit.open(), 0);
        for client in &clients {
            while client.try_read_frame().is_ok() {}
            assert!(client.is_closed());
        }
        assert!(TcpStream::connect(address.to_string()).is_err());
    }
}
