//! The client in the scheme `mutual`, against a real server.

#![cfg(test)]

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use countersign::{Alert, Config, Error, Key, Mutual, ProcessId, Remaining, Scheme, SendError};
use countersign_driver::services::Echo;
use countersign_host::{
    Address, ClientError, ClientOptions, PeerAddr, PoolOptions, Pools, ServerHandle, ServerOptions,
    SessionFactory, process_id,
};
use countersign_mio::Server;
use countersign_std::Client;

const SECRET: &[u8] = b"a key that is long enough for anyone";

/// An end called `name`, of a process of its own.
fn end(name: &str, process: u8) -> Mutual {
    Mutual::new(name.parse().unwrap(), ProcessId::from_bytes(&[process; ProcessId::LEN]))
}

fn sessions(mutual: Mutual) -> SessionFactory {
    SessionFactory::new(Config::new(Scheme::Mutual(mutual)), Pools::new(&PoolOptions::default()))
}

struct Echoing {
    address: Address,
    remote: ServerHandle,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Echoing {
    fn start(mutual: Mutual) -> Self {
        let listeners = "127.0.0.1:0".parse::<Address>().unwrap().listen(1).unwrap();
        let address = listeners[0].address().unwrap();
        let (protocol, keys) = (Arc::new(sessions(mutual)), Arc::new(Key::mutual(SECRET).unwrap()));
        let open = |_: &PeerAddr, _| Echo;
        let mut server =
            Server::new(listeners, protocol, keys, open, ServerOptions::default()).unwrap();
        let remote = server.remote();
        Self { address, remote, thread: Some(thread::spawn(move || server.run())) }
    }

    fn connect(&self, mutual: Mutual, secret: &[u8]) -> Result<Client, ClientError> {
        let key = Key::mutual(secret).unwrap();
        let mut options = ClientOptions::default();
        options.timeout = Some(Duration::from_secs(30));
        options.max_message = 1 << 20;
        Client::connect(&self.address, &sessions(mutual), &key, &options)
    }
}

impl Drop for Echoing {
    fn drop(&mut self) {
        self.remote.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().unwrap().unwrap();
        }
    }
}

#[test]
fn messages_of_any_length_come_back_whole_and_both_ends_finish() {
    let server = Echoing::start(end("server", 1));
    let client = server.connect(end("client", 2), SECRET).unwrap();
    for len in [0, 1, 16_383, 16_384, 16_385, 1 << 20] {
        let message = vec![len as u8; len];
        client.send(&message).unwrap();
        assert_eq!(client.recv().unwrap().as_deref(), Some(&message[..]), "{len}");
    }
    client.finish().unwrap();
    assert_eq!(client.recv().unwrap(), None);
}

#[test]
fn a_message_longer_than_is_taken_whole_is_refused_and_can_be_had_in_parts() {
    let server = Echoing::start(end("server", 1));
    let client = server.connect(end("client", 2), SECRET).unwrap();
    client.send(&vec![7; (1 << 20) + 1]).unwrap();
    for _ in 0..2 {
        assert!(matches!(client.recv(), Err(ClientError::TooLong)));
    }
    // What had come of it is the first part.
    let part = client.recv_chunk().unwrap().unwrap();
    assert_eq!(
        (part.bytes, part.first, part.remaining),
        (vec![7; (1 << 20) + 1], true, Remaining::End)
    );
    client.send(b"next").unwrap();
    assert_eq!(client.recv().unwrap().as_deref(), Some(&b"next"[..]));
}

#[test]
fn a_client_may_be_read_and_written_like_a_file() {
    let server = Echoing::start(end("server", 1));
    let client = server.connect(end("client", 2), SECRET).unwrap();
    let mut stream = &client;
    let long = vec![7; 100_000];
    for message in [&b"one"[..], b"", b"two", &long] {
        stream.write_all(message).unwrap();
    }
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"onetw");
    assert_eq!(stream.read(&mut []).unwrap(), 0);
    // What is left of a message is still there for who wants messages.
    let part = client.recv_chunk().unwrap().unwrap();
    assert_eq!((&part.bytes[..], part.first, part.remaining), (&b"o"[..], false, Remaining::End));
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(client.recv().unwrap().unwrap(), long[5..]);
    client.finish().unwrap();
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    let error = stream.write(b"late").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    let inner = error.get_ref().unwrap().downcast_ref::<ClientError>();
    assert!(matches!(inner, Some(ClientError::Send(_))), "{inner:?}");
}

#[test]
fn a_client_knows_who_its_server_is() {
    let server = Echoing::start(end("gate", 1));
    let client = end("client", 2).with_expected_server("gate".parse().unwrap());
    let client = server.connect(client, SECRET).unwrap();
    let known = client.peer(|peer| {
        assert!(peer.authenticated && peer.exporter.is_some() && peer.session_id.is_some());
        peer.name.map(str::to_owned)
    });
    assert_eq!(known, Some(Some("gate".into())));
}

#[test]
fn each_end_learns_of_a_failure_what_it_may() {
    let server = Echoing::start(end("gate", 1));
    let refused = |client, secret| match server.connect(client, secret) {
        Err(ClientError::Protocol(error)) => error,
        other => panic!("{other:?}"),
    };
    let alert = Error::Alert(Alert::Refused);
    assert_eq!(refused(end("client", 2), b"another key that is long enough"), alert);
    assert_eq!(refused(end("gate", 2), SECRET), alert);
    assert_eq!(refused(end("client", 1), SECRET), alert);
    let picky = end("client", 2).with_expected_server("gateway".parse().unwrap());
    assert_eq!(refused(picky, SECRET), alert);
}

#[test]
fn a_process_does_not_talk_to_itself() {
    let own = || Mutual::new("one".parse().unwrap(), process_id().unwrap());
    let server = Echoing::start(own());
    let other_name = Mutual::new("two".parse().unwrap(), process_id().unwrap());
    let error = server.connect(other_name, SECRET).unwrap_err();
    assert!(matches!(error, ClientError::Protocol(Error::Alert(Alert::Refused))), "{error}");
}

#[test]
fn a_client_that_has_finished_sends_no_more() {
    let server = Echoing::start(end("server", 1));
    let client = server.connect(end("client", 2), SECRET).unwrap();
    client.finish().unwrap();
    let error = client.send(b"more").unwrap_err();
    assert!(matches!(error, ClientError::Send(SendError::Finished | SendError::Ended)), "{error}");
}
