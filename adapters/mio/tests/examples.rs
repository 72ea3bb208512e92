//! The examples, running together.

#![cfg(test)]

#[path = "../examples/mio_chat.rs"]
mod mio_chat;
#[path = "../examples/mio_own_loop.rs"]
mod mio_own_loop;

use std::cell::RefCell;
use std::fs;
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::thread;

use countersign::ProcessId;

#[test]
fn chat_serves_the_clients_of_the_own_loop() {
    let (started, server) = channel();
    thread::scope(|scope| {
        let server_thread = scope.spawn(move || {
            let served = mio_chat::serve("127.0.0.1:0", |server| {
                let address = server.local_addresses().unwrap().remove(0);
                started.send((server.handle(), address)).unwrap();
            });
            served.unwrap();
        });
        let (handle, address) = server.recv().unwrap();
        let received = Rc::new(RefCell::new(Vec::new()));
        let reported = received.clone();
        // Not the process id of the server, which is in this process.
        let process_id = ProcessId::from_bytes(&[7; ProcessId::LEN]);
        let visited = mio_own_loop::visit(&address, process_id, move |number, text: &str| {
            if text != "tick" {
                reported.borrow_mut().push((number, text.to_owned()));
            }
        });
        handle.stop();
        visited.unwrap();
        server_thread.join().unwrap();
        let mut received = received.take();
        received.sort();
        let expected = |number| ["stored", "welcome"].map(|text| (number, text.to_owned()));
        assert_eq!(received, (0..3).flat_map(expected).collect::<Vec<_>>());
    });
}

#[test]
fn chat_is_at_most_60_lines() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/mio_chat.rs");
    let source = fs::read_to_string(source).unwrap();
    let code = source.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with("//"));
    assert!(code.count() <= 60);
}
