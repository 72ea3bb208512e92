//! Connections that the application accepts and calls.

use std::sync::Mutex;

use countersign::TimedOut;

use super::*;

/// Accepts connections on another thread, which sends them to the receiver.
fn accept(server: Server) -> (Running, std::sync::mpsc::Receiver<Connection>) {
    let (accepted, is_accepted) = channel();
    let running = Running::start(server, move |server| {
        while let Some(connection) = server.accept() {
            let _ = accepted.send(connection);
        }
    });
    (running, is_accepted)
}

/// A client and the server's end of its connection, both established.
fn establish(
    server: &Running,
    accepted: &std::sync::mpsc::Receiver<Connection>,
) -> (Connection, Connection) {
    thread::scope(|scope| {
        let client = scope.spawn(|| connect_as(&server.address, "ann"));
        let connection = accepted.recv_timeout(PATIENCE).unwrap();
        assert!(connection.peer(|peer| peer.authenticated).unwrap());
        (client.join().unwrap(), connection)
    })
}

fn accept_mutual() -> (Running, std::sync::mpsc::Receiver<Connection>) {
    accept(mutual_server(ServerOptions::default()))
}

#[test]
fn silent_client_delays_no_other() {
    let (server, accepted) = accept_mutual();
    let silent = raw(&server.address);
    let silent_end = accepted.recv_timeout(PATIENCE).unwrap();
    within_patience(|scope| {
        let address = &server.address;
        let client_thread = scope.spawn(move || {
            let client = connect_as(address, "ann");
            let reply = client.request(b"hello").unwrap();
            (client, reply)
        });
        let connection = accepted.recv_timeout(PATIENCE).unwrap();
        let name = connection.peer(|peer| peer.name.map(str::to_owned)).unwrap();
        assert_eq!(name.as_deref(), Some("ann"));
        let handle = connection.handle().unwrap();
        assert_eq!(handle.peer().unwrap().name.as_deref(), Some("ann"));
        assert!(matches!(handle.addr(), PeerAddr::Tcp(_)));
        assert_eq!(connection.recv().unwrap().unwrap(), b"hello");
        connection.send(b"hello, ann").unwrap();
        assert_eq!(client_thread.join().unwrap().1, b"hello, ann");
    });
    silent.shutdown(std::net::Shutdown::Write).unwrap();
    let ended = silent_end.recv();
    assert!(matches!(ended, Err(CallError::Protocol(Error::Truncated(_)))), "{ended:?}");
}

#[test]
fn handshake_deadline_holds_without_calls() {
    let config = mutual(end("server", 1)).with_handshake_timeout(SHORT);
    let server = Server::new(tcp(), Arc::new(sessions(config)), key(), ServerOptions::default());
    let (server, accepted) = accept(server.unwrap());
    let silent = raw(&server.address);
    let begun = Instant::now();
    let connection = accepted.recv_timeout(PATIENCE).unwrap();
    // The server closes although no call is made on the connection.
    within_patience(|_| {
        read_all(&silent);
    });
    assert!(begun.elapsed() >= SHORT);
    let error = connection.recv().unwrap_err();
    let timed_out = Error::TimedOut(TimedOut::Handshake);
    assert!(matches!(error, CallError::Protocol(error) if error == timed_out), "{error}");
}

#[test]
fn call_reports_failed_handshake() {
    let (server, accepted) = accept_mutual();
    let wrong = Key::mutual(b"another key that is long enough").unwrap();
    within_patience(|scope| {
        let connector = connector(&server.address, mutual(end("client", 2)), wrong);
        let refused = scope.spawn(move || Connection::connect(&connector).map(|_| ()));
        let connection = accepted.recv_timeout(PATIENCE).unwrap();
        let error = connection.peer(|_| ()).unwrap_err();
        assert!(matches!(error, CallError::Protocol(_)), "{error}");
        assert!(refused.join().unwrap().is_err());
    });
}

#[test]
fn halves_are_used_by_two_threads() {
    const COUNT: u32 = 1000;
    let (server, accepted) = accept_mutual();
    within_patience(|scope| {
        let address = &server.address;
        scope.spawn(move || {
            let (sender, receiver) = connect_as(address, "ann").split();
            thread::scope(|scope| {
                scope.spawn(move || {
                    (0..COUNT).try_for_each(|n| sender.send(&n.to_be_bytes()))?;
                    sender.finish()
                });
                for n in 0..COUNT {
                    assert_eq!(receiver.recv().unwrap().unwrap(), n.to_be_bytes());
                }
                assert_eq!(receiver.recv().unwrap(), None);
            });
        });
        let (sender, receiver) = accepted.recv_timeout(PATIENCE).unwrap().split();
        while let Some(message) = receiver.recv().unwrap() {
            sender.send(&message).unwrap();
        }
        sender.finish().unwrap();
    });
}

#[test]
fn both_ends_send_a_long_message_before_they_read() {
    let (server, accepted) = accept_mutual();
    let message = &bytes(1 << 20);
    within_patience(|scope| {
        let address = &server.address;
        let exchange = move |connection: &Connection| {
            thread::scope(|scope| {
                scope.spawn(|| connection.send(message).unwrap());
                assert!(connection.recv().unwrap().unwrap() == *message);
            });
            // Dropping the connection earlier would break the send of the other end.
            connection.finish().unwrap();
            assert_eq!(connection.recv().unwrap(), None);
        };
        scope.spawn(move || exchange(&connect_as(address, "ann")));
        exchange(&accepted.recv_timeout(PATIENCE).unwrap());
    });
}

#[test]
fn stop_finishes_connection_without_calls() {
    let (server, accepted) = accept_mutual();
    let (client, connection) = establish(&server, &accepted);
    server.handle.stop();
    within_patience(|_| assert_eq!(client.recv().unwrap(), None));
    client.finish().unwrap();
    assert_eq!(connection.recv().unwrap(), None);
    assert!(matches!(connection.send(b"late"), Err(CallError::Send(_))));
}

#[test]
fn handle_closes_connection_without_calls() {
    let (server, accepted) = accept_mutual();
    let (client, _connection) = establish(&server, &accepted);
    let handle = server.handle.connections().remove(0);
    assert_eq!(handle.send(&b"hello"[..]), Err(HandleError::NotSupported));
    handle.close();
    within_patience(|_| assert_eq!(client.recv().unwrap(), None));
}

#[test]
fn removed_key_ends_connection_without_calls() {
    let keys = SharedKeys::from(key());
    let factory = Arc::new(sessions(mutual(end("server", 1))));
    let server = Server::new(tcp(), factory, keys.clone(), ServerOptions::default()).unwrap();
    let (server, accepted) = accept(server);
    let (client, connection) = establish(&server, &accepted);
    keys.replace(Arc::new(Key::mutual(b"another key that is long enough").unwrap()));
    server.handle.keys_changed();
    within_patience(|_| assert!(matches!(client.recv(), Err(CallError::Protocol(_)))));
    assert!(matches!(connection.recv(), Err(CallError::Protocol(_))));
}

#[test]
fn idle_connection_releases_its_buffer() {
    let mut buffers = PoolOptions::default();
    (buffers.receiving, buffers.sending) = (1, 1);
    let factory = SessionFactory::new(Config::new(Scheme::None), Pools::new(&buffers));
    let server = Server::new(tcp(), Arc::new(factory), Arc::new(NO_KEY), ServerOptions::default());
    let (server, accepted) = accept(server.unwrap());
    let ends: Vec<_> = (0..3)
        .map(|_| {
            let client = connect(&server.address);
            (client, accepted.recv_timeout(PATIENCE).unwrap())
        })
        .collect();
    // All connections need the one buffer; after its `recv`, a connection makes no further call.
    for (client, _) in &ends {
        client.send(b"hello").unwrap();
    }
    within_patience(|_| {
        for (_, connection) in ends.iter().rev() {
            assert_eq!(connection.recv().unwrap().unwrap(), b"hello");
        }
    });
}

#[test]
fn idle_connections_stay_alive() {
    const HEARTBEAT: Duration = Duration::from_secs(1);
    // An endpoint times out after two heartbeats and 5 s without a frame.
    const IDLE: Duration = Duration::from_secs(8);
    let config = mutual(end("server", 1).with_heartbeat(HEARTBEAT));
    let server = Server::new(tcp(), Arc::new(sessions(config)), key(), ServerOptions::default());
    let (server, accepted) = accept(server.unwrap());
    let (client, connection) = establish(&server, &accepted);
    thread::sleep(IDLE);
    within_patience(|scope| {
        let client_thread = scope.spawn(|| client.request(b"alive?").unwrap());
        assert_eq!(connection.recv().unwrap().unwrap(), b"alive?");
        connection.send(b"alive").unwrap();
        assert_eq!(client_thread.join().unwrap(), b"alive");
    });
}

#[test]
fn panicking_keys_end_no_other_connection() {
    struct Panics(Mutex<bool>);

    impl Keys for Panics {
        fn candidates(
            &self,
            _: &countersign::KeyRequest<'_>,
        ) -> Result<countersign::Candidates<'_>, countersign::KeyRejection> {
            let mut panicked = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            assert!(std::mem::replace(&mut *panicked, true), "intended panic");
            Err(countersign::KeyRejection::Unknown)
        }

        fn hold(&self, _: &Peer<'_>) -> bool {
            true
        }
    }

    let factory = Arc::new(sessions(mutual(end("server", 1))));
    let keys = Arc::new(Panics(Mutex::new(false)));
    let server = Server::new(tcp(), factory, keys, ServerOptions::default()).unwrap();
    let (server, accepted) = accept(server);
    for _ in 0..2 {
        let connector = connector(&server.address, mutual(end("client", 2)), key());
        let client_thread = thread::spawn(move || Connection::connect(&connector).map(|_| ()));
        let connection = accepted.recv_timeout(PATIENCE).unwrap();
        let calling = thread::spawn(move || connection.peer(|_| ()).map_err(|_| ()));
        // The panic is in the call, or between calls; then the call finds the key request still pending.
        assert!(!matches!(calling.join(), Ok(Ok(()))));
        assert!(client_thread.join().unwrap().is_err());
    }
}
