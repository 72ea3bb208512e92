//! The examples, with each other.

#![cfg(test)]

#[path = "../examples/client.rs"]
mod client;
#[path = "../examples/server.rs"]
mod server;

use countersign::ProcessId;
use countersign_host::Address;
use smol::future;

#[test]
fn the_client_has_an_answer_to_each_question() {
    // A port that was free a moment ago.
    let listeners = "127.0.0.1:0".parse::<Address>().unwrap().listen(1).unwrap();
    let address = listeners[0].address().unwrap();
    drop(listeners);
    let server = server::server(&address).unwrap();
    let remote = server.remote();
    let asking = async {
        // Not the server's: this process plays two.
        let instance = ProcessId::from_bytes(&[7; ProcessId::LEN]);
        let mut answers = Vec::new();
        let asked = client::ask(&address, instance, &["one", "", "two"], |answer| {
            answers.push(answer.to_vec());
        });
        let asked = asked.await;
        remote.stop();
        asked.unwrap();
        assert_eq!(answers, [&b"ONE"[..], b"", b"TWO"]);
    };
    smol::block_on(future::zip(server.run(), asking));
}
