//! Ends in one direction, in both, and without a word.

use std::sync::mpsc::{Sender, channel};
use std::thread;

use countersign::{Error, Instant, Outbox, Peer as Who, Truncated};
use countersign_driver::services::Echo;
use countersign_driver::{Chunk, Flow, StreamService};
use countersign_host::{ConnectionHandle, Streams};

use crate::adapters::{Adapter, CLIENTS};
use crate::peer::{Peer, answer, frame};
use crate::running::Setup;
use crate::services::Reporting;
use crate::ways::Way;
use crate::{PATIENCE, at_once};

on_every_adapter! {
    a_client_that_finishes_first_still_has_its_answers,
    a_server_that_finishes_first_still_hears_everything,
    what_is_cut_off_is_not_taken_for_an_end,
    a_reset_at_any_stage_harms_nobody_else,
}

fn a_client_that_finishes_first_still_has_its_answers<A: Adapter>() {
    const LONG: usize = 3 << 20;
    for at in [0, 1] {
        let (ended, how) = channel();
        let open = Streams(move |_: ConnectionHandle| Reporting(Echo, ended.clone()));
        let server = Setup::new(Way::FRAMES).start::<A>(open);
        let peer = Peer::connect(&server.at[at]);
        let all = [frame(b"one"), frame(b""), frame(&vec![b'x'; LONG])].concat();
        thread::scope(|scope| {
            scope.spawn(|| {
                peer.send(&all);
                peer.finish();
            });
            assert!(peer.remaining() == all);
        });
        assert_eq!(how.recv_timeout(PATIENCE).unwrap(), Ok(()));
        // One that has nothing to say is no different.
        let peer = Peer::connect(&server.at[at]);
        peer.finish();
        assert!(peer.remaining().is_empty());
        assert_eq!(how.recv_timeout(PATIENCE).unwrap(), Ok(()));
    }
}

/// Says a word, finishes, and hears all that is still said.
struct Deaf(Sender<Vec<u8>>);

impl StreamService for Deaf {
    fn on_open(&mut self, _: &Who<'_>, out: &mut Outbox<'_>, _: Instant) {
        out.send(b"this is all").unwrap();
        out.finish();
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        self.0.send(chunk.bytes.to_vec()).unwrap();
        Flow::Consumed
    }

    fn on_finished(&mut self, _: &mut Outbox<'_>, _: Instant) {
        self.0.send(b"finished".to_vec()).unwrap();
    }
}

fn a_server_that_finishes_first_still_hears_everything<A: Adapter>() {
    // A TLS connection ends as a whole for rustls's peers only if they want it to: so here as well.
    at_once(Way::all(), |&way| {
        let (said, heard) = channel();
        let server =
            Setup::new(way).start::<A>(Streams(move |_: ConnectionHandle| Deaf(said.clone())));
        for (&(name, connect), at) in CLIENTS.iter().zip(server.at.iter().cycle()) {
            let client = connect(at, &way.client()).unwrap();
            let mut word = Vec::new();
            while let Some(chunk) = client.recv().unwrap() {
                word.extend(chunk);
            }
            assert_eq!(word, b"this is all", "{name}");
            let message = vec![b'x'; 100_000];
            client.send(&message).unwrap();
            client.finish().unwrap();
            let mut all = Vec::new();
            loop {
                let chunk = heard.recv_timeout(PATIENCE).unwrap();
                if chunk == b"finished" {
                    break;
                }
                all.extend(chunk);
            }
            assert!(all == message, "{name}: {} bytes", all.len());
        }
        server.until_empty();
    });
}

fn what_is_cut_off_is_not_taken_for_an_end<A: Adapter>() {
    for at in [0, 1] {
        let (ended, how) = channel();
        let open = Streams(move |_: ConnectionHandle| Reporting(Echo, ended.clone()));
        let server = Setup::new(Way::FRAMES).start::<A>(open.clone());
        let peer = Peer::connect(&server.at[at]);
        peer.send(&[frame(b"one"), frame(b"two")[..6].to_vec()].concat());
        peer.finish();
        assert_eq!(peer.remaining(), frame(b"one"));
        assert_eq!(how.recv_timeout(PATIENCE).unwrap(), Err(Error::Truncated(Truncated::Message)));

        let server = Setup::new(Way::CHALLENGE).start::<A>(open);
        let peer = Peer::connect(&server.at[at]);
        let challenge = peer.read(32);
        peer.send(&answer(&challenge)[..31]);
        peer.finish();
        assert!(peer.remaining().is_empty());
        assert_eq!(
            how.recv_timeout(PATIENCE).unwrap(),
            Err(Error::Truncated(Truncated::Handshake))
        );
    }
}

fn a_reset_at_any_stage_harms_nobody_else<A: Adapter>() {
    for at in [0, 1] {
        let server = Setup::new(Way::CHALLENGE).start::<A>(Streams(|_: ConnectionHandle| Echo));
        let at = &server.at[at];
        let neighbour = Peer::enter(at);
        let is_well = || {
            neighbour.send(b"hello");
            assert_eq!(neighbour.read(5), b"hello");
        };
        for _ in 0..5 {
            Peer::connect(at).reset();
            let peer = Peer::connect(at);
            peer.read(32);
            peer.reset();
            let peer = Peer::connect(at);
            let right = answer(&peer.read(32));
            peer.send(&right[..16]);
            peer.reset();
            let peer = Peer::connect(at);
            peer.send(&[0; 32]);
            peer.reset();
            Peer::enter(at).reset();
            is_well();
            // With answers on their way that nobody reads.
            let peer = Peer::enter(at);
            peer.send(&[b'x'; 100_000]);
            peer.reset();
            let peer = Peer::enter(at);
            peer.send(b"hello");
            assert_eq!(peer.read(5), b"hello");
            peer.reset();
            is_well();
        }
        // With the server stuck on them.
        let peer = Peer::enter(at);
        peer.send_until_stuck(&[b'x'; 60_000], 64 << 20);
        peer.reset();
        is_well();
        server.until_open(1);
        drop(neighbour);
        server.until_empty();

        let server = Setup::new(Way::FRAMES).start::<A>(Streams(|_: ConnectionHandle| Echo));
        for len in [2, 4, 9] {
            let peer = Peer::connect(server.tcp());
            peer.send(&frame(b"hello, hello")[..len]);
            peer.reset();
        }
        assert_eq!(Peer::connect(server.tcp()).ask(b"hello"), b"hello");
        server.until_empty();
    }
}
