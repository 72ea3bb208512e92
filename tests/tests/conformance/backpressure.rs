//! Back-pressure: peers that send much and read little use bounded memory.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use countersign::{Error, TimedOut};
use countersign_driver::services::{Echo, Upper};
use countersign_host::{ConnectionHandle, Pools, Streams};

use crate::adapters::{Adapter, CLIENTS};
use crate::protocol_spec::ProtocolSpec;
use crate::server::{BUFFER, ServerSetup, pools_of};
use crate::services::ReportEnd;
use crate::socket_peer::{SocketPeer, frame};
use crate::{TEST_TIMEOUT, for_each_concurrently, wait_until};

on_every_adapter! {
    long_message_passes_through_one_buffer_each_way,
    peer_that_never_reads_fills_only_its_buffers,
    peer_that_never_reads_times_out,
    one_buffer_each_way_serves_all_connections,
}

fn long_message_passes_through_one_buffer_each_way<A: Adapter>() {
    const LONG: usize = 8 << 20;
    for_each_concurrently(ProtocolSpec::EACH_SCHEME, |&spec| {
        let mut setup = ServerSetup::new(spec);
        setup.pools = pools_of(1, BUFFER);
        let server = setup.start::<A>(Streams(|_: ConnectionHandle| Upper));
        let message: Vec<u8> = (b'a'..=b'z').cycle().take(LONG).collect();
        for (&(name, connect), address) in CLIENTS.iter().zip(server.addresses.iter().cycle()) {
            let client = connect(address, &spec.client()).unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    client.send(&message).unwrap();
                    client.finish().unwrap();
                });
                let mut received = 0;
                while let Some(chunk) = client.recv().unwrap() {
                    let expected = message[received..].iter().map(u8::to_ascii_uppercase);
                    assert!(chunk.iter().copied().eq(expected.take(chunk.len())), "{name}");
                    received += chunk.len();
                }
                assert_eq!(received, LONG, "{name}");
            });
        }
        server.wait_until_empty();
    });
}

fn peer_that_never_reads_fills_only_its_buffers<A: Adapter>() {
    /// Length of each of the four socket buffers, in bytes. The operating system doubles it, and
    /// does not count bytes exactly.
    const SOCKET_BUFFER: usize = 16 << 10;
    /// One buffer for input and one for output.
    const POOL_BUFFERS: usize = 2 * BUFFER;
    for transport in [0, 1] {
        let server = ServerSetup::new(ProtocolSpec::NONE)
            .with_system_buffers(SOCKET_BUFFER)
            .start::<A>(Streams(|_: ConnectionHandle| Echo));
        let peer =
            SocketPeer::with_buffers(&server.addresses[transport], Some(SOCKET_BUFFER)).unwrap();
        let message = frame(&[b'x'; 3000]);
        let sent = peer.send_until_stuck(&message, 64 << 20);
        let max = 16 * SOCKET_BUFFER + POOL_BUFFERS;
        assert!(sent <= max, "the server accepted {sent} bytes and may keep {max}");
        let Pools { receive, send, .. } = &server.pools;
        assert_eq!((receive.leased(), send.leased()), (1, 1));
        // The server still serves this peer and others.
        assert_eq!(SocketPeer::connect(server.tcp()).request(b"hello"), b"hello");
        thread::scope(|scope| {
            let begun = sent % message.len();
            let unsent = if begun == 0 { &[][..] } else { &message[begun..] };
            scope.spawn(|| peer.send(unsent));
            for _ in 0..sent.div_ceil(message.len()) {
                assert!(peer.read_frame() == message[4..]);
            }
        });
        wait_until("the buffers are released", || receive.leased() + send.leased() == 0);
    }
}

fn peer_that_never_reads_times_out<A: Adapter>() {
    for transport in [0, 1] {
        let (end_sender, ends) = channel();
        let mut setup = ServerSetup::new(ProtocolSpec::NONE);
        setup.config = |config| config.with_stall_timeout(Duration::from_millis(400));
        let server = setup
            .start::<A>(Streams(move |_: ConnectionHandle| ReportEnd(Echo, end_sender.clone())));
        let peer = SocketPeer::connect(&server.addresses[transport]);
        // The server blocks only after the socket buffers are full.
        let message = frame(&[b'x'; 3000]);
        while peer.0.send(&message).is_ok() {}
        assert_eq!(ends.recv_timeout(TEST_TIMEOUT).unwrap(), Err(Error::TimedOut(TimedOut::Send)));
        server.wait_until_empty();
    }
}

fn one_buffer_each_way_serves_all_connections<A: Adapter>() {
    const CLIENTS: usize = 50;
    let mut setup = ServerSetup::new(ProtocolSpec::NONE);
    setup.pools = pools_of(1, BUFFER);
    let server = setup.start::<A>(Streams(|_: ConnectionHandle| Echo));
    let peers: Vec<_> =
        (0..=CLIENTS).map(|n| SocketPeer::connect(&server.addresses[n % 2])).collect();
    // Most messages are longer than the buffer.
    let message = |peer: usize| vec![peer as u8; 200 * (peer + 1)];
    for round in 0..5 {
        // A partial message keeps the buffer, and all other connections wait for it.
        let (holder, others) = peers.split_last().unwrap();
        let whole = frame(&message(CLIENTS));
        holder.send(&whole[..100]);
        wait_until("the buffer is leased", || server.pools.receive.leased() == 1);
        for (n, peer) in others.iter().enumerate() {
            peer.send(&frame(&message(n)));
        }
        holder.send(&whole[100..]);
        for (n, peer) in peers.iter().enumerate() {
            assert!(peer.read_frame() == message(n), "peer {n} in round {round}");
        }
    }
}
