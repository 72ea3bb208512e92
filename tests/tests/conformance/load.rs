//! Many connections, of which some misbehave or flood the server.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign_driver::services::{Echo, Upper};
use countersign_host::{ConnectionHandle, Streams};

use crate::adapters::Adapter;
use crate::protocol_spec::ProtocolSpec;
use crate::server::{BUFFER, ServerSetup};
use crate::socket_peer::{SocketPeer, frame};
use crate::wait_until;

on_every_adapter! {
    good_half_of_500_connections_is_served,
    floods_delay_no_other_connection,
}

fn good_half_of_500_connections_is_served<A: Adapter>() {
    const CONNECTIONS: usize = 500;
    const ROUNDS: usize = 3;
    let mut setup = ServerSetup::new(ProtocolSpec::NONE);
    setup.config =
        |config| config.with_max_frame(100_000).with_stall_timeout(Duration::from_secs(2));
    let server = setup.start::<A>(Streams(|_: ConnectionHandle| Upper));
    let peers: Vec<_> =
        (0..CONNECTIONS).map(|n| SocketPeer::connect(&server.addresses[n % 2])).collect();
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (n, peer) in peers.into_iter().enumerate() {
        if n / 2 % 2 == 0 { good.push(peer) } else { bad.push(peer) }
    }
    // Each bad peer misbehaves in one of several ways. The server disconnects those that stay at their
    // deadlines.
    let mut staying = Vec::new();
    for (n, peer) in bad.into_iter().enumerate() {
        let bytes: &[u8] = match n % 6 {
            // A length above the limit.
            0 => b"\xff\xff\xff\xff and more",
            // Part of a header; part of a message.
            1 => b"\0\0",
            2 => b"\0\0\0\x64 half a message, and more than waits without a buffer",
            // A message whose reply the peer does not read.
            3 => &frame(&[b'x'; 60_000]),
            // Nothing.
            _ => b"",
        };
        // The server may disconnect the peer in the middle of the bytes.
        peer.0.set_nonblocking(true).unwrap();
        let _ = peer.0.send(bytes);
        match n % 5 {
            0 => peer.reset(),
            1 => drop(peer),
            _ => staying.push(peer),
        }
    }
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for some in good.chunks(good.len() / 4) {
            let served = &served;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    for peer in some {
                        let message = vec![b'a'; 1 + round * 3 * BUFFER];
                        assert!(peer.request(&message) == message.to_ascii_uppercase());
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(served.load(Ordering::Relaxed), good.len() * ROUNDS);
    for peer in &good {
        peer.shut_write();
        assert!(peer.read_to_end().is_empty());
    }
    // Some bad peers have sent nothing wrong, so the server may still serve them.
    drop(staying);
    server.wait_until_empty();
}

fn floods_delay_no_other_connection<A: Adapter>() {
    const FLOODS: usize = 8;
    const REQUESTS: usize = 200;
    /// Much longer than a reply takes on a busy machine.
    const MAX_DELAY: Duration = Duration::from_secs(3);
    let server =
        ServerSetup::new(ProtocolSpec::NONE).start::<A>(Streams(|_: ConnectionHandle| Echo));
    let stop = AtomicBool::new(false);
    let received: Vec<_> = (0..FLOODS).map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for (n, received) in received.iter().enumerate() {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                let peer = SocketPeer::connect(&server.addresses[n % 2]);
                let message = frame(&[b'x'; 3 * BUFFER]);
                thread::scope(|scope| {
                    scope.spawn(|| {
                        while !stop.load(Ordering::Relaxed) {
                            peer.send(&message);
                        }
                        peer.shut_write();
                    });
                    let mut buffer = vec![0; 1 << 16];
                    loop {
                        match std::io::Read::read(&mut &peer.0, &mut buffer).unwrap() {
                            0 => return,
                            n => received.fetch_add(n, Ordering::Relaxed),
                        };
                    }
                });
            });
        }
        wait_until("every flood gets replies", || {
            received.iter().all(|it| it.load(Ordering::Relaxed) > 0)
        });
        let other = SocketPeer::connect(server.tcp());
        let mut slowest = Duration::ZERO;
        for _ in 0..REQUESTS {
            let start = Instant::now();
            assert_eq!(other.request(b"hello"), b"hello");
            slowest = slowest.max(start.elapsed());
        }
        // The floods are still served too.
        let before: Vec<_> = received.iter().map(|it| it.load(Ordering::Relaxed)).collect();
        wait_until("every flood gets more replies", || {
            received.iter().zip(&before).all(|(it, before)| it.load(Ordering::Relaxed) > *before)
        });
        stop.store(true, Ordering::Relaxed);
        assert!(slowest < MAX_DELAY, "the slowest of {REQUESTS} replies took {slowest:?}");
    });
    server.wait_until_empty();
}
