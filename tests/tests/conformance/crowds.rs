//! More than there is room for, and crowds of which half mean no good.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign::{Alert, Error, Framing};
use countersign_driver::services::{Echo, Upper};
use countersign_host::{
    ConnectionHandle, ConnectionLimit, LimitExceeded, PeerLimitOptions, PeerLimits, PoolOptions,
    Pools, Streams,
};
use countersign_tests::{ANOTHER_SECRET, FrameProtection, SessionSpec};

use crate::adapters::{Adapter, CLIENTS};
use crate::peer::{Peer, answer, frame};
use crate::running::{BUFFER, Setup};
use crate::ways::Way;
use crate::{PATIENCE, at_once, until};

on_every_adapter! {
    five_hundred_connections_of_which_half_misbehave,
    one_connection_too_many_is_turned_away_with_a_word_if_there_is_one,
    one_handshake_too_many_is_turned_away_with_a_word_if_there_is_one,
    an_address_that_keeps_failing_is_turned_away_and_those_it_has_served_stay,
    an_address_has_so_many_handshakes_at_once,
    a_flood_of_some_starves_nobody,
}

fn five_hundred_connections_of_which_half_misbehave<A: Adapter>() {
    const CONNECTIONS: usize = 500;
    const ROUNDS: usize = 3;
    let mut setup = Setup::new(Way::FRAMES);
    setup.config =
        |config| config.with_max_frame(100_000).with_stall_timeout(Duration::from_secs(2));
    let server = setup.start::<A>(Streams(|_: ConnectionHandle| Upper));
    let peers: Vec<_> = (0..CONNECTIONS).map(|n| Peer::connect(&server.at[n % 2])).collect();
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (n, peer) in peers.into_iter().enumerate() {
        if n / 2 % 2 == 0 { good.push(peer) } else { bad.push(peer) }
    }
    // Each as bad as it can be in its own way; those that stay are given up at their deadlines.
    let mut staying = Vec::new();
    for (n, peer) in bad.into_iter().enumerate() {
        let mischief: &[u8] = match n % 6 {
            // A length beyond the limit.
            0 => b"\xff\xff\xff\xff and more",
            // Half a header; half a message.
            1 => b"\0\0",
            2 => b"\0\0\0\x64 half a message, and more than waits without a buffer",
            // Messages whose answers it does not read.
            3 => &frame(&[b'x'; 60_000]),
            // Nothing at all.
            _ => b"",
        };
        // It may be turned away in the middle of it.
        peer.0.set_nonblocking(true).unwrap();
        let _ = peer.0.send(mischief);
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
                        assert!(peer.ask(&message) == message.to_ascii_uppercase());
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(served.load(Ordering::Relaxed), good.len() * ROUNDS);
    for peer in &good {
        peer.finish();
        assert!(peer.remaining().is_empty());
    }
    // Of the others only those are left that have said nothing wrong.
    drop(staying);
    server.until_empty();
}

/// Every scheme, with what it has for those who are turned away.
fn words() -> Vec<(Way, Option<Error>)> {
    let busy = Some(Error::Alert(Alert::Busy));
    vec![
        (Way::CHALLENGE, None),
        (Way::PYTHON, None),
        (Way::MUTUAL, busy),
        // In TLS there is nothing to say before its handshake is over.
        (Way::plain(SessionSpec::None(Framing::U32)).in_tls(), None),
        (Way::plain(SessionSpec::Mutual(FrameProtection::Tags)).in_tls(), None),
    ]
}

/// Fails unless a client of each kind is turned away by `server` with this word.
fn is_turned_away(server: &crate::running::Running, word: Option<Error>) {
    for &(name, connect) in CLIENTS {
        for at in &server.at {
            // The word may be lost with the connection, but is never another.
            let error = connect(at, &server.way.client()).err();
            let error = error.unwrap_or_else(|| panic!("{name} was let in"));
            match word {
                Some(word) => {
                    assert!([word, Error::Transport].contains(&error), "{name}: {error:?}");
                }
                None => {
                    assert!(
                        matches!(error, Error::Truncated(_) | Error::Transport),
                        "{name}: {error:?}"
                    );
                }
            }
        }
    }
}

fn one_connection_too_many_is_turned_away_with_a_word_if_there_is_one<A: Adapter>() {
    at_once(words(), |&(way, word)| {
        let mut setup = Setup::new(way);
        setup.options.connection_limit = ConnectionLimit::new(2);
        let server = setup.start::<A>(Streams(|_: ConnectionHandle| Echo));
        let with = way.client();
        let enter = |at: usize| {
            let mut client = None;
            until("there is a place", || {
                client = A::connect(&server.at[at], &with).ok();
                client.is_some()
            });
            let client = client.unwrap();
            client.send(b"hello").unwrap();
            assert_eq!(client.recv().unwrap().unwrap(), b"hello");
            client
        };
        let mut clients = vec![enter(0), enter(1)];
        server.until_open(2);
        is_turned_away(&server, word);
        for client in &clients {
            client.send(b"still here").unwrap();
            assert_eq!(client.recv().unwrap().unwrap(), b"still here");
        }
        // A place given back is a place.
        drop(clients.pop());
        server.until_open(1);
        drop(enter(1));
    });
}

fn one_handshake_too_many_is_turned_away_with_a_word_if_there_is_one<A: Adapter>() {
    at_once(words(), |&(way, word)| {
        // Schemes without a handshake have none too many.
        if !way.has_key() {
            return;
        }
        let mut options = PoolOptions::default();
        options.handshakes = 2;
        let mut setup = Setup::new(way);
        setup.pools = Pools::new(&options);
        let server = setup.start::<A>(Streams(|_: ConnectionHandle| Echo));
        let strangers = [0, 1].map(|at| Peer::connect(&server.at[at]));
        until("both have begun", || server.pools.handshake.leased() == 2);
        is_turned_away(&server, word);
        drop(strangers);
        server.until_empty();
        let client = A::connect(server.tcp(), &way.client()).unwrap();
        client.send(b"hello").unwrap();
        assert_eq!(client.recv().unwrap().unwrap(), b"hello");
    });
}

/// One whose peers, who are all on this machine, are limited.
fn limited(way: Way, handshakes: u32, failures: u32) -> Setup {
    let mut options = PeerLimitOptions::default();
    (options.handshakes, options.failures, options.local) = (handshakes, failures, true);
    options.failure_expiry = 10 * PATIENCE;
    let mut setup = Setup::new(way);
    setup.options.peer_limits = PeerLimits::new(options);
    setup
}

fn an_address_that_keeps_failing_is_turned_away_and_those_it_has_served_stay<A: Adapter>() {
    const FAILURES: u32 = 3;
    at_once([Way::CHALLENGE, Way::PYTHON, Way::MUTUAL, Way::MUTUAL.in_tls()], |&way| {
        let server = limited(way, 99, FAILURES).start::<A>(Streams(|_: ConnectionHandle| Echo));
        for at in &server.at {
            let ask = |client: &dyn crate::adapters::Client| {
                client.send(b"hello").unwrap();
                assert_eq!(client.recv().unwrap().unwrap(), b"hello");
            };
            let friend = A::connect(at, &way.client()).unwrap();
            ask(&*friend);
            for _ in 0..FAILURES {
                // What tells a client depends on the scheme; that it has no answer does not.
                let guesser = A::connect(at, &way.client_with(ANOTHER_SECRET));
                assert!(guesser.is_err() || is_left(&*guesser.unwrap()));
                server.until_open(1);
            }
            let other = A::connect(at, &way.client());
            assert!(other.is_err() || is_left(&*other.unwrap()));
            ask(&*friend);
            drop(friend);
            server.until_open(0);
        }
    });
    assert_eq!(LimitExceeded::Failures.code(), "too-many-failures");
}

/// Whether the server has ended the connection without an answer.
fn is_left(client: &dyn crate::adapters::Client) -> bool {
    let _ = client.send(b"hello");
    matches!(client.recv(), Ok(None) | Err(_))
}

fn an_address_has_so_many_handshakes_at_once<A: Adapter>() {
    let server = limited(Way::CHALLENGE, 2, 99).start::<A>(Streams(|_: ConnectionHandle| Echo));
    for at in &server.at {
        // Whoever was answered may count for a moment longer.
        let greeted = || {
            let mut greeted = None;
            until("there is room", || {
                let (peer, mut challenge) = (Peer::connect(at), [0; 32]);
                let heard = std::io::Read::read_exact(&mut &peer.0, &mut challenge);
                greeted = heard.is_ok().then_some((peer, challenge));
                greeted.is_some()
            });
            greeted.unwrap()
        };
        let enter = || {
            let (friend, challenge) = greeted();
            friend.send(&answer(&challenge));
            friend.send(b"hello");
            assert_eq!(friend.read(5), b"hello");
            friend
        };
        let friends: Vec<_> = (0..5).map(|_| enter()).collect();
        let strangers = [greeted(), greeted()];
        assert!(Peer::connect(at).remaining_or_reset().is_empty());
        drop(strangers);
        drop((friends, enter()));
        server.until_open(0);
    }
}

fn a_flood_of_some_starves_nobody<A: Adapter>() {
    const FLOODS: usize = 8;
    const QUESTIONS: usize = 200;
    /// Far more than an answer takes on a busy machine.
    const PROMPT: Duration = Duration::from_secs(3);
    let server = Setup::new(Way::FRAMES).start::<A>(Streams(|_: ConnectionHandle| Echo));
    let enough = AtomicBool::new(false);
    let answered: Vec<_> = (0..FLOODS).map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for (n, answered) in answered.iter().enumerate() {
            let (server, enough) = (&server, &enough);
            scope.spawn(move || {
                let peer = Peer::connect(&server.at[n % 2]);
                let message = frame(&[b'x'; 3 * BUFFER]);
                thread::scope(|scope| {
                    scope.spawn(|| {
                        while !enough.load(Ordering::Relaxed) {
                            peer.send(&message);
                        }
                        peer.finish();
                    });
                    let mut answers = vec![0; 1 << 16];
                    loop {
                        match std::io::Read::read(&mut &peer.0, &mut answers).unwrap() {
                            0 => return,
                            n => answered.fetch_add(n, Ordering::Relaxed),
                        };
                    }
                });
            });
        }
        until("the floods flow", || answered.iter().all(|it| it.load(Ordering::Relaxed) > 0));
        let neighbour = Peer::connect(server.tcp());
        let mut slowest = Duration::ZERO;
        for _ in 0..QUESTIONS {
            let asked = Instant::now();
            assert_eq!(neighbour.ask(b"hello"), b"hello");
            slowest = slowest.max(asked.elapsed());
        }
        // Nobody was served at another's expense, the floods included.
        let before: Vec<_> = answered.iter().map(|it| it.load(Ordering::Relaxed)).collect();
        until("all floods flow still", || {
            answered.iter().zip(&before).all(|(it, before)| it.load(Ordering::Relaxed) > *before)
        });
        enough.store(true, Ordering::Relaxed);
        assert!(slowest < PROMPT, "the slowest of {QUESTIONS} answers took {slowest:?}");
    });
    server.until_empty();
}
