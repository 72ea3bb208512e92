//! Deadlines, each from the peer that it is for.

use std::sync::mpsc::{Receiver, channel};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use countersign::{CloseReason, Config, Error, TimedOut};
use countersign_driver::services::Echo;
use countersign_host::{Address, CallConnection, Clock, ConnectionHandle, Step, Stream, Streams};

use crate::adapters::{Adapter, CLIENTS, With};
use crate::peer::{Peer, answer, frame};
use crate::running::{Running, Setup, options};
use crate::services::Reporting;
use crate::ways::Way;
use crate::{PATIENCE, at_once, until};

on_every_adapter! {
    a_handshake_has_so_long_and_no_byte_puts_it_off,
    half_a_frame_has_so_long,
    who_stays_after_the_end_is_left,
    a_peer_that_falls_silent_is_given_up_and_one_that_is_idle_is_not,
    what_is_under_way_for_too_long_does_not_put_off_a_stop,
    a_client_gives_up_a_server_that_says_nothing,
}

const DEADLINE: Duration = Duration::from_millis(400);

/// How its connections came to their end, one after the other.
type Ends = Receiver<Result<(), Error>>;

/// An echo whose every time-out is [`DEADLINE`].
fn impatient<A: Adapter>(way: Way) -> (Running, Ends) {
    let (ended, how) = channel();
    let mut setup = Setup::new(way);
    setup.config =
        |config: Config| config.with_handshake_timeout(DEADLINE).with_stall_timeout(DEADLINE);
    (setup.start::<A>(Streams(move |_: ConnectionHandle| Reporting(Echo, ended.clone()))), how)
}

fn a_handshake_has_so_long_and_no_byte_puts_it_off<A: Adapter>() {
    /// The record of a ClientHello of 512 bytes, and its beginning.
    const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";
    let all = Way::all().into_iter().filter(|way| way.tls || way.has_key());
    at_once(all.collect::<Vec<_>>(), |&way| {
        let (server, how) = impatient::<A>(way);
        let halves: &[&[u8]] = if way.tls { &[b"", HALF_A_HELLO] } else { &[b""] };
        let began = Instant::now();
        let peers: Vec<_> = server
            .at
            .iter()
            .flat_map(|at| halves.iter().map(move |half| (Peer::connect(at), half)))
            .collect();
        peers.iter().for_each(|(peer, half)| peer.send(half));
        for _ in &peers {
            assert_eq!(
                how.recv_timeout(PATIENCE).unwrap(),
                Err(Error::TimedOut(TimedOut::Handshake))
            );
            assert!(began.elapsed() >= DEADLINE, "after {:?}", began.elapsed());
        }
        drop(peers);
        server.until_empty();
    });
    // A byte now and then.
    let (server, how) = impatient::<A>(Way::CHALLENGE);
    let began = Instant::now();
    let peer = Peer::connect(server.tcp());
    let right = answer(&peer.read(32));
    for byte in &right[..31] {
        let _ = peer.0.send(&[*byte]);
        // Slower than the deadline would be if each byte put it off.
        if let Ok(how) = how.recv_timeout(DEADLINE / 4) {
            assert_eq!(how, Err(Error::TimedOut(TimedOut::Handshake)));
            assert!(began.elapsed() >= DEADLINE, "after {:?}", began.elapsed());
            return server.until_empty();
        }
    }
    panic!("still waited for");
}

fn half_a_frame_has_so_long<A: Adapter>() {
    let (server, how) = impatient::<A>(Way::FRAMES);
    for at in &server.at {
        // A turn has the time of its beginning, and the one that reads half a frame may be the one that has
        // just answered: none of them began before there was the connection.
        let began = Instant::now();
        let peer = Peer::connect(at);
        assert_eq!(peer.ask(b"one"), b"one");
        peer.send(&frame(b"two")[..6]);
        assert_eq!(how.recv_timeout(PATIENCE).unwrap(), Err(Error::TimedOut(TimedOut::Receive)));
        assert!(began.elapsed() >= DEADLINE, "after {:?}", began.elapsed());
        assert!(peer.remaining().is_empty());
    }
    // Between messages there is no hurry.
    let peer = Peer::connect(server.tcp());
    assert_eq!(peer.ask(b"one"), b"one");
    assert!(how.recv_timeout(2 * DEADLINE).is_err());
    assert_eq!(peer.ask(b"two"), b"two");
}

fn who_stays_after_the_end_is_left<A: Adapter>() {
    let mut setup = Setup::new(Way::FRAMES);
    setup.config = |config: Config| config.with_max_frame(9);
    let server = setup.start::<A>(Streams(|_: ConnectionHandle| Echo));
    // They send and read, and do not close.
    let peers = [0, 1].map(|at| Peer::connect(&server.at[at]));
    for peer in &peers {
        peer.send(&[frame(b"one"), frame(b"far too long")].concat());
        assert_eq!(peer.remaining(), frame(b"one"));
    }
    server.until_open(0);
    drop(peers);
}

/// A client whose handshake is over, and that is not polled any more.
fn established_and_not_driven(to: &Address, with: &With) -> (Stream, CallConnection) {
    let stream = to.connect(PATIENCE).unwrap();
    let clock = Clock::start();
    let mut connection = with.connector(to).begin(Waker::noop(), clock.now()).unwrap();
    until("the handshake is over", || {
        while connection.poll(&mut &stream, &*with.keys, clock.now()) == Step::Yield {}
        connection.established().is_some_and(|established| established.is_ok())
    });
    (stream, connection)
}

fn a_peer_that_falls_silent_is_given_up_and_one_that_is_idle_is_not<A: Adapter>() {
    at_once([Way::MUTUAL, Way::MUTUAL.in_tls()], |&way| {
        let (ended, how) = channel();
        let mut setup = Setup::new(way);
        setup.heartbeat = Duration::from_secs(1);
        let open = Streams(move |_: ConnectionHandle| Reporting(Echo, ended.clone()));
        let server = setup.start::<A>(open);
        let began = Instant::now();
        let with = way.client();
        let silent = established_and_not_driven(server.tcp(), &with);
        let idle: Vec<_> =
            CLIENTS.iter().map(|(_, connect)| connect(server.tcp(), &with).unwrap()).collect();
        thread::scope(|scope| {
            let waiting: Vec<_> =
                idle.iter().map(|client| scope.spawn(|| client.recv().unwrap())).collect();
            assert_eq!(how.recv_timeout(PATIENCE), Ok(Err(Error::TimedOut(TimedOut::Peer))));
            // Two heartbeats, and 5 s.
            assert!(began.elapsed() >= Duration::from_secs(7), "after {:?}", began.elapsed());
            idle.iter().for_each(|client| client.send(b"still here").unwrap());
            for client in waiting {
                assert_eq!(client.join().unwrap().unwrap(), b"still here");
            }
        });
        drop(silent);
    });
}

fn what_is_under_way_for_too_long_does_not_put_off_a_stop<A: Adapter>() {
    let (ended, how) = channel();
    let mut setup = Setup::new(Way::FRAMES);
    setup.options = {
        let mut options = options();
        options.stop_timeout = DEADLINE;
        options
    };
    let open = Streams(move |_: ConnectionHandle| Reporting(Echo, ended.clone()));
    let server = setup.start::<A>(open);
    let peers = [0, 1].map(|at| Peer::connect(&server.at[at]));
    for peer in &peers {
        assert_eq!(peer.ask(b"one"), b"one");
        // More than waits without a buffer.
        peer.send(&frame(&[b'x'; 100])[..50]);
    }
    until("both are read", || server.pools.receive.leased() == 2);
    let began = Instant::now();
    server.handle.stop();
    for _ in &peers {
        assert_eq!(how.recv_timeout(PATIENCE).unwrap(), Err(Error::Aborted(CloseReason::Shutdown)));
    }
    assert!(began.elapsed() >= DEADLINE, "after {:?}", began.elapsed());
    for peer in &peers {
        assert!(peer.remaining_or_reset().is_empty());
    }
    server.join();
}

fn a_client_gives_up_a_server_that_says_nothing<A: Adapter>() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string().parse().unwrap();
    at_once([Way::CHALLENGE, Way::PYTHON, Way::MUTUAL, Way::FRAMES.in_tls()], |&way| {
        let with = way.client_that(|config| config.with_handshake_timeout(DEADLINE));
        let began = Instant::now();
        let failed = A::connect(&at, &with).err();
        assert_eq!(failed, Some(Error::TimedOut(TimedOut::Handshake)));
        assert!(began.elapsed() >= DEADLINE, "after {:?}", began.elapsed());
    });
}
