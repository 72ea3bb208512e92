//! The examples, with each other.

#![cfg(test)]

#[path = "../examples/greeter.rs"]
mod greeter;
#[path = "../examples/own_loop.rs"]
mod own_loop;

use std::cell::RefCell;
use std::rc::Rc;
use std::thread;

use countersign::ProcessId;
use countersign_host::Address;

#[test]
fn every_visitor_is_greeted_and_answered() {
    // A port that was free a moment ago.
    let listeners = "127.0.0.1:0".parse::<Address>().unwrap().listen(1).unwrap();
    let address = listeners[0].address().unwrap();
    drop(listeners);
    let mut server = greeter::server(&address).unwrap();
    let remote = server.remote();
    let heard = Rc::new(RefCell::new(Vec::new()));
    let told = heard.clone();
    thread::scope(|scope| {
        let serving = scope.spawn(move || server.run());
        // Not the server's: this process plays two.
        let instance = ProcessId::from_bytes(&[7; ProcessId::LEN]);
        let visited = own_loop::visit(&address, instance, move |number, text: &str| {
            told.borrow_mut().push((number, text.to_owned()));
        });
        remote.stop();
        visited.unwrap();
        serving.join().unwrap().unwrap();
    });
    let mut heard = heard.take();
    heard.sort();
    let expected = |number| {
        let text = |text: &str| (number, text.to_owned());
        [text(&format!("hello from {number}")), text("pass, visitor")]
    };
    assert_eq!(heard, (0..3).flat_map(expected).collect::<Vec<_>>());
}
