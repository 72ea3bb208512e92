//! The blocking link and client, over TCP sockets with readiness checks and over an in-memory transport
//! that fails.

#![cfg(test)]

#[path = "support/echo_server.rs"]
mod echo_server;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant as HostInstant};

use countersign::Role;
use countersign_embedded_io::blocking::{Client, Link};
use countersign_embedded_io::services::Echo;
use countersign_embedded_io::{
    Alert, Buffers, Config, ConnectionError, Digest, Error, Failure, Instant, Interest, Key,
    NoKeys, Nonce, Reassembler, Remaining, Scheme, SendError, ServiceConnection, Session,
    SliceBuffer, TimedOut, Truncated,
};
use countersign_host::Clock;
use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write, WriteReady};

use echo_server::{link, mutual};

const SECRET: &[u8] = b"a secret that both ends have";

fn challenge() -> Scheme {
    Scheme::Challenge { digest: Digest::Sha256 }
}

fn session(scheme: Scheme, role: Role, clock: Clock) -> Session<[u8; 512]> {
    let buffers = Buffers { handshake: [0; 512], receive: [0; 512], send: [0; 512] };
    let nonce = Nonce::from_bytes([role as u8; Nonce::LEN]);
    let make = match role {
        Role::Client => Session::client,
        Role::Server => Session::server,
    };
    make(&Config::new(scheme), nonce, buffers, clock.now()).unwrap()
}

/// Connects to a new echo server.
fn connect(key: &Key) -> TcpStream {
    TcpStream::connect(echo_server::start(key.clone())).unwrap()
}

fn message(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + len) as u8).collect()
}

#[test]
fn messages_are_echoed_and_idle_connection_stays_alive() {
    let clock = Clock::start();
    let mut session = session(mutual("client", 7), Role::Client, clock);
    let key = Key::mutual(SECRET).unwrap();
    let mut client = Client::connect(link(connect(&key), clock), &mut session, &key).unwrap();
    assert_eq!(client.peer().unwrap().name, Some("server"));
    let mut buffer = vec![0; 50_000];
    for len in [1, 0, 1_000, 50_000] {
        client.send(&message(len)).unwrap();
        let mut received = Reassembler::new(SliceBuffer::new(&mut buffer));
        assert_eq!(client.recv(&mut received).unwrap().unwrap(), message(len));
    }
    // Longer than the time after which a silent peer fails: two heartbeats and 5 s.
    client.set_timeout(Some(Duration::from_millis(7_500)));
    assert_eq!(client.recv_chunk().err().as_ref().map(kind), Some("timed out"));
    client.send_chunk(b"in ", Remaining::More).unwrap();
    client.send_chunk(b"chunks", Remaining::End).unwrap();
    let mut received = Reassembler::new(SliceBuffer::new(&mut buffer));
    assert_eq!(client.recv(&mut received).unwrap().unwrap(), b"in chunks");
    client.finish().unwrap();
    assert!(matches!(client.send(b"x"), Err(ConnectionError::Send(SendError::Finished))));
    assert!(client.recv(&mut received).unwrap().is_none());
    client.close().unwrap();
    assert!(matches!(client.send(b"x"), Err(ConnectionError::Send(SendError::Finished))));
}

fn kind<E>(error: &ConnectionError<E>) -> &'static str {
    match error {
        ConnectionError::TimedOut => "timed out",
        _ => "another",
    }
}

#[test]
fn blocking_client_with_wrong_key_is_refused() {
    let clock = Clock::start();
    let mut session = session(mutual("client", 7), Role::Client, clock);
    let stream = connect(&Key::mutual(SECRET).unwrap());
    let key = Key::mutual(b"another secret, 16 bytes or more").unwrap();
    let refused = Client::connect(link(stream, clock), &mut session, &key).map(drop);
    let alert = Error::Alert(Alert::Refused);
    assert!(
        matches!(refused, Err(ConnectionError::Protocol(error)) if error == alert),
        "{refused:?}"
    );
}

/// Runs `client` at one end of a socket and a server that echoes chunks at the other. Returns the result
/// of the server, `Err(None)` if its transport failed, and that of `client`.
fn pair<T: Send>(
    scheme: fn(&str, u8) -> Scheme,
    key: Key,
    client: impl FnOnce(TcpStream) -> T + Send,
) -> (Result<(), Option<Error>>, T) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|scope| {
        let served = scope.spawn(move || {
            let clock = Clock::start();
            let (stream, _) = listener.accept().unwrap();
            let mut session = session(scheme("server", 9), Role::Server, clock);
            let mut connection = ServiceConnection::new(&mut session, Echo);
            link(stream, clock).run(&mut connection, &key)
        });
        let done = client(TcpStream::connect(address).unwrap());
        let served = served.join().unwrap().map_err(|failure| match failure {
            Failure::Io(_) => None,
            Failure::Protocol(error) => Some(error),
        });
        (served, done)
    })
}

#[test]
fn byte_stream_ends_when_the_write_side_is_shut() {
    let key = || Key::challenge(Digest::Sha256, b"k").unwrap();
    let (served, ()) = pair(
        |_, _| challenge(),
        key(),
        |stream| {
            let clock = Clock::start();
            let mut session = session(challenge(), Role::Client, clock);
            let mut client = Client::connect(link(stream, clock), &mut session, &key()).unwrap();
            client.send(b"hello").unwrap();
            client.finish().unwrap();
            let mut received = Vec::new();
            while let Some(chunk) = client.recv_chunk().unwrap() {
                received.extend_from_slice(chunk.bytes);
            }
            assert_eq!(received, b"hello");
            client.close().unwrap();
        },
    );
    assert_eq!(served, Ok(()));
}

#[test]
fn server_reports_a_truncated_stream() {
    let key = || Key::mutual(SECRET).unwrap();
    let (served, ()) = pair(mutual, key(), |stream| {
        let clock = Clock::start();
        let mut session = session(mutual("client", 7), Role::Client, clock);
        let mut client = Client::connect(link(stream, clock), &mut session, &key()).unwrap();
        client.send(b"half a ").unwrap();
        client.flush().unwrap();
        assert_eq!(client.recv_chunk().unwrap().unwrap().bytes, b"half a ");
    });
    assert_eq!(served, Err(Some(Error::Truncated(Truncated::Stream))));
}

#[test]
fn handshake_deadline_passes_without_input() {
    // A client that connects and sends nothing.
    let key = Key::mutual(SECRET).unwrap();
    let started = HostInstant::now();
    let (served, held) = pair(mutual, key, |stream| stream);
    drop(held);
    assert_eq!(served, Err(Some(Error::TimedOut(TimedOut::Handshake))));
    assert!(started.elapsed() >= Duration::from_secs(5));
}

#[test]
fn timed_out_calls_continue() {
    let key = || Key::mutual(SECRET).unwrap();
    let (served, ()) = pair(mutual, key(), |stream| {
        let clock = Clock::start();
        let mut session = session(mutual("client", 7), Role::Client, clock);
        let mut client = Client::connect(link(stream, clock), &mut session, &key()).unwrap();
        // Each call makes progress as far as it can without waiting.
        client.set_timeout(Some(Duration::ZERO));
        let mut buffer = [0; 1500];
        for round in 0..50 {
            let sent = message(1000 + round);
            let mut received = Reassembler::new(SliceBuffer::new(&mut buffer));
            if round % 2 == 0 {
                while let Err(error) = client.send(&sent) {
                    assert_eq!(kind(&error), "timed out");
                }
                loop {
                    match client.recv(&mut received) {
                        Ok(got) => break assert_eq!(got.unwrap(), sent),
                        Err(error) => assert_eq!(kind(&error), "timed out"),
                    }
                }
                continue;
            }
            loop {
                match client.request(&sent, &mut received) {
                    Ok(got) => break assert_eq!(got, sent),
                    Err(error) => assert_eq!(kind(&error), "timed out"),
                }
            }
        }
        client.set_timeout(None);
        client.close().unwrap();
    });
    assert_eq!(served, Ok(()));
}

/// An in-memory transport: the bytes that the peer has sent, then the end of the stream if `eof`.
#[derive(Default)]
struct Memory {
    input: VecDeque<u8>,
    eof: bool,
    output: Vec<u8>,
    /// How many flushes succeed before all fail.
    flushes: usize,
    /// Every second operation is interrupted.
    interrupted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Broken(ErrorKind);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

impl embedded_io::Error for Broken {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

const BROKEN: Broken = Broken(ErrorKind::BrokenPipe);

impl Memory {
    fn interrupt(&mut self) -> Result<(), Broken> {
        self.interrupted = !self.interrupted;
        if self.interrupted { Err(Broken(ErrorKind::Interrupted)) } else { Ok(()) }
    }
}

impl ErrorType for Memory {
    type Error = Broken;
}

impl ReadReady for Memory {
    fn read_ready(&mut self) -> Result<bool, Broken> {
        Ok(self.eof || !self.input.is_empty())
    }
}

impl Read for Memory {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Broken> {
        self.interrupt()?;
        let n = buf.len().min(self.input.len());
        self.input.drain(..n).zip(buf).for_each(|(byte, to)| *to = byte);
        Ok(n)
    }
}

impl WriteReady for Memory {
    fn write_ready(&mut self) -> Result<bool, Broken> {
        Ok(true)
    }
}

impl Write for Memory {
    fn write(&mut self, buf: &[u8]) -> Result<usize, Broken> {
        self.interrupt()?;
        self.output.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> Result<(), Broken> {
        self.interrupt()?;
        self.flushes = self.flushes.checked_sub(1).ok_or(BROKEN)?;
        Ok(())
    }
}

/// A link over `transport` in virtual time, which advances whenever the link waits.
fn memory_link(
    transport: Memory,
) -> Link<Memory, impl Fn() -> Instant + use<>, impl FnMut(Interest) + use<>> {
    let now = Rc::new(RefCell::new(Instant::EPOCH));
    let clock = now.clone();
    Link::new(
        transport,
        move || *clock.borrow(),
        move |interest| {
            let until = interest.until.expect("nothing to wait for");
            now.replace_with(|now| (*now).max(until));
        },
    )
}

const FRAME: &[u8] = &[0, 0, 0, 2, b'h', b'i'];

#[test]
fn flush_error_ends_the_service_of_a_blocking_link() {
    // While the connection is open, and after the session has ended in order.
    for eof in [false, true] {
        let transport = Memory { input: FRAME.iter().copied().collect(), eof, ..Memory::default() };
        let mut session = session(Scheme::None, Role::Server, Clock::start());
        let mut connection = ServiceConnection::new(&mut session, Echo);
        let mut link = memory_link(transport);
        assert_eq!(link.run(&mut connection, &NoKeys), Err(Failure::Io(BROKEN)), "{eof}");
        assert_eq!(link.into_transport().output, FRAME);
    }
}

#[test]
fn flush_error_is_reported_by_blocking_calls() {
    for call in 0..4 {
        let transport = Memory { flushes: 1, ..Memory::default() };
        let mut session = session(Scheme::None, Role::Client, Clock::start());
        let mut client = Client::connect(memory_link(transport), &mut session, &NoKeys).unwrap();
        client.send(b"1").unwrap();
        client.flush().unwrap();
        client.send(b"2").unwrap();
        let result = match call {
            0 => client.flush(),
            1 => client.finish(),
            2 => client.recv_chunk().map(drop),
            _ => client.close(),
        };
        assert_eq!(result, Err(ConnectionError::Io(BROKEN)), "{call}");
        assert_eq!(client.flush(), Err(ConnectionError::Protocol(Error::Transport)));
    }
}

#[test]
fn interrupted_operations_are_repeated() {
    let transport = Memory {
        input: FRAME.iter().copied().collect(),
        eof: true,
        flushes: usize::MAX,
        ..Memory::default()
    };
    let mut session = session(Scheme::None, Role::Server, Clock::start());
    let mut connection = ServiceConnection::new(&mut session, Echo);
    let mut link = memory_link(transport);
    assert_eq!(link.run(&mut connection, &NoKeys), Ok(()));
    assert_eq!(link.into_transport().output, FRAME);
}

#[test]
fn request_without_reply_is_an_error() {
    let transport = Memory { eof: true, flushes: usize::MAX, ..Memory::default() };
    let mut session = session(Scheme::None, Role::Client, Clock::start());
    let mut client = Client::connect(memory_link(transport), &mut session, &NoKeys).unwrap();
    let mut buffer = [0; 10];
    let mut reply = Reassembler::new(SliceBuffer::new(&mut buffer));
    assert_eq!(client.request(b"hi", &mut reply), Err(ConnectionError::PeerFinished));
    client.finish().unwrap();
    assert_eq!(client.into_link().into_transport().output, FRAME);
}
