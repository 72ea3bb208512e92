//! The examples, with each other.

#![cfg(test)]

#[path = "../examples/client.rs"]
mod client;
#[path = "../examples/server.rs"]
mod server;

use std::thread;

use countersign::Key;
use tokio::net::TcpListener;

#[tokio::test(flavor = "current_thread")]
async fn the_client_is_answered_by_the_server() {
    let key = Key::mutual(b"what both ends have and nobody else").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let wrong = Key::mutual(b"something else altogether").unwrap();
    let right = key.clone();
    let clients = thread::spawn(move || {
        assert_eq!(client::talk(&at, &right, "hello").unwrap(), "HELLO");
        assert!(client::talk(&at, &wrong, "hello").unwrap_err().to_string().contains("refused"));
        let long = "long ".repeat(300);
        assert_eq!(client::talk(&at, &right, &long).unwrap(), long.to_uppercase());
    });
    server::serve(listener, &key, 3).await.unwrap();
    clients.join().unwrap();
}
