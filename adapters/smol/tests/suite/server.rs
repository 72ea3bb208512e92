//! The server, and clients that a test plays itself.

use std::net::Shutdown;
use std::sync::mpsc::Sender;
use std::task::{Context, Waker};

use countersign::{CloseReason, Error, Instant as Moment, Key, Peer, TimedOut};
use countersign_driver::StreamService;
use countersign_host::{CallError, ConnectionLimit};
use countersign_smol::Connection;
use futures_lite::FutureExt as _;

use super::*;

/// Hands out its waker when a message comes, and answers when it is woken.
struct Sleeper {
    waker: Waker,
    out: Sender<Waker>,
    asked: Vec<Vec<u8>>,
}

impl StreamService for Sleeper {
    fn on_chunk(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: Moment) -> Flow {
        self.asked.push(chunk.bytes.to_vec());
        self.out.send(self.waker.clone()).unwrap();
        Flow::Consumed
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, _: Moment) {
        self.asked.drain(..).for_each(|message| out.send(&message).unwrap());
    }

    fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }
}

#[test]
fn wakes_from_other_threads_reach_their_connections() {
    const CLIENTS: usize = 50;
    const ROUNDS: usize = 20;
    for on in On::ALL {
        let (out, wakers) = channel();
        let services = Streams(move |connection: ConnectionHandle| {
            let waker = connection.waker();
            Sleeper { waker, out: out.clone(), asked: Vec::new() }
        });
        let sessions = Kind::None.sessions(Role::Server);
        let server = Running::start_at(on, &tcp(), sessions, Arc::new(NO_KEY), services, options());
        let clients: Vec<_> = (0..CLIENTS).map(|_| server.client()).collect();
        for round in 0..ROUNDS {
            let message = |client: usize| format!("client {client}, round {round}").into_bytes();
            for (n, client) in clients.iter().enumerate() {
                client.say(&message(n));
            }
            // All at once, each from a thread of its own.
            let wakers: Vec<Waker> = wakers.iter().take(CLIENTS).collect();
            thread::scope(|scope| {
                for waker in wakers {
                    scope.spawn(move || waker.wake());
                }
            });
            for (n, client) in clients.iter().enumerate() {
                assert_eq!(client.hear(), message(n));
            }
        }
    }
}

#[test]
fn one_connection_too_many_is_closed_at_once_and_a_place_given_back_is_a_place() {
    let limit = ConnectionLimit::new(2);
    let mut options = options();
    options.connection_limit = limit.clone();
    let server = Running::start(echo(), options);
    let mut clients = vec![server.client(), server.client()];
    clients.iter().for_each(|client| client.ask(b"hello"));
    for _ in 0..3 {
        assert!(server.client().is_closed());
    }
    clients.iter().for_each(|client| client.ask(b"still here"));
    clients.remove(0);
    until("the place is not given back", || limit.open() == 1);
    server.client().ask(b"hello");
}

#[test]
fn one_buffer_each_way_serves_everybody() {
    const CLIENTS: usize = 50;
    let mut options = PoolOptions::default();
    (options.receiving, options.sending, options.buffer_len) = (1, 1, 4096);
    let pools = Pools::new(&options);
    let sessions = SessionFactory::new(Kind::None.config(Role::Server), pools.clone());
    let (on, keys, services) = (On::TwoThreads, Arc::new(NO_KEY), echo());
    let server = Running::start_at(on, &tcp(), sessions, keys, services, super::options());
    let clients: Vec<_> = (0..=CLIENTS).map(|_| server.client()).collect();
    // Most are longer than the buffer.
    let message = |client: usize| vec![client as u8; 200 * (client + 1)];
    for round in 0..5 {
        // A message that is half here keeps the buffer, and all others wait for it.
        let (holder, others) = clients.split_last().unwrap();
        let whole = frame(&message(CLIENTS));
        (&holder.0).write_all(&whole[..100]).unwrap();
        until("nobody has the buffer", || pools.receive.leased() > 0);
        for (n, client) in others.iter().enumerate() {
            client.say(&message(n));
        }
        (&holder.0).write_all(&whole[100..]).unwrap();
        for (n, client) in clients.iter().enumerate() {
            assert!(client.hear() == message(n), "client {n} in round {round}");
        }
    }
}

#[test]
fn a_connection_that_is_never_idle_does_not_hold_up_the_others() {
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
            other.ask(&[n]);
        }
        over.store(true, Ordering::Relaxed);
    });
}

/// Sends every message back, panics when told to, and does not take it well.
struct Panicking(Sender<Result<(), Error>>, bool);

impl StreamService for Panicking {
    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Moment) -> Flow {
        assert_ne!(chunk.bytes, b"panic", "as it was told to");
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
        assert!(!self.1, "panics to the end");
    }
}

#[test]
fn a_service_that_panics_ends_its_own_connection_and_nobody_elses() {
    for on in On::ALL {
        let (ended, how) = channel();
        let limit = ConnectionLimit::new(2);
        let mut options = options();
        options.connection_limit = limit.clone();
        let opened = AtomicUsize::new(0);
        let services = Streams(move |_: ConnectionHandle| {
            assert_ne!(opened.fetch_add(1, Ordering::Relaxed), 2, "the third is not opened");
            Panicking(ended.clone(), false)
        });
        let sessions = Kind::None.sessions(Role::Server);
        let server = Running::start_at(on, &tcp(), sessions, Arc::new(NO_KEY), services, options);
        let (client, other) = (server.client(), server.client());
        other.ask(b"hello");
        client.say(b"panic");
        assert!(client.is_closed());
        let aborted = Err(Error::Aborted(CloseReason::Application));
        assert_eq!(how.recv_timeout(PATIENCE).unwrap(), aborted);
        other.ask(b"still here");
        until("the place is not given back", || limit.open() == 1);
        assert!(server.client().is_closed());
        other.ask(b"still here");
        until("the place is not given back", || limit.open() == 1);
        server.client().ask(b"hello");
        drop(other);
        server.handle.stop();
        server.join();
    }
}

/// Finishes at once, and listens on.
struct Leaving(Sender<Vec<u8>>);

impl StreamService for Leaving {
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
fn who_has_finished_still_receives_whichever_end_it_is() {
    for kind in Kind::ALL {
        let (heard, told) = channel();
        let services = Streams(move |_: ConnectionHandle| Leaving(heard.clone()));
        let (sessions, keys) = (kind.sessions(Role::Server), Arc::new(kind.key(SECRET)));
        let server = Running::start_at(On::OneThread, &tcp(), sessions, keys, services, options());
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
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), b"more");
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), b"to say");
    }
    let server = Running::start(echo(), options());
    let client = server.client();
    (&client.0).write_all(&frame(&bytes(100_000)).repeat(20)).unwrap();
    client.0.shutdown(Shutdown::Write).unwrap();
    for _ in 0..20 {
        assert!(client.hear() == bytes(100_000));
    }
    assert!(client.is_closed());
}

#[test]
fn deadlines_pass_though_nothing_happens() {
    for kind in [Kind::Challenge, Kind::Mutual, Kind::Multiprocessing] {
        let config = kind.config(Role::Server).with_handshake_timeout(SHORT);
        let sessions = SessionFactory::new(config, Pools::new(&PoolOptions::default()));
        let (ended, how) = channel();
        let services = Streams(move |_: ConnectionHandle| Telling(ended.clone()));
        let keys = Arc::new(kind.key(SECRET));
        let server = Running::start_at(On::TwoThreads, &tcp(), sessions, keys, services, options());
        let begun = Instant::now();
        let client = server.client();
        let timed_out = Err(Error::TimedOut(TimedOut::Handshake));
        assert_eq!(how.recv_timeout(PATIENCE).unwrap(), timed_out);
        assert!(begun.elapsed() >= SHORT);
        // What it says before it closes differs.
        io::copy(&mut &client.0, &mut io::sink()).unwrap();
    }
}

/// Sends every message back, and says how it ended.
struct Telling(Sender<Result<(), Error>>);

impl StreamService for Telling {
    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Moment) -> Flow {
        send_back(chunk, out)
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        let _ = self.0.send(why);
    }
}

#[test]
fn keys_that_are_replaced_end_the_sessions_of_those_that_are_gone() {
    let kind = Kind::Mutual;
    let keys = SharedKeys::new(Arc::new(Key::mutual(SECRET).unwrap()));
    let (ended, how) = channel();
    let services = Streams(move |_: ConnectionHandle| Telling(ended.clone()));
    let sessions = kind.sessions(Role::Server);
    let server =
        Running::start_at(On::TwoThreads, &tcp(), sessions, keys.clone(), services, options());
    let other = b"another key that is long enough";
    let connect = async |secret: &[u8]| {
        let (sessions, key) = (kind.sessions(Role::Client), kind.key(secret));
        Connection::connect(&connector(&server.address, sessions, key, PATIENCE)).await
    };
    run(async {
        let client = connect(SECRET).await.unwrap();
        client.send(b"hello").await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), b"hello");
        // The same again is nothing to anybody.
        keys.replace(Arc::new(Key::mutual(SECRET).unwrap()));
        server.handle.keys_changed();
        client.send(b"still here").await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), b"still here");
        // It is idle: nothing but being told makes the server look.
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
fn to_drop_the_future_of_a_server_is_to_end_it_and_its_services_are_told() {
    for clients in [0, 1, 40] {
        let listeners = tcp().listen(2).unwrap();
        let address = listeners[0].address().unwrap();
        let (ended, how) = channel();
        let (opened, is_open) = channel();
        let services = Streams(move |_: ConnectionHandle| {
            opened.send(()).unwrap();
            Telling(ended.clone())
        });
        let protocol = Arc::new(Kind::None.sessions(Role::Server));
        let limit = ConnectionLimit::new(100);
        let mut options = options();
        options.connection_limit = limit.clone();
        let server = Server::new(listeners, protocol, Arc::new(NO_KEY), options).unwrap();
        let mut serving = Box::pin(server.run_with(services));
        let mut poll = || {
            assert!(serving.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        };
        poll();
        let clients: Vec<_> = (0..clients).map(|_| Raw::connect(&address)).collect();
        clients.iter().for_each(|client| client.say(b"hello"));
        let mut waiting = clients.len();
        until("not accepted", || {
            poll();
            waiting -= is_open.try_iter().count();
            waiting == 0
        });
        drop(serving);
        let shutdown = Err(Error::Aborted(CloseReason::Shutdown));
        // Before the drop has returned.
        assert_eq!(how.try_iter().collect::<Vec<_>>(), vec![shutdown; clients.len()]);
        assert_eq!(limit.open(), 0);
        for client in &clients {
            while client.try_hear().is_ok() {}
            assert!(client.is_closed());
        }
        assert!(TcpStream::connect(address.to_string()).is_err());
    }
}
