//! Connections of one server beside each other: wakes between threads, and services that fail.

use std::sync::mpsc::channel;
use std::thread;

use countersign::{CloseReason, Error, Instant, Outbox};
use countersign_driver::{Chunk, Flow, StreamService};
use countersign_host::{ConnectionHandle, Streams};

use crate::PATIENCE;
use crate::adapters::Adapter;
use crate::peer::{Peer, frame};
use crate::running::Setup;
use crate::services::{Asked, Reporting, Sleeper};
use crate::ways::Way;

on_every_adapter! {
    wakes_from_other_threads_reach_their_connections,
    a_service_that_panics_ends_its_own_connection_and_nobody_elses,
}

fn wakes_from_other_threads_reach_their_connections<A: Adapter>() {
    const PEERS: usize = 50;
    const ROUNDS: usize = 10;
    let (out, questions) = channel();
    let open = Streams(move |it: ConnectionHandle| Sleeper::new(it.waker(), out.clone()));
    let server = Setup::new(Way::FRAMES).start::<A>(open);
    let peers: Vec<_> = (0..PEERS).map(|n| Peer::connect(&server.at[n % 2])).collect();
    for round in 0..ROUNDS {
        let message = |peer: usize| format!("peer {peer}, round {round}").into_bytes();
        for (n, peer) in peers.iter().enumerate() {
            peer.send(&frame(&message(n)));
        }
        // All at once, each from a thread of its own.
        let asked: [Asked; PEERS] =
            std::array::from_fn(|_| questions.recv_timeout(PATIENCE).unwrap());
        thread::scope(|scope| {
            for asked in asked {
                scope.spawn(|| asked.tell());
            }
        });
        for (n, peer) in peers.iter().enumerate() {
            assert_eq!(peer.hear(), message(n));
        }
    }
    drop(peers);
    server.until_empty();
}

/// Sends every message back, panics when told to, and does not take it well.
struct Panicking;

impl StreamService for Panicking {
    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        assert_ne!(chunk.bytes, b"panic", "as it was told to");
        out.send_chunk(chunk.bytes, chunk.remaining).unwrap();
        Flow::Consumed
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        assert_ne!(why, Err(Error::Aborted(CloseReason::Application)), "as it was told to, again");
    }
}

/// Reports first, for a report of a panic would be lost with it.
struct Reported(Reporting<Quiet>, Panicking);

struct Quiet;

impl StreamService for Quiet {
    fn on_chunk(&mut self, _: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        Flow::Consumed
    }
}

impl StreamService for Reported {
    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow {
        self.1.on_chunk(chunk, out, now)
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        self.0.on_closed(why);
        self.1.on_closed(why);
    }
}

fn a_service_that_panics_ends_its_own_connection_and_nobody_elses<A: Adapter>() {
    let (ended, how) = channel();
    let open =
        Streams(move |_: ConnectionHandle| Reported(Reporting(Quiet, ended.clone()), Panicking));
    let server = Setup::new(Way::FRAMES).start::<A>(open);
    let others = [0, 1].map(|at| Peer::connect(&server.at[at]));
    for at in &server.at {
        others.iter().for_each(|other| assert_eq!(other.ask(b"hello"), b"hello"));
        let peer = Peer::connect(at);
        assert_eq!(peer.ask(b"hello"), b"hello");
        peer.send(&frame(b"panic"));
        assert!(peer.remaining_or_reset().is_empty());
        let told = how.recv_timeout(PATIENCE).unwrap();
        assert_eq!(told, Err(Error::Aborted(CloseReason::Application)));
        server.until_open(2);
        assert_eq!(Peer::connect(at).ask(b"hello"), b"hello");
        assert_eq!(how.recv_timeout(PATIENCE), Ok(Ok(())));
    }
    others.iter().for_each(|other| assert_eq!(other.ask(b"still here"), b"still here"));
    drop(others);
    server.until_empty();
}
