//! Clients that mean no good, or break, beside one that must not notice.

use std::thread;
use std::time::{Duration, Instant};

use crate::KEY;
use crate::common::{At, Scratch, Server};
use crate::neighbour::Neighbour;
use crate::peer::{Peer, Way, answer, frame};
use crate::process::at_once;

const WAY: Way = Way::Challenge(KEY);
/// What strangers get.
const DEADLINE: Duration = Duration::from_secs(1);
/// When a deadline must have passed, on however busy a machine.
const OVERDUE: Duration = Duration::from_secs(5);

/// Lets `attack` loose on servers of one worker and of two, over TCP and over a Unix socket, each
/// with a neighbour who must be served well all the while.
fn beside_a_neighbour(way: Way, args: &[&str], attack: impl Fn(&At, &Server) + Sync) {
    let cases = ["1", "2"].into_iter().flat_map(|workers| {
        ["127.0.0.1:0", "unix:s"].map(|listen| ["--workers", workers, "--listen", listen])
    });
    at_once(cases, |ours| {
        let scratch = Scratch::new();
        let server = Server::start(&scratch, KEY, &[&ours, args].concat());
        let neighbour = Neighbour::move_in(&server.at[0], way);
        attack(&server.at[0], &server);
        neighbour.move_out();
    });
}

/// Of the scheme challenge, with a deadline of a second.
fn strangers(attack: impl Fn(&At, &Server) + Sync) {
    beside_a_neighbour(WAY, &["--handshake-timeout", "1"], attack);
}

#[test]
fn a_wrong_answer_is_met_with_nothing_but_the_end() {
    strangers(|at, server| {
        for flip in [0, 31] {
            let peer = Peer::connect(at);
            let mut wrong = answer(KEY, &peer.challenge());
            wrong[flip] ^= 1;
            peer.send(&wrong);
            peer.send(b"and a message");
            assert!(peer.rest().is_empty());
        }
        server.logged("reason=wrong-key");
    });
}

#[test]
fn an_answer_to_another_challenge_is_a_wrong_one() {
    strangers(|at, _| {
        let (first, second) = (Peer::connect(at), Peer::connect(at));
        let (one, two) = (first.challenge(), second.challenge());
        assert_ne!(one, two);
        first.send(&answer(KEY, &two));
        second.send(&answer(KEY, &one));
        assert!(first.rest().is_empty() && second.rest().is_empty());
    });
}

#[test]
fn an_answer_may_come_byte_by_byte() {
    strangers(|at, _| {
        let peer = Peer::connect(at);
        if let At::Tcp(_) = at {
            peer.0.set_tcp_nodelay(true).unwrap();
        }
        for byte in answer(KEY, &peer.challenge()) {
            peer.send(&[byte]);
        }
        assert_eq!(peer.ask(WAY, b"hello"), b"HELLO");
    });
}

#[test]
fn data_in_the_answers_own_segment_is_data() {
    strangers(|at, _| {
        for split in [31, 32, 33] {
            let peer = Peer::connect(at);
            let bytes = [&answer(KEY, &peer.challenge())[..], b"hello"].concat();
            peer.send(&bytes[..split]);
            peer.send(&bytes[split..]);
            assert_eq!(peer.read(5), b"HELLO");
        }
        let peer = Peer::connect(at);
        let long = vec![b'x'; 1 << 20];
        let bytes = [&answer(KEY, &peer.challenge())[..], &long].concat();
        thread::scope(|scope| {
            scope.spawn(|| peer.send(&bytes));
            assert!(peer.read(long.len()) == long.to_ascii_uppercase());
        });
    });
}

/// Fails unless `peer`, connected at `since`, is closed at the deadline.
fn is_closed_at_the_deadline(peer: &Peer, since: Instant) {
    assert!(peer.is_over_within(OVERDUE), "still open after {:?}", since.elapsed());
    assert!(since.elapsed() >= DEADLINE * 9 / 10, "closed after {:?}", since.elapsed());
}

#[test]
fn whoever_says_nothing_is_closed_at_the_deadline() {
    strangers(|at, server| {
        let since = Instant::now();
        let (silent, halfway) = (Peer::connect(at), Peer::connect(at));
        silent.challenge();
        halfway.challenge();
        halfway.send(&[0; 31]);
        is_closed_at_the_deadline(&silent, since);
        is_closed_at_the_deadline(&halfway, since);
        server.logged("reason=handshake-timeout");
    });
}

#[test]
fn a_byte_now_and_then_moves_no_deadline() {
    strangers(|at, _| {
        let since = Instant::now();
        let peer = Peer::connect(at);
        peer.challenge();
        // The next byte is due when nothing has come for a while, which is all that may happen.
        while !peer.is_over_within(DEADLINE / 5) {
            assert!(since.elapsed() < OVERDUE, "still open");
            // The server may close between our look and our byte.
            let _ = peer.0.send(&[0]);
        }
        assert!(since.elapsed() >= DEADLINE * 9 / 10, "closed after {:?}", since.elapsed());
    });
}

#[test]
fn an_authenticated_client_may_be_silent_for_longer_than_the_deadline() {
    strangers(|at, _| {
        let peer = Peer::enter(at, WAY);
        assert!(!peer.is_over_within(DEADLINE * 2));
        assert_eq!(peer.patient().ask(WAY, b"hello"), b"HELLO");
    });
}

#[test]
fn garbage_is_a_wrong_answer() {
    strangers(|at, _| {
        for garbage in [
            &b"GET / HTTP/1.1\r\nHost: countersign.example\r\n\r\n"[..],
            &[0xff; 32],
            &[0; 200_000],
        ] {
            let peer = Peer::connect(at);
            // Some of it before the challenge is even read.
            peer.send(&garbage[..16]);
            peer.challenge();
            peer.send(&garbage[16..]);
            assert!(peer.rest().is_empty());
        }
    });
}

#[test]
fn a_reset_at_any_stage_harms_nobody_else() {
    strangers(|at, _| {
        for _ in 0..5 {
            Peer::connect(at).reset();

            let peer = Peer::connect(at);
            peer.challenge();
            peer.reset();

            let peer = Peer::connect(at);
            let right = answer(KEY, &peer.challenge());
            peer.send(&right[..16]);
            peer.reset();

            let peer = Peer::connect(at);
            peer.send(&[0; 32]);
            peer.reset();

            Peer::enter(at, WAY).reset();

            // With answers on their way that nobody reads.
            let peer = Peer::enter(at, WAY);
            peer.send(&[b'x'; 100_000]);
            peer.reset();

            let peer = Peer::enter(at, WAY);
            assert_eq!(peer.ask(WAY, b"hello"), b"HELLO");
            peer.reset();

            // With the server stuck on them.
            let peer = Peer::enter(at, WAY);
            peer.send_until_stuck(&[b'x'; 60_000], 1 << 20);
            peer.reset();
        }
    });
}

#[test]
fn a_reset_inside_a_frame_harms_nobody_else() {
    beside_a_neighbour(Way::Frames, &["--scheme", "none"], |at, _| {
        for len in [2, 4, 9] {
            let peer = Peer::enter(at, Way::Frames);
            peer.send(&frame(b"hello, hello")[..len]);
            peer.reset();
        }
    });
}

#[test]
fn a_client_that_half_closes_still_has_its_answers_and_then_the_end() {
    strangers(|at, _| {
        let peer = Peer::enter(at, WAY);
        peer.finish();
        assert!(peer.rest().is_empty());

        let peer = Peer::connect(at);
        peer.send(&[&answer(KEY, &peer.challenge())[..], b"hello"].concat());
        peer.finish();
        assert_eq!(peer.rest(), b"HELLO");

        let peer = Peer::enter(at, WAY);
        assert_eq!(peer.ask(WAY, b"hello"), b"HELLO");
        let long = vec![b'x'; 3 << 20];
        thread::scope(|scope| {
            scope.spawn(|| {
                peer.send(&long);
                peer.finish();
            });
            assert!(peer.rest() == long.to_ascii_uppercase());
        });
    });
}

#[test]
fn a_stranger_that_half_closes_has_the_challenge_and_the_end() {
    strangers(|at, server| {
        for len in [0, 31] {
            let peer = Peer::connect(at);
            peer.send(&vec![0; len]);
            peer.finish();
            assert_eq!(peer.rest().len(), 32);
        }
        server.logged("reason=truncated-handshake");
    });
}

#[test]
fn frames_survive_a_half_close_too() {
    beside_a_neighbour(Way::Frames, &["--scheme", "none"], |at, server| {
        let peer = Peer::enter(at, Way::Frames);
        peer.send(&[frame(b"one"), frame(b""), frame(b"two")].concat());
        peer.finish();
        assert_eq!(peer.rest(), [frame(b"ONE"), frame(b""), frame(b"TWO")].concat());

        let peer = Peer::enter(at, Way::Frames);
        peer.send(&[&frame(b"one")[..], &frame(b"two")[..5]].concat());
        peer.finish();
        let rest = peer.rest();
        assert!(rest.starts_with(&frame(b"ONE")), "{rest:?}");
        server.logged("reason=truncated-message");
    });
}

#[test]
fn a_frame_beyond_the_limit_is_not_waited_for() {
    beside_a_neighbour(Way::Frames, &["--scheme", "none", "--max-frame", "1000"], |at, server| {
        for len in [1001, u32::MAX] {
            let peer = Peer::enter(at, Way::Frames);
            assert_eq!(peer.ask(Way::Frames, &[b'x'; 1000]), [b'X'; 1000]);
            peer.send(&len.to_be_bytes());
            assert!(peer.rest().is_empty());
        }
        let peer = Peer::enter(at, Way::Frames);
        peer.send(&[&frame(b"one")[..], &[0xff; 4], &[0; 1000]].concat());
        assert_eq!(peer.rest(), frame(b"ONE"));
        server.logged("reason=frame-too-long");
    });
}
