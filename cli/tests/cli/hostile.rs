//! Hostile and broken clients beside an honest one, which must not be disturbed.

use std::thread;
use std::time::{Duration, Instant};

use crate::KEY;
use crate::common::{PATIENCE, Server, ServerAddr, TempDir};
use crate::honest_client::HonestClient;
use crate::peer::{Peer, PeerScheme, frame, proof};
use crate::process::in_parallel;

const SCHEME: PeerScheme = PeerScheme::Challenge(KEY);
/// The handshake timeout where a test waits for it.
const DEADLINE: Duration = Duration::from_secs(2);

/// Runs `attack` against servers with one and two workers, on TCP and on a Unix socket. An honest client
/// must be served without delay at the same time.
fn beside_honest_client(
    scheme: PeerScheme,
    args: &[&str],
    attack: impl Fn(&ServerAddr, &Server) + Sync,
) {
    let cases = ["1", "2"].into_iter().flat_map(|workers| {
        ["127.0.0.1:0", "unix:s"].map(|listen| ["--workers", workers, "--listen", listen])
    });
    in_parallel(cases, |ours| {
        let dir = TempDir::new();
        let server = Server::start(&dir, KEY, &[&ours, args].concat());
        let honest = HonestClient::start(&server.at[0], scheme);
        attack(&server.at[0], &server);
        honest.finish();
    });
}

/// Runs `attack` with the scheme challenge. Handshakes do not time out, so that every close that a test
/// expects has another reason.
fn challenge(attack: impl Fn(&ServerAddr, &Server) + Sync) {
    beside_honest_client(SCHEME, &["--handshake-timeout", "600"], attack);
}

/// Runs `attack` with the scheme challenge and [`DEADLINE`].
fn with_short_deadline(attack: impl Fn(&ServerAddr, &Server) + Sync) {
    let deadline = DEADLINE.as_secs().to_string();
    beside_honest_client(SCHEME, &["--handshake-timeout", &deadline], attack);
}

#[test]
fn wrong_proof_is_answered_by_close_only() {
    challenge(|at, server| {
        for flip in [0, 31] {
            let peer = Peer::connect(at);
            let mut wrong = proof(KEY, &peer.challenge());
            wrong[flip] ^= 1;
            peer.send(&wrong);
            peer.send(b"and a message");
            assert!(peer.read_to_end().is_empty());
        }
        server.wait_log("reason=wrong-key");
    });
}

#[test]
fn proof_of_another_challenge_is_refused() {
    challenge(|at, _| {
        let (first, second) = (Peer::connect(at), Peer::connect(at));
        let (one, two) = (first.challenge(), second.challenge());
        assert_ne!(one, two);
        first.send(&proof(KEY, &two));
        second.send(&proof(KEY, &one));
        assert!(first.read_to_end().is_empty() && second.read_to_end().is_empty());
    });
}

#[test]
fn proof_in_single_bytes_is_accepted() {
    challenge(|at, _| {
        let peer = Peer::connect(at);
        if let ServerAddr::Tcp(_) = at {
            peer.0.set_tcp_nodelay(true).unwrap();
        }
        for byte in proof(KEY, &peer.challenge()) {
            peer.send(&[byte]);
        }
        assert_eq!(peer.request(SCHEME, b"hello"), b"HELLO");
    });
}

#[test]
fn data_in_the_same_segment_as_the_proof_is_kept() {
    challenge(|at, _| {
        for split in [31, 32, 33] {
            let peer = Peer::connect(at);
            let bytes = [&proof(KEY, &peer.challenge())[..], b"hello"].concat();
            peer.send(&bytes[..split]);
            peer.send(&bytes[split..]);
            assert_eq!(peer.read(5), b"HELLO");
        }
        let peer = Peer::connect(at);
        let long = vec![b'x'; 1 << 20];
        let bytes = [&proof(KEY, &peer.challenge())[..], &long].concat();
        thread::scope(|scope| {
            scope.spawn(|| peer.send(&bytes));
            assert!(peer.read(long.len()) == long.to_ascii_uppercase());
        });
    });
}

/// Fails unless `peer`, connected after `since`, is closed at the deadline.
fn is_closed_at_the_deadline(peer: &Peer, since: Instant) {
    assert!(peer.is_closed_within(PATIENCE), "still open after {:?}", since.elapsed());
    assert!(since.elapsed() >= DEADLINE * 9 / 10, "closed after {:?}", since.elapsed());
}

#[test]
fn silent_clients_are_closed_at_the_deadline() {
    with_short_deadline(|at, server| {
        let since = Instant::now();
        let (silent, halfway) = (Peer::connect(at), Peer::connect(at));
        silent.challenge();
        halfway.challenge();
        halfway.send(&[0; 31]);
        is_closed_at_the_deadline(&silent, since);
        is_closed_at_the_deadline(&halfway, since);
        server.wait_log("reason=handshake-timeout");
    });
}

#[test]
fn slow_bytes_do_not_extend_the_deadline() {
    with_short_deadline(|at, _| {
        let since = Instant::now();
        let peer = Peer::connect(at);
        peer.challenge();
        // A byte follows each silence.
        while !peer.is_closed_within(DEADLINE / 5) {
            assert!(since.elapsed() < PATIENCE, "still open");
            // The server may close before this byte arrives.
            let _ = peer.0.send(&[0]);
        }
        assert!(since.elapsed() >= DEADLINE * 9 / 10, "closed after {:?}", since.elapsed());
    });
}

#[test]
fn authenticated_client_may_idle_past_the_deadline() {
    with_short_deadline(|at, _| {
        let peer = Peer::authenticated(at, SCHEME);
        assert!(!peer.is_closed_within(DEADLINE * 2));
        assert_eq!(peer.with_timeouts().request(SCHEME, b"hello"), b"HELLO");
    });
}

#[test]
fn garbage_instead_of_proof_is_refused() {
    challenge(|at, _| {
        for garbage in [
            &b"GET / HTTP/1.1\r\nHost: countersign.example\r\n\r\n"[..],
            &[0xff; 32],
            &[0; 200_000],
        ] {
            let peer = Peer::connect(at);
            // Some of it before the challenge is read.
            peer.send(&garbage[..16]);
            peer.challenge();
            peer.send(&garbage[16..]);
            assert!(peer.read_to_end().is_empty());
        }
    });
}

#[test]
fn resets_do_not_disturb_other_clients() {
    challenge(|at, _| {
        for _ in 0..5 {
            Peer::connect(at).reset();

            let peer = Peer::connect(at);
            peer.challenge();
            peer.reset();

            let peer = Peer::connect(at);
            let right = proof(KEY, &peer.challenge());
            peer.send(&right[..16]);
            peer.reset();

            let peer = Peer::connect(at);
            peer.send(&[0; 32]);
            peer.reset();

            Peer::authenticated(at, SCHEME).reset();

            // With replies in flight that are never read.
            let peer = Peer::authenticated(at, SCHEME);
            peer.send(&[b'x'; 100_000]);
            peer.reset();

            let peer = Peer::authenticated(at, SCHEME);
            assert_eq!(peer.request(SCHEME, b"hello"), b"HELLO");
            peer.reset();

            // With the server blocked on its replies.
            let peer = Peer::authenticated(at, SCHEME);
            peer.send_until_blocked(&[b'x'; 60_000], 1 << 20);
            peer.reset();
        }
    });
}

#[test]
fn reset_within_a_frame_does_not_disturb_others() {
    beside_honest_client(PeerScheme::Frames, &["--scheme", "none"], |at, _| {
        for len in [2, 4, 9] {
            let peer = Peer::authenticated(at, PeerScheme::Frames);
            peer.send(&frame(b"hello, hello")[..len]);
            peer.reset();
        }
    });
}

#[test]
fn half_closed_client_gets_replies_then_close() {
    challenge(|at, _| {
        let peer = Peer::authenticated(at, SCHEME);
        peer.finish();
        assert!(peer.read_to_end().is_empty());

        let peer = Peer::connect(at);
        peer.send(&[&proof(KEY, &peer.challenge())[..], b"hello"].concat());
        peer.finish();
        assert_eq!(peer.read_to_end(), b"HELLO");

        let peer = Peer::authenticated(at, SCHEME);
        assert_eq!(peer.request(SCHEME, b"hello"), b"HELLO");
        let long = vec![b'x'; 3 << 20];
        thread::scope(|scope| {
            scope.spawn(|| {
                peer.send(&long);
                peer.finish();
            });
            assert!(peer.read_to_end() == long.to_ascii_uppercase());
        });
    });
}

#[test]
fn half_close_before_proof_gets_challenge_then_close() {
    challenge(|at, server| {
        for len in [0, 31] {
            let peer = Peer::connect(at);
            peer.send(&vec![0; len]);
            peer.finish();
            assert_eq!(peer.read_to_end().len(), 32);
        }
        server.wait_log("reason=truncated-handshake");
    });
}

#[test]
fn half_closed_client_gets_all_framed_replies() {
    beside_honest_client(PeerScheme::Frames, &["--scheme", "none"], |at, server| {
        let peer = Peer::authenticated(at, PeerScheme::Frames);
        peer.send(&[frame(b"one"), frame(b""), frame(b"two")].concat());
        peer.finish();
        assert_eq!(peer.read_to_end(), [frame(b"ONE"), frame(b""), frame(b"TWO")].concat());

        let peer = Peer::authenticated(at, PeerScheme::Frames);
        peer.send(&[&frame(b"one")[..], &frame(b"two")[..5]].concat());
        peer.finish();
        let rest = peer.read_to_end();
        assert!(rest.starts_with(&frame(b"ONE")), "{rest:?}");
        server.wait_log("reason=truncated-message");
    });
}

#[test]
fn overlong_frame_is_rejected_at_its_header() {
    beside_honest_client(
        PeerScheme::Frames,
        &["--scheme", "none", "--max-frame", "1000"],
        |at, server| {
            for len in [1001, u32::MAX] {
                let peer = Peer::authenticated(at, PeerScheme::Frames);
                assert_eq!(peer.request(PeerScheme::Frames, &[b'x'; 1000]), [b'X'; 1000]);
                peer.send(&len.to_be_bytes());
                assert!(peer.read_to_end().is_empty());
            }
            let peer = Peer::authenticated(at, PeerScheme::Frames);
            peer.send(&[&frame(b"one")[..], &[0xff; 4], &[0; 1000]].concat());
            assert_eq!(peer.read_to_end(), frame(b"ONE"));
            server.wait_log("reason=frame-too-long");
        },
    );
}
