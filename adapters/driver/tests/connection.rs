//! `Connection`: calls that poll a connection.

#![cfg(test)]

#[path = "support/pair.rs"]
mod pair;

use std::task::Poll;

use countersign::{
    Buffers, CloseReason, Config, Digest, Error, Event, Instant, Key, Nonce, Remaining, Role,
    Scheme, SendError, Session,
};
use countersign_driver::{
    BufferError, Connection, ConnectionError, Interest, Progress, Reassembler, SendQueue,
};
use pair::{Broken, Budgeted, End, Framed, Protocol, at, ends, key, session};

const BUFFER: usize = 512;

struct Half {
    connection: Connection<Protocol, Broken>,
    io: End,
    queue: SendQueue<Budgeted>,
    message: Reassembler<Budgeted>,
    established: usize,
}

impl Half {
    fn new(role: Role, framed: Framed, io: End) -> Self {
        Self {
            connection: Connection::new(session(role, framed, BUFFER)),
            io,
            queue: SendQueue::new(Budgeted::alone(1 << 16)),
            message: Reassembler::new(Budgeted::alone(1 << 16)),
            established: 0,
        }
    }

    /// Polls until it waits (what for) or is closed (`None`).
    fn poll(&mut self, now: Instant) -> Option<Interest> {
        loop {
            match self.connection.poll(&mut self.io, &key(), now) {
                Progress::Wait(interest) => return Some(interest),
                Progress::Closed(result) => {
                    assert_eq!(result, Ok(()));
                    return None;
                }
                Progress::Event(event) => {
                    assert_eq!(event, Event::Established);
                    self.established += 1;
                }
                Progress::Yield => {}
            }
        }
    }

    fn send(&mut self, message: &[u8]) -> Poll<Result<(), ConnectionError<Broken>>> {
        self.connection.poll_send(message, &mut self.queue)
    }

    fn flush(&mut self) -> Poll<Result<(), ConnectionError<Broken>>> {
        self.connection.poll_flush(&mut self.queue)
    }

    fn recv(&mut self) -> Poll<Result<bool, ConnectionError<Broken>>> {
        self.connection.poll_message(&mut self.message, at(0))
    }
}

fn pair(framed: Framed) -> (Half, Half) {
    let (up, down) = ends();
    (Half::new(Role::Client, framed, up), Half::new(Role::Server, framed, down))
}

fn established(framed: Framed) -> (Half, Half) {
    let (mut client, mut server) = pair(framed);
    for _ in 0..5 {
        server.poll(at(0));
        client.poll(at(0));
    }
    assert_eq!((client.established, server.established), (1, 1));
    (client, server)
}

/// Moves a message from one half to the other; returns whether it arrived.
fn receive(from: &mut Half, to: &mut Half) -> bool {
    for _ in 0..1000 {
        let _ = from.flush();
        from.poll(at(0));
        to.poll(at(0));
        match to.recv() {
            Poll::Ready(result) => return result.unwrap(),
            Poll::Pending => {}
        }
    }
    panic!("nothing arrives");
}

#[test]
fn established_is_ready_when_the_handshake_has_left() {
    let (mut client, mut server) = pair(Framed::Unannounced);
    assert_eq!(server.connection.poll_established(), Poll::Pending);
    server.poll(at(0));
    client.poll(at(0));
    assert_eq!(client.connection.poll_established(), Poll::Pending);
    // The last message of the handshake finds no room.
    server.io.output.borrow_mut().capacity = 0;
    let changes = server.connection.changes();
    assert!(server.poll(at(0)).unwrap().write);
    assert_eq!(server.connection.poll_established(), Poll::Pending);
    server.io.output.borrow_mut().capacity = usize::MAX;
    server.poll(at(0));
    assert_eq!(server.connection.poll_established(), Poll::Ready(Ok(())));
    assert_ne!(server.connection.changes(), changes);
    client.poll(at(0));
    assert_eq!(client.connection.poll_established(), Poll::Ready(Ok(())));
    assert_eq!(client.connection.peer().unwrap().name, Some("server"));
}

#[test]
fn established_waits_for_the_flush_of_the_response() {
    let config = Config::new(Scheme::Challenge { digest: Digest::Sha256 });
    let key = Key::challenge(Digest::Sha256, b"key").unwrap();
    let buffers = Buffers { handshake: [0; 1024], receive: [0; 1024], send: [0; 1024] };
    let nonce = Nonce::from_bytes([1; Nonce::LEN]);
    let session = Session::client(&config, nonce, buffers, at(0)).unwrap();
    let mut connection = Connection::new(Box::new(session));
    let (mut io, _) = ends();
    io.input.borrow_mut().bytes.extend([7; 32]);
    io.output.borrow_mut().holds = true;
    // The session is established when the response was written to the transport.
    let established = connection.poll(&mut io, &key, at(0));
    assert!(matches!(established, Progress::Event(Event::Established)), "{established:?}");
    assert!(matches!(connection.poll(&mut io, &key, at(0)), Progress::Wait(it) if it.write));
    assert_eq!(connection.poll_established(), Poll::Pending);
    io.output.borrow_mut().holds = false;
    assert!(matches!(connection.poll(&mut io, &key, at(0)), Progress::Wait(it) if !it.write));
    assert_eq!(connection.poll_established(), Poll::Ready(Ok(())));
}

#[test]
fn failed_handshake_is_reported_to_every_call() {
    let (mut client, mut server) = pair(Framed::Unannounced);
    server.poll(at(0));
    client.io.input.borrow_mut().bytes.clear();
    client.io.input.borrow_mut().bytes.extend([0xff; 8]);
    client.poll(at(0));
    let Poll::Ready(Err(error)) = client.connection.poll_established() else { panic!("no error") };
    assert!(matches!(error, ConnectionError::Protocol(_)), "{error:?}");
    assert_eq!(client.connection.poll_chunk(), Poll::Ready(Err(error)));
    assert_eq!(client.send(b"message"), Poll::Ready(Err(error)));
    assert_eq!(client.flush(), Poll::Ready(Err(error)));
}

#[test]
fn sends_wait_for_the_handshake() {
    let (mut client, mut server) = pair(Framed::Unannounced);
    assert_eq!(client.send(b"early"), Poll::Pending);
    for _ in 0..5 {
        server.poll(at(0));
        client.poll(at(0));
    }
    assert_eq!(client.send(b"early"), Poll::Ready(Ok(())));
    assert!(receive(&mut client, &mut server));
    assert_eq!(server.message.bytes(), b"early");
}

#[test]
fn send_is_ready_when_taken_and_flush_when_it_has_left() {
    let (mut client, mut server) = established(Framed::Announced);
    assert_eq!(client.flush(), Poll::Ready(Ok(())));
    assert_eq!(client.send(b"message"), Poll::Ready(Ok(())));
    assert!(client.connection.wants_poll());
    assert_eq!(client.flush(), Poll::Pending);
    client.io.output.borrow_mut().capacity = 5;
    assert!(client.poll(at(0)).unwrap().write);
    assert!(!client.connection.wants_poll());
    assert_eq!(client.flush(), Poll::Pending);
    client.io.output.borrow_mut().capacity = usize::MAX;
    let changes = client.connection.changes();
    client.poll(at(0));
    assert_ne!(client.connection.changes(), changes, "waiting call is not woken");
    assert_eq!(client.flush(), Poll::Ready(Ok(())));
    server.poll(at(0));
    assert_eq!(server.recv(), Poll::Ready(Ok(true)));
}

#[test]
fn second_send_waits_for_the_queue_of_the_first() {
    let (mut client, mut server) = established(Framed::Announced);
    assert_eq!(client.send(&[1; 3000]), Poll::Ready(Ok(())));
    assert_eq!(client.send(b"second"), Poll::Pending);
    client.poll(at(0));
    assert!(!client.connection.wants_poll());
    // What the flush has handed over has to be polled.
    assert_eq!((client.flush(), client.connection.wants_poll()), (Poll::Pending, true));
    assert_eq!(client.send(b"second"), Poll::Pending);
    assert!(receive(&mut client, &mut server));
    assert_eq!(server.message.bytes(), [1; 3000]);
    assert_eq!(client.send(b"second"), Poll::Ready(Ok(())));
    assert!(receive(&mut client, &mut server));
    assert_eq!(server.message.bytes(), b"second");
}

#[test]
fn send_without_a_queue_continues_where_it_was() {
    let (mut client, mut server) = established(Framed::Unannounced);
    let message: Vec<u8> = (0..3000).map(|n| n as u8).collect();
    let (mut sent, mut polls) = (0, 0);
    loop {
        let before = sent;
        match client.connection.poll_send_from(&message, &mut sent) {
            Poll::Ready(result) => break result.unwrap(),
            Poll::Pending => assert!(sent > before && client.connection.wants_poll()),
        }
        client.poll(at(0));
        server.poll(at(0));
        assert_eq!(server.recv(), Poll::Pending);
        polls += 1;
    }
    assert!(sent == message.len() && polls > 3);
    assert!(receive(&mut client, &mut server));
    assert_eq!(server.message.bytes(), message);
}

#[test]
fn message_is_put_together_across_chunks() {
    let (mut client, mut server) = established(Framed::Unannounced);
    let long = vec![7; 5000];
    for message in [&b"short"[..], b"", &long, b"after"] {
        assert_eq!(client.send(message), Poll::Ready(Ok(())));
        assert!(receive(&mut client, &mut server));
        assert_eq!(server.message.bytes(), message);
    }
    assert_eq!(server.recv(), Poll::Pending);
}

#[test]
fn message_that_is_too_long_can_be_taken_in_chunks() {
    let (mut client, mut server) = established(Framed::Announced);
    server.message = Reassembler::new(Budgeted::alone(1000));
    let mut sent = 0;
    let message = [7; 1001];
    assert_eq!(client.connection.poll_send_from(&message, &mut sent), Poll::Pending);
    client.poll(at(0));
    server.poll(at(0));
    let too_long = ConnectionError::Buffer(BufferError::TooLong { max: 1000 });
    for _ in 0..2 {
        assert_eq!(server.recv(), Poll::Ready(Err(too_long)));
    }
    let mut received = Vec::new();
    while received.len() < message.len() {
        if sent < message.len() {
            let _ = client.connection.poll_send_from(&message, &mut sent);
        }
        client.poll(at(0));
        server.poll(at(0));
        assert_eq!(server.connection.poll_chunk(), Poll::Ready(Ok(true)));
        let chunk = server.connection.chunk().unwrap();
        assert_eq!(chunk.first, received.is_empty());
        received.extend_from_slice(chunk.bytes);
        assert_eq!(chunk.remaining == Remaining::End, received.len() == message.len());
        server.connection.consume(at(0));
    }
    assert!(received == message);
    server.poll(at(0));
    assert_eq!(server.connection.poll_chunk(), Poll::Pending);
}

#[test]
fn end_of_messages_follows_the_last_message() {
    let (mut client, mut server) = established(Framed::Unannounced);
    assert_eq!(client.send(b"last"), Poll::Ready(Ok(())));
    client.connection.finish();
    assert!(client.connection.wants_poll());
    assert_eq!(client.send(b"late"), Poll::Ready(Err(ConnectionError::Send(SendError::Finished))));
    client.poll(at(0));
    server.poll(at(0));
    assert_eq!(server.recv(), Poll::Ready(Ok(true)));
    server.poll(at(0));
    assert_eq!(server.recv(), Poll::Ready(Ok(false)));
    // The other direction is open.
    assert_eq!(server.send(b"reply"), Poll::Ready(Ok(())));
    assert!(receive(&mut server, &mut client));
    server.connection.finish();
    assert!(server.poll(at(0)).is_some());
    assert_eq!((client.poll(at(0)), server.poll(at(0))), (None, None));
    for half in [&mut client, &mut server] {
        assert!(half.connection.is_closed() && !half.connection.has_failed());
        assert_eq!(half.recv(), Poll::Ready(Ok(false)));
        assert_eq!(half.flush(), Poll::Ready(Ok(())));
        assert_eq!(half.connection.poll_closed(at(0)), Poll::Ready(Ok(())));
        let finished = ConnectionError::Send(SendError::Finished);
        assert_eq!(half.send(b"late"), Poll::Ready(Err(finished)));
    }
}

#[test]
fn received_message_is_read_before_the_error() {
    let (mut client, mut server) = established(Framed::Unannounced);
    assert_eq!(client.send(b"message"), Poll::Ready(Ok(())));
    client.connection.driver_mut().abort(CloseReason::Application, at(0));
    client.poll(at(0));
    server.poll(at(0));
    // The message is at hand: the session reads on only once it is consumed.
    assert_eq!(server.recv(), Poll::Ready(Ok(true)));
    server.poll(at(0));
    let closed = ConnectionError::Protocol(Error::PeerClosed(CloseReason::Application));
    for _ in 0..2 {
        assert_eq!(server.recv(), Poll::Ready(Err(closed)));
        assert_eq!(server.send(b"late"), Poll::Ready(Err(closed)));
    }
    assert!(server.connection.has_failed());
}

#[test]
fn error_after_the_end_of_messages_is_reported() {
    let (mut client, mut server) = established(Framed::Unannounced);
    client.connection.finish();
    client.poll(at(0));
    server.poll(at(0));
    assert_eq!(server.recv(), Poll::Ready(Ok(false)));
    client.connection.driver_mut().abort(CloseReason::Application, at(0));
    client.poll(at(0));
    server.poll(at(0));
    let closed = ConnectionError::Protocol(Error::PeerClosed(CloseReason::Application));
    assert_eq!(server.recv(), Poll::Ready(Err(closed)));
}

#[test]
fn transport_error_is_reported_once_in_full() {
    let (mut client, _server) = established(Framed::Announced);
    client.io.input.borrow_mut().broken = true;
    assert_eq!(client.poll(at(0)), None);
    assert!(client.connection.is_closed() && client.connection.has_failed());
    assert_eq!(client.recv(), Poll::Ready(Err(ConnectionError::Io(Broken))));
    let transport = ConnectionError::Protocol(Error::Transport);
    assert_eq!(client.recv(), Poll::Ready(Err(transport)));
    assert_eq!(client.send(b"late"), Poll::Ready(Err(transport)));
    assert_eq!(client.poll(at(0)), None);
}

/// What has arrived of three messages can be taken after the transport failed in both directions.
#[test]
fn failed_write_leaves_received_messages_to_take() {
    for framed in [Framed::Announced, Framed::Unannounced] {
        let (mut client, mut server) = established(framed);
        for message in [b"one", b"two", b"six"] {
            assert_eq!(client.send(message), Poll::Ready(Ok(())));
        }
        client.poll(at(0));
        server.poll(at(0));
        assert_eq!(server.recv(), Poll::Ready(Ok(true)));
        server.message.clear();
        assert_eq!(server.send(b"answer"), Poll::Ready(Ok(())));
        let known = server.connection.changes();
        server.io.output.borrow_mut().broken = true;
        server.io.input.borrow_mut().broken = true;
        // A wait for a broken transport would end at once, again and again.
        let interest = server.poll(at(0)).unwrap();
        assert!(!interest.read && !interest.write);
        assert_ne!(server.connection.changes(), known);
        // Sends fail at once.
        let transport = ConnectionError::Protocol(Error::Transport);
        assert_eq!(server.flush(), Poll::Ready(Err(transport)));
        assert_eq!(server.connection.poll_sent(), Poll::Ready(Err(transport)));
        assert_eq!(server.send(b"more"), Poll::Ready(Err(transport)));
        for message in [b"two", b"six"] {
            assert_eq!(server.recv(), Poll::Ready(Ok(true)));
            assert_eq!(server.message.bytes(), message);
            server.message.clear();
            server.poll(at(0));
        }
        assert_eq!(server.recv(), Poll::Ready(Err(ConnectionError::Io(Broken))));
        assert!(server.connection.is_closed());
    }
}

#[test]
fn abandoned_while_closing_keeps_the_error_of_the_session() {
    let (mut client, mut server) = established(Framed::Unannounced);
    client.io.output.borrow_mut().bytes.extend([0; 64]);
    server.poll(at(0));
    let error = server.connection.driver().error().expect("a frame without a tag");
    assert!(!server.connection.is_closed());
    server.connection.abandon(CloseReason::Shutdown);
    assert_eq!(server.recv(), Poll::Ready(Err(ConnectionError::Protocol(error))));
    assert!(server.connection.has_failed());
    client.poll(at(0));
}

#[test]
fn peer_that_vanishes_is_truncation() {
    let (mut client, mut server) = established(Framed::Unannounced);
    assert_eq!(client.send(b"message"), Poll::Ready(Ok(())));
    client.poll(at(0));
    client.io.output.borrow_mut().shut = true;
    server.poll(at(0));
    assert_eq!(server.recv(), Poll::Ready(Ok(true)));
    server.poll(at(0));
    let received = server.recv();
    let truncated =
        matches!(received, Poll::Ready(Err(ConnectionError::Protocol(Error::Truncated(_)))));
    assert!(truncated, "{received:?}");
}

#[test]
fn closing_drops_what_the_peer_still_sends() {
    let (mut client, mut server) = established(Framed::Unannounced);
    server.connection.finish();
    for _ in 0..3 {
        assert_eq!(client.send(&[1; 400]), Poll::Ready(Ok(())));
        client.poll(at(0));
        server.poll(at(0));
        assert_eq!(server.connection.poll_closed(at(0)), Poll::Pending);
        server.poll(at(0));
    }
    client.connection.finish();
    client.poll(at(0));
    assert_eq!(server.poll(at(0)), None);
    assert_eq!(server.connection.poll_closed(at(0)), Poll::Ready(Ok(())));
}

#[test]
fn abandoned_connection_reports_why() {
    let (mut client, _server) = established(Framed::Announced);
    let changes = client.connection.changes();
    client.connection.abandon(CloseReason::Shutdown);
    client.connection.abandon(CloseReason::Application);
    assert_ne!(client.connection.changes(), changes);
    let aborted = ConnectionError::Protocol(Error::Aborted(CloseReason::Shutdown));
    assert_eq!(client.recv(), Poll::Ready(Err(aborted)));
    assert_eq!(client.poll(at(0)), None);
}
