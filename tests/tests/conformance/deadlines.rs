//! Deadlines.

use std::sync::mpsc::{Receiver, channel};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use countersign::{CloseReason, Config, Error, TimedOut};
use countersign_driver::services::Echo;
use countersign_host::{Address, CallConnection, Clock, ConnectionHandle, Step, Stream, Streams};

use crate::adapters::{Adapter, CLIENTS, ClientSetup};
use crate::protocol_spec::ProtocolSpec;
use crate::server::{RunningServer, ServerSetup, options};
use crate::services::ReportEnd;
use crate::socket_peer::{SocketPeer, frame, response};
use crate::{TEST_TIMEOUT, for_each_concurrently, wait_until};

on_every_adapter! {
    handshake_times_out_whatever_bytes_arrive,
    partial_frame_times_out,
    peer_that_stays_after_a_failure_is_disconnected,
    silent_peer_times_out_and_idle_peer_does_not,
    partial_message_delays_a_stop_only_until_its_timeout,
    client_of_a_silent_server_times_out,
}

const DEADLINE: Duration = Duration::from_millis(400);

/// The results of the server's connections, in the order of their ends.
type Ends = Receiver<Result<(), Error>>;

/// Starts an echo server whose handshake and stall timeouts are [`DEADLINE`].
fn with_deadlines<A: Adapter>(spec: ProtocolSpec) -> (RunningServer, Ends) {
    let (end_sender, ends) = channel();
    let mut setup = ServerSetup::new(spec);
    setup.config =
        |config: Config| config.with_handshake_timeout(DEADLINE).with_stall_timeout(DEADLINE);
    (
        setup.start::<A>(Streams(move |_: ConnectionHandle| ReportEnd(Echo, end_sender.clone()))),
        ends,
    )
}

fn handshake_times_out_whatever_bytes_arrive<A: Adapter>() {
    /// The first bytes of a TLS record with a ClientHello of 512 bytes.
    const PARTIAL_CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";
    let all = ProtocolSpec::all().into_iter().filter(|spec| spec.tls || spec.has_key());
    for_each_concurrently(all.collect::<Vec<_>>(), |&spec| {
        let (server, ends) = with_deadlines::<A>(spec);
        let starts: &[&[u8]] = if spec.tls { &[b"", PARTIAL_CLIENT_HELLO] } else { &[b""] };
        let start = Instant::now();
        let peers: Vec<_> = server
            .addresses
            .iter()
            .flat_map(|address| {
                starts.iter().map(move |bytes| (SocketPeer::connect(address), bytes))
            })
            .collect();
        peers.iter().for_each(|(peer, bytes)| peer.send(bytes));
        for _ in &peers {
            assert_eq!(
                ends.recv_timeout(TEST_TIMEOUT).unwrap(),
                Err(Error::TimedOut(TimedOut::Handshake))
            );
            assert!(start.elapsed() >= DEADLINE, "after {:?}", start.elapsed());
        }
        drop(peers);
        server.wait_until_empty();
    });
    // The same with bytes that arrive slowly.
    let (server, ends) = with_deadlines::<A>(ProtocolSpec::CHALLENGE);
    let start = Instant::now();
    let peer = SocketPeer::connect(server.tcp());
    let right = response(&peer.read(32));
    for byte in &right[..31] {
        let _ = peer.0.send(&[*byte]);
        // If each byte extended the deadline, the handshake would not time out.
        if let Ok(end) = ends.recv_timeout(DEADLINE / 4) {
            assert_eq!(end, Err(Error::TimedOut(TimedOut::Handshake)));
            assert!(start.elapsed() >= DEADLINE, "after {:?}", start.elapsed());
            return server.wait_until_empty();
        }
    }
    panic!("the handshake has not timed out");
}

fn partial_frame_times_out<A: Adapter>() {
    let (server, ends) = with_deadlines::<A>(ProtocolSpec::NONE);
    for address in &server.addresses {
        // The deadline starts with the poll that reads the partial frame. That poll may have begun
        // before the frame was sent, but not before the connection was made.
        let start = Instant::now();
        let peer = SocketPeer::connect(address);
        assert_eq!(peer.request(b"one"), b"one");
        peer.send(&frame(b"two")[..6]);
        assert_eq!(
            ends.recv_timeout(TEST_TIMEOUT).unwrap(),
            Err(Error::TimedOut(TimedOut::Receive))
        );
        assert!(start.elapsed() >= DEADLINE, "after {:?}", start.elapsed());
        assert!(peer.read_to_end().is_empty());
    }
    // There is no deadline between messages.
    let peer = SocketPeer::connect(server.tcp());
    assert_eq!(peer.request(b"one"), b"one");
    assert!(ends.recv_timeout(2 * DEADLINE).is_err());
    assert_eq!(peer.request(b"two"), b"two");
}

fn peer_that_stays_after_a_failure_is_disconnected<A: Adapter>() {
    let mut setup = ServerSetup::new(ProtocolSpec::NONE);
    setup.config = |config: Config| config.with_max_frame(9);
    let server = setup.start::<A>(Streams(|_: ConnectionHandle| Echo));
    // The peers do not close their sockets.
    let peers = [0, 1].map(|transport| SocketPeer::connect(&server.addresses[transport]));
    for peer in &peers {
        peer.send(&[frame(b"one"), frame(b"far too long")].concat());
        assert_eq!(peer.read_to_end(), frame(b"one"));
    }
    server.wait_until_open(0);
    drop(peers);
}

/// Returns a client that is not polled after its handshake.
fn connect_and_stop_polling(
    address: &Address,
    client_setup: &ClientSetup,
) -> (Stream, CallConnection) {
    let stream = address.connect(TEST_TIMEOUT).unwrap();
    let clock = Clock::start();
    let mut connection = client_setup.connector(address).begin(Waker::noop(), clock.now()).unwrap();
    wait_until("the client is established", || {
        while connection.poll(&mut &stream, &*client_setup.keys, clock.now()) == Step::Yield {}
        connection.established().is_some_and(|established| established.is_ok())
    });
    (stream, connection)
}

fn silent_peer_times_out_and_idle_peer_does_not<A: Adapter>() {
    for_each_concurrently([ProtocolSpec::MUTUAL, ProtocolSpec::MUTUAL.in_tls()], |&spec| {
        let (end_sender, ends) = channel();
        let mut setup = ServerSetup::new(spec);
        setup.heartbeat = Duration::from_secs(1);
        let services = Streams(move |_: ConnectionHandle| ReportEnd(Echo, end_sender.clone()));
        let server = setup.start::<A>(services);
        let start = Instant::now();
        let client_setup = spec.client();
        let silent = connect_and_stop_polling(server.tcp(), &client_setup);
        let idle: Vec<_> = CLIENTS
            .iter()
            .map(|(_, connect)| connect(server.tcp(), &client_setup).unwrap())
            .collect();
        thread::scope(|scope| {
            let waiting: Vec<_> =
                idle.iter().map(|client| scope.spawn(|| client.recv().unwrap())).collect();
            assert_eq!(ends.recv_timeout(TEST_TIMEOUT), Ok(Err(Error::TimedOut(TimedOut::Peer))));
            // Two heartbeat intervals and 5 s.
            assert!(start.elapsed() >= Duration::from_secs(7), "after {:?}", start.elapsed());
            idle.iter().for_each(|client| client.send(b"still here").unwrap());
            for client in waiting {
                assert_eq!(client.join().unwrap().unwrap(), b"still here");
            }
        });
        drop(silent);
    });
}

fn partial_message_delays_a_stop_only_until_its_timeout<A: Adapter>() {
    let (end_sender, ends) = channel();
    let mut setup = ServerSetup::new(ProtocolSpec::NONE);
    setup.options = {
        let mut options = options();
        options.stop_timeout = DEADLINE;
        options
    };
    let services = Streams(move |_: ConnectionHandle| ReportEnd(Echo, end_sender.clone()));
    let server = setup.start::<A>(services);
    let peers = [0, 1].map(|transport| SocketPeer::connect(&server.addresses[transport]));
    for peer in &peers {
        assert_eq!(peer.request(b"one"), b"one");
        // Enough bytes that the connection leases a buffer.
        peer.send(&frame(&[b'x'; 100])[..50]);
    }
    wait_until("both partial messages are read", || server.pools.receive.leased() == 2);
    let start = Instant::now();
    server.handle.stop();
    for _ in &peers {
        assert_eq!(
            ends.recv_timeout(TEST_TIMEOUT).unwrap(),
            Err(Error::Aborted(CloseReason::Shutdown))
        );
    }
    assert!(start.elapsed() >= DEADLINE, "after {:?}", start.elapsed());
    for peer in &peers {
        assert!(peer.read_to_end_or_reset().is_empty());
    }
    server.join();
}

fn client_of_a_silent_server_times_out<A: Adapter>() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    for_each_concurrently(
        [
            ProtocolSpec::CHALLENGE,
            ProtocolSpec::MULTIPROCESSING,
            ProtocolSpec::MUTUAL,
            ProtocolSpec::NONE.in_tls(),
        ],
        |&spec| {
            let client_setup =
                spec.client_with_config(|config| config.with_handshake_timeout(DEADLINE));
            let start = Instant::now();
            let failed = A::connect(&address, &client_setup).err();
            assert_eq!(failed, Some(Error::TimedOut(TimedOut::Handshake)));
            assert!(start.elapsed() >= DEADLINE, "after {:?}", start.elapsed());
        },
    );
}
