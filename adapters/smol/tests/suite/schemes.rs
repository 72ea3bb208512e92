//! Every scheme, in both roles, with other adapters.

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

/// Lengths of the messages that a client sends: around the length of a buffer, and long.
const LENGTHS: [usize; 5] = [1, 16_383, 16_384, 16_385, 1 << 20];

/// A client without an adapter. It polls its socket in a loop.
struct PollingClient {
    stream: Stream,
    connection: CallConnection,
    keys: Arc<dyn Keys + Send + Sync>,
    clock: Clock,
}

impl PollingClient {
    fn connect(connector: &Connector) -> Self {
        let stream = connector.address().connect(PATIENCE).unwrap();
        let clock = Clock::start();
        let connection = connector.begin(Waker::noop(), clock.now()).unwrap();
        let mut client = Self { stream, connection, keys: connector.keys().clone(), clock };
        client.until(|connection, _| connection.established());
        client
    }

    /// Polls until `done` has a result and the connection needs no more polls.
    fn until<T>(
        &mut self,
        mut done: impl FnMut(&mut CallConnection, Moment) -> Option<Result<T, CallError>>,
    ) -> T {
        let Self { stream, connection, keys, clock } = self;
        let mut result = None;
        wait_until("the call did not complete", || {
            while connection.poll(&mut &*stream, &**keys, clock.now()) == Step::Yield {}
            result = result.take().or_else(|| done(connection, clock.now()));
            result.is_some() && !connection.wants_poll()
        });
        result.unwrap().unwrap()
    }
}

fn serve(runtime: Runtime, kind: Kind, address: &Address) -> Running {
    let keys = Arc::new(kind.key(SECRET));
    let services = echo();
    Running::start_at(runtime, address, kind.sessions(Role::Server), keys, services, options())
}

/// Runs `talk` with a server of the mio adapter.
fn with_mio(kind: Kind, address: &Address, talk: impl FnOnce(&Address)) {
    let listeners = address.listen(1).unwrap();
    let at = listeners[0].address().unwrap();
    let (protocol, keys) = (Arc::new(kind.sessions(Role::Server)), Arc::new(kind.key(SECRET)));
    let mut server = countersign_mio::Server::new(listeners, protocol, keys, options()).unwrap();
    let handle = server.handle();
    let server_thread = thread::spawn(move || server.run_streams(|_| Echo));
    talk(&at);
    handle.stop();
    server_thread.join().unwrap().unwrap();
    if let Address::Unix(path) = at {
        assert!(!path.exists(), "the server removes the file of its socket");
        std::fs::remove_file(format!("{}.lock", path.display())).unwrap();
    }
}

async fn connect(address: &Address, kind: Kind, secret: &[u8]) -> Result<Connection, CallError> {
    let (sessions, key) = (kind.sessions(Role::Client), kind.key(secret));
    Connection::connect(&connector(address, sessions, key, PATIENCE)).await
}

/// Sends and receives a message of each length at once, then finishes.
async fn exchange(client: &Connection) {
    for len in LENGTHS {
        let message = bytes(len);
        let (sent, received) = future::zip(client.send(&message), client.recv()).await;
        sent.unwrap();
        assert!(received.unwrap().unwrap() == message, "{len}");
    }
    client.finish().await.unwrap();
    assert_eq!(client.recv().await.unwrap(), None);
}

#[test]
fn server_serves_polling_client() {
    for (kind, runtime) in Kind::ALL.into_iter().zip(Runtime::ALL.into_iter().cycle()) {
        for address in [tcp(), unix()] {
            let server = serve(runtime, kind, &address);
            let (sessions, key) = (kind.sessions(Role::Client), kind.key(SECRET));
            let mut client =
                PollingClient::connect(&connector(&server.address, sessions, key, PATIENCE));
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
fn client_connects_to_mio_server() {
    for kind in Kind::ALL {
        for address in [tcp(), unix()] {
            with_mio(kind, &address, |at| {
                run(async { exchange(&connect(at, kind, SECRET).await.unwrap()).await });
            });
        }
    }
}

#[test]
fn client_and_server_work_on_every_executor() {
    for runtime in Runtime::ALL {
        for kind in Kind::ALL {
            for address in [tcp(), unix()] {
                let server = serve(runtime, kind, &address);
                runtime.run(with_timeout(async {
                    exchange(&connect(&server.address, kind, SECRET).await.unwrap()).await;
                }));
                server.handle.stop();
                server.join();
            }
        }
    }
}

#[test]
fn client_with_another_key_is_refused() {
    for kind in [Kind::Challenge, Kind::Mutual, Kind::Multiprocessing] {
        let server = serve(Runtime::OneThread, kind, &tcp());
        run(async {
            let other = b"another key that is long enough";
            match connect(&server.address, kind, other).await {
                Err(CallError::Protocol(error)) => {
                    assert!(!matches!(error, Error::TimedOut(_)), "{kind:?}: {error}");
                }
                // The server sends no result: the client finds the connection closed.
                Ok(client) => {
                    assert!(matches!(kind, Kind::Challenge), "{kind:?}");
                    assert_eq!(client.recv().await.unwrap(), None);
                }
                Err(other) => panic!("{kind:?}: {other}"),
            }
            exchange(&connect(&server.address, kind, SECRET).await.unwrap()).await;
        });
    }
}

#[test]
fn client_reads_the_name_of_its_server() {
    let server = serve(Runtime::OneThread, Kind::Mutual, &tcp());
    let name = run(async {
        let client = connect(&server.address, Kind::Mutual, SECRET).await.unwrap();
        client.peer(|peer| peer.authenticated.then(|| peer.name.map(str::to_owned))).await.unwrap()
    });
    assert_eq!(name, Some(Some("server".into())));
}
