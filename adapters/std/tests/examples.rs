//! The examples, with each other.

#![cfg(test)]

#[path = "../examples/std_chat.rs"]
mod std_chat;
#[path = "../examples/std_direct.rs"]
mod std_direct;
#[path = "../examples/std_reconnect.rs"]
mod std_reconnect;

use std::fs;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use countersign_std::*;

/// A process that is not the server's, which is this one.
fn other_process() -> ProcessId {
    ProcessId::from_bytes(&[7; ProcessId::LEN])
}

fn connect(address: &str, name: &str) -> Connection {
    let mutual = Mutual::new(name.parse().unwrap(), other_process());
    let sessions = SessionFactory::new(Config::new(Scheme::Mutual(mutual)), Pools::default());
    let key = Key::mutual(b"a secret for the chat").unwrap();
    let mut options = ConnectionOptions::default();
    options.timeout = Some(Duration::from_secs(30));
    let connector = Connector::new(address, sessions, key).unwrap().with_options(options);
    Connection::connect(&connector).unwrap()
}

/// Runs `talk` with the address and the handle of the server that `serve` runs.
fn with_server(
    serve: impl FnOnce(Box<dyn FnOnce(&Server) + Send>) + Send,
    talk: impl FnOnce(&str, &ServerHandle),
) {
    let (started, is_started) = channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            serve(Box::new(move |server| {
                let address = server.local_addresses().unwrap().remove(0).to_string();
                started.send((server.handle(), address)).unwrap();
            }));
        });
        let (handle, address) = is_started.recv().unwrap();
        let stops = Stops(handle);
        talk(&address, &stops.0);
        drop(stops);
    });
}

/// Stops the server, also when the test panics.
struct Stops(ServerHandle);

impl Drop for Stops {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// The next message that is not the clock's.
fn recv(mut recv: impl FnMut() -> Vec<u8>) -> Vec<u8> {
    loop {
        let message = recv();
        if message != b"tick" {
            return message;
        }
    }
}

#[test]
fn members_of_the_chat_store_and_talk() {
    with_server(
        |started| std_chat::serve("127.0.0.1:0", started).unwrap(),
        |address, _| {
            let (ann, bob) = (connect(address, "ann"), connect(address, "bob"));
            let heard = |member: &Connection| recv(|| member.recv().unwrap().unwrap());
            assert_eq!(heard(&ann), b"welcome");
            assert_eq!(heard(&bob), b"welcome");
            ann.send(b"@bob hello").unwrap();
            assert_eq!(heard(&ann), b"sent to 1 of 1");
            assert_eq!(heard(&bob), b"ann: @bob hello");
            // Long, and sent before anything is read.
            let value = Arc::new(vec![b'x'; (1 << 20) - 6]);
            ann.send(&[b"set k ", &value[..]].concat()).unwrap();
            assert_eq!(heard(&ann), b"stored");
            bob.send(b"get k").unwrap();
            assert!(heard(&bob) == *value);
            bob.send(b"get other").unwrap();
            assert_eq!(heard(&bob), b"");
            bob.send(b"hello, all").unwrap();
            let mut received = [heard(&bob), heard(&bob)];
            received.sort();
            assert_eq!(received, [&b"bob: hello, all"[..], b"sent to 2 of 2"]);
            assert_eq!(heard(&ann), b"bob: hello, all");
            // The clock of the chat.
            while ann.recv().unwrap().unwrap() != b"tick" {}
        },
    );
}

#[test]
fn member_that_reconnects_introduces_itself() {
    with_server(
        |started| std_chat::serve("127.0.0.1:0", started).unwrap(),
        |address, handle| {
            let mut member = std_reconnect::member(address, "bob", other_process()).unwrap();
            for _ in 0..3 {
                let mut received = [(); 2].map(|()| recv(|| member.recv().unwrap()));
                received.sort();
                assert_eq!(received, [&b"stored"[..], b"welcome"]);
                handle.named("bob").iter().for_each(ConnectionHandle::close);
            }
            let ann = connect(address, "ann");
            assert_eq!(recv(|| ann.recv().unwrap().unwrap()), b"welcome");
            ann.send(b"get last").unwrap();
            assert_eq!(recv(|| ann.recv().unwrap().unwrap()), b"bob");
        },
    );
}

#[test]
fn direct_server_answers_by_name() {
    with_server(
        |started| std_direct::serve_all("127.0.0.1:0", started).unwrap(),
        |address, _| {
            let client = connect(address, "ann");
            for _ in 0..20 {
                client.send(b"hello").unwrap();
            }
            client.finish().unwrap();
            for _ in 0..20 {
                assert_eq!(client.recv().unwrap().unwrap(), b"ann: HELLO");
            }
            assert_eq!(client.recv().unwrap(), None);
        },
    );
}

fn lines(example: &str) -> usize {
    let source = format!("{}/examples/{example}.rs", env!("CARGO_MANIFEST_DIR"));
    let source = fs::read_to_string(source).unwrap();
    let code = source.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with("//"));
    code.count()
}

#[test]
fn examples_are_short() {
    for (example, max) in [("std_chat", 60), ("std_direct", 60), ("std_reconnect", 25)] {
        assert!(lines(example) <= max, "{example}: {}", lines(example));
    }
}
