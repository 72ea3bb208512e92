//! Orderly stops of a server.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use countersign::{CloseReason, Error};
use countersign_driver::services::{Echo, Upper};
use countersign_host::{ConnectionHandle, Streams};

use crate::adapters::{Adapter, CLIENTS, Client, Std};
use crate::protocol_spec::ProtocolSpec;
use crate::server::{BUFFER, ServerSetup};
use crate::services::{Delay, DelayedUpper, ManualEcho, PendingReply, ReportEnd};
use crate::socket_peer::{SocketPeer, frame};
use crate::{TEST_TIMEOUT, for_each_concurrently, wait_until};

on_every_adapter! {
    idle_connections_and_handshakes_do_not_delay_a_stop,
    stop_under_load_loses_no_due_reply,
    stop_under_load_loses_no_reply_from_another_thread,
    stop_waits_for_a_partial_message_and_its_reply,
    unread_replies_are_delivered_after_a_stop,
    stop_refuses_clients_and_waits_for_a_pending_reply,
}

fn idle_connections_and_handshakes_do_not_delay_a_stop<A: Adapter>() {
    for_each_concurrently(ProtocolSpec::EACH_SCHEME, |&spec| {
        let (end_sender, ends) = channel();
        let services = Streams(move |_: ConnectionHandle| ReportEnd(Echo, end_sender.clone()));
        let server = ServerSetup::new(spec).start::<A>(services);
        let unfinished: Vec<_> = server.addresses.iter().map(SocketPeer::connect).collect();
        // A client that has received a reply is established at the server too.
        let mut clients = Vec::new();
        for (_, connect) in CLIENTS {
            let client = connect(server.tcp(), &spec.client()).unwrap();
            client.send(b"hello").unwrap();
            assert_eq!(client.recv().unwrap().unwrap(), b"hello");
            clients.push(client);
        }
        server.wait_until_open(unfinished.len() + clients.len());
        let start = Instant::now();
        server.handle.stop();
        for client in &clients {
            assert_eq!(client.recv(), Ok(None));
            // Otherwise the server waits a second for the client to finish.
            client.finish().unwrap();
        }
        server.join();
        assert!(start.elapsed() < TEST_TIMEOUT, "{:?}", start.elapsed());
        let ends: Vec<_> = ends.try_iter().collect();
        assert_eq!(ends.len(), unfinished.len() + clients.len());
        let aborted = Err(Error::Aborted(CloseReason::Shutdown));
        assert!(ends.iter().all(|end| [Ok(()), aborted].contains(end)), "{ends:?}");
    });
}

fn stop_under_load_loses_no_due_reply<A: Adapter>() {
    stop_under_load::<A, _>(&Streams(|_: ConnectionHandle| Upper));
}

fn stop_under_load_loses_no_reply_from_another_thread<A: Adapter>() {
    stop_under_load::<A, _>(&Streams(|it: ConnectionHandle| {
        DelayedUpper::new(Delay::Worker(it.waker()))
    }));
}

/// Stops a server while many clients send requests. A request that was sent before the stop gets
/// its reply.
fn stop_under_load<A: Adapter, O>(services: &O)
where
    O: countersign_host::ServiceFactory<Service: 'static> + Clone + 'static,
{
    const CLIENTS: usize = 6;
    /// Requests that each client sends after the stop. They may get no reply.
    const REQUESTS_AFTER_STOP: usize = 3;
    let specs = [
        ProtocolSpec::NONE,
        ProtocolSpec::MULTIPROCESSING,
        ProtocolSpec::MUTUAL,
        ProtocolSpec::NONE.in_tls(),
        ProtocolSpec::MUTUAL.in_tls(),
    ];
    for_each_concurrently(specs, |&spec| {
        let server = ServerSetup::new(spec).start::<A>(services.clone());
        let stopped = AtomicBool::new(false);
        let replies = AtomicUsize::new(0);
        let client_setup = spec.client();
        // When `send` of these clients returns, the message is in the socket buffer.
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| Std::connect(&server.addresses[n % 2], &client_setup).unwrap())
            .collect();
        let send_requests = |client: &dyn Client, n: usize| {
            let mut left = REQUESTS_AFTER_STOP;
            for round in 0.. {
                let message = vec![b'a' + n as u8; 1 + round * 997 % (3 * BUFFER)];
                let sent = client.send(&message);
                // The reply to a request that was sent before the stop is due.
                let due = sent.is_ok() && !stopped.load(Ordering::SeqCst);
                match client.recv() {
                    Ok(Some(reply)) => assert!(reply == message.to_ascii_uppercase()),
                    other => return assert!(!due, "{other:?} instead of a reply in round {round}"),
                }
                replies.fetch_add(1, Ordering::Relaxed);
                if stopped.load(Ordering::SeqCst) {
                    left -= 1;
                }
                if left == 0 {
                    // The connection is idle, so the server closes it in order.
                    assert_eq!(client.recv(), Ok(None));
                    return client.finish().unwrap();
                }
            }
        };
        thread::scope(|scope| {
            let (send_requests, replies) = (&send_requests, &replies);
            let requesting: Vec<_> = clients
                .iter()
                .enumerate()
                .map(|(n, client)| scope.spawn(move || send_requests(&**client, n)))
                .collect();
            // A client that fails is reported when its thread is joined.
            wait_until("the server is under load", || {
                replies.load(Ordering::Relaxed) > 30 * CLIENTS
                    || requesting.iter().any(thread::ScopedJoinHandle::is_finished)
            });
            stopped.store(true, Ordering::SeqCst);
            server.handle.stop();
        });
        drop(clients);
        server.join();
    });
}

fn stop_waits_for_a_partial_message_and_its_reply<A: Adapter>() {
    let server =
        ServerSetup::new(ProtocolSpec::NONE).start::<A>(Streams(|_: ConnectionHandle| Upper));
    let message = frame(b"half of it before, and half of it after");
    let peers = [0, 1].map(|transport| SocketPeer::connect(&server.addresses[transport]));
    for peer in &peers {
        assert_eq!(peer.request(b"hello"), b"HELLO");
        peer.send(&message[..25]);
    }
    wait_until("both partial messages are read", || server.pools.receive.leased() == 2);
    server.handle.stop();
    wait_until_refused(&server.addresses[0]);
    for peer in &peers {
        peer.send(&message[25..]);
        assert_eq!(peer.read_frame(), message[4..].to_ascii_uppercase());
        assert!(peer.read_to_end().is_empty());
    }
    drop(peers);
    server.join();
}

/// Waits until connections to `address` are refused.
fn wait_until_refused(address: &countersign_host::Address) {
    wait_until("connections are refused", || SocketPeer::try_connect(address).is_err());
}

fn unread_replies_are_delivered_after_a_stop<A: Adapter>() {
    for_each_concurrently([0, 1], |&transport: &usize| {
        let server =
            ServerSetup::new(ProtocolSpec::NONE).start::<A>(Streams(|_: ConnectionHandle| Upper));
        let peer = SocketPeer::connect(&server.addresses[transport]);
        let message = frame(&[b'x'; 60_000]);
        // The peer reads no replies, so the server stops reading requests.
        let sent = peer.send_until_stuck(&message, 256 << 20);
        server.handle.stop();
        wait_until_refused(server.tcp());
        let begun = sent % message.len();
        let unsent = if begun == 0 { &[][..] } else { &message[begun..] };
        thread::scope(|scope| {
            scope.spawn(|| peer.send(unsent));
            for _ in 0..sent.div_ceil(message.len()) {
                assert!(peer.read_frame() == [b'X'; 60_000]);
            }
        });
        assert!(peer.read_to_end().is_empty());
        drop(peer);
        server.join();
    });
}

fn stop_refuses_clients_and_waits_for_a_pending_reply<A: Adapter>() {
    /// Longer than the server takes to close an idle connection.
    const QUIET: Duration = Duration::from_millis(300);
    let (out, replies) = channel();
    let services = Streams(move |it: ConnectionHandle| ManualEcho::new(it.waker(), out.clone()));
    let server = ServerSetup::new(ProtocolSpec::NONE).start::<A>(services);
    let peers = [0, 1].map(|transport| SocketPeer::connect(&server.addresses[transport]));
    peers.iter().for_each(|peer| peer.send(&frame(b"hello")));
    let pending = [0, 1].map(|_| replies.recv_timeout(TEST_TIMEOUT).unwrap());
    server.handle.stop();
    server.addresses.iter().for_each(wait_until_refused);
    peers[0].0.set_read_timeout(Some(QUIET)).unwrap();
    let read = io::Read::read(&mut &peers[0].0, &mut [0]);
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    peers[0].0.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    pending.into_iter().for_each(PendingReply::release);
    for peer in &peers {
        assert_eq!(peer.read_frame(), b"hello");
        assert!(peer.read_to_end().is_empty());
    }
    drop(peers);
    server.join();
}
