//! Peers that send much and read little: what is kept for them is bounded.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use countersign::{Error, TimedOut};
use countersign_driver::services::{Echo, Upper};
use countersign_host::{ConnectionHandle, Pools, Streams};

use crate::adapters::{Adapter, CLIENTS};
use crate::peer::{Peer, frame};
use crate::running::{BUFFER, Setup, pools_of};
use crate::services::Reporting;
use crate::ways::Way;
use crate::{PATIENCE, at_once, until};

on_every_adapter! {
    a_message_longer_than_all_buffers_passes_through_one_each_way,
    a_peer_that_never_reads_is_read_no_further_than_there_are_buffers,
    a_peer_that_never_reads_is_given_up,
    one_buffer_each_way_serves_everybody,
}

fn a_message_longer_than_all_buffers_passes_through_one_each_way<A: Adapter>() {
    const LONG: usize = 8 << 20;
    at_once(Way::FEW, |&way| {
        let mut setup = Setup::new(way);
        setup.pools = pools_of(1, BUFFER);
        let server = setup.start::<A>(Streams(|_: ConnectionHandle| Upper));
        let message: Vec<u8> = (b'a'..=b'z').cycle().take(LONG).collect();
        for (&(name, connect), at) in CLIENTS.iter().zip(server.at.iter().cycle()) {
            let client = connect(at, &way.client()).unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    client.send(&message).unwrap();
                    client.finish().unwrap();
                });
                let mut heard = 0;
                while let Some(part) = client.recv().unwrap() {
                    let expected = message[heard..].iter().map(u8::to_ascii_uppercase);
                    assert!(part.iter().copied().eq(expected.take(part.len())), "{name}");
                    heard += part.len();
                }
                assert_eq!(heard, LONG, "{name}");
            });
        }
        server.until_empty();
    });
}

fn a_peer_that_never_reads_is_read_no_further_than_there_are_buffers<A: Adapter>() {
    /// What the system is asked to hold in each of four places. It makes that twice as much, and its
    /// own count of a byte is not quite one.
    const SYSTEM: usize = 16 << 10;
    /// Of input that waits and output that does.
    const OURS: usize = 2 * BUFFER;
    for at in [0, 1] {
        let server = Setup::new(Way::FRAMES)
            .with_system_buffers(SYSTEM)
            .start::<A>(Streams(|_: ConnectionHandle| Echo));
        let peer = Peer::with_buffers(&server.at[at], Some(SYSTEM)).unwrap();
        let message = frame(&[b'x'; 3000]);
        let sent = peer.send_until_stuck(&message, 64 << 20);
        let most = 16 * SYSTEM + OURS;
        assert!(sent <= most, "{sent} bytes taken by a server that may keep {most}");
        let Pools { receive, send, .. } = &server.pools;
        assert_eq!((receive.leased(), send.leased()), (1, 1));
        // It is served all the same, and others with it.
        assert_eq!(Peer::connect(server.tcp()).ask(b"hello"), b"hello");
        thread::scope(|scope| {
            let begun = sent % message.len();
            let unsent = if begun == 0 { &[][..] } else { &message[begun..] };
            scope.spawn(|| peer.send(unsent));
            for _ in 0..sent.div_ceil(message.len()) {
                assert!(peer.hear() == message[4..]);
            }
        });
        until("the buffers come back", || receive.leased() + send.leased() == 0);
    }
}

fn a_peer_that_never_reads_is_given_up<A: Adapter>() {
    for at in [0, 1] {
        let (ended, how) = channel();
        let mut setup = Setup::new(Way::FRAMES);
        setup.config = |config| config.with_stall_timeout(Duration::from_millis(400));
        let server =
            setup.start::<A>(Streams(move |_: ConnectionHandle| Reporting(Echo, ended.clone())));
        let peer = Peer::connect(&server.at[at]);
        // The system's buffers are large, and only then it is the server that waits.
        let message = frame(&[b'x'; 3000]);
        while peer.0.send(&message).is_ok() {}
        assert_eq!(how.recv_timeout(PATIENCE).unwrap(), Err(Error::TimedOut(TimedOut::Send)));
        server.until_empty();
    }
}

fn one_buffer_each_way_serves_everybody<A: Adapter>() {
    const CLIENTS: usize = 50;
    let mut setup = Setup::new(Way::FRAMES);
    setup.pools = pools_of(1, BUFFER);
    let server = setup.start::<A>(Streams(|_: ConnectionHandle| Echo));
    let peers: Vec<_> = (0..=CLIENTS).map(|n| Peer::connect(&server.at[n % 2])).collect();
    // Most are longer than the buffer.
    let message = |peer: usize| vec![peer as u8; 200 * (peer + 1)];
    for round in 0..5 {
        // A message that is half here keeps the buffer, and all others wait for it.
        let (holder, others) = peers.split_last().unwrap();
        let whole = frame(&message(CLIENTS));
        holder.send(&whole[..100]);
        until("the buffer is had", || server.pools.receive.leased() == 1);
        for (n, peer) in others.iter().enumerate() {
            peer.send(&frame(&message(n)));
        }
        holder.send(&whole[100..]);
        for (n, peer) in peers.iter().enumerate() {
            assert!(peer.hear() == message(n), "peer {n} in round {round}");
        }
    }
}
