//! The examples, running together.

#![cfg(test)]

#[path = "../examples/embedded_client.rs"]
mod embedded_client;
#[path = "../examples/embedded_server.rs"]
mod embedded_server;

use std::thread;

use countersign_embedded_io::Key;
use tokio::net::TcpListener;

#[tokio::test(flavor = "current_thread")]
async fn example_client_gets_replies_of_example_server() {
    let key = Key::mutual(b"a secret that both ends have").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let wrong = Key::mutual(b"another secret, 16 bytes or more").unwrap();
    let right = key.clone();
    let clients = thread::spawn(move || {
        assert_eq!(embedded_client::request(&at, &right, "hello").unwrap(), "HELLO");
        let error = embedded_client::request(&at, &wrong, "hello").unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
        let long = "long ".repeat(300);
        assert_eq!(embedded_client::request(&at, &right, &long).unwrap(), long.to_uppercase());
    });
    embedded_server::serve(listener, &key, 3).await.unwrap();
    clients.join().unwrap();
}

#[test]
fn examples_have_at_most_60_lines() {
    for source in [
        include_str!("../examples/embedded_client.rs"),
        include_str!("../examples/embedded_server.rs"),
    ] {
        let lines = source.lines().map(str::trim);
        let code = lines.filter(|line| !line.is_empty() && !line.starts_with("//")).count();
        assert!(code <= 60, "{code} lines");
    }
}
