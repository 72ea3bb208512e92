//! More than there is room for.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::KEY;
use crate::common::{At, PATIENCE, Scratch, Server, allow_files, by_hand};
use crate::neighbour::Neighbour;
use crate::peer::{Peer, Way};
use crate::process::at_once;

const WAY: Way = Way::Challenge(KEY);
/// Either transport, of one worker and of two.
const SHAPES: [[&str; 4]; 4] = [
    ["--listen", "127.0.0.1:0", "--workers", "1"],
    ["--listen", "127.0.0.1:0", "--workers", "2"],
    ["--listen", "unix:s", "--workers", "1"],
    ["--listen", "unix:s", "--workers", "2"],
];

/// Tries anew until somebody is served: a place is free some time after its holder has left.
fn is_served_in_the_end(at: &At) -> Peer {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        let peer = Peer::connect(at);
        let mut challenge = [0; 32];
        if std::io::Read::read_exact(&mut &peer.0, &mut challenge).is_ok() {
            peer.send(&crate::peer::answer(KEY, &challenge));
            assert_eq!(peer.ask(WAY, b"again"), b"AGAIN");
            return peer;
        }
    }
    panic!("nobody is served any more");
}

#[test]
fn five_thousand_silent_strangers_are_waited_for_together_and_closed() {
    const STRANGERS: usize = 5_000;
    if !allow_files(STRANGERS as u64 + 500) {
        return;
    }
    let scratch = Scratch::new();
    // More than an adapter with a thread for each lets in unasked.
    let args = ["--listen", "127.0.0.1:0", "--handshake-timeout", "5", "--max-connections", "5500"];
    let args = [&args[..], &["--workers", "2"]].concat();
    let server = Server::start(&scratch, KEY, &args);
    let at = &server.at[0];
    let neighbour = Neighbour::move_in(at, WAY);
    let strangers: Vec<_> = (0..STRANGERS).map(|_| Peer::connect(at)).collect();
    for stranger in &strangers {
        assert_eq!(stranger.challenge().len(), 32);
    }
    for stranger in &strangers {
        assert!(stranger.rest().is_empty());
    }
    neighbour.move_out();
    let count = |log: &str| log.matches("reason=handshake-timeout").count();
    server.log.wait("as many time-outs", |log, _| count(log) == STRANGERS);
}

#[test]
fn one_more_than_max_connections_is_closed_at_once_and_a_place_given_back_is_a_place() {
    at_once(SHAPES, |shape| {
        let scratch = Scratch::new();
        let args = [&shape[..], &["--max-connections", "3"]].concat();
        let server = Server::start(&scratch, KEY, &args);
        let at = &server.at[0];
        let mut places: Vec<_> = (0..3).map(|_| Peer::enter(at, WAY)).collect();
        for place in &places {
            assert_eq!(place.ask(WAY, b"hello"), b"HELLO");
        }
        for _ in 0..5 {
            assert!(Peer::connect(at).rest().is_empty());
        }
        server.logged("reason=overload");
        for place in &places {
            assert_eq!(place.ask(WAY, b"hello"), b"HELLO");
        }
        for leave in [Peer::reset as fn(Peer), drop] {
            leave(places.remove(0));
            places.push(is_served_in_the_end(at));
            assert!(Peer::connect(at).rest().is_empty());
        }
    });
}

#[test]
fn a_stranger_gives_its_place_back_at_its_deadline() {
    let scratch = Scratch::new();
    let args = ["--listen", "127.0.0.1:0", "--max-connections", "1", "--handshake-timeout", "0.5"];
    let server = Server::start(&scratch, KEY, &args);
    let stranger = Peer::connect(&server.at[0]);
    stranger.challenge();
    assert!(Peer::connect(&server.at[0]).rest().is_empty());
    is_served_in_the_end(&server.at[0]);
    assert!(stranger.rest().is_empty());
}

#[test]
fn a_server_short_of_files_serves_whom_it_has_and_later_the_others() {
    at_once(SHAPES, |shape| {
        let scratch = Scratch::new();
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n 40; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_countersign")]);
        shell.args(["serve", "--handshake-timeout", "60"]).args(shape).args(by_hand(&shape));
        shell.current_dir(scratch.path()).env("COUNTERSIGN_KEY", KEY);
        let server = Server::spawn(shell, 1);
        let at = &server.at[0];
        server.logged("raise `ulimit -n`");
        let old = Peer::enter(at, WAY);
        assert_eq!(old.ask(WAY, b"old"), b"OLD");
        let crowd: Vec<_> = (0..80).map(|_| Peer::connect(at)).collect();
        server.logged("cannot accept");
        for _ in 0..10 {
            assert_eq!(old.ask(WAY, b"old"), b"OLD");
        }
        // Those at the end of the queue have no challenge yet, and have it when others leave.
        assert!(!crowd[79].is_over_within(Duration::from_millis(200)));
        let (first, last) = crowd.split_at(60);
        first.iter().for_each(|peer| peer.0.shutdown(std::net::Shutdown::Both).unwrap());
        for peer in last {
            peer.0.set_read_timeout(Some(PATIENCE)).unwrap();
            peer.send(&crate::peer::answer(KEY, &peer.challenge()));
            assert_eq!(peer.ask(WAY, b"late"), b"LATE");
        }
        assert_eq!(old.ask(WAY, b"old"), b"OLD");
        // It complains once, not as often as it tries.
        let complaints = server.log.wait("the log", |_, _| true).matches("cannot accept").count();
        assert!(complaints < 10, "{complaints} complaints");
    });
}

#[test]
fn clients_that_never_read_cost_little_memory_and_lose_nothing() {
    const CLIENTS: usize = 8;
    /// Each of them: more than all the system's buffers between the two hold.
    const FLOOD: usize = 64 << 20;
    at_once(SHAPES, |shape| {
        let scratch = Scratch::new();
        let server = Server::start(&scratch, KEY, &shape);
        let at = &server.at[0];
        let neighbour = Neighbour::move_in(at, WAY);
        let before = server.memory();
        let crowd: Vec<_> = (0..CLIENTS).map(|_| Peer::enter(at, WAY)).collect();
        let message: Vec<u8> = (b'a'..=b'z').cycle().take(26 << 11).collect();
        std::thread::scope(|scope| {
            let floods: Vec<_> = crowd
                .iter()
                .map(|peer| scope.spawn(|| peer.send_until_stuck(&message, FLOOD)))
                .collect();
            let sent: Vec<usize> = floods.into_iter().map(|flood| flood.join().unwrap()).collect();
            assert!(sent.iter().all(|&sent| sent < FLOOD), "the server never stops reading");
            let grown = server.memory().saturating_sub(before);
            assert!(grown < 4 << 20, "{grown} bytes more for {CLIENTS} clients");
            for (peer, sent) in crowd.iter().zip(sent) {
                let answers = peer.read(sent);
                let mut letters = (b'A'..=b'Z').cycle();
                assert!(answers.iter().all(|&byte| letters.next() == Some(byte)), "out of order");
            }
        });
        neighbour.move_out();
    });
}

#[test]
fn an_address_that_keeps_failing_is_refused_for_a_while_and_those_it_has_served_stay() {
    let scratch = Scratch::new();
    let args = ["--listen", "127.0.0.1:0", "--limit-local", "--source-failures", "3"];
    let server = Server::start(&scratch, KEY, &args);
    let at = &server.at[0];
    let friend = Peer::enter(at, WAY);
    // Ten a second are forgiven; this is faster.
    let since = Instant::now();
    loop {
        assert!(since.elapsed() < PATIENCE, "nobody stops the guesser");
        let guesser = Peer::connect(at);
        if std::io::Read::read_exact(&mut &guesser.0, &mut [0; 32]).is_err() {
            break;
        }
        guesser.send(&[0; 32]);
        guesser.rest();
    }
    server.logged("scheme=challenge reason=too-many-failures");
    assert_eq!(friend.ask(WAY, b"hello"), b"HELLO");
    is_served_in_the_end(at);
}

#[test]
fn an_address_has_so_many_handshakes_at_once_and_the_established_do_not_count() {
    let scratch = Scratch::new();
    let args = ["--listen", "127.0.0.1:0", "--limit-local", "--source-handshakes", "2"];
    let server = Server::start(&scratch, KEY, &args);
    let at = &server.at[0];
    // Only who is answered is known to be established.
    let enter = |_| {
        let friend = Peer::enter(at, WAY);
        assert_eq!(friend.ask(WAY, b"hello"), b"HELLO");
        friend
    };
    let friends: Vec<_> = (0..5).map(enter).collect();
    let strangers = [Peer::connect(at), Peer::connect(at)];
    for stranger in &strangers {
        assert_eq!(stranger.challenge().len(), 32);
    }
    assert!(Peer::connect(at).rest().is_empty());
    server.logged("scheme=challenge reason=too-many-handshakes");
    for friend in &friends {
        assert_eq!(friend.ask(WAY, b"hello"), b"HELLO");
    }
    drop(strangers);
    is_served_in_the_end(at);
}
