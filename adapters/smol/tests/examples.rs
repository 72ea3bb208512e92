//! The examples, running together.

#![cfg(test)]

#[path = "../examples/smol_chat.rs"]
mod smol_chat;
#[path = "../examples/smol_reconnect.rs"]
mod smol_reconnect;

use std::fs;

use countersign_smol::{
    Address, Config, Connection, Connector, Key, Mutual, Pools, ProcessId, Scheme, ServerHandle,
    SessionFactory,
};
use smol::channel::{Receiver, bounded};
use smol::future;

/// Connector of a chat member with its own process id.
fn member(name: &str, process: u8, address: &Address) -> Connector {
    let process_id = ProcessId::from_bytes(&[process; ProcessId::LEN]);
    let config = Config::new(Scheme::Mutual(Mutual::new(name.parse().unwrap(), process_id)));
    let key = Key::mutual(b"a secret for the chat").unwrap();
    Connector::new(&address.to_string(), SessionFactory::new(config, Pools::default()), key)
        .unwrap()
}

/// Runs `talk` with a chat server.
fn with_chat<F: Future>(talk: impl FnOnce(Address, ServerHandle) -> F) {
    let (started, server): (_, Receiver<(Address, ServerHandle)>) = bounded(1);
    let server_side = smol_chat::serve("127.0.0.1:0", move |server| {
        let address = server.local_addresses().unwrap().remove(0);
        started.try_send((address, server.handle())).unwrap();
    });
    let client_side = async {
        let (address, handle) = server.recv().await.unwrap();
        talk(address, handle.clone()).await;
        handle.stop();
    };
    smol::block_on(future::zip(server_side, client_side)).0.unwrap();
}

/// The next message other than `tick`.
async fn next(connection: &Connection) -> String {
    loop {
        let message = String::from_utf8(connection.recv().await.unwrap().unwrap()).unwrap();
        if message != "tick" {
            return message;
        }
    }
}

#[test]
fn chat_members_are_addressed_by_name() {
    with_chat(|address, _| async move {
        let bob = Connection::connect(&member("bob", 1, &address)).await.unwrap();
        let alice = Connection::connect(&member("alice", 2, &address)).await.unwrap();
        for connection in [&bob, &alice] {
            assert_eq!(next(connection).await, "welcome");
        }
        let value = "x".repeat((1 << 20) - 6);
        alice.send(format!("set k {value}").as_bytes()).await.unwrap();
        assert_eq!(next(&alice).await, "stored");
        alice.send(b"@bob hello").await.unwrap();
        assert_eq!(next(&bob).await, "alice: @bob hello");
        assert_eq!(next(&alice).await, "sent to 1 of 1");
        bob.send(b"get k").await.unwrap();
        assert!(next(&bob).await == value);
        bob.send(b"all").await.unwrap();
        assert_eq!(next(&alice).await, "bob: all");
        while bob.recv().await.unwrap().unwrap() != b"tick" {}
    });
}

#[test]
fn reconnecting_listener_announces_itself_again() {
    with_chat(|address, handle| async move {
        let mut announced = 0;
        let listening = smol_reconnect::listen(member("bob", 1, &address), |text| {
            if text == "bob: hello" {
                announced += 1;
                handle.named("bob")[0].close();
            }
            announced < 2
        });
        listening.await.unwrap();
    });
}

#[test]
fn examples_are_short() {
    for (example, most) in [("smol_chat", 60), ("smol_reconnect", 25)] {
        let path = format!("{}/examples/{example}.rs", env!("CARGO_MANIFEST_DIR"));
        let source = fs::read_to_string(path).unwrap();
        let lines = source.lines().map(str::trim);
        let code = lines.filter(|line| !line.is_empty() && !line.starts_with("//")).count();
        assert!(code <= most, "{example} has {code} lines");
    }
}
