//! The examples, running together.

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

/// A process id other than that of the server, which is in this process.
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

/// Runs `serve`, and `talk` with the address and the handle of its server.
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
        let stop_on_drop = StopOnDrop(handle);
        talk(&address, &stop_on_drop.0);
        drop(stop_on_drop);
    });
}

/// StopOnDrop the server, also when the test panics.
struct StopOnDrop(ServerHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// The next message other than `tick`.
fn recv(mut recv: impl FnMut() -> Vec<u8>) -> Vec<u8> {
    loop {
        let message = recv();
        if message != b"tick" {
            return message;
        }
    }
}

#[test]
fn chat_members_store_values_and_send_messages() {
    with_server(
        |started| std_chat::serve("127.0.0.1:0", started).unwrap(),
        |address, _| {
            let (ann, bob) = (connect(address, "ann"), connect(address, "bob"));
            let next = |member: &Connection| recv(|| member.recv().unwrap().unwrap());
            assert_eq!(next(&ann), b"welcome");
            assert_eq!(next(&bob), b"welcome");
            ann.send(b"@bob hello").unwrap();
            assert_eq!(next(&ann), b"sent to 1 of 1");
            assert_eq!(next(&bob), b"ann: @bob hello");
            // A long message, sent before its reply is read.
            let value = Arc::new(vec![b'x'; (1 << 20) - 6]);
            ann.send(&[b"set k ", &value[..]].concat()).unwrap();
            assert_eq!(next(&ann), b"stored");
            bob.send(b"get k").unwrap();
            assert!(next(&bob) == *value);
            bob.send(b"get other").unwrap();
            assert_eq!(next(&bob), b"");
            bob.send(b"hello, all").unwrap();
            let mut received = [next(&bob), next(&bob)];
            received.sort();
            assert_eq!(received, [&b"bob: hello, all"[..], b"sent to 2 of 2"]);
            assert_eq!(next(&ann), b"bob: hello, all");
            while ann.recv().unwrap().unwrap() != b"tick" {}
        },
    );
}

#[test]
fn reconnecting_member_introduces_itself_again() {
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
