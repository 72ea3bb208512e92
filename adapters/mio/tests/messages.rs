//! Whole messages, and handles of connections, from other threads.

#![cfg(test)]

#[path = "messages/client.rs"]
mod client;
#[path = "messages/log.rs"]
mod log;

use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use client::{Client, connector};
use countersign_mio::services::Echo;
use countersign_mio::{
    Address, CloseReason, Config, ConnectionHandle, Context, Error, HandleError, Key,
    MessageMemory, Mutual, Pools, ProcessId, Scheme, Server, ServerHandle, ServerOptions, Service,
    ServiceError, SessionFactory,
};

/// The longest wait for anything that must happen.
const TIMEOUT: Duration = Duration::from_secs(30);
const MEGABYTE: usize = 1 << 20;
const SECRET: &[u8] = b"a key that is long enough for anyone";

/// A server with the process id 1.
fn factory(scheme: Option<&str>) -> SessionFactory {
    let scheme = scheme.map_or(Scheme::None, |name| {
        let process_id = ProcessId::from_bytes(&[1; ProcessId::LEN]);
        Scheme::Mutual(Mutual::new(name.parse().unwrap(), process_id))
    });
    SessionFactory::new(Config::new(scheme), Pools::default())
}

/// A server on its own thread, stopped on drop.
struct Running {
    address: Address,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start<S: Service + Send>(
        address: &str,
        factory: SessionFactory,
        max_message: usize,
        create: impl Fn(ConnectionHandle) -> S + Send + Sync + 'static,
    ) -> Self {
        let listeners = address.parse::<Address>().unwrap().listen(1).unwrap();
        let mut options = ServerOptions::default();
        options.message_memory = MessageMemory::new(max_message, 16 * max_message);
        let key = Key::mutual(SECRET).unwrap();
        let mut server = Server::new(listeners, Arc::new(factory), key, options).unwrap();
        let (address, handle) = (server.local_addresses().unwrap().remove(0), server.handle());
        let thread = Some(thread::spawn(move || server.run(create).unwrap()));
        Self { address, handle, thread }
    }

    fn echo(address: &str, factory: SessionFactory, max_message: usize) -> Self {
        Self::start(address, factory, max_message, |_| Echo)
    }

    fn client(&self, name: &str) -> Client {
        Client::connect(&connector(&self.address, Some(name)))
    }

    fn until_connected(&self, count: usize) -> Vec<ConnectionHandle> {
        let until = Instant::now() + TIMEOUT;
        loop {
            let connections = self.handle.connections();
            if connections.len() == count {
                return connections;
            }
            assert!(Instant::now() < until, "{} connections", connections.len());
            thread::yield_now();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n / 7) as u8).collect()
}

fn unix(name: &str) -> (String, std::path::PathBuf) {
    let file = format!("countersign-mio-{name}-{}", std::process::id());
    let path = std::env::temp_dir().join(file);
    let _ = std::fs::remove_file(&path);
    (format!("unix:{}", path.display()), path)
}

#[test]
fn peer_that_sends_everything_before_it_reads_is_answered() {
    let (address, path) = unix("all-first");
    for address in ["127.0.0.1:0", &address] {
        for scheme in [None, Some("server")] {
            let server = Running::echo(address, factory(scheme), MEGABYTE);
            let connector = connector(&server.address, scheme.map(|_| "client"));
            let mut client = Client::connect(&connector);
            let message = bytes(MEGABYTE);
            // `send` returns when the message has left this process: before a byte of the reply is read.
            client.send(&message).unwrap();
            assert!(client.recv().unwrap().unwrap() == message, "{address} {scheme:?}");
        }
    }
    std::fs::remove_file(format!("{}.lock", path.display())).unwrap();
}

#[test]
fn message_above_the_limit_ends_its_connection_only() {
    let log = log::capture();
    for scheme in [None, Some("server")] {
        let server = Running::echo("127.0.0.1:0", factory(scheme), MEGABYTE);
        let connector = connector(&server.address, scheme.map(|_| "client"));
        let (mut client, mut other) = (Client::connect(&connector), Client::connect(&connector));
        client.send(&bytes(MEGABYTE)).unwrap();
        assert!(client.recv().unwrap().unwrap() == bytes(MEGABYTE));
        other.send(b"hello").unwrap();
        assert_eq!(other.recv().unwrap().unwrap(), b"hello");
        let peer = client.local_address();
        let sent = client.send(&bytes(MEGABYTE + 1));
        let received = sent.and_then(|()| client.recv());
        // With the scheme `none`, only the end of the stream reports it.
        let ended = received.is_err() || scheme.is_none() && matches!(received, Ok(None));
        assert!(ended, "{scheme:?}: {received:?}");
        if scheme.is_some() {
            let closed = Error::PeerClosed(CloseReason::Protocol);
            assert_eq!(client.session_error(), Some(closed));
        }
        let line = log.wait_for(&format!("ended peer={peer} "));
        assert!(line.contains(" reason=message-too-long: "), "{line}");
        assert!(line.contains(&format!("exceeds {MEGABYTE} bytes")), "{line}");
        other.send(b"still here").unwrap();
        assert_eq!(other.recv().unwrap().unwrap(), b"still here");
        drop((client, other));
        server.until_connected(0);
    }
}

#[test]
fn handles_send_to_connections_by_name_and_to_all() {
    let server = Running::echo("127.0.0.1:0", factory(Some("server")), MEGABYTE);
    let mut bob = server.client("bob");
    let mut alice = server.client("alice");
    let mut twin = server.client("bob");
    server.until_connected(3);
    let handle = server.handle.clone();
    let sending = thread::spawn(move || {
        let bobs = handle.named("bob");
        assert_eq!(bobs.len(), 2);
        for bob in &bobs {
            bob.send(bytes(MEGABYTE)).unwrap();
        }
        for connection in handle.connections() {
            // Waits for room behind the long message.
            let until = Instant::now() + TIMEOUT;
            while connection.send(&b"for all"[..]) == Err(HandleError::Full) {
                assert!(Instant::now() < until, "no room");
                thread::yield_now();
            }
        }
        assert_eq!(bobs[0].send(bytes(MEGABYTE + 1)), Err(HandleError::TooLong { max: MEGABYTE }));
        handle.named("carol").len()
    });
    for client in [&mut bob, &mut twin] {
        assert!(client.recv().unwrap().unwrap() == bytes(MEGABYTE));
    }
    for client in [&mut bob, &mut alice, &mut twin] {
        assert_eq!(client.recv().unwrap().unwrap(), b"for all");
    }
    assert_eq!(sending.join().unwrap(), 0);
    assert_eq!(server.handle.broadcast(&b"again"[..]), 3);
    for client in [&mut bob, &mut alice, &mut twin] {
        assert_eq!(client.recv().unwrap().unwrap(), b"again");
        client.send(b"echo").unwrap();
        assert_eq!(client.recv().unwrap().unwrap(), b"echo");
    }
}

#[test]
fn handle_closes_after_what_is_queued() {
    let server = Running::echo("127.0.0.1:0", factory(Some("server")), MEGABYTE);
    let mut client = server.client("client");
    let connection = server.until_connected(1).remove(0);
    thread::spawn(move || {
        connection.send(bytes(MEGABYTE)).unwrap();
        connection.close();
        assert!(!connection.is_open());
        assert_eq!(connection.send(&b"late"[..]), Err(HandleError::Closed));
    })
    .join()
    .unwrap();
    assert!(client.recv().unwrap().unwrap() == bytes(MEGABYTE));
    assert_eq!(client.recv().unwrap(), None);
    client.finish().unwrap();
    server.until_connected(0);
}

#[test]
fn handle_aborts_its_connection_only() {
    let server = Running::echo("127.0.0.1:0", factory(Some("server")), MEGABYTE);
    let mut client = server.client("client");
    let connection = server.until_connected(1).remove(0);
    let mut other = server.client("other");
    server.until_connected(2);
    thread::spawn(move || connection.abort(CloseReason::Application)).join().unwrap();
    client.recv().unwrap_err();
    assert_eq!(client.session_error(), Some(Error::PeerClosed(CloseReason::Application)));
    other.send(b"hello").unwrap();
    assert_eq!(other.recv().unwrap().unwrap(), b"hello");
    server.until_connected(1);
}

#[test]
fn many_threads_send_to_one_connection() {
    const THREADS: usize = 8;
    const MESSAGES: usize = 200;
    let server = Running::echo("127.0.0.1:0", factory(Some("server")), MEGABYTE);
    let mut client = server.client("client");
    let connection = server.until_connected(1).remove(0);
    let start = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (connection, start) = (connection.clone(), start.clone());
            thread::spawn(move || {
                start.wait();
                for number in 0..MESSAGES {
                    connection.send(format!("{thread} {number}").into_bytes()).unwrap();
                }
            })
        })
        .collect();
    // All messages of each thread have arrived in order.
    let mut next = [0; THREADS];
    for _ in 0..THREADS * MESSAGES {
        let message = String::from_utf8(client.recv().unwrap().unwrap()).unwrap();
        let (thread, number) = message.split_once(' ').unwrap();
        let thread: usize = thread.parse().unwrap();
        assert_eq!(number.parse(), Ok(next[thread]));
        next[thread] += 1;
    }
    assert_eq!(next, [MESSAGES; THREADS]);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn service_can_keep_its_handle() {
    /// Answers from another thread.
    struct Forwards(ConnectionHandle, std::sync::mpsc::Sender<(ConnectionHandle, Vec<u8>)>);

    impl Service for Forwards {
        fn on_message(&mut self, message: &[u8], _: &mut Context<'_>) -> Result<(), ServiceError> {
            let _ = self.1.send((self.0.clone(), message.to_vec()));
            Ok(())
        }
    }

    let (forward, requests): (_, Receiver<(ConnectionHandle, Vec<u8>)>) = channel();
    let create = move |handle| Forwards(handle, forward.clone());
    let server = Running::start("127.0.0.1:0", factory(Some("server")), MEGABYTE, create);
    let answering = thread::spawn(move || {
        for (connection, message) in requests.iter().take(3) {
            connection.send(message.to_ascii_uppercase()).unwrap();
        }
    });
    let mut client = server.client("client");
    for message in [&b"one"[..], b"two", b"three"] {
        client.send(message).unwrap();
        assert_eq!(client.recv().unwrap().unwrap(), message.to_ascii_uppercase());
    }
    answering.join().unwrap();
}

#[test]
fn invalid_address_is_invalid_input() {
    let error = Server::bind("nowhere", factory(None), Key::mutual(SECRET).unwrap()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = Server::bind(&address, factory(None), Key::mutual(SECRET).unwrap()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}
