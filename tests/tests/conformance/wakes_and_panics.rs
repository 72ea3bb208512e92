//! Independence of a server's connections: wakes from other threads, and services that panic.

use std::sync::mpsc::channel;
use std::thread;

use countersign::{CloseReason, Error, Instant, Outbox};
use countersign_driver::{Chunk, Flow, StreamService};
use countersign_host::{ConnectionHandle, Streams};

use crate::TEST_TIMEOUT;
use crate::adapters::Adapter;
use crate::protocol_spec::ProtocolSpec;
use crate::server::ServerSetup;
use crate::services::{ManualEcho, PendingReply, ReportEnd};
use crate::socket_peer::{SocketPeer, frame};

on_every_adapter! {
    wakes_from_other_threads_reach_their_connections,
    service_panic_ends_only_its_own_connection,
}

fn wakes_from_other_threads_reach_their_connections<A: Adapter>() {
    const PEERS: usize = 50;
    const ROUNDS: usize = 10;
    let (out, replies) = channel();
    let services = Streams(move |it: ConnectionHandle| ManualEcho::new(it.waker(), out.clone()));
    let server = ServerSetup::new(ProtocolSpec::NONE).start::<A>(services);
    let peers: Vec<_> = (0..PEERS).map(|n| SocketPeer::connect(&server.addresses[n % 2])).collect();
    for round in 0..ROUNDS {
        let message = |peer: usize| format!("peer {peer}, round {round}").into_bytes();
        for (n, peer) in peers.iter().enumerate() {
            peer.send(&frame(&message(n)));
        }
        // All replies are released concurrently, each from its own thread.
        let pending: [PendingReply; PEERS] =
            std::array::from_fn(|_| replies.recv_timeout(TEST_TIMEOUT).unwrap());
        thread::scope(|scope| {
            for reply in pending {
                scope.spawn(|| reply.release());
            }
        });
        for (n, peer) in peers.iter().enumerate() {
            assert_eq!(peer.read_frame(), message(n));
        }
    }
    drop(peers);
    server.wait_until_empty();
}

/// Echoes every message. Panics at the message `panic`, and again in `on_closed`.
struct Panicking;

impl StreamService for Panicking {
    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        assert_ne!(chunk.bytes, b"panic", "the test requests a panic");
        out.send_chunk(chunk.bytes, chunk.remaining).unwrap();
        Flow::Consumed
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        assert_ne!(
            result,
            Err(Error::Aborted(CloseReason::Application)),
            "the test requests a second panic"
        );
    }
}

/// Reports the end before [`Panicking`] panics in `on_closed`.
struct ReportThenPanic(ReportEnd<NoReply>, Panicking);

/// Consumes everything.
struct NoReply;

impl StreamService for NoReply {
    fn on_chunk(&mut self, _: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        Flow::Consumed
    }
}

impl StreamService for ReportThenPanic {
    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow {
        self.1.on_chunk(chunk, out, now)
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        self.0.on_closed(result);
        self.1.on_closed(result);
    }
}

fn service_panic_ends_only_its_own_connection<A: Adapter>() {
    let (end_sender, ends) = channel();
    let services = Streams(move |_: ConnectionHandle| {
        ReportThenPanic(ReportEnd(NoReply, end_sender.clone()), Panicking)
    });
    let server = ServerSetup::new(ProtocolSpec::NONE).start::<A>(services);
    let others = [0, 1].map(|transport| SocketPeer::connect(&server.addresses[transport]));
    for address in &server.addresses {
        others.iter().for_each(|other| assert_eq!(other.request(b"hello"), b"hello"));
        let peer = SocketPeer::connect(address);
        assert_eq!(peer.request(b"hello"), b"hello");
        peer.send(&frame(b"panic"));
        assert!(peer.read_to_end_or_reset().is_empty());
        let end = ends.recv_timeout(TEST_TIMEOUT).unwrap();
        assert_eq!(end, Err(Error::Aborted(CloseReason::Application)));
        server.wait_until_open(2);
        assert_eq!(SocketPeer::connect(address).request(b"hello"), b"hello");
        assert_eq!(ends.recv_timeout(TEST_TIMEOUT), Ok(Ok(())));
    }
    others.iter().for_each(|other| assert_eq!(other.request(b"still here"), b"still here"));
    drop(others);
    server.wait_until_empty();
}
