//! Keys that are replaced while they are in use, and who has none.

use std::sync::Arc;
use std::sync::mpsc::channel;

use countersign::{CloseReason, Error};
use countersign_driver::services::Echo;
use countersign_host::{ConnectionHandle, Keyring, SharedKeys, Streams};
use countersign_tests::{ANOTHER_SECRET, KEY_ID, SECRET};

use crate::adapters::{Adapter, CLIENTS, Client};
use crate::running::Setup;
use crate::services::Reporting;
use crate::ways::Way;
use crate::{PATIENCE, at_once};

on_every_adapter! {
    sessions_end_when_their_key_is_replaced_and_not_when_another_is,
    a_key_that_is_replaced_is_of_use_to_nobody_who_comes_later,
    who_holds_another_key_is_refused_whatever_is_spoken,
}

fn ask(client: &dyn Client) {
    client.send(b"hello").unwrap();
    assert_eq!(client.recv().unwrap().unwrap(), b"hello");
}

/// A keyring of this secret under the id of all clients here, and of one that nobody has.
fn keyring(secret: &[u8]) -> Arc<Keyring> {
    let secret = String::from_utf8(secret.to_vec()).unwrap();
    let roles = r#"roles = ["client", "server"]"#;
    let text = format!(
        "[[key]]\nid = \"{KEY_ID}\"\nsecret = \"{secret}\"\n{roles}\n\n\
         [[key]]\nid = \"other\"\nsecret = \"a secret that nobody here has\"\n{roles}\n"
    );
    Arc::new(Keyring::parse(&text).unwrap())
}

fn sessions_end_when_their_key_is_replaced_and_not_when_another_is<A: Adapter>() {
    at_once([Way::MUTUAL, Way::MUTUAL.in_tls()], |&way| {
        let keys = SharedKeys::new(keyring(SECRET));
        let (ended, how) = channel();
        let mut setup = Setup::new(way);
        setup.keys = Some(keys.clone());
        let server =
            setup.start::<A>(Streams(move |_: ConnectionHandle| Reporting(Echo, ended.clone())));
        let with = way.client();
        let clients: Vec<_> = server
            .at
            .iter()
            .flat_map(|at| CLIENTS.iter().map(|(_, connect)| connect(at, &with).unwrap()))
            .collect();
        clients.iter().for_each(|client| ask(&**client));
        // Their key is there still.
        keys.replace(Arc::new(Keyring::of_one(
            KEY_ID.parse().unwrap(),
            countersign::Key::mutual(SECRET).unwrap(),
        )));
        server.handle.keys_changed();
        clients.iter().for_each(|client| ask(&**client));
        assert!(how.try_recv().is_err());
        // Now it is another of the same id. Nobody says anything, but all are ended.
        keys.replace(keyring(ANOTHER_SECRET));
        server.handle.keys_changed();
        for client in &clients {
            assert_eq!(client.recv(), Err(Error::PeerClosed(CloseReason::Application)));
            let told = how.recv_timeout(PATIENCE).unwrap();
            assert_eq!(told, Err(Error::Aborted(CloseReason::Application)));
        }
        drop(clients);
        server.until_open(0);
        assert!(A::connect(server.tcp(), &with).is_err());
        ask(&*A::connect(server.tcp(), &way.client_with(ANOTHER_SECRET)).unwrap());
    });
}

fn a_key_that_is_replaced_is_of_use_to_nobody_who_comes_later<A: Adapter>() {
    at_once([Way::CHALLENGE, Way::PYTHON, Way::CHALLENGE.in_tls(), Way::PYTHON.in_tls()], |&way| {
        let keys = SharedKeys::new(Arc::new(way.keys(SECRET)));
        let mut setup = Setup::new(way);
        setup.keys = Some(keys.clone());
        let server = setup.start::<A>(Streams(|_: ConnectionHandle| Echo));
        let old = A::connect(server.tcp(), &way.client()).unwrap();
        ask(&*old);
        keys.replace(Arc::new(way.keys(ANOTHER_SECRET)));
        server.handle.keys_changed();
        ask(&*A::connect(server.tcp(), &way.client_with(ANOTHER_SECRET)).unwrap());
        is_refused(A::connect(server.tcp(), &way.client()));
        // These schemes do not tell by which key a session was made.
        ask(&*old);
    });
}

/// Fails unless there was no connection, or it ends without an answer.
fn is_refused(connected: Result<Box<dyn Client>, Error>) {
    if let Ok(client) = connected {
        let _ = client.send(b"hello");
        let answer = client.recv();
        assert!(matches!(answer, Ok(None) | Err(_)), "{answer:?}");
    }
}

fn who_holds_another_key_is_refused_whatever_is_spoken<A: Adapter>() {
    let all = Way::all().into_iter().filter(|way| way.has_key());
    at_once(all.collect::<Vec<_>>(), |&way| {
        let (ended, how) = channel();
        let open = Streams(move |_: ConnectionHandle| Reporting(Echo, ended.clone()));
        let server = Setup::new(way).start::<A>(open);
        for (&(_, connect), at) in CLIENTS.iter().zip(server.at.iter().cycle()) {
            is_refused(connect(at, &way.client_with(ANOTHER_SECRET)));
            let told = how.recv_timeout(PATIENCE).unwrap();
            // In `multiprocessing` and `mutual` it may be the client that notices first.
            assert!(told.is_err(), "{told:?}");
        }
        server.until_empty();
    });
}
