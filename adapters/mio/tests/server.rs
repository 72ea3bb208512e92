//! The server on a thread of its own, and its connections in a loop that is somebody else's.

#![cfg(test)]

#[path = "server/connecting.rs"]
mod connecting;
#[path = "server/neighbour.rs"]
mod neighbour;

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use countersign::{CloseReason, Config, Error, Key, Outbox, Scheme};
use countersign_driver::services::Echo;
use countersign_driver::{Chunk, Flow, Service};
use countersign_host::{
    Address, ConnectionLimit, Open, PeerAddr, PoolOptions, Pools, ServerHandle, ServerOptions,
    SessionFactory,
};
use countersign_mio::Server;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For anything that must happen; never how long it is expected to take.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// Of a server that never gives up: its clients lose patience first.
fn options() -> ServerOptions {
    let mut options = ServerOptions::default();
    options.stop_timeout = 10 * PATIENCE;
    options
}

/// A server of the scheme `none`, stopped on drop.
struct Running {
    address: String,
    remote: ServerHandle,
    /// Says how it came to its end.
    end: Receiver<io::Result<()>>,
}

impl Running {
    fn start(
        open: impl Open<Service: 'static> + 'static,
        protocol: SessionFactory,
        options: ServerOptions,
    ) -> Self {
        let listeners = "127.0.0.1:0".parse::<Address>().unwrap().listen(1).unwrap();
        let address = listeners[0].address().unwrap().to_string();
        let keys = Arc::new(None::<Key>);
        let mut server = Server::new(listeners, Arc::new(protocol), keys, open, options).unwrap();
        let remote = server.remote();
        let (ended, end) = channel();
        thread::spawn(move || {
            let how = server.run();
            // What it has open is closed when it says so.
            drop(server);
            let _ = ended.send(how);
        });
        Self { address, remote, end }
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client(stream)
    }

    /// Waits until it has come to its end.
    fn join(&self) {
        self.end.recv_timeout(PATIENCE).unwrap().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.remote.stop();
    }
}

struct Client(TcpStream);

impl Client {
    fn say(&self, message: &[u8]) {
        (&self.0).write_all(&frame(message)).unwrap();
    }

    /// The next frame, or what there is instead.
    fn try_hear(&self) -> io::Result<Vec<u8>> {
        let mut header = [0; 4];
        (&self.0).read_exact(&mut header)?;
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        (&self.0).read_exact(&mut body)?;
        Ok(body)
    }

    fn hear(&self) -> Vec<u8> {
        self.try_hear().unwrap()
    }

    fn ask(&self, message: &[u8]) {
        self.say(message);
        assert_eq!(self.hear(), message);
    }

    /// Whether the server has closed it without a word.
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

/// Lets this process open `wanted` files; `false`, having said so, if the system does not.
fn allow_files(wanted: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        assert!(std::env::var_os("COUNTERSIGN_NO_SKIP").is_none(), "needs {wanted} open files");
        // Past the test harness, which shows a passing test's output to nobody.
        writeln!(io::stderr(), "skipped: needs {wanted} open files").unwrap();
        return false;
    }
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).unwrap();
    }
    true
}

/// Sends every message back, and holds the loop up when told to.
struct Holding(Arc<Hold>);

struct Hold {
    held: Sender<()>,
    go: Mutex<Receiver<()>>,
}

/// Longer than the quiet time of a connection that is to stop.
const SLOW: Duration = Duration::from_millis(250);

impl Service for Holding {
    fn on_message(
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
fn a_stop_answers_requests_that_the_loop_has_not_seen() {
    // More than the loop learns of in one sleep, and in two.
    const CLIENTS: usize = 3_000;
    if !allow_files(2 * CLIENTS as u64 + 500) {
        return;
    }
    let (held, is_held) = channel();
    let (go, told) = channel();
    let hold = Arc::new(Hold { held, go: Mutex::new(told) });
    let open = move |_: &PeerAddr, _| Holding(hold.clone());
    let server = Running::start(open, sessions(&PoolOptions::default()), options());
    let clients: Vec<_> = (0..CLIENTS).map(|_| server.client()).collect();
    clients.iter().for_each(|client| client.ask(b"first"));

    let (holder, others) = clients.split_first().unwrap();
    holder.say(b"hold");
    is_held.recv().unwrap();
    // Among the first of which the loop learns; and when it is through, those of which it has not
    // learnt would seem to have been quiet for long enough.
    let (slow, others) = others.split_first().unwrap();
    slow.say(b"slow");
    others.iter().for_each(|client| client.say(b"again"));
    server.remote.stop();
    go.send(()).unwrap();

    assert_eq!(holder.hear(), b"hold");
    assert_eq!(slow.hear(), b"slow");
    let answered =
        others.iter().filter(|client| client.try_hear().is_ok_and(|a| a == b"again")).count();
    assert_eq!(answered, others.len());
    assert!(clients.iter().all(Client::is_closed));
    drop(clients);
    server.join();
}

#[test]
fn a_server_whose_connections_are_idle_stops_soon() {
    let server =
        Running::start(|_: &PeerAddr, _| Echo, sessions(&PoolOptions::default()), options());
    let client = server.client();
    client.ask(b"hello");
    server.remote.stop();
    assert!(client.is_closed());
    drop(client);
    server.join();
}

/// Owes an answer for ever, and says how it ended.
struct Owing(Sender<Result<(), Error>>);

impl Service for Owing {
    fn on_message(
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

    fn on_closed(&mut self, why: Result<(), Error>) {
        self.0.send(why).unwrap();
    }
}

#[test]
fn what_is_under_way_for_too_long_does_not_put_off_a_stop() {
    let (ended, how) = channel();
    let mut options = options();
    options.stop_timeout = SLOW;
    let open = move |_: &PeerAddr, _| Owing(ended.clone());
    let server = Running::start(open, sessions(&PoolOptions::default()), options);
    let client = server.client();
    client.ask(b"hello");
    let begun = Instant::now();
    server.remote.stop();
    server.join();
    assert!(begun.elapsed() >= SLOW);
    assert_eq!(how.recv().unwrap(), Err(Error::Aborted(CloseReason::Shutdown)));
    assert!(client.is_closed());
}

/// Sends every message back, panics when told to, and does not take it well.
struct Panicking(Sender<Result<(), Error>>, bool);

impl Service for Panicking {
    fn on_message(
        &mut self,
        chunk: Chunk<'_>,
        out: &mut Outbox<'_>,
        _: countersign::Instant,
    ) -> Flow {
        assert_ne!(chunk.bytes, b"panic", "as it was told to");
        out.send_chunk(chunk.bytes, chunk.remaining).unwrap();
        Flow::Consumed
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
    let (ended, how) = channel();
    let gate = ConnectionLimit::new(2);
    let mut options = options();
    options.gate = gate.clone();
    let open = move |_: &PeerAddr, _| Panicking(ended.clone(), false);
    let server = Running::start(open, sessions(&PoolOptions::default()), options);
    let (client, other) = (server.client(), server.client());
    other.ask(b"hello");
    client.say(b"panic");
    assert!(client.is_closed());
    assert_eq!(how.recv_timeout(PATIENCE).unwrap(), Err(Error::Aborted(CloseReason::Application)));
    other.ask(b"still here");
    let until = Instant::now() + PATIENCE;
    while gate.open() > 1 {
        assert!(Instant::now() < until, "the place is not given back");
        thread::yield_now();
    }
    server.client().ask(b"hello");
    server.remote.stop();
    server.join();
}

/// Hands out its waker when a message comes, and answers when it is woken.
struct Sleeper {
    waker: Waker,
    out: Sender<Waker>,
    asked: Vec<Vec<u8>>,
}

impl Service for Sleeper {
    fn on_message(
        &mut self,
        chunk: Chunk<'_>,
        _: &mut Outbox<'_>,
        _: countersign::Instant,
    ) -> Flow {
        self.asked.push(chunk.bytes.to_vec());
        self.out.send(self.waker.clone()).unwrap();
        Flow::Consumed
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, _: countersign::Instant) {
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
    let (out, wakers) = channel();
    let open = move |_: &PeerAddr, waker| Sleeper { waker, out: out.clone(), asked: Vec::new() };
    let server = Running::start(open, sessions(&PoolOptions::default()), options());
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

#[test]
fn a_stop_accepts_nobody_and_waits_for_an_answer_that_another_thread_gives() {
    let (out, wakers) = channel();
    let open = move |_: &PeerAddr, waker| Sleeper { waker, out: out.clone(), asked: Vec::new() };
    let server = Running::start(open, sessions(&PoolOptions::default()), options());
    let client = server.client();
    client.say(b"hello");
    let waker: Waker = wakers.recv().unwrap();
    server.remote.stop();
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(&server.address).is_ok() {
        assert!(Instant::now() < until, "goes on accepting");
        thread::yield_now();
    }
    // For as long as an idle connection would be closed in.
    client.0.set_read_timeout(Some(SLOW)).unwrap();
    assert_eq!(client.try_hear().unwrap_err().kind(), ErrorKind::WouldBlock);
    client.0.set_read_timeout(Some(PATIENCE)).unwrap();
    waker.wake();
    assert_eq!(client.hear(), b"hello");
    assert!(client.is_closed());
    drop(client);
    server.join();
}

#[test]
fn one_connection_too_many_is_closed_at_once_and_a_place_given_back_is_a_place() {
    let gate = ConnectionLimit::new(2);
    let mut options = options();
    options.gate = gate.clone();
    let server = Running::start(|_: &PeerAddr, _| Echo, sessions(&PoolOptions::default()), options);
    let mut clients = vec![server.client(), server.client()];
    clients.iter().for_each(|client| client.ask(b"hello"));
    assert_eq!(gate.open(), 2);
    for _ in 0..3 {
        assert!(server.client().is_closed());
    }
    clients.iter().for_each(|client| client.ask(b"still here"));

    clients.remove(0);
    // When the server finds out is its own matter.
    let until = Instant::now() + PATIENCE;
    while gate.open() > 1 {
        assert!(Instant::now() < until, "the place is not given back");
        thread::yield_now();
    }
    server.client().ask(b"hello");
}

#[test]
fn one_buffer_each_way_serves_everybody() {
    const CLIENTS: usize = 50;
    let mut pools = PoolOptions::default();
    (pools.receiving, pools.sending, pools.buffer_len) = (1, 1, 4096);
    let pools = Pools::new(&pools);
    let open = |_: &PeerAddr, _| Echo;
    let server = Running::start(open, sessions_in(pools.clone()), options());
    let clients: Vec<_> = (0..=CLIENTS).map(|_| server.client()).collect();
    // Most are longer than the buffer.
    let message = |client: usize| vec![client as u8; 200 * (client + 1)];
    for round in 0..5 {
        // A message that is half here keeps the buffer, and all others wait for it.
        let (holder, others) = clients.split_last().unwrap();
        let whole = frame(&message(CLIENTS));
        (&holder.0).write_all(&whole[..100]).unwrap();
        let until = Instant::now() + PATIENCE;
        while pools.receive.leased() == 0 {
            assert!(Instant::now() < until, "nobody has the buffer");
            thread::yield_now();
        }
        for (n, client) in others.iter().enumerate() {
            client.say(&message(n));
        }
        (&holder.0).write_all(&whole[100..]).unwrap();
        for (n, client) in clients.iter().enumerate() {
            assert!(client.hear() == message(n), "client {n} in round {round}");
        }
    }
}
