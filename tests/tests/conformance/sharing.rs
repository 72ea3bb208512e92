//! Fair sharing: peers that hold what all connections share do not shut out others.

use std::thread;

use countersign_driver::services::Upper;
use countersign_host::{ConnectionHandle, Pools, Streams};

use crate::adapters::Adapter;
use crate::protocol_spec::ProtocolSpec;
use crate::server::{BUFFER, ServerSetup, pools_of};
use crate::socket_peer::{SocketPeer, frame};
use crate::wait_until;

on_every_adapter! {
    honest_peer_is_answered_beside_holders_of_all_receive_buffers,
    honest_peer_is_answered_beside_holders_of_all_send_buffers,
}

/// Buffers in each direction.
const BUFFERS: usize = 4;
/// Length of the socket buffers, in bytes.
const SOCKET_BUFFER: usize = 4 << 10;

/// Starts a server with few buffers and lets `occupy` take all of them over one transport. Peers on the other
/// one, and so of another address, must be served: one that was connected before, and new ones.
fn is_shared<A: Adapter>(occupy: impl Fn(&SocketPeer) + Sync, leased: fn(&Pools) -> usize) {
    for (crowd_at, honest_at) in [(0, 1), (1, 0)] {
        let mut setup = ServerSetup::new(ProtocolSpec::NONE).with_system_buffers(SOCKET_BUFFER);
        setup.pools = pools_of(BUFFERS, BUFFER);
        let server = setup.start::<A>(Streams(|_: ConnectionHandle| Upper));
        let established = SocketPeer::connect(&server.addresses[honest_at]);
        assert_eq!(established.request(b"a first message"), b"A FIRST MESSAGE");
        let connect = || {
            let address = &server.addresses[crowd_at];
            SocketPeer::with_buffers(address, Some(SOCKET_BUFFER)).unwrap()
        };
        let crowd: Vec<_> = (0..3 * BUFFERS).map(|_| connect()).collect();
        thread::scope(|scope| {
            for peer in &crowd {
                scope.spawn(|| occupy(peer));
            }
        });
        wait_until("the crowd holds all buffers", || leased(&server.pools) == BUFFERS);
        for round in 0..3 {
            let message = vec![b'a'; 100 + round * BUFFER / 2];
            assert!(established.request(&message) == message.to_ascii_uppercase());
            let new = SocketPeer::connect(&server.addresses[honest_at]);
            assert!(new.request(&message) == message.to_ascii_uppercase());
        }
        drop(crowd);
        drop(established);
        server.wait_until_empty();
    }
}

fn honest_peer_is_answered_beside_holders_of_all_receive_buffers<A: Adapter>() {
    let part = &frame(&[b'x'; 1000])[..200];
    is_shared::<A>(|peer| peer.send(part), |pools| pools.receive.leased());
}

fn honest_peer_is_answered_beside_holders_of_all_send_buffers<A: Adapter>() {
    // Messages whose replies nobody reads.
    let messages = frame(&[b'x'; 1000]).repeat(8);
    is_shared::<A>(
        |peer| {
            peer.send_until_stuck(&messages, 1 << 20);
        },
        |pools| pools.send.leased(),
    );
}
