//! A server without a service: each connection is called by a thread, and answered by another.
//! `cargo run -p countersign-std --example std_direct`.

use std::error::Error;
use std::sync::mpsc::sync_channel;
use std::thread;

use countersign_std::*;

/// Answers each message in upper case, with its sender's name.
fn serve(connection: Connection) -> Result<(), CallError> {
    let name = connection.peer(|peer| peer.name.unwrap_or_default().to_owned())?;
    let (sender, receiver) = connection.split();
    let (requests, received) = sync_channel::<Vec<u8>>(16);
    let answering = thread::spawn(move || {
        for request in received {
            let answer = request.to_ascii_uppercase();
            sender.send(&[name.as_bytes(), b": ", &answer].concat())?;
        }
        sender.finish()
    });
    // Requests are received while an answer is being sent, 16 of them at most.
    while let Some(request) = receiver.recv()? {
        if requests.send(request).is_err() {
            break;
        }
    }
    drop(requests);
    answering.join().unwrap_or(Ok(()))
}

/// Serves until the handle of the server that `started` gets stops it.
pub(crate) fn serve_all(
    address: &str,
    started: impl FnOnce(&Server),
) -> Result<(), Box<dyn Error>> {
    let key = Key::mutual(b"a secret for the chat")?;
    let mut server = Server::bind(address, SessionFactory::mutual("server")?, key)?;
    started(&server);
    while let Some(connection) = server.accept() {
        thread::spawn(move || {
            if let Err(error) = serve(connection) {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

#[allow(dead_code, reason = "the tests call what it calls")]
fn main() -> Result<(), Box<dyn Error>> {
    serve_all("127.0.0.1:9999", |_| ())
}
