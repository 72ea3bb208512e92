//! SIGTERM and SIGINT.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::KEY;
use crate::common::{Scratch, Server};
use crate::peer::{Peer, Way, frame};
use crate::process::at_once;

const SIGNALS: [Signal; 2] = [Signal::TERM, Signal::INT];
const WAYS: [Way; 2] = [Way::Challenge(KEY), Way::Frames];
/// How long what is under way may take, with room for a busy machine.
const GRACE: Duration = Duration::from_secs(13);
const STOPPING: &str = "stopping";

fn server(scratch: &Scratch, way: Way, workers: &str) -> Server {
    let scheme = match way {
        Way::Challenge(_) => "challenge",
        Way::Frames => "none",
    };
    let args = ["--listen", "127.0.0.1:0", "--listen", "unix:s", "--workers", workers];
    Server::start(scratch, KEY, &[&args[..], &["--scheme", scheme]].concat())
}

#[test]
fn idle_clients_keep_no_server_from_ending() {
    let cases = SIGNALS.into_iter().flat_map(|signal| {
        WAYS.into_iter().flat_map(move |way| ["1", "2"].map(|workers| (signal, way, workers)))
    });
    at_once(cases, |(signal, way, workers)| {
        let scratch = Scratch::new();
        let server = server(&scratch, way, workers);
        let clients: Vec<_> =
            server.at.iter().cycle().take(8).map(|at| Peer::enter(at, way)).collect();
        for client in &clients {
            assert_eq!(client.ask(way, b"hello"), b"HELLO");
        }
        let strangers: Vec<_> = server.at.iter().map(Peer::connect).collect();
        let at = server.at.clone();
        let began = Instant::now();
        server.signal(signal);
        server.end().exited(0);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        for client in &clients {
            assert!(client.rest().is_empty());
        }
        assert!(at.iter().all(|at| Peer::try_connect(at).is_err()));
        drop(strangers);
    });
}

#[test]
fn a_server_without_clients_ends_at_once() {
    for signal in SIGNALS {
        let scratch = Scratch::new();
        let server = server(&scratch, Way::Frames, "2");
        server.signal(signal);
        let ran = server.end().exited(0);
        assert!(ran.err.contains(STOPPING), "{ran:?}");
    }
}

#[test]
fn a_message_under_way_is_read_to_its_end_and_answered() {
    at_once(SIGNALS, |signal| {
        let scratch = Scratch::new();
        let server = server(&scratch, Way::Frames, "1");
        let clients: Vec<_> = server.at.iter().map(|at| Peer::enter(at, Way::Frames)).collect();
        let message = frame(b"half before, half after");
        for client in &clients {
            assert_eq!(client.ask(Way::Frames, b"hello"), b"HELLO");
            client.send(&message[..12]);
        }
        // The server has those halves once it has answered somebody who came after them.
        for at in &server.at {
            assert_eq!(Peer::enter(at, Way::Frames).ask(Way::Frames, b"hello"), b"HELLO");
        }
        server.signal(signal);
        server.logged(STOPPING);
        for client in &clients {
            client.send(&message[12..]);
            assert_eq!(client.read_frame(), b"HALF BEFORE, HALF AFTER");
            assert!(client.rest().is_empty());
        }
        server.end().exited(0);
    });
}

#[test]
fn answers_that_wait_for_their_reader_are_delivered() {
    // Not of a byte stream over TCP: what the system still holds at the client's end is not under
    // way for a server that cannot know of it.
    let [raw, frames] = WAYS;
    at_once([(frames, 0), (frames, 1), (raw, 1)], |(way, index)| {
        let scratch = Scratch::new();
        let server = server(&scratch, way, "1");
        let client = Peer::enter(&server.at[index], way);
        assert_eq!(client.ask(way, b"hello"), b"HELLO");
        let message = match way {
            Way::Challenge(_) => vec![b'x'; 60_000],
            Way::Frames => frame(&[b'x'; 60_000]),
        };
        // We take no answers, so in the end the server takes no more questions.
        let sent = client.send_until_stuck(&message, usize::MAX);
        assert!(sent > message.len());
        let unsent = match way {
            Way::Challenge(_) => &[][..],
            Way::Frames if sent.is_multiple_of(message.len()) => &[],
            Way::Frames => &message[sent % message.len()..],
        };
        server.signal(Signal::TERM);
        server.logged(STOPPING);
        thread::scope(|scope| {
            scope.spawn(|| client.send(unsent));
            let answers = client.read(sent + unsent.len());
            assert!(!answers.contains(&b'x'));
        });
        assert!(client.rest().is_empty());
        server.end().exited(0);
    });
}

#[test]
fn a_message_that_never_ends_is_given_up_in_time() {
    let scratch = Scratch::new();
    let server = server(&scratch, Way::Frames, "1");
    let client = Peer::enter(&server.at[0], Way::Frames);
    assert_eq!(client.ask(Way::Frames, b"hello"), b"HELLO");
    client.send(&frame(b"half")[..6]);
    assert_eq!(Peer::enter(&server.at[0], Way::Frames).ask(Way::Frames, b"x"), b"X");
    let began = Instant::now();
    server.signal(Signal::TERM);
    server.end().exited(0);
    assert!(began.elapsed() < GRACE, "{:?}", began.elapsed());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (first, second, code) in [
        (Signal::TERM, Signal::TERM, 143),
        (Signal::INT, Signal::INT, 130),
        (Signal::TERM, Signal::INT, 130),
    ] {
        let scratch = Scratch::new();
        let server = server(&scratch, Way::Frames, "1");
        let client = Peer::enter(&server.at[0], Way::Frames);
        assert_eq!(client.ask(Way::Frames, b"hello"), b"HELLO");
        client.send(&frame(b"half")[..6]);
        assert_eq!(Peer::enter(&server.at[0], Way::Frames).ask(Way::Frames, b"x"), b"X");
        server.signal(first);
        server.logged(STOPPING);
        let began = Instant::now();
        server.signal(second);
        server.end().exited(code);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}
