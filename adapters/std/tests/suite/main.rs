//! Servers and connections of this adapter, with each other and with plain TCP sockets.

#![cfg(test)]

mod client;
mod direct;
mod handles;
mod mutual;
mod reconnecting;
mod runner;
mod server;
mod stop;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use countersign_std::*;

/// Time limit for events that must happen. Far longer than any of them takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Timeout that a test expects to expire.
const SHORT: Duration = Duration::from_millis(300);
/// More bytes than the sockets buffer for a peer that does not read.
const MUCH: usize = 32 << 20;
const SECRET: &[u8] = b"a key that is long enough for anyone";
const NO_KEY: Option<Key> = None;

fn sessions(config: Config) -> SessionFactory {
    SessionFactory::new(config, Pools::default())
}

/// The scheme `mutual` of an endpoint called `name`, with its own process id.
fn end(name: &str, process: u8) -> Mutual {
    Mutual::new(name.parse().unwrap(), ProcessId::from_bytes(&[process; ProcessId::LEN]))
}

fn mutual(end: Mutual) -> Config {
    Config::new(Scheme::Mutual(end))
}

fn key() -> Key {
    Key::mutual(SECRET).unwrap()
}

/// Options of a connection: `timeout` for each call, messages of at most twice [`MUCH`].
fn options(timeout: Duration) -> ConnectionOptions {
    let mut options = ConnectionOptions::default();
    options.timeout = Some(timeout);
    options.message_memory = MessageMemory::new(2 * MUCH, 4 * MUCH);
    options
}

fn connector(
    address: &Address,
    config: Config,
    keys: impl Keys + Send + Sync + 'static,
) -> Connector {
    Connector::of(address.clone(), Arc::new(sessions(config)), Arc::new(keys))
        .with_options(options(PATIENCE))
}

/// Connects with the scheme `none`.
fn connect(address: &Address) -> Connection {
    Connection::connect(&connector(address, Config::new(Scheme::None), NO_KEY)).unwrap()
}

/// Connects with the scheme `mutual`, as `name`.
fn connect_as(address: &Address, name: &str) -> Connection {
    Connection::connect(&connector(address, mutual(end(name, 2)), key())).unwrap()
}

fn tcp() -> Vec<Listener> {
    "127.0.0.1:0".parse::<Address>().unwrap().listen(1).unwrap()
}

/// A server of the scheme `none`.
fn plain_server(options: ServerOptions) -> Server {
    let sessions = Arc::new(sessions(Config::new(Scheme::None)));
    Server::new(tcp(), sessions, Arc::new(NO_KEY), options).unwrap()
}

/// A server of the scheme `mutual`, called `server`.
fn mutual_server(options: ServerOptions) -> Server {
    Server::new(tcp(), Arc::new(sessions(mutual(end("server", 1)))), key(), options).unwrap()
}

/// A server on its own thread, stopped on drop.
struct Running {
    address: Address,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(mut server: Server, run: impl FnOnce(&mut Server) + Send + 'static) -> Self {
        let address = server.local_addresses().unwrap().remove(0);
        let handle = server.handle();
        let thread = Some(thread::spawn(move || run(&mut server)));
        Self { address, handle, thread }
    }

    /// A server that sends chunks back.
    fn echo(config: Config, key: Option<Key>) -> Self {
        let sessions = Arc::new(sessions(config));
        let server = Server::new(tcp(), sessions, Arc::new(key), ServerOptions::default());
        Self::start(server.unwrap(), |server| server.run_streams(|_| services::Echo))
    }

    /// Waits until `count` connections are established.
    fn until_connected(&self, count: usize) {
        let until = Instant::now() + PATIENCE;
        while self.handle.connections().len() != count {
            assert!(Instant::now() < until, "{:?}", self.handle.connections());
            thread::yield_now();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

/// A server that accepts one connection and runs `script` on it.
fn scripted_server<T: Send + 'static>(
    script: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (Address, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        script(with_timeouts(stream))
    });
    (address, server)
}

/// Connects a plain TCP socket.
fn raw(address: &Address) -> TcpStream {
    with_timeouts(TcpStream::connect(address.to_string()).unwrap())
}

fn with_timeouts(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

fn read_frame(stream: &TcpStream) -> Vec<u8> {
    try_read_frame(stream).unwrap()
}

fn try_read_frame(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    let mut body = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// Reads until the end of the stream.
fn read_all(mut stream: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all
}

/// Sends a message and reads its echo.
fn round_trip(mut stream: &TcpStream, message: &[u8]) {
    stream.write_all(&frame(message)).unwrap();
    assert!(read_frame(stream) == message);
}

/// Ends a connection with a reset rather than an end of stream.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// `len` bytes with a pattern that does not repeat every 256 bytes.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// Runs threads that wait for each other, and fails if one of them has waited for [`PATIENCE`]: its call
/// may succeed even though no other thread woke it.
fn within_patience<'env>(talk: impl for<'scope> FnOnce(&'scope thread::Scope<'scope, 'env>)) {
    let begun = Instant::now();
    thread::scope(talk);
    let took = begun.elapsed();
    assert!(took < PATIENCE, "{took:?}");
}
