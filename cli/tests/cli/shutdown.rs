//! Shutdown of `serve` by SIGTERM and SIGINT.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::KEY;
use crate::common::{Server, TempDir};
use crate::peer::{Peer, PeerScheme, frame};
use crate::process::in_parallel;

const SIGNALS: [Signal; 2] = [Signal::TERM, Signal::INT];
const SCHEMES: [PeerScheme; 2] = [PeerScheme::Challenge(KEY), PeerScheme::Frames];
/// The time that `serve` grants pending messages.
const GRACE: Duration = Duration::from_secs(10);
/// More than [`GRACE`] on a loaded machine, and less than the stall timeout of 30 s.
const GRACE_OVER: Duration = Duration::from_secs(25);
const STOPPING: &str = "stopping";

fn server(dir: &TempDir, scheme: PeerScheme, workers: &str) -> Server {
    let scheme = match scheme {
        PeerScheme::Challenge(_) => "challenge",
        PeerScheme::Frames => "none",
    };
    let args = ["--listen", "127.0.0.1:0", "--listen", "unix:s", "--workers", workers];
    Server::start(dir, KEY, &[&args[..], &["--scheme", scheme]].concat())
}

#[test]
fn idle_clients_do_not_delay_shutdown() {
    let cases = SIGNALS.into_iter().flat_map(|signal| {
        SCHEMES
            .into_iter()
            .flat_map(move |scheme| ["1", "2"].map(|workers| (signal, scheme, workers)))
    });
    in_parallel(cases, |(signal, scheme, workers)| {
        let dir = TempDir::new();
        let server = server(&dir, scheme, workers);
        let clients: Vec<_> =
            server.at.iter().cycle().take(8).map(|at| Peer::authenticated(at, scheme)).collect();
        for client in &clients {
            assert_eq!(client.request(scheme, b"hello"), b"HELLO");
        }
        let half_open: Vec<_> = server.at.iter().map(Peer::connect).collect();
        let at = server.at.clone();
        let began = Instant::now();
        server.signal(signal);
        server.wait().expect_code(0);
        // Idle connections take about a second. Without that rule they would take all of the grace.
        assert!(began.elapsed() < GRACE, "{:?}", began.elapsed());
        for client in &clients {
            assert!(client.read_to_end().is_empty());
        }
        assert!(at.iter().all(|at| Peer::try_connect(at).is_err()));
        drop(half_open);
    });
}

#[test]
fn server_without_clients_stops_on_a_signal() {
    for signal in SIGNALS {
        let dir = TempDir::new();
        let server = server(&dir, PeerScheme::Frames, "2");
        server.signal(signal);
        let output = server.wait().expect_code(0);
        assert!(output.err.contains(STOPPING), "{output:?}");
    }
}

#[test]
fn shutdown_answers_a_partial_message() {
    in_parallel(SIGNALS, |signal| {
        let dir = TempDir::new();
        let server = server(&dir, PeerScheme::Frames, "1");
        let clients: Vec<_> =
            server.at.iter().map(|at| Peer::authenticated(at, PeerScheme::Frames)).collect();
        let message = frame(b"half before, half after");
        for client in &clients {
            assert_eq!(client.request(PeerScheme::Frames, b"hello"), b"HELLO");
            client.send(&message[..12]);
        }
        // A server that answers a later client has read these halves.
        for at in &server.at {
            assert_eq!(
                Peer::authenticated(at, PeerScheme::Frames).request(PeerScheme::Frames, b"hello"),
                b"HELLO"
            );
        }
        server.signal(signal);
        server.wait_log(STOPPING);
        for client in &clients {
            client.send(&message[12..]);
            assert_eq!(client.read_frame(), b"HALF BEFORE, HALF AFTER");
            assert!(client.read_to_end().is_empty());
        }
        server.wait().expect_code(0);
    });
}

#[test]
fn shutdown_delivers_pending_replies() {
    // Not for a byte stream on TCP: the server cannot know of bytes that the client's kernel still holds.
    let [raw, frames] = SCHEMES;
    in_parallel([(frames, 0), (frames, 1), (raw, 1)], |(scheme, index)| {
        let dir = TempDir::new();
        let server = server(&dir, scheme, "1");
        let client = Peer::authenticated(&server.at[index], scheme);
        assert_eq!(client.request(scheme, b"hello"), b"HELLO");
        let message = match scheme {
            PeerScheme::Challenge(_) => vec![b'x'; 60_000],
            PeerScheme::Frames => frame(&[b'x'; 60_000]),
        };
        // Unread replies block the server, which then reads no more messages.
        let sent = client.send_until_blocked(&message, usize::MAX);
        assert!(sent > message.len());
        let unsent = match scheme {
            PeerScheme::Challenge(_) => &[][..],
            PeerScheme::Frames if sent.is_multiple_of(message.len()) => &[],
            PeerScheme::Frames => &message[sent % message.len()..],
        };
        server.signal(Signal::TERM);
        server.wait_log(STOPPING);
        thread::scope(|scope| {
            scope.spawn(|| client.send(unsent));
            let answers = client.read(sent + unsent.len());
            assert!(!answers.contains(&b'x'));
        });
        assert!(client.read_to_end().is_empty());
        server.wait().expect_code(0);
    });
}

#[test]
fn shutdown_abandons_an_endless_message() {
    let dir = TempDir::new();
    let server = server(&dir, PeerScheme::Frames, "1");
    let client = Peer::authenticated(&server.at[0], PeerScheme::Frames);
    assert_eq!(client.request(PeerScheme::Frames, b"hello"), b"HELLO");
    client.send(&frame(b"half")[..6]);
    assert_eq!(
        Peer::authenticated(&server.at[0], PeerScheme::Frames).request(PeerScheme::Frames, b"x"),
        b"X"
    );
    let began = Instant::now();
    server.signal(Signal::TERM);
    server.wait().expect_code(0);
    assert!(began.elapsed() < GRACE_OVER, "{:?}", began.elapsed());
}

#[test]
fn second_signal_exits_immediately() {
    for (first, second, code) in [
        (Signal::TERM, Signal::TERM, 143),
        (Signal::INT, Signal::INT, 130),
        (Signal::TERM, Signal::INT, 130),
    ] {
        let dir = TempDir::new();
        let server = server(&dir, PeerScheme::Frames, "1");
        let client = Peer::authenticated(&server.at[0], PeerScheme::Frames);
        assert_eq!(client.request(PeerScheme::Frames, b"hello"), b"HELLO");
        client.send(&frame(b"half")[..6]);
        assert_eq!(
            Peer::authenticated(&server.at[0], PeerScheme::Frames)
                .request(PeerScheme::Frames, b"x"),
            b"X"
        );
        server.signal(first);
        server.wait_log(STOPPING);
        server.signal(second);
        // After the grace, the exit code would be 0.
        server.wait().expect_code(code);
    }
}
