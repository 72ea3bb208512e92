//! Orderly stops.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use countersign::{CloseReason, Error};
use countersign_driver::services::{Echo, Upper};
use countersign_host::{ConnectionHandle, Streams};

use crate::adapters::{Adapter, CLIENTS, Client, Std};
use crate::peer::{Peer, frame};
use crate::running::{BUFFER, Setup};
use crate::services::{Asked, How, Later, Reporting, Sleeper};
use crate::ways::Way;
use crate::{PATIENCE, at_once, until};

on_every_adapter! {
    idle_connections_and_strangers_keep_no_server_from_ending,
    a_stop_under_load_loses_no_answer_that_was_due,
    a_stop_under_load_loses_no_answer_of_a_gateways,
    a_message_under_way_is_read_to_its_end_and_answered,
    answers_that_wait_for_their_reader_are_delivered,
    a_stop_accepts_nobody_and_waits_for_an_answer_that_another_thread_gives,
}

fn idle_connections_and_strangers_keep_no_server_from_ending<A: Adapter>() {
    at_once(Way::FEW, |&way| {
        let (ended, how) = channel();
        let open = Streams(move |_: ConnectionHandle| Reporting(Echo, ended.clone()));
        let server = Setup::new(way).start::<A>(open);
        let strangers: Vec<_> = server.at.iter().map(Peer::connect).collect();
        // Who has been answered is established.
        let mut clients = Vec::new();
        for (_, connect) in CLIENTS {
            let client = connect(server.tcp(), &way.client()).unwrap();
            client.send(b"hello").unwrap();
            assert_eq!(client.recv().unwrap().unwrap(), b"hello");
            clients.push(client);
        }
        server.until_open(strangers.len() + clients.len());
        let began = Instant::now();
        server.handle.stop();
        for client in &clients {
            assert_eq!(client.recv(), Ok(None));
            // It would be waited for, for a second, to agree.
            client.finish().unwrap();
        }
        server.join();
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        let ends: Vec<_> = how.try_iter().collect();
        assert_eq!(ends.len(), strangers.len() + clients.len());
        let given_up = Err(Error::Aborted(CloseReason::Shutdown));
        assert!(ends.iter().all(|end| [Ok(()), given_up].contains(end)), "{ends:?}");
    });
}

fn a_stop_under_load_loses_no_answer_that_was_due<A: Adapter>() {
    load::<A, _>(&Streams(|_: ConnectionHandle| Upper));
}

fn a_stop_under_load_loses_no_answer_of_a_gateways<A: Adapter>() {
    load::<A, _>(&Streams(|it: ConnectionHandle| Later::new(How::Worker(it.waker()))));
}

/// Stops a server while many ask. Whoever had sent its question before then has its answer.
fn load<A: Adapter, O>(open: &O)
where
    O: countersign_host::ServiceFactory<Service: 'static> + Clone + 'static,
{
    const CLIENTS: usize = 6;
    /// What each still asks when it knows of the stop, and may not be answered.
    const MORE: usize = 3;
    let ways = [Way::FRAMES, Way::PYTHON, Way::MUTUAL, Way::FRAMES.in_tls(), Way::MUTUAL.in_tls()];
    at_once(ways, |&way| {
        let server = Setup::new(way).start::<A>(open.clone());
        let stopped = AtomicBool::new(false);
        let answers = AtomicUsize::new(0);
        let with = way.client();
        // A message of theirs has left when it is sent.
        let clients: Vec<_> =
            (0..CLIENTS).map(|n| Std::connect(&server.at[n % 2], &with).unwrap()).collect();
        let ask = |client: &dyn Client, n: usize| {
            let mut left = MORE;
            for round in 0.. {
                let message = vec![b'a' + n as u8; 1 + round * 997 % (3 * BUFFER)];
                let sent = client.send(&message);
                // Sent before the stop: then it is due.
                let due = sent.is_ok() && !stopped.load(Ordering::SeqCst);
                match client.recv() {
                    Ok(Some(answer)) => assert!(answer == message.to_ascii_uppercase()),
                    other => return assert!(!due, "{other:?} for an answer in round {round}"),
                }
                answers.fetch_add(1, Ordering::Relaxed);
                if stopped.load(Ordering::SeqCst) {
                    left -= 1;
                }
                if left == 0 {
                    // Nothing is under way, so it is ended in order.
                    assert_eq!(client.recv(), Ok(None));
                    return client.finish().unwrap();
                }
            }
        };
        thread::scope(|scope| {
            let (ask, answers) = (&ask, &answers);
            let asking: Vec<_> = clients
                .iter()
                .enumerate()
                .map(|(n, client)| scope.spawn(move || ask(&**client, n)))
                .collect();
            // Who fails is heard of when all are joined.
            until("there is load", || {
                answers.load(Ordering::Relaxed) > 30 * CLIENTS
                    || asking.iter().any(thread::ScopedJoinHandle::is_finished)
            });
            stopped.store(true, Ordering::SeqCst);
            server.handle.stop();
        });
        drop(clients);
        server.join();
    });
}

fn a_message_under_way_is_read_to_its_end_and_answered<A: Adapter>() {
    let server = Setup::new(Way::FRAMES).start::<A>(Streams(|_: ConnectionHandle| Upper));
    let message = frame(b"half of it before, and half of it after");
    let peers = [0, 1].map(|at| Peer::connect(&server.at[at]));
    for peer in &peers {
        assert_eq!(peer.ask(b"hello"), b"HELLO");
        peer.send(&message[..25]);
    }
    until("both are read", || server.pools.receive.leased() == 2);
    server.handle.stop();
    refuses_everybody(&server.at[0]);
    for peer in &peers {
        peer.send(&message[25..]);
        assert_eq!(peer.hear(), message[4..].to_ascii_uppercase());
        assert!(peer.remaining().is_empty());
    }
    drop(peers);
    server.join();
}

/// Waits until nobody listens there any more.
fn refuses_everybody(at: &countersign_host::Address) {
    until("it goes on accepting", || Peer::try_connect(at).is_err());
}

fn answers_that_wait_for_their_reader_are_delivered<A: Adapter>() {
    at_once([0, 1], |&at: &usize| {
        let server = Setup::new(Way::FRAMES).start::<A>(Streams(|_: ConnectionHandle| Upper));
        let peer = Peer::connect(&server.at[at]);
        let message = frame(&[b'x'; 60_000]);
        // We take no answers, so in the end the server takes no more questions.
        let sent = peer.send_until_stuck(&message, 256 << 20);
        server.handle.stop();
        refuses_everybody(server.tcp());
        let begun = sent % message.len();
        let unsent = if begun == 0 { &[][..] } else { &message[begun..] };
        thread::scope(|scope| {
            scope.spawn(|| peer.send(unsent));
            for _ in 0..sent.div_ceil(message.len()) {
                assert!(peer.hear() == [b'X'; 60_000]);
            }
        });
        assert!(peer.remaining().is_empty());
        drop(peer);
        server.join();
    });
}

fn a_stop_accepts_nobody_and_waits_for_an_answer_that_another_thread_gives<A: Adapter>() {
    /// For as long as an idle connection would be closed in.
    const QUIET: Duration = Duration::from_millis(300);
    let (out, questions) = channel();
    let open = Streams(move |it: ConnectionHandle| Sleeper::new(it.waker(), out.clone()));
    let server = Setup::new(Way::FRAMES).start::<A>(open);
    let peers = [0, 1].map(|at| Peer::connect(&server.at[at]));
    peers.iter().for_each(|peer| peer.send(&frame(b"hello")));
    let asked = [0, 1].map(|_| questions.recv_timeout(PATIENCE).unwrap());
    server.handle.stop();
    server.at.iter().for_each(refuses_everybody);
    peers[0].0.set_read_timeout(Some(QUIET)).unwrap();
    let heard = io::Read::read(&mut &peers[0].0, &mut [0]);
    assert_eq!(heard.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    peers[0].0.set_read_timeout(Some(PATIENCE)).unwrap();
    asked.into_iter().for_each(Asked::tell);
    for peer in &peers {
        assert_eq!(peer.hear(), b"hello");
        assert!(peer.remaining().is_empty());
    }
    drop(peers);
    server.join();
}
