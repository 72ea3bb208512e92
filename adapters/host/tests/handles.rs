//! Handles of servers and of their connections.

#![cfg(test)]

#[path = "support/server.rs"]
mod server;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use countersign::{CloseReason, Error, Peer, SendError};
use countersign_driver::services::Echo;
use countersign_driver::{Context, QueueError, Service, ServiceError};
use countersign_host::{
    CallError, ConnectionHandle, HandleError, MessageMemory, Messages, PeerAddr, ServerOptions,
    Step, Streams,
};
use server::Server;

fn options(max_message: usize) -> ServerOptions {
    let mut options = ServerOptions::default();
    options.message_memory = MessageMemory::new(max_message, 8 * max_message);
    options
}

/// A server that sends every message back.
fn echo(
    max_message: usize,
) -> Server<Messages<impl Fn(ConnectionHandle) -> Echo + Send + Sync + 'static>> {
    let options = options(max_message);
    let memory = options.message_memory.clone();
    Server::new(options, Messages::new(|_| Echo, memory))
}

#[test]
fn messages_of_other_threads_arrive_in_order() {
    let server = echo(1 << 20);
    let mut pair = server.accept("client");
    assert!(server.handle.connections().is_empty(), "the handshake is not over");
    pair.poll();
    let [connection] = &server.handle.connections()[..] else { panic!("not one connection") };
    assert_eq!(connection.addr(), PeerAddr::Unix);
    let peer = connection.peer().unwrap();
    assert_eq!((peer.name.as_deref(), peer.authenticated), (Some("client"), true));
    let sender = connection.clone();
    let long = vec![7; 100_000];
    let sent = long.clone();
    thread::spawn(move || {
        sender.send(&b"first"[..]).unwrap();
        sender.send(&b""[..]).unwrap();
        sender.send(sent).unwrap();
    })
    .join()
    .unwrap();
    assert_eq!(pair.recv().unwrap(), b"first");
    assert_eq!(pair.recv().unwrap(), b"");
    assert!(pair.recv().unwrap() == long);
    pair.send(b"echo");
    assert_eq!(pair.recv().unwrap(), b"echo");
    assert_eq!(server.context.options().message_memory.used(), 0);
}

#[test]
fn messages_before_the_handshake_are_sent_after_it() {
    /// Sends `welcome` when it opens.
    struct Greets;

    impl Service for Greets {
        fn on_open(&mut self, _: &Peer<'_>, cx: &mut Context<'_>) -> Result<(), ServiceError> {
            Ok(cx.send(b"welcome")?)
        }

        fn on_message(&mut self, _: &[u8], _: &mut Context<'_>) -> Result<(), ServiceError> {
            Ok(())
        }
    }

    let create = |handle: ConnectionHandle| {
        assert!(!handle.is_open() && handle.peer().is_none());
        handle.send(&b"queued"[..]).unwrap();
        Greets
    };
    let server = Server::new(options(1000), Messages::new(create, MessageMemory::default()));
    let mut pair = server.connect("client");
    assert_eq!(pair.recv().unwrap(), b"welcome");
    assert_eq!(pair.recv().unwrap(), b"queued");
}

#[test]
fn full_queue_refuses_and_keeps_what_it_has() {
    let server = echo(1000);
    let mut pair = server.connect("client");
    let connection = server.handle.connections().remove(0);
    assert_eq!(connection.send(vec![1; 1001]), Err(HandleError::TooLong { max: 1000 }));
    connection.send(vec![1; 1000]).unwrap();
    assert_eq!(connection.send(vec![2; 1]), Err(HandleError::Full));
    assert_eq!(pair.recv().unwrap(), [1; 1000]);
    // There is room again, for several short messages too.
    let accepted = (0..100).take_while(|_| connection.send(&b""[..]).is_ok()).count();
    assert!(accepted > 10 && accepted < 100, "{accepted}");
    for _ in 0..accepted {
        assert_eq!(pair.recv().unwrap(), b"");
    }
    assert!(pair.is_quiet());
    assert!(connection.is_open());
}

#[test]
fn peer_that_does_not_read_fills_the_queue() {
    let server = echo(100_000);
    let mut pair = server.connect("client");
    let connection = server.handle.connections().remove(0);
    let mut sent = 0;
    while connection.send(vec![sent as u8; 50_000]).is_ok() {
        sent += 1;
        assert!(sent < 1000, "the queue is not bounded");
        let _ = pair.poll_server();
    }
    for number in 0..sent {
        assert!(pair.recv().unwrap() == vec![number as u8; 50_000]);
    }
    assert!(pair.is_quiet());
}

#[test]
fn stream_services_take_no_messages_of_others() {
    let server = Server::new(
        options(1000),
        Streams(|handle: ConnectionHandle| {
            assert_eq!(handle.send(&b"early"[..]), Err(HandleError::NotSupported));
            Echo
        }),
    );
    let mut pair = server.connect("client");
    let connection = server.handle.connections().remove(0);
    assert_eq!(connection.send(&b"late"[..]), Err(HandleError::NotSupported));
    assert_eq!(server.handle.broadcast(&b"all"[..]), 0);
    pair.send(b"echo");
    assert_eq!(pair.recv().unwrap(), b"echo");
    // Closing is supported.
    connection.close();
    assert_eq!(pair.recv(), None);
}

#[test]
fn close_follows_what_is_queued() {
    let server = echo(1 << 20);
    let mut pair = server.connect("client");
    let connection = server.handle.connections().remove(0);
    connection.send(vec![7; 500_000]).unwrap();
    connection.send(&b"last"[..]).unwrap();
    connection.close();
    assert!(!connection.is_open() && server.handle.connections().is_empty());
    assert_eq!(connection.send(&b"late"[..]), Err(HandleError::Closed));
    assert!(pair.recv().unwrap() == vec![7; 500_000]);
    assert_eq!(pair.recv().unwrap(), b"last");
    assert_eq!(pair.recv(), None);
}

#[test]
fn service_sends_nothing_after_it_has_finished() {
    /// Finishes at its first wake-up, and sends at the others.
    struct Finishes {
        finished: bool,
        sent: Arc<Mutex<Vec<Result<(), QueueError>>>>,
    }

    impl Service for Finishes {
        fn on_message(&mut self, _: &[u8], _: &mut Context<'_>) -> Result<(), ServiceError> {
            Ok(())
        }

        fn on_wake(&mut self, cx: &mut Context<'_>) -> Result<(), ServiceError> {
            if self.finished {
                self.sent.lock().unwrap().push(cx.send(b"late"));
            }
            self.finished = true;
            cx.finish();
            Ok(())
        }
    }

    let sent = Arc::<Mutex<Vec<_>>>::default();
    let shared = sent.clone();
    let create = move |_: ConnectionHandle| Finishes { finished: false, sent: shared.clone() };
    let server = Server::new(options(1 << 20), Messages::new(create, MessageMemory::default()));
    let mut pair = server.connect("client");
    let connection = server.handle.connections().remove(0);
    connection.send(vec![7; 500_000]).unwrap();
    connection.send(&b"last"[..]).unwrap();
    let _ = pair.poll_server();
    // The client has not read: messages of other threads are still queued.
    connection.wake();
    let _ = pair.poll_server();
    assert_eq!(*sent.lock().unwrap(), [Err(SendError::Finished.into())]);
    assert!(pair.recv().unwrap() == vec![7; 500_000]);
    assert_eq!(pair.recv().unwrap(), b"last");
    assert_eq!(pair.recv(), None);
}

#[test]
fn abort_overrides_a_close() {
    let server = echo(1 << 20);
    let mut pair = server.connect("client");
    let connection = server.handle.connections().remove(0);
    connection.send(&b"lost or not"[..]).unwrap();
    connection.close();
    connection.abort(CloseReason::Application);
    connection.close();
    pair.poll();
    let aborted = Error::PeerClosed(CloseReason::Application);
    let mut received = None;
    for _ in 0..3 {
        received = pair.client.recv(server.context.now());
        pair.poll();
    }
    let Some(Err(CallError::Protocol(error))) = received else { panic!("{received:?}") };
    assert_eq!(error, aborted);
}

#[test]
fn registration_ends_with_the_connection() {
    let server = echo(1000);
    let pair = server.connect("client");
    let connection = server.handle.connections().remove(0);
    let other = server.connect("other");
    assert_eq!(server.handle.connections().len(), 2);
    drop(pair);
    assert!(!connection.is_open());
    assert_eq!(connection.send(&b"late"[..]), Err(HandleError::Closed));
    // Without effect.
    connection.close();
    connection.abort(CloseReason::Application);
    connection.wake();
    let left = server.handle.connections();
    assert_eq!(left.iter().map(ConnectionHandle::id).collect::<Vec<_>>(), [connection.id() + 1]);
    drop(other);
    assert!(server.handle.connections().is_empty());
}

#[test]
fn end_of_the_session_closes_the_handle() {
    let server = echo(1000);
    let mut pair = server.connect("client");
    let connection = server.handle.connections().remove(0);
    let mut finish = countersign_host::Sending::finish();
    assert!(pair.client.send(&mut finish).is_none());
    assert_eq!(pair.poll(), (Step::Closed, Step::Closed));
    assert!(!connection.is_open());
    assert_eq!(connection.send(&b"late"[..]), Err(HandleError::Closed));
}

#[test]
fn connections_are_found_by_name_and_reached_by_broadcast() {
    let server = echo(1000);
    let mut bob = server.connect("bob");
    let mut alice = server.connect("alice");
    let mut twin = server.connect("bob");
    let mut late = server.accept("bob");
    let bobs = server.handle.named("bob");
    assert_eq!(bobs.len(), 2);
    assert!(bobs[0].id() < bobs[1].id(), "not the oldest first");
    assert!(server.handle.named("carol").is_empty() && server.handle.named("").is_empty());
    bobs[0].send(&b"for bob"[..]).unwrap();
    bobs[1].send(vec![1; 1000]).unwrap();
    // The queue of one is full; the handshake of another is not over.
    assert_eq!(server.handle.broadcast(&b"for all"[..]), 2);
    assert_eq!(bob.recv().unwrap(), b"for bob");
    assert_eq!(twin.recv().unwrap(), [1; 1000]);
    for pair in [&mut bob, &mut alice] {
        assert_eq!(pair.recv().unwrap(), b"for all");
    }
    assert!(twin.is_quiet() && late.is_quiet());
    assert_eq!(server.handle.named("bob").len(), 3);
}

#[test]
fn handle_wakes_the_service() {
    /// Counts its wake-ups.
    struct Woken(Arc<AtomicUsize>);

    impl Service for Woken {
        fn on_message(&mut self, _: &[u8], _: &mut Context<'_>) -> Result<(), ServiceError> {
            Ok(())
        }

        fn on_wake(&mut self, cx: &mut Context<'_>) -> Result<(), ServiceError> {
            let count = self.0.fetch_add(1, Ordering::SeqCst);
            Ok(cx.send(count.to_string().as_bytes())?)
        }
    }

    let count = Arc::new(AtomicUsize::new(0));
    let shared = count.clone();
    let create = move |_: ConnectionHandle| Woken(shared.clone());
    let server = Server::new(options(1000), Messages::new(create, MessageMemory::default()));
    let mut pair = server.connect("client");
    let connection = server.handle.connections().remove(0);
    assert!(pair.is_quiet());
    connection.wake();
    assert_eq!(pair.recv().unwrap(), b"0");
    connection.waker().wake_by_ref();
    assert_eq!(pair.recv().unwrap(), b"1");
    // The service is called before the message of another thread is sent.
    connection.send(&b"message"[..]).unwrap();
    assert_eq!(pair.recv().unwrap(), b"2");
    assert_eq!(pair.recv().unwrap(), b"message");
}

#[test]
fn stopped_server_sends_what_is_queued() {
    let server = echo(1 << 20);
    let mut pair = server.connect("client");
    let connection = server.handle.connections().remove(0);
    connection.send(vec![7; 300_000]).unwrap();
    server.handle.stop();
    assert!(server.handle.is_stopping());
    assert!(pair.recv().unwrap() == vec![7; 300_000]);
    // It finishes once it was idle for 100 ms.
    while pair.client.recv(server.context.now()).is_none() {
        pair.poll();
    }
    assert!(!pair.client.is_closed());
}
