//! The server: whole messages, limits, panics, exhausted resources.

use std::sync::Mutex;
use std::sync::mpsc::Sender;

use super::*;

/// Sends whole messages back.
fn echo_server(max_message: usize) -> Running {
    let mut options = ServerOptions::default();
    options.message_memory = MessageMemory::new(max_message, 8 * max_message);
    Running::start(plain_server(options), |server| server.run(|_| services::Echo))
}

#[test]
fn peer_may_send_all_messages_before_it_reads() {
    let server = echo_server(1 << 20);
    let client = connect(&server.address);
    // More than the sockets hold: the server has to queue answers while it waits for room.
    let message = bytes(1 << 20);
    within_patience(|scope| {
        scope.spawn(|| client.send(&message).unwrap()).join().unwrap();
        assert!(client.recv().unwrap().unwrap() == message);
    });
    // The peer reads nothing while it sends.
    let mut stream = raw(&server.address);
    stream.write_all(&frame(&message)).unwrap();
    assert!(read_frame(&stream) == message);
}

#[test]
fn message_above_limit_ends_its_connection() {
    let (closed, is_closed) = channel();
    let closed = Mutex::new(closed);
    let mut options = ServerOptions::default();
    options.message_memory = MessageMemory::new(100_000, 1 << 20);
    let server = Running::start(plain_server(options), |server| {
        server.run(move |_| Reports(closed.lock().unwrap().clone()));
    });
    let other = raw(&server.address);
    round_trip(&other, b"before");
    round_trip(&other, &bytes(100_000));
    let mut stream = raw(&server.address);
    // The header announces the length; the body is not sent.
    stream.write_all(&200_000_u32.to_be_bytes()).unwrap();
    stream.write_all(&bytes(50_000)).unwrap();
    let mut end = Vec::new();
    // The server closes; unread bytes may turn this into a reset.
    let _ = stream.read_to_end(&mut end);
    assert_eq!(end, b"");
    let error = Error::Aborted(CloseReason::Protocol);
    assert_eq!(is_closed.recv_timeout(PATIENCE).unwrap(), Err(error));
    round_trip(&other, b"after");
}

/// Sends messages back, and reports how its connection ends.
struct Reports(Sender<Result<(), Error>>);

impl Service for Reports {
    fn on_message(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), ServiceError> {
        Ok(cx.send(message)?)
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        self.0.send(result).unwrap();
    }
}

/// Panics on the message `panic`; on `panic later`, when it is dropped.
#[derive(Default)]
struct Panics {
    on_drop: bool,
}

impl StreamService for Panics {
    fn on_chunk(
        &mut self,
        chunk: Chunk<'_>,
        out: &mut Outbox<'_>,
        _: countersign::Instant,
    ) -> Flow {
        assert_ne!(chunk.bytes, b"panic", "intended panic");
        self.on_drop |= chunk.bytes == b"panic later";
        let _ = out.send_chunk(chunk.bytes, chunk.remaining);
        Flow::Consumed
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        assert!(!self.on_drop, "intended panic");
    }
}

#[test]
fn panicking_service_ends_its_own_connection_only() {
    let server = Running::start(plain_server(ServerOptions::default()), |server| {
        server.run_streams(|_| Panics::default());
    });
    let other = raw(&server.address);
    round_trip(&other, b"before");
    let mut stream = raw(&server.address);
    round_trip(&stream, b"fine");
    stream.write_all(&frame(b"panic")).unwrap();
    assert_eq!(read_all(&stream), b"");
    let stream = raw(&server.address);
    round_trip(&stream, b"panic later");
    drop(stream);
    round_trip(&other, b"after");
    round_trip(&raw(&server.address), b"new");
}

#[test]
fn service_may_block_its_own_connection() {
    let (held, is_held) = channel();
    let (go, gone) = channel::<()>();
    let hold = Arc::new(Mutex::new((held, gone)));
    let server = Running::start(plain_server(ServerOptions::default()), |server| {
        server.run(move |_| Blocks(hold.clone()));
    });
    let mut blocked = raw(&server.address);
    blocked.write_all(&frame(b"block")).unwrap();
    is_held.recv_timeout(PATIENCE).unwrap();
    (0..10).for_each(|_| round_trip(&raw(&server.address), b"not blocked"));
    go.send(()).unwrap();
    assert_eq!(read_frame(&blocked), b"block");
}

struct Blocks(Arc<Mutex<(Sender<()>, std::sync::mpsc::Receiver<()>)>>);

impl Service for Blocks {
    fn on_message(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), ServiceError> {
        if message == b"block" {
            let hold = self.0.lock().unwrap();
            hold.0.send(()).unwrap();
            hold.1.recv_timeout(PATIENCE).unwrap();
        }
        Ok(cx.send(message)?)
    }
}

#[test]
fn connection_above_limit_is_closed_until_one_ends() {
    let mut options = ServerOptions::default();
    let limit = ConnectionLimit::new(2);
    options.connection_limit = limit.clone();
    let server = Running::start(plain_server(options), |server| {
        server.run_streams(|_| services::Echo);
    });
    let (first, second) = (raw(&server.address), raw(&server.address));
    round_trip(&first, b"first");
    round_trip(&second, b"second");
    assert_eq!(read_all(&raw(&server.address)), b"");
    drop(first);
    let until = Instant::now() + PATIENCE;
    while limit.open() > 1 {
        assert!(Instant::now() < until);
        thread::yield_now();
    }
    round_trip(&raw(&server.address), b"third");
    round_trip(&second, b"second");
}

#[test]
fn one_buffer_each_way_serves_many_connections() {
    let mut buffers = PoolOptions::default();
    (buffers.receiving, buffers.sending) = (1, 1);
    let factory = SessionFactory::new(Config::new(Scheme::None), Pools::new(&buffers));
    let server = Server::new(tcp(), Arc::new(factory), Arc::new(NO_KEY), ServerOptions::default());
    let server = Running::start(server.unwrap(), |server| server.run_streams(|_| services::Echo));
    thread::scope(|scope| {
        for client in 0..20_u8 {
            let address = &server.address;
            scope.spawn(move || {
                let stream = raw(address);
                (0..20).for_each(|n| round_trip(&stream, &[client, n]));
            });
        }
    });
}

/// Whether the test called `name` runs alone in this process. If not, runs it in a process of its own,
/// because the tests of a process share its open files.
fn is_alone(name: &str) -> bool {
    const ALONE: &str = "COUNTERSIGN_STD_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let status = child.args([name, "--exact"]).env(ALONE, "1").status();
    assert!(status.unwrap().success());
    false
}

#[test]
fn connections_wait_while_files_are_exhausted() {
    if !is_alone("server::connections_wait_while_files_are_exhausted") {
        return;
    }
    let server = Running::start(plain_server(ServerOptions::default()), |server| {
        server.run_streams(|_| services::Echo);
    });
    let first = raw(&server.address);
    round_trip(&first, b"first");
    // Connect first: after the limit is lowered, this process cannot open a file. Standard input, output and
    // error remain.
    let second = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let exhausted = rustix::process::Rlimit { current: Some(3), ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, exhausted).unwrap();
    let address: std::net::SocketAddr = server.address.to_string().parse().unwrap();
    second.connect(&address.into()).unwrap();
    let second = with_timeouts(second.into());
    (&second).write_all(&frame(b"second")).unwrap();
    // An existing connection needs no further file.
    round_trip(&first, b"first again");
    second.set_read_timeout(Some(SHORT)).unwrap();
    assert!(try_read_frame(&second).is_err());
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    second.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read_frame(&second), b"second");
}

#[test]
fn connection_has_two_files_open() {
    if !is_alone("server::connection_has_two_files_open") {
        return;
    }
    let files = || std::fs::read_dir("/proc/self/fd").map(Iterator::count);
    if files().is_err() {
        eprintln!("skipped: needs /proc/self/fd");
        return;
    }
    let (limit, mut options) = (ConnectionLimit::new(100), ServerOptions::default());
    options.connection_limit = limit.clone();
    let server = Running::start(plain_server(options), |server| {
        server.run_streams(|_| services::Echo);
    });
    round_trip(&raw(&server.address), b"first");
    // A connection counts until its files are closed.
    let until = Instant::now() + PATIENCE;
    while limit.open() > 0 {
        assert!(Instant::now() < until);
        thread::yield_now();
    }
    let before = files().unwrap();
    let streams: Vec<_> = (0..10).map(|_| raw(&server.address)).collect();
    streams.iter().for_each(|stream| round_trip(stream, b"hello"));
    // The client has one file, the server two. The server opens one for its next connection, at any time.
    let opened = files().unwrap() - before;
    assert!((29..=31).contains(&opened), "{opened} files for ten connections");
}

#[test]
fn address_is_parsed_and_reported_with_its_port() {
    let error = Server::bind("nowhere", sessions(Config::new(Scheme::None)), Arc::new(NO_KEY));
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let server = Server::bind("127.0.0.1:0", sessions(Config::new(Scheme::None)), Arc::new(NO_KEY));
    let addresses = server.unwrap().local_addresses().unwrap();
    assert!(matches!(&addresses[..], [Address::Tcp { host, port: 1.. }] if host == "127.0.0.1"));
}

#[test]
fn all_listeners_of_a_server_are_served() {
    let mut listeners = tcp();
    listeners.extend(tcp());
    let factory = Arc::new(sessions(Config::new(Scheme::None)));
    let server = Server::new(listeners, factory, Arc::new(NO_KEY), ServerOptions::default());
    let server = server.unwrap();
    let addresses = server.local_addresses().unwrap();
    let _running = Running::start(server, |server| server.run_streams(|_| services::Echo));
    for address in addresses.iter().cycle().take(6) {
        round_trip(&raw(address), b"hello");
    }
}
