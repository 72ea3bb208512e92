//! Handles of connections, used by other threads.

use super::*;

fn server() -> Running {
    Running::start(mutual_server(ServerOptions::default()), |server| server.run(|_| Silent))
}

struct Silent;

impl Service for Silent {
    fn on_message(&mut self, _: &[u8], _: &mut Context<'_>) -> Result<(), ServiceError> {
        Ok(())
    }
}

#[test]
fn messages_of_handles_reach_connections_by_name() {
    let server = server();
    let (ann, bob, twin) = (
        connect_as(&server.address, "ann"),
        connect_as(&server.address, "bob"),
        connect_as(&server.address, "bob"),
    );
    server.until_connected(3);
    let bobs = server.handle.named("bob");
    assert_eq!(bobs.len(), 2);
    assert!(bobs.iter().all(|bob| bob.peer().unwrap().name.as_deref() == Some("bob")));
    let long = bytes(1 << 20);
    for handle in &bobs {
        handle.send(&b"for bob"[..]).unwrap();
        handle.send(long.as_slice()).unwrap();
    }
    assert_eq!(server.handle.broadcast(&b"for all"[..]), 3);
    for connection in [&bob, &twin] {
        assert_eq!(connection.recv().unwrap().unwrap(), b"for bob");
        assert!(connection.recv().unwrap().unwrap() == long);
    }
    for connection in [&ann, &bob, &twin] {
        assert_eq!(connection.recv().unwrap().unwrap(), b"for all");
    }
}

#[test]
fn handle_closes_connection_after_queued_messages() {
    let server = server();
    let client = connect_as(&server.address, "ann");
    server.until_connected(1);
    let handle = server.handle.connections().remove(0);
    handle.send(&b"last"[..]).unwrap();
    handle.close();
    assert_eq!(handle.send(&b"late"[..]), Err(HandleError::Closed));
    assert_eq!(client.recv().unwrap().unwrap(), b"last");
    assert_eq!(client.recv().unwrap(), None);
    client.finish().unwrap();
    server.until_connected(0);
}

#[test]
fn handle_aborts_connection() {
    let server = server();
    let client = connect_as(&server.address, "ann");
    server.until_connected(1);
    server.handle.connections()[0].abort(CloseReason::Application);
    let error = client.recv().unwrap_err();
    let aborted = Error::PeerClosed(CloseReason::Application);
    assert!(matches!(error, CallError::Protocol(error) if error == aborted), "{error}");
    server.until_connected(0);
}

#[test]
fn queue_of_a_peer_that_does_not_read_is_bounded() {
    let mut options = ServerOptions::default();
    options.message_memory = MessageMemory::new(1 << 20, 16 << 20);
    let server = Running::start(mutual_server(options), |server| server.run(|_| Silent));
    let client = connect_as(&server.address, "ann");
    server.until_connected(1);
    let handle = server.handle.connections().remove(0);
    let message: Arc<[u8]> = bytes(1 << 20).into();
    let mut sent = 0;
    while handle.send(message.clone()).is_ok() {
        sent += 1;
        assert!(sent < 100, "the queue is not bounded");
    }
    assert_eq!(handle.send(message.clone()), Err(HandleError::Full));
    assert_eq!(server.handle.broadcast(message.clone()), 0);
    for _ in 0..sent {
        assert!(client.recv().unwrap().unwrap()[..] == message[..]);
    }
}

#[test]
fn removed_key_ends_its_connection() {
    let keys = SharedKeys::from(key());
    let factory = Arc::new(sessions(mutual(end("server", 1))));
    let server = Server::new(tcp(), factory, keys.clone(), ServerOptions::default()).unwrap();
    let server = Running::start(server, |server| server.run(|_| Silent));
    let client = connect_as(&server.address, "ann");
    server.until_connected(1);
    keys.replace(Arc::new(Key::mutual(b"another key that is long enough").unwrap()));
    server.handle.keys_changed();
    assert!(matches!(client.recv(), Err(CallError::Protocol(_))));
    server.until_connected(0);
}
