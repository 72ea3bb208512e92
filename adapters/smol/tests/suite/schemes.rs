//! Every scheme, in both roles, against adapters that are not this one.

use std::sync::Arc;
use std::thread;

use countersign::{Error, Role};
use countersign_driver::services::Echo;
use countersign_host::{Address, ClientError, PeerAddr};
use countersign_smol::Client;
use smol::future;

use super::*;

/// What every client does: one message of every size that matters, and the end.
const LENGTHS: [usize; 5] = [1, 16_383, 16_384, 16_385, 1 << 20];

fn serve(on: On, kind: Kind, address: &Address) -> Running {
    let keys = Arc::new(kind.key(SECRET));
    let open = |_: &PeerAddr, _| Echo;
    Running::start_at(on, address, kind.sessions(Role::Server), keys, open, options())
}

/// A server of another adapter, as long as `talk` lasts.
fn with_mio(kind: Kind, address: &Address, talk: impl FnOnce(&Address)) {
    let listeners = address.listen(1).unwrap();
    let at = listeners[0].address().unwrap();
    let (protocol, keys) = (Arc::new(kind.sessions(Role::Server)), Arc::new(kind.key(SECRET)));
    let open = |_: &PeerAddr, _| Echo;
    let mut server =
        countersign_mio::Server::new(listeners, protocol, keys, open, options()).unwrap();
    let remote = server.remote();
    let serving = thread::spawn(move || server.run());
    talk(&at);
    remote.stop();
    serving.join().unwrap().unwrap();
    if let Address::Unix(path) = at {
        std::fs::remove_file(path).unwrap();
    }
}

async fn connect(address: &Address, kind: Kind, secret: &[u8]) -> Result<Client, ClientError> {
    let (sessions, key) = (kind.sessions(Role::Client), kind.key(secret));
    Client::connect(address, &sessions, &key, &client_options(PATIENCE)).await
}

/// Both halves at once, and the end.
async fn talk(client: &Client) {
    for len in LENGTHS {
        let message = bytes(len);
        let (sent, heard) = future::zip(client.send(&message), client.recv()).await;
        sent.unwrap();
        assert!(heard.unwrap().unwrap() == message, "{len}");
    }
    client.finish().await.unwrap();
    assert_eq!(client.recv().await.unwrap(), None);
}

#[test]
fn a_server_serves_clients_of_another_adapter() {
    for (kind, on) in Kind::ALL.into_iter().zip(On::ALL.into_iter().cycle()) {
        for address in [tcp(), unix()] {
            let server = serve(on, kind, &address);
            let (sessions, key) = (kind.sessions(Role::Client), kind.key(SECRET));
            let (at, options) = (&server.address, client_options(PATIENCE));
            let client = countersign_std::Client::connect(at, &sessions, &key, &options).unwrap();
            for len in LENGTHS {
                let message = bytes(len);
                thread::scope(|scope| {
                    let sending = scope.spawn(|| client.send(&message));
                    assert!(client.recv().unwrap().unwrap() == message, "{kind:?} {len}");
                    sending.join().unwrap().unwrap();
                });
            }
            client.finish().unwrap();
            assert_eq!(client.recv().unwrap(), None);
            server.remote.stop();
            server.join();
        }
    }
}

#[test]
fn a_client_speaks_to_a_server_of_another_adapter() {
    for kind in Kind::ALL {
        for address in [tcp(), unix()] {
            with_mio(kind, &address, |at| {
                run(async { talk(&connect(at, kind, SECRET).await.unwrap()).await });
            });
        }
    }
}

#[test]
fn a_client_and_a_server_speak_to_each_other_on_every_executor() {
    for on in On::ALL {
        for kind in Kind::ALL {
            for address in [tcp(), unix()] {
                let server = serve(on, kind, &address);
                on.run(soon(async {
                    talk(&connect(&server.address, kind, SECRET).await.unwrap()).await;
                }));
                server.remote.stop();
                server.join();
            }
        }
    }
}

#[test]
fn who_has_another_key_is_refused() {
    for kind in [Kind::Challenge, Kind::Mutual, Kind::Multiprocessing] {
        let server = serve(On::OneThread, kind, &tcp());
        run(async {
            let other = b"another key that is long enough";
            match connect(&server.address, kind, other).await {
                Err(ClientError::Protocol(error)) => {
                    assert!(!matches!(error, Error::TimedOut(_)), "{kind:?}: {error}");
                }
                // Nothing is said to it: it finds the connection closed.
                Ok(client) => {
                    assert!(matches!(kind, Kind::Challenge), "{kind:?}");
                    assert_eq!(client.recv().await.unwrap(), None);
                }
                Err(other) => panic!("{kind:?}: {other}"),
            }
            talk(&connect(&server.address, kind, SECRET).await.unwrap()).await;
        });
    }
}

#[test]
fn a_client_knows_who_its_server_is() {
    let server = serve(On::OneThread, Kind::Mutual, &tcp());
    let name = run(async {
        let client = connect(&server.address, Kind::Mutual, SECRET).await.unwrap();
        client.peer(|peer| peer.authenticated.then(|| peer.name.map(str::to_owned)))
    });
    assert_eq!(name, Some(Some(Some("server".into()))));
}
