//! Keys that are replaced while in use, and wrong keys.

use std::sync::Arc;
use std::sync::mpsc::channel;

use countersign::{CloseReason, Error};
use countersign_driver::services::Echo;
use countersign_host::{ConnectionHandle, Keyring, SharedKeys, Streams};
use countersign_tests::{ANOTHER_SECRET, KEY_ID, SECRET};

use crate::adapters::{Adapter, CLIENTS, Client};
use crate::protocol_spec::ProtocolSpec;
use crate::server::ServerSetup;
use crate::services::ReportEnd;
use crate::{TEST_TIMEOUT, for_each_concurrently};

on_every_adapter! {
    replaced_key_ends_its_sessions_and_no_others,
    replaced_key_admits_no_new_client,
    client_with_another_key_is_refused,
}

fn assert_echo(client: &dyn Client) {
    client.send(b"hello").unwrap();
    assert_eq!(client.recv().unwrap().unwrap(), b"hello");
}

/// Returns a keyring with `secret` under the key id of all clients in these tests, and another key.
fn keyring(secret: &[u8]) -> Arc<Keyring> {
    let secret = String::from_utf8(secret.to_vec()).unwrap();
    let roles = r#"roles = ["client", "server"]"#;
    let text = format!(
        "[[key]]\nid = \"{KEY_ID}\"\nsecret = \"{secret}\"\n{roles}\n\n\
         [[key]]\nid = \"other\"\nsecret = \"a secret that no client has\"\n{roles}\n"
    );
    Arc::new(Keyring::parse(&text).unwrap())
}

fn replaced_key_ends_its_sessions_and_no_others<A: Adapter>() {
    for_each_concurrently([ProtocolSpec::MUTUAL, ProtocolSpec::MUTUAL.in_tls()], |&spec| {
        let keys = SharedKeys::new(keyring(SECRET));
        let (end_sender, ends) = channel();
        let mut setup = ServerSetup::new(spec);
        setup.keys = Some(keys.clone());
        let server = setup
            .start::<A>(Streams(move |_: ConnectionHandle| ReportEnd(Echo, end_sender.clone())));
        let client_setup = spec.client();
        let clients: Vec<_> = server
            .addresses
            .iter()
            .flat_map(|address| {
                CLIENTS.iter().map(|(_, connect)| connect(address, &client_setup).unwrap())
            })
            .collect();
        clients.iter().for_each(|client| assert_echo(&**client));
        // Only the other key is removed.
        keys.replace(Arc::new(Keyring::of_one(
            KEY_ID.parse().unwrap(),
            countersign::Key::mutual(SECRET).unwrap(),
        )));
        server.handle.keys_changed();
        clients.iter().for_each(|client| assert_echo(&**client));
        assert!(ends.try_recv().is_err());
        // The key is replaced by another with the same id. All sessions end, though no peer sends
        // anything.
        keys.replace(keyring(ANOTHER_SECRET));
        server.handle.keys_changed();
        for client in &clients {
            assert_eq!(client.recv(), Err(Error::PeerClosed(CloseReason::Application)));
            let end = ends.recv_timeout(TEST_TIMEOUT).unwrap();
            assert_eq!(end, Err(Error::Aborted(CloseReason::Application)));
        }
        drop(clients);
        server.wait_until_open(0);
        assert!(A::connect(server.tcp(), &client_setup).is_err());
        assert_echo(&*A::connect(server.tcp(), &spec.client_with_secret(ANOTHER_SECRET)).unwrap());
    });
}

fn replaced_key_admits_no_new_client<A: Adapter>() {
    for_each_concurrently(
        [
            ProtocolSpec::CHALLENGE,
            ProtocolSpec::MULTIPROCESSING,
            ProtocolSpec::CHALLENGE.in_tls(),
            ProtocolSpec::MULTIPROCESSING.in_tls(),
        ],
        |&spec| {
            let keys = SharedKeys::new(Arc::new(spec.keys(SECRET)));
            let mut setup = ServerSetup::new(spec);
            setup.keys = Some(keys.clone());
            let server = setup.start::<A>(Streams(|_: ConnectionHandle| Echo));
            let old = A::connect(server.tcp(), &spec.client()).unwrap();
            assert_echo(&*old);
            keys.replace(Arc::new(spec.keys(ANOTHER_SECRET)));
            server.handle.keys_changed();
            assert_echo(
                &*A::connect(server.tcp(), &spec.client_with_secret(ANOTHER_SECRET)).unwrap(),
            );
            assert_refused(A::connect(server.tcp(), &spec.client()));
            // In these schemes the server does not know which key authenticated a session.
            assert_echo(&*old);
        },
    );
}

/// Asserts that connecting failed, or that the connection ends without a reply.
fn assert_refused(connected: Result<Box<dyn Client>, Error>) {
    if let Ok(client) = connected {
        let _ = client.send(b"hello");
        let reply = client.recv();
        assert!(matches!(reply, Ok(None) | Err(_)), "{reply:?}");
    }
}

fn client_with_another_key_is_refused<A: Adapter>() {
    let all = ProtocolSpec::all().into_iter().filter(|spec| spec.has_key());
    for_each_concurrently(all.collect::<Vec<_>>(), |&spec| {
        let (end_sender, ends) = channel();
        let services = Streams(move |_: ConnectionHandle| ReportEnd(Echo, end_sender.clone()));
        let server = ServerSetup::new(spec).start::<A>(services);
        for (&(_, connect), address) in CLIENTS.iter().zip(server.addresses.iter().cycle()) {
            assert_refused(connect(address, &spec.client_with_secret(ANOTHER_SECRET)));
            let end = ends.recv_timeout(TEST_TIMEOUT).unwrap();
            // In `multiprocessing` and `mutual` the client may detect the wrong key first.
            assert!(end.is_err(), "{end:?}");
        }
        server.wait_until_empty();
    });
}
