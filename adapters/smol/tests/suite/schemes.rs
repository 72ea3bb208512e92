//! Every scheme, in both roles, against adapters that are not this one.

use std::sync::Arc;
use std::task::Waker;
use std::thread;

use countersign::{Error, Instant as Moment, Role};
use countersign_driver::Keys;
use countersign_driver::services::Echo;
use countersign_host::{
    Address, CallConnection, CallError, Clock, Connector, Sending, Step, Stream,
};
use countersign_smol::Connection;
use smol::future;

use super::*;

/// What every client does: one message of every size that matters, and the end.
const LENGTHS: [usize; 5] = [1, 16_383, 16_384, 16_385, 1 << 20];

/// A client without an adapter, which polls its socket.
struct Polling {
    stream: Stream,
    connection: CallConnection,
    keys: Arc<dyn Keys + Send + Sync>,
    clock: Clock,
}

impl Polling {
    fn connect(connector: &Connector) -> Self {
        let stream = connector.address().connect(PATIENCE).unwrap();
        let clock = Clock::start();
        let connection = connector.begin(Waker::noop(), clock.now()).unwrap();
        let mut client = Self { stream, connection, keys: connector.keys().clone(), clock };
        client.until(|connection, _| connection.established());
        client
    }

    /// Polls until `done` has a result, and all that it left to do is done.
    fn until<T>(
        &mut self,
        mut done: impl FnMut(&mut CallConnection, Moment) -> Option<Result<T, CallError>>,
    ) -> T {
        let Self { stream, connection, keys, clock } = self;
        let mut result = None;
        until("the call is not done", || {
            while connection.poll(&mut &*stream, &**keys, clock.now()) == Step::Yield {}
            result = result.take().or_else(|| done(connection, clock.now()));
            result.is_some() && !connection.wants_poll()
        });
        result.unwrap().unwrap()
    }
}

fn serve(on: On, kind: Kind, address: &Address) -> Running {
    let keys = Arc::new(kind.key(SECRET));
    let services = echo();
    Running::start_at(on, address, kind.sessions(Role::Server), keys, services, options())
}

/// A server of another adapter, as long as `talk` lasts.
fn with_mio(kind: Kind, address: &Address, talk: impl FnOnce(&Address)) {
    let listeners = address.listen(1).unwrap();
    let at = listeners[0].address().unwrap();
    let (protocol, keys) = (Arc::new(kind.sessions(Role::Server)), Arc::new(kind.key(SECRET)));
    let mut server = countersign_mio::Server::new(listeners, protocol, keys, options()).unwrap();
    let handle = server.handle();
    let serving = thread::spawn(move || server.run_streams(|_| Echo));
    talk(&at);
    handle.stop();
    serving.join().unwrap().unwrap();
    if let Address::Unix(path) = at {
        std::fs::remove_file(path).unwrap();
    }
}

async fn connect(address: &Address, kind: Kind, secret: &[u8]) -> Result<Connection, CallError> {
    let (sessions, key) = (kind.sessions(Role::Client), kind.key(secret));
    Connection::connect(&connector(address, sessions, key, PATIENCE)).await
}

/// Both halves at once, and the end.
async fn talk(client: &Connection) {
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
            let mut client = Polling::connect(&connector(&server.address, sessions, key, PATIENCE));
            for len in LENGTHS {
                let (message, mut reply) = (bytes(len), None);
                let (mut sending, mut sent) = (Sending::message(&message), None);
                let received = client.until(|client, now| {
                    sent = sent.take().or_else(|| client.send(&mut sending));
                    reply = reply.take().or_else(|| client.recv(now));
                    if sent.is_some() { reply.take() } else { None }
                });
                sent.unwrap().unwrap();
                assert!(received.unwrap() == message, "{kind:?} {len}");
            }
            let mut finishing = Sending::finish();
            client.until(|client, _| client.send(&mut finishing));
            assert_eq!(client.until(CallConnection::recv), None);
            server.handle.stop();
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
                server.handle.stop();
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
                Err(CallError::Protocol(error)) => {
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
        client.peer(|peer| peer.authenticated.then(|| peer.name.map(str::to_owned))).await.unwrap()
    });
    assert_eq!(name, Some(Some("server".into())));
}
