//! Calls on connections: polls of a send, whole messages, handles, accepted connections, keepalive,
//! reconnection.

use std::fmt::{self, Debug};
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context as TaskContext, Waker};

use countersign::{CloseReason, Error, Peer, TimedOut};
use countersign_driver::{Backoff, Context, Service, ServiceError};
use countersign_host::{CallError, Messages, ProtocolFactory};
use countersign_smol::{Connection, ConnectionTask, ReconnectingClient, futures};
use smol::Task;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use super::pipe::{PipeMode, pipe};
use super::*;

#[test]
fn send_is_done_in_its_first_poll() {
    for kind in Kind::ALL {
        let (ours, theirs) = pipe(PipeMode::Plain, 1 << 20);
        let server_side = async {
            let task = ConnectionTask::new(theirs);
            let protocol =
                kind.sessions(Role::Server).server(&task.waker().into(), task.now()).unwrap();
            task.drive(protocol, Echo, &kind.key(SECRET)).await.1.unwrap();
        };
        let client_side = async {
            let connector = connector_over(kind.sessions(Role::Client), kind.key(SECRET));
            let client = futures::Connection::over(ours, &connector).await.unwrap();
            for n in 0..100 {
                let message = [n; 1000];
                // No other task runs between this poll and the await of the answer.
                let sent = future::poll_once(client.send(&message)).await;
                sent.expect("send needs more than one poll").unwrap();
                assert_eq!(client.recv().await.unwrap().unwrap(), message);
            }
            client.finish().await.unwrap();
            assert_eq!(client.recv().await.unwrap(), None);
        };
        run(future::zip(server_side, client_side));
    }
}

#[test]
fn sent_message_is_with_the_peer_after_one_poll() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let client = run(Connection::connect(&connector(
        &address,
        Kind::None.sessions(Role::Client),
        NO_KEY,
        PATIENCE,
    )));
    let client = client.unwrap();
    let peer = RawClient(listener.accept().unwrap().0);
    peer.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut sending = pin!(client.send(b"hello"));
    let cx = &mut TaskContext::from_waker(Waker::noop());
    assert!(sending.as_mut().poll(cx).is_ready());
    assert_eq!(peer.read_frame(), b"hello");
}

/// Sends whole messages back; reports the result of the connection.
struct WholeEcho(std::sync::mpsc::Sender<Result<(), Error>>);

impl Service for WholeEcho {
    fn on_message(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), ServiceError> {
        Ok(cx.send(message)?)
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        let _ = self.0.send(result);
    }
}

fn whole_echo(max_message: usize) -> (impl ServiceFactory, Receiver<Result<(), Error>>) {
    let (ended, end) = channel();
    let memory = MessageMemory::new(max_message, 16 * max_message);
    (Messages::new(move |_: ConnectionHandle| WholeEcho(ended.clone()), memory), end)
}

#[test]
fn client_may_send_a_whole_message_before_it_reads() {
    for kind in Kind::ALL {
        let (services, _end) = whole_echo(1 << 20);
        let (sessions, keys) = (kind.sessions(Role::Server), Arc::new(kind.key(SECRET)));
        let server =
            Running::start_at(Runtime::OneThread, &tcp(), sessions, keys, services, options());
        run(async {
            let sessions = kind.sessions(Role::Client);
            let connector = connector(&server.address, sessions, kind.key(SECRET), PATIENCE);
            let client = Connection::connect(&connector).await.unwrap();
            let message = bytes(1 << 20);
            for _ in 0..3 {
                client.send(&message).await.unwrap();
                assert!(client.recv().await.unwrap().unwrap() == message);
            }
        });
    }
}

#[test]
fn request_receives_while_it_sends() {
    let server = Running::start(echo(), options());
    run(async {
        let sessions = Kind::None.sessions(Role::Client);
        let connector = connector(&server.address, sessions, NO_KEY, PATIENCE);
        let client = Connection::connect(&connector).await.unwrap();
        // More than the sockets buffer: the server answers while it reads.
        let message = bytes(16 << 20);
        assert!(client.request(&message).await.unwrap() == message);
        client.finish().await.unwrap();
        let failed = client.request(b"more").await;
        assert!(matches!(failed, Err(CallError::Send(_))), "{failed:?}");
    });
}

/// Records the log messages of a thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut lines = Lines(self.0.clone());
        event.record(&mut lines);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Lines(Arc<Mutex<Vec<String>>>);

impl Visit for Lines {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0.lock().unwrap().push(fmt::format(format_args!("{value:?}")));
        }
    }
}

#[test]
fn message_over_the_limit_ends_its_connection() {
    let (services, end) = whole_echo(100_000);
    let listeners = tcp().listen(1).unwrap();
    let address = listeners[0].address().unwrap();
    let factory = Arc::new(Kind::Mutual.sessions(Role::Server));
    let keys = Arc::new(Kind::Mutual.key(SECRET));
    let server = Server::new(listeners, factory, keys, options()).unwrap();
    let (log, handle) = (Log::default(), server.handle());
    let logging = log.clone();
    let server_thread = thread::spawn(move || {
        tracing::subscriber::with_default(logging, || smol::block_on(server.run_with(services)));
    });
    run(async {
        let sessions = Kind::Mutual.sessions(Role::Client);
        let connector = connector(&address, sessions, Kind::Mutual.key(SECRET), PATIENCE);
        let client = Connection::connect(&connector).await.unwrap();
        let _ = client.send(&bytes(200_000)).await;
        let failed = client.recv().await;
        assert!(
            matches!(failed, Err(CallError::Protocol(Error::PeerClosed(_)) | CallError::Io(_))),
            "{failed:?}"
        );
    });
    let aborted = Err(Error::Aborted(CloseReason::Protocol));
    assert_eq!(end.recv_timeout(PATIENCE).unwrap(), aborted);
    handle.stop();
    server_thread.join().unwrap();
    let lines = log.0.lock().unwrap();
    assert!(lines.iter().any(|line| line.contains("reason=message-too-long")), "{lines:?}");
}

#[test]
fn handles_reach_connections_from_other_threads() {
    for runtime in Runtime::ALL {
        let kind = Kind::Mutual;
        let (services, _end) = whole_echo(1 << 20);
        let (sessions, keys) = (kind.sessions(Role::Server), Arc::new(kind.key(SECRET)));
        let server = Running::start_at(runtime, &tcp(), sessions, keys, services, options());
        run(async {
            let sessions = kind.sessions(Role::Client);
            let connector = connector(&server.address, sessions, kind.key(SECRET), PATIENCE);
            let first = Connection::connect(&connector).await.unwrap();
            let second = Connection::connect(&connector).await.unwrap();
            wait_until("connection not established", || server.handle.connections().len() == 2);
            assert_eq!(server.handle.broadcast(*b"to all"), 2);
            for client in [&first, &second] {
                assert_eq!(client.recv().await.unwrap().unwrap(), b"to all");
            }
            let named = server.handle.named("client");
            assert_eq!((named.len(), server.handle.named("other").len()), (2, 0));
            named[0].send(bytes(1 << 20)).unwrap();
            assert!(first.recv().await.unwrap().unwrap() == bytes(1 << 20));
            named[0].close();
            assert_eq!(first.recv().await.unwrap(), None);
            named[1].abort(CloseReason::Application);
            let ended = second.recv().await;
            assert!(matches!(ended, Err(CallError::Protocol(_))), "{ended:?}");
        });
    }
}

fn accepting(kind: Kind, handshake_timeout: Duration) -> (Server, Address, ServerHandle) {
    let listeners = tcp().listen(2).unwrap();
    let address = listeners[0].address().unwrap();
    let config = kind.config(Role::Server).with_handshake_timeout(handshake_timeout);
    let factory = SessionFactory::new(config, Pools::default());
    let keys = Arc::new(kind.key(SECRET));
    let server = Server::new(listeners, Arc::new(factory), keys, options()).unwrap();
    let handle = server.handle();
    (server, address, handle)
}

#[test]
fn silent_client_does_not_hold_up_accept() {
    let kind = Kind::Mutual;
    let (mut server, address, handle) = accepting(kind, SHORT);
    let silent = RawClient::connect(&address);
    let connector = connector(&address, kind.sessions(Role::Client), kind.key(SECRET), PATIENCE);
    let executor = Executor::new();
    run(executor.run(async {
        let ignored = server.accept().await.unwrap();
        let client_task: Task<Vec<u8>> = executor.spawn(async move {
            let client = Connection::connect(&connector).await.unwrap();
            client.request(b"hello").await.unwrap()
        });
        let accepted = server.accept().await.unwrap();
        let name = accepted.peer(|peer| peer.name.map(str::to_owned)).await.unwrap();
        assert_eq!(name.as_deref(), Some("client"));
        let identity = accepted.handle().unwrap().peer().unwrap();
        assert_eq!(identity.name.as_deref(), Some("client"));
        let message = accepted.recv().await.unwrap().unwrap();
        accepted.send(&message).await.unwrap();
        assert_eq!(client_task.await, b"hello");
        // The deadline holds although no call was made on the connection.
        smol::unblock(move || while silent.try_read_frame().is_ok() {}).await;
        let failed = ignored.recv().await;
        let timed_out = Error::TimedOut(TimedOut::Handshake);
        assert!(matches!(failed, Err(CallError::Protocol(error)) if error == timed_out));
        handle.stop();
        assert!(server.accept().await.is_none());
        assert!(TcpStream::connect(address.to_string()).is_err());
    }));
}

#[test]
fn dropped_accept_loses_no_connection() {
    let (mut server, address, handle) = accepting(Kind::None, PATIENCE);
    run(async {
        let mut accepted = Vec::new();
        for _ in 0..20 {
            let client = RawClient::connect(&address);
            client.send_frame(b"hello");
            let connection = loop {
                if let Some(connection) = future::poll_once(server.accept()).await {
                    break connection.unwrap();
                }
                Timer::after(Duration::from_millis(1)).await;
            };
            assert_eq!(connection.recv().await.unwrap().unwrap(), b"hello");
            accepted.push((client, connection));
        }
        handle.stop();
        assert!(server.accept().await.is_none());
    });
}

#[test]
fn handle_closes_an_accepted_connection() {
    let kind = Kind::Mutual;
    let (mut server, address, handle) = accepting(kind, PATIENCE);
    let connector = connector(&address, kind.sessions(Role::Client), kind.key(SECRET), PATIENCE);
    run(async {
        let server_side = async {
            let accepted = server.accept().await.unwrap();
            assert_eq!(accepted.recv().await.unwrap().unwrap(), b"hello");
            assert_eq!(accepted.recv().await.unwrap(), None);
        };
        let client_side = async {
            let client = Connection::connect(&connector).await.unwrap();
            client.send(b"hello").await.unwrap();
            wait_until("connection not established", || handle.connections().len() == 1);
            let connections = handle.connections();
            thread::spawn(move || connections[0].close()).join().unwrap();
            assert_eq!(client.recv().await.unwrap(), None);
            client.finish().await.unwrap();
        };
        future::zip(server_side, client_side).await;
    });
}

#[test]
fn idle_accepted_connection_obeys_without_calls() {
    let requests: [fn(&ServerHandle); 3] = [
        |server| server.connections()[0].close(),
        |server| server.connections()[0].abort(CloseReason::Application),
        ServerHandle::stop,
    ];
    for request in requests {
        // Without heartbeats, no deadline causes a poll soon.
        let (mut server, address, handle) = accepting(Kind::None, 10 * PATIENCE);
        run(async {
            let client = RawClient::connect(&address);
            client.send_frame(b"hello");
            let accepted = server.accept().await.unwrap();
            assert_eq!(accepted.recv().await.unwrap().unwrap(), b"hello");
            assert!(future::poll_once(accepted.recv()).await.is_none());
            request(&handle);
            assert!(client.is_closed());
        });
    }
}

#[test]
fn halves_send_and_receive_in_two_tasks() {
    let server = Running::start(echo(), options());
    let executor = Executor::new();
    run(executor.run(async {
        let sessions = Kind::None.sessions(Role::Client);
        let connector = connector(&server.address, sessions, NO_KEY, PATIENCE);
        let (sender, receiver) = Connection::connect(&connector).await.unwrap().split();
        let sending: Task<Result<(), CallError>> = executor.spawn(async move {
            for n in 0..1_000_u16 {
                sender.send(&n.to_be_bytes()).await?;
            }
            sender.finish().await
        });
        for n in 0..1_000_u16 {
            assert_eq!(receiver.recv().await.unwrap().unwrap(), n.to_be_bytes());
        }
        sending.await.unwrap();
        assert!(receiver.recv_chunk().await.unwrap().is_none());
    }));
}

#[test]
fn idle_connection_stays_alive_without_calls() {
    const IDLE: Duration = Duration::from_secs(8);
    let heartbeat = |name: &str, process: u8| {
        let process_id = ProcessId::from_bytes(&[process; ProcessId::LEN]);
        let mutual = Mutual::new(name.parse().unwrap(), process_id);
        Config::new(Scheme::Mutual(mutual.with_heartbeat(Duration::from_secs(1))))
    };
    let server = SessionFactory::new(heartbeat("server", 2), Pools::default());
    let client = SessionFactory::new(heartbeat("client", 1), Pools::default());
    let keys = Arc::new(Kind::Mutual.key(SECRET));
    let server = Running::start_at(Runtime::OneThread, &tcp(), server, keys, echo(), options());
    let connector = connector(&server.address, client, Kind::Mutual.key(SECRET), PATIENCE);
    let client = run(Connection::connect(&connector)).unwrap();
    wait_until("connection not established", || server.handle.connections().len() == 1);
    // No task polls the client meanwhile.
    let begun = Instant::now();
    wait_until("the idle time did not pass", || {
        let open = server.handle.connections().len();
        assert_eq!(open, 1, "the server closed the connection after {:?}", begun.elapsed());
        thread::park_timeout(Duration::from_millis(100));
        begun.elapsed() > IDLE
    });
    assert_eq!(run(client.request(b"still here")).unwrap(), b"still here");
}

/// Sends a greeting, echoes two messages and aborts at the third.
struct AbortsAtThird(usize);

impl Service for AbortsAtThird {
    fn on_open(&mut self, _: &Peer<'_>, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        Ok(cx.send(b"greeting")?)
    }

    fn on_message(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), ServiceError> {
        self.0 += 1;
        if self.0 == 3 {
            return Err(CloseReason::Application.into());
        }
        Ok(cx.send(message)?)
    }
}

#[test]
fn reconnecting_client_runs_its_hook_on_each_connection() {
    let kind = Kind::Mutual;
    let memory = MessageMemory::default();
    let services = Messages::new(|_: ConnectionHandle| AbortsAtThird(0), memory);
    let (sessions, keys) = (kind.sessions(Role::Server), Arc::new(kind.key(SECRET)));
    let server = Running::start_at(Runtime::OneThread, &tcp(), sessions, keys, services, options());
    let connector =
        connector(&server.address, kind.sessions(Role::Client), kind.key(SECRET), PATIENCE);
    let connects = Arc::new(AtomicUsize::new(0));
    let counted = connects.clone();
    let executor = Executor::new();
    // The future is `Send`.
    let client_side: Task<()> = executor.spawn(async move {
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(50));
        let counts = counted.clone();
        let mut client = ReconnectingClient::new(connector, backoff, move |connection| {
            counts.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                assert_eq!(connection.recv().await?.unwrap(), b"greeting");
                connection.send(b"registered").await
            })
        });
        for round in 1..=3 {
            assert_eq!(client.recv().await.unwrap(), b"registered");
            assert_eq!(client.request(b"hello").await.unwrap(), b"hello");
            assert_eq!(counted.load(Ordering::SeqCst), round);
            assert!(client.request(b"third message").await.is_err());
        }
        client.send(b"more").await.unwrap();
        assert_eq!(counted.load(Ordering::SeqCst), 4);
        // The connection ends during a receive, which continues on the next connection.
        for _ in 0..5 {
            client.send(b"and more").await.ok();
            client.recv().await.unwrap();
        }
        assert!(counted.load(Ordering::SeqCst) > 4);
    });
    run(executor.run(client_side));
}

#[test]
fn reconnecting_client_fails_at_the_timeout() {
    let listeners = tcp().listen(1).unwrap();
    let address = listeners[0].address().unwrap();
    drop(listeners);
    let connector = connector(&address, Kind::None.sessions(Role::Client), NO_KEY, SHORT);
    let mut client =
        ReconnectingClient::new(connector, Backoff::default(), |_| Box::pin(async { Ok(()) }));
    run(async {
        for _ in 0..2 {
            let failed = client.request(b"hello").await;
            let expected = matches!(failed, Err(CallError::Connect(_) | CallError::TimedOut));
            assert!(expected, "{failed:?}");
        }
    });
}
