//! The end of connections: half-close, truncation and resets.

use std::sync::mpsc::{Sender, channel};
use std::thread;

use countersign::{Error, Instant, Outbox, Peer, Truncated};
use countersign_driver::services::Echo;
use countersign_driver::{Chunk, Flow, StreamService};
use countersign_host::{ConnectionHandle, Streams};

use crate::adapters::{Adapter, CLIENTS};
use crate::protocol_spec::ProtocolSpec;
use crate::server::ServerSetup;
use crate::services::ReportEnd;
use crate::socket_peer::{SocketPeer, frame, response};
use crate::{TEST_TIMEOUT, for_each_concurrently};

on_every_adapter! {
    client_that_finishes_first_receives_all_replies,
    server_that_finishes_first_receives_everything,
    truncation_is_not_an_orderly_end,
    reset_at_any_stage_disturbs_no_other_connection,
}

fn client_that_finishes_first_receives_all_replies<A: Adapter>() {
    const LONG: usize = 3 << 20;
    for transport in [0, 1] {
        let (end_sender, ends) = channel();
        let services = Streams(move |_: ConnectionHandle| ReportEnd(Echo, end_sender.clone()));
        let server = ServerSetup::new(ProtocolSpec::NONE).start::<A>(services);
        let peer = SocketPeer::connect(&server.addresses[transport]);
        let all = [frame(b"one"), frame(b""), frame(&vec![b'x'; LONG])].concat();
        thread::scope(|scope| {
            scope.spawn(|| {
                peer.send(&all);
                peer.shut_write();
            });
            assert!(peer.read_to_end() == all);
        });
        assert_eq!(ends.recv_timeout(TEST_TIMEOUT).unwrap(), Ok(()));
        // The same without messages.
        let peer = SocketPeer::connect(&server.addresses[transport]);
        peer.shut_write();
        assert!(peer.read_to_end().is_empty());
        assert_eq!(ends.recv_timeout(TEST_TIMEOUT).unwrap(), Ok(()));
    }
}

/// Sends a message, finishes, and forwards everything that it receives afterwards.
struct FinishFirst(Sender<Vec<u8>>);

impl StreamService for FinishFirst {
    fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, _: Instant) {
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

fn server_that_finishes_first_receives_everything<A: Adapter>() {
    // In TLS too, the end of one direction leaves the other open.
    for_each_concurrently(ProtocolSpec::all(), |&spec| {
        let (sender, received) = channel();
        let server = ServerSetup::new(spec)
            .start::<A>(Streams(move |_: ConnectionHandle| FinishFirst(sender.clone())));
        for (&(name, connect), address) in CLIENTS.iter().zip(server.addresses.iter().cycle()) {
            let client = connect(address, &spec.client()).unwrap();
            let mut message = Vec::new();
            while let Some(chunk) = client.recv().unwrap() {
                message.extend(chunk);
            }
            assert_eq!(message, b"this is all", "{name}");
            let message = vec![b'x'; 100_000];
            client.send(&message).unwrap();
            client.finish().unwrap();
            let mut all = Vec::new();
            loop {
                let chunk = received.recv_timeout(TEST_TIMEOUT).unwrap();
                if chunk == b"finished" {
                    break;
                }
                all.extend(chunk);
            }
            assert!(all == message, "{name}: {} bytes", all.len());
        }
        server.wait_until_empty();
    });
}

fn truncation_is_not_an_orderly_end<A: Adapter>() {
    for transport in [0, 1] {
        let (end_sender, ends) = channel();
        let services = Streams(move |_: ConnectionHandle| ReportEnd(Echo, end_sender.clone()));
        let server = ServerSetup::new(ProtocolSpec::NONE).start::<A>(services.clone());
        let peer = SocketPeer::connect(&server.addresses[transport]);
        peer.send(&[frame(b"one"), frame(b"two")[..6].to_vec()].concat());
        peer.shut_write();
        assert_eq!(peer.read_to_end(), frame(b"one"));
        assert_eq!(
            ends.recv_timeout(TEST_TIMEOUT).unwrap(),
            Err(Error::Truncated(Truncated::Message))
        );

        let server = ServerSetup::new(ProtocolSpec::CHALLENGE).start::<A>(services);
        let peer = SocketPeer::connect(&server.addresses[transport]);
        let challenge = peer.read(32);
        peer.send(&response(&challenge)[..31]);
        peer.shut_write();
        assert!(peer.read_to_end().is_empty());
        assert_eq!(
            ends.recv_timeout(TEST_TIMEOUT).unwrap(),
            Err(Error::Truncated(Truncated::Handshake))
        );
    }
}

fn reset_at_any_stage_disturbs_no_other_connection<A: Adapter>() {
    for transport in [0, 1] {
        let server = ServerSetup::new(ProtocolSpec::CHALLENGE)
            .start::<A>(Streams(|_: ConnectionHandle| Echo));
        let address = &server.addresses[transport];
        let other = SocketPeer::connect_with_challenge(address);
        let check_other = || {
            other.send(b"hello");
            assert_eq!(other.read(5), b"hello");
        };
        for _ in 0..5 {
            SocketPeer::connect(address).reset();
            let peer = SocketPeer::connect(address);
            peer.read(32);
            peer.reset();
            let peer = SocketPeer::connect(address);
            let right = response(&peer.read(32));
            peer.send(&right[..16]);
            peer.reset();
            let peer = SocketPeer::connect(address);
            peer.send(&[0; 32]);
            peer.reset();
            SocketPeer::connect_with_challenge(address).reset();
            check_other();
            // The peer has not read the replies.
            let peer = SocketPeer::connect_with_challenge(address);
            peer.send(&[b'x'; 100_000]);
            peer.reset();
            let peer = SocketPeer::connect_with_challenge(address);
            peer.send(b"hello");
            assert_eq!(peer.read(5), b"hello");
            peer.reset();
            check_other();
        }
        // The server cannot send more replies.
        let peer = SocketPeer::connect_with_challenge(address);
        peer.send_until_stuck(&[b'x'; 60_000], 64 << 20);
        peer.reset();
        check_other();
        server.wait_until_open(1);
        drop(other);
        server.wait_until_empty();

        let server =
            ServerSetup::new(ProtocolSpec::NONE).start::<A>(Streams(|_: ConnectionHandle| Echo));
        for len in [2, 4, 9] {
            let peer = SocketPeer::connect(server.tcp());
            peer.send(&frame(b"hello, hello")[..len]);
            peer.reset();
        }
        assert_eq!(SocketPeer::connect(server.tcp()).request(b"hello"), b"hello");
        server.wait_until_empty();
    }
}
