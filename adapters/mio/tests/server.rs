//! The server, on its own thread, and connections in an event loop of the test.

#![cfg(test)]

#[path = "server/connecting.rs"]
mod connecting;
#[path = "server/own_loop.rs"]
mod own_loop;

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use countersign::{CloseReason, Config, Error, Key, Outbox, Scheme};
use countersign_driver::services::Echo;
use countersign_driver::{Chunk, Flow, StreamService};
use countersign_host::{
    Address, ConnectionHandle, ConnectionLimit, PoolOptions, Pools, ServerHandle, ServerOptions,
    ServiceFactory, SessionFactory, Streams,
};
use countersign_mio::Server;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The longest wait for anything that must happen.
const TIMEOUT: Duration = Duration::from_secs(30);

fn sessions(pools: &PoolOptions) -> SessionFactory {
    sessions_in(Pools::new(pools))
}

fn sessions_in(pools: Pools) -> SessionFactory {
    SessionFactory::new(Config::new(Scheme::None), pools)
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// Sends every message back while it arrives.
fn echo() -> impl ServiceFactory + 'static {
    Streams(|_: ConnectionHandle| Echo)
}

/// Options of a server that waits longer for its connections than its clients do.
fn options() -> ServerOptions {
    let mut options = ServerOptions::default();
    options.stop_timeout = 10 * TIMEOUT;
    options
}

/// A server of the scheme `none`, stopped on drop.
struct Running {
    address: String,
    handle: ServerHandle,
    /// Gets the result of the server.
    end: Receiver<io::Result<()>>,
}

impl Running {
    fn start(
        services: impl ServiceFactory + 'static,
        factory: SessionFactory,
        options: ServerOptions,
    ) -> Self {
        let listeners = "127.0.0.1:0".parse::<Address>().unwrap().listen(1).unwrap();
        let address = listeners[0].address().unwrap().to_string();
        let keys = Arc::new(None::<Key>);
        let mut server = Server::new(listeners, Arc::new(factory), keys, options).unwrap();
        let handle = server.handle();
        let (ended, end) = channel();
        thread::spawn(move || {
            let result = server.run_with(&services);
            // Its sockets are closed before its result is known.
            drop(server);
            let _ = ended.send(result);
        });
        Self { address, handle, end }
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        Client(stream)
    }

    /// Waits until it has returned.
    fn join(&self) {
        self.end.recv_timeout(TIMEOUT).unwrap().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

struct Client(TcpStream);

impl Client {
    fn send(&self, message: &[u8]) {
        (&self.0).write_all(&frame(message)).unwrap();
    }

    /// The next frame, or the error.
    fn try_recv(&self) -> io::Result<Vec<u8>> {
        let mut header = [0; 4];
        (&self.0).read_exact(&mut header)?;
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        (&self.0).read_exact(&mut body)?;
        Ok(body)
    }

    fn recv(&self) -> Vec<u8> {
        self.try_recv().unwrap()
    }

    fn request(&self, message: &[u8]) {
        self.send(message);
        assert_eq!(self.recv(), message);
    }

    /// Whether the server has closed the connection without sending anything.
    fn is_closed(&self) -> bool {
        match (&self.0).read(&mut [0; 1]) {
            Ok(n) => n == 0,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                true
            }
        }
    }
}

/// Lets this process open `wanted` files. If the system does not, prints that and returns false.
fn allow_files(wanted: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        assert!(std::env::var_os("COUNTERSIGN_NO_SKIP").is_none(), "needs {wanted} open files");
        // Not captured by the test harness, which hides the output of passing tests.
        writeln!(io::stderr(), "skipped: needs {wanted} open files").unwrap();
        return false;
    }
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).unwrap();
    }
    true
}

/// Echoes; blocks the loop on the messages `hold` and `slow`.
struct BlockingEcho(Arc<Hold>);

struct Hold {
    held: Sender<()>,
    go: Mutex<Receiver<()>>,
}

/// Longer than the quiet time of a stopped connection.
const SLOW: Duration = Duration::from_millis(250);

impl StreamService for BlockingEcho {
    fn on_chunk(
        &mut self,
        chunk: Chunk<'_>,
        out: &mut Outbox<'_>,
        _: countersign::Instant,
    ) -> Flow {
        match chunk.bytes {
            b"hold" => {
                let _ = self.0.held.send(());
                let _ = self.0.go.lock().unwrap().recv();
            }
            b"slow" => thread::sleep(SLOW),
            _ => {}
        }
        out.send_chunk(chunk.bytes, chunk.remaining).unwrap();
        Flow::Consumed
    }
}

#[test]
fn stop_answers_requests_whose_events_are_not_fetched() {
    // More than the events of two polls.
    const CLIENTS: usize = 3_000;
    if !allow_files(2 * CLIENTS as u64 + 500) {
        return;
    }
    let (held, is_held) = channel();
    let (go, resumed) = channel();
    let hold = Arc::new(Hold { held, go: Mutex::new(resumed) });
    let services = Streams(move |_: ConnectionHandle| BlockingEcho(hold.clone()));
    let server = Running::start(services, sessions(&PoolOptions::default()), options());
    let clients: Vec<_> = (0..CLIENTS).map(|_| server.client()).collect();
    clients.iter().for_each(|client| client.request(b"first"));

    let (holder, others) = clients.split_first().unwrap();
    holder.send(b"hold");
    is_held.recv().unwrap();
    // Its event is among the first, and handling it takes longer than the quiet time: connections whose
    // events the loop has not fetched yet must not count as idle.
    let (slow, others) = others.split_first().unwrap();
    slow.send(b"slow");
    others.iter().for_each(|client| client.send(b"again"));
    server.handle.stop();
    go.send(()).unwrap();

    assert_eq!(holder.recv(), b"hold");
    assert_eq!(slow.recv(), b"slow");
    let answered =
        others.iter().filter(|client| client.try_recv().is_ok_and(|a| a == b"again")).count();
    assert_eq!(answered, others.len());
    assert!(clients.iter().all(Client::is_closed));
    drop(clients);
    server.join();
}

#[test]
fn server_with_idle_connections_stops_soon() {
    let server = Running::start(echo(), sessions(&PoolOptions::default()), options());
    let client = server.client();
    client.request(b"hello");
    server.handle.stop();
    assert!(client.is_closed());
    drop(client);
    server.join();
}

/// Echoes, is never idle, and reports the result of its connection.
struct NeverIdle(Sender<Result<(), Error>>);

impl StreamService for NeverIdle {
    fn on_chunk(
        &mut self,
        chunk: Chunk<'_>,
        out: &mut Outbox<'_>,
        _: countersign::Instant,
    ) -> Flow {
        out.send_chunk(chunk.bytes, chunk.remaining).unwrap();
        Flow::Consumed
    }

    fn is_idle(&self) -> bool {
        false
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        self.0.send(result).unwrap();
    }
}

#[test]
fn stop_timeout_ends_busy_connections() {
    let (ended, result) = channel();
    let mut options = options();
    options.stop_timeout = SLOW;
    let services = Streams(move |_: ConnectionHandle| NeverIdle(ended.clone()));
    let server = Running::start(services, sessions(&PoolOptions::default()), options);
    let client = server.client();
    client.request(b"hello");
    let started = Instant::now();
    server.handle.stop();
    server.join();
    assert!(started.elapsed() >= SLOW);
    assert_eq!(result.recv().unwrap(), Err(Error::Aborted(CloseReason::Shutdown)));
    assert!(client.is_closed());
}

/// Sends every message back. Panics on the message `panic`, then when it is closed and when it is dropped.
struct Panicking(Sender<Result<(), Error>>, bool);

impl StreamService for Panicking {
    fn on_chunk(
        &mut self,
        chunk: Chunk<'_>,
        out: &mut Outbox<'_>,
        _: countersign::Instant,
    ) -> Flow {
        assert_ne!(chunk.bytes, b"panic", "the message demands a panic");
        out.send_chunk(chunk.bytes, chunk.remaining).unwrap();
        Flow::Consumed
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        self.0.send(result).unwrap();
        self.1 = result.is_err();
        assert!(!self.1, "panics again");
    }
}

impl Drop for Panicking {
    fn drop(&mut self) {
        assert!(!self.1, "panics when dropped");
    }
}

#[test]
fn panic_of_a_service_ends_its_own_connection_only() {
    let (ended, result) = channel();
    let limit = ConnectionLimit::new(2);
    let mut options = options();
    options.connection_limit = limit.clone();
    let services = Streams(move |_: ConnectionHandle| Panicking(ended.clone(), false));
    let server = Running::start(services, sessions(&PoolOptions::default()), options);
    let (client, other) = (server.client(), server.client());
    other.request(b"hello");
    client.send(b"panic");
    assert!(client.is_closed());
    assert_eq!(
        result.recv_timeout(TIMEOUT).unwrap(),
        Err(Error::Aborted(CloseReason::Application))
    );
    other.request(b"still here");
    let until = Instant::now() + TIMEOUT;
    while limit.open() > 1 {
        assert!(Instant::now() < until, "the permit is not released");
        thread::yield_now();
    }
    server.client().request(b"hello");
    server.handle.stop();
    server.join();
}

/// Sends its waker to the test when a message arrives, and answers when it is woken.
struct AnswerWhenWoken {
    waker: Waker,
    out: Sender<Waker>,
    requests: Vec<Vec<u8>>,
}

impl StreamService for AnswerWhenWoken {
    fn on_chunk(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: countersign::Instant) -> Flow {
        self.requests.push(chunk.bytes.to_vec());
        self.out.send(self.waker.clone()).unwrap();
        Flow::Consumed
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, _: countersign::Instant) {
        self.requests.drain(..).for_each(|message| out.send(&message).unwrap());
    }

    fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }
}

#[test]
fn wakes_of_other_threads_reach_their_connections() {
    const CLIENTS: usize = 50;
    const ROUNDS: usize = 20;
    let (out, wakers) = channel();
    let services = Streams(move |connection: ConnectionHandle| {
        let waker = connection.waker();
        AnswerWhenWoken { waker, out: out.clone(), requests: Vec::new() }
    });
    let server = Running::start(services, sessions(&PoolOptions::default()), options());
    let clients: Vec<_> = (0..CLIENTS).map(|_| server.client()).collect();
    for round in 0..ROUNDS {
        let message = |client: usize| format!("client {client}, round {round}").into_bytes();
        for (n, client) in clients.iter().enumerate() {
            client.send(&message(n));
        }
        // All at once, each on its own thread.
        let wakers: Vec<Waker> = wakers.iter().take(CLIENTS).collect();
        thread::scope(|scope| {
            for waker in wakers {
                scope.spawn(move || waker.wake());
            }
        });
        for (n, client) in clients.iter().enumerate() {
            assert_eq!(client.recv(), message(n));
        }
    }
}

#[test]
fn stop_waits_for_the_answer_of_another_thread() {
    let (out, wakers) = channel();
    let services = Streams(move |connection: ConnectionHandle| {
        let waker = connection.waker();
        AnswerWhenWoken { waker, out: out.clone(), requests: Vec::new() }
    });
    let server = Running::start(services, sessions(&PoolOptions::default()), options());
    let client = server.client();
    client.send(b"hello");
    let waker: Waker = wakers.recv().unwrap();
    server.handle.stop();
    let until = Instant::now() + TIMEOUT;
    while TcpStream::connect(&server.address).is_ok() {
        assert!(Instant::now() < until, "still accepts");
        thread::yield_now();
    }
    // Longer than until an idle connection would be closed.
    client.0.set_read_timeout(Some(SLOW)).unwrap();
    assert_eq!(client.try_recv().unwrap_err().kind(), ErrorKind::WouldBlock);
    client.0.set_read_timeout(Some(TIMEOUT)).unwrap();
    waker.wake();
    assert_eq!(client.recv(), b"hello");
    assert!(client.is_closed());
    drop(client);
    server.join();
}

#[test]
fn connections_above_the_limit_are_closed_at_once() {
    let limit = ConnectionLimit::new(2);
    let mut options = options();
    options.connection_limit = limit.clone();
    let server = Running::start(echo(), sessions(&PoolOptions::default()), options);
    let mut clients = vec![server.client(), server.client()];
    clients.iter().for_each(|client| client.request(b"hello"));
    assert_eq!(limit.open(), 2);
    for _ in 0..3 {
        assert!(server.client().is_closed());
    }
    clients.iter().for_each(|client| client.request(b"still here"));

    clients.remove(0);
    // The server releases the permit later.
    let until = Instant::now() + TIMEOUT;
    while limit.open() > 1 {
        assert!(Instant::now() < until, "the permit is not released");
        thread::yield_now();
    }
    server.client().request(b"hello");
}

#[test]
fn one_buffer_in_each_direction_serves_all_connections() {
    const CLIENTS: usize = 50;
    let mut pools = PoolOptions::default();
    (pools.receiving, pools.sending, pools.buffer_len) = (1, 1, 4096);
    let pools = Pools::new(&pools);
    let services = echo();
    let server = Running::start(services, sessions_in(pools.clone()), options());
    let clients: Vec<_> = (0..=CLIENTS).map(|_| server.client()).collect();
    // Most are longer than the buffer.
    let message = |client: usize| vec![client as u8; 200 * (client + 1)];
    for round in 0..5 {
        // A partial message holds the buffer, and all others wait for it.
        let (holder, others) = clients.split_last().unwrap();
        let whole = frame(&message(CLIENTS));
        (&holder.0).write_all(&whole[..100]).unwrap();
        let until = Instant::now() + TIMEOUT;
        while pools.receive.leased() == 0 {
            assert!(Instant::now() < until, "no connection holds the buffer");
            thread::yield_now();
        }
        for (n, client) in others.iter().enumerate() {
            client.send(&message(n));
        }
        (&holder.0).write_all(&whole[100..]).unwrap();
        for (n, client) in clients.iter().enumerate() {
            assert!(client.recv() == message(n), "client {n} in round {round}");
        }
    }
}
