//! `connect`: messages, replies, and how it ends.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::channel;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use crate::KEY;
use crate::common::{At, Scratch, Server, by_hand, countersign};
use crate::peer::{Peer, Way, frame};
use crate::process::{Ran, Running, at_once, run};

const NONE: &[&str] = &["--scheme", "none"];
const MUTUAL: &[&str] = &["--scheme", "mutual"];
/// A mebibyte, which no buffer of either end holds.
const LONG: usize = 1 << 20;

/// A server of one connection that does what `play` says.
fn stage(play: impl FnOnce(Peer) + Send + 'static) -> (At, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = At::Tcp(listener.local_addr().unwrap());
    let actor = spawn(move || play(Peer(listener.accept().unwrap().0.into()).patient()));
    (at, actor)
}

/// `connect` to a server that does what `play` says.
fn on_stage(args: &[&str], input: &[u8], play: impl FnOnce(Peer) + Send + 'static) -> Ran {
    let scratch = Scratch::new();
    let (at, actor) = stage(play);
    let mut connect = countersign(&scratch);
    connect.args(["connect", &at.to_string()]).args(args).args(by_hand(args));
    connect.env("COUNTERSIGN_KEY", KEY);
    let ran = run(&mut connect, input);
    actor.join().unwrap();
    ran
}

/// `connect` to a `serve` with these arguments, over TCP and over a Unix socket.
fn served(serve: &[&str], connect: &[&str], input: &[u8], check: impl Fn(Ran)) {
    let scratch = Scratch::new();
    let listen = ["--listen", "127.0.0.1:0", "--listen", "unix:s"];
    let server = Server::start(&scratch, KEY, &[&listen, serve].concat());
    for at in &server.at {
        let mut command = countersign(&scratch);
        command.args(["connect", &at.to_string()]).args(connect).args(by_hand(connect));
        command.env("COUNTERSIGN_KEY", KEY);
        check(run(&mut command, input));
    }
}

#[test]
fn each_message_is_answered_on_a_line_of_its_own() {
    for scheme in [&[][..], NONE, MUTUAL] {
        let connect = [scheme, &["--message", "one", "--message", "two and three"]].concat();
        served(scheme, &connect, b"", |ran| ran.exited(0).printed("ONE\nTWO AND THREE\n"));
    }
}

#[test]
fn lines_of_a_pipe_are_messages_until_quit() {
    for scheme in [&[][..], NONE, MUTUAL] {
        served(scheme, scheme, b"one\ntwo\nquit\nthree\n", |ran| {
            ran.exited(0).printed("ONE\nTWO\n");
        });
    }
}

#[test]
fn a_last_line_needs_no_newline_and_the_end_of_a_pipe_is_the_end() {
    for scheme in [&[][..], NONE, MUTUAL] {
        served(scheme, scheme, b"one\nquite", |ran| ran.exited(0).printed("ONE\nQUITE\n"));
    }
}

#[test]
fn without_any_message_there_is_nothing_to_print_and_nothing_wrong() {
    for scheme in [&[][..], NONE, MUTUAL] {
        served(scheme, scheme, b"", |ran| ran.exited(0).printed(""));
    }
}

#[test]
fn an_empty_message_has_an_empty_reply_where_messages_have_bounds() {
    served(NONE, NONE, b"\none\n\n", |ran| ran.exited(0).printed("\nONE\n\n"));
}

#[test]
fn messages_longer_than_every_buffer_come_back_whole() {
    for scheme in [&[][..], NONE, MUTUAL] {
        let line = "abcdefg ".repeat(LONG / 8);
        let input = format!("{line}\nlast\n");
        served(scheme, scheme, input.as_bytes(), |ran| {
            let ran = ran.exited(0);
            assert!(ran.err.is_empty(), "{}", ran.err);
            assert!(ran.out == format!("{}\nLAST\n", line.to_uppercase()), "not what was sent");
        });
    }
}

#[test]
fn many_messages_need_no_reader_in_between() {
    let input: String = (0..10_000).map(|n| format!("message {n}\n")).collect();
    served(NONE, NONE, input.as_bytes(), |ran| ran.exited(0).printed(&input.to_uppercase()));
}

#[test]
fn frames_are_those_that_others_write() {
    let ran = on_stage(&[NONE, &["--message", "one", "--message", ""]].concat(), b"", |peer| {
        assert_eq!(peer.read(7), b"\0\0\0\x03one");
        assert_eq!(peer.read(4), b"\0\0\0\0");
        peer.send(b"\0\0\0\x05a\nb\0c\0\0\0\0");
        assert!(peer.rest().is_empty());
    });
    ran.exited(0).printed("a\nb\0c\n\n");
}

#[test]
fn a_long_frame_in_pieces_is_one_reply() {
    let ran = on_stage(&[NONE, &["--message", "one"]].concat(), b"", |peer| {
        assert_eq!(peer.read_frame(), b"one");
        for piece in frame(&vec![b'x'; LONG]).chunks(LONG / 7) {
            peer.send(piece);
        }
        assert!(peer.rest().is_empty());
    });
    ran.exited(0).printed(&format!("{}\n", "x".repeat(LONG)));
}

#[test]
fn a_frame_beyond_max_frame_breaks_the_protocol() {
    for len in [101, u32::MAX] {
        let ran = on_stage(
            &[NONE, &["--message", "one", "--max-frame", "100"]].concat(),
            b"",
            move |peer| {
                assert_eq!(peer.read_frame(), b"one");
                peer.send(&len.to_be_bytes());
                peer.rest();
            },
        )
        .exited(5);
        ran.said(&len.to_string());
    }
}

#[test]
fn a_frame_of_just_max_frame_is_taken() {
    let ran =
        on_stage(&[NONE, &["--message", "one", "--max-frame", "100"]].concat(), b"", |peer| {
            assert_eq!(peer.read_frame(), b"one");
            peer.send(&frame(&[b'x'; 100]));
            assert!(peer.rest().is_empty());
        });
    ran.exited(0).printed(&format!("{}\n", "x".repeat(100)));
}

#[test]
fn a_reply_cut_off_is_told_from_a_whole_one() {
    let ran = on_stage(&[NONE, &["--message", "one"]].concat(), b"", |peer| {
        assert_eq!(peer.read_frame(), b"one");
        peer.send(b"\0\0\0\x05hel");
        peer.finish();
        peer.rest();
    });
    ran.exited(4).said("middle of a message");
}

#[test]
fn raw_replies_are_printed_as_they_come() {
    let scratch = Scratch::new();
    let (seen, go_on) = channel();
    let (at, actor) = stage(move |peer| {
        peer.send(&[7; 32]);
        peer.read(32);
        assert_eq!(peer.read(5), b"hello");
        peer.send(b"first ");
        go_on.recv().unwrap();
        peer.send(b"second");
        assert!(peer.rest().is_empty());
    });
    let mut connect = countersign(&scratch);
    connect.args(["connect", &at.to_string(), "--scheme", "challenge"]);
    connect.args(["--message", "hello", "--linger", "60"]);
    let running = Running::start(connect.env("COUNTERSIGN_KEY", KEY));
    running.out.wait("the first piece", |out, _| out.starts_with("first "));
    seen.send(()).unwrap();
    // After the silence between them they may be on two lines.
    let ran = running.end().exited(0);
    assert_eq!(ran.out.replace('\n', ""), "first second");
    assert!(ran.out.ends_with('\n'));
    actor.join().unwrap();
}

#[test]
fn a_server_that_never_closes_is_left_after_the_linger() {
    let (keep, kept) = channel();
    let began = Instant::now();
    let ran = on_stage(&["--message", "hello", "--linger", "0.3"], b"", move |peer| {
        peer.send(&[7; 32]);
        peer.read(32 + 5);
        peer.send(b"HELLO");
        assert!(peer.rest().is_empty());
        keep.send(peer).unwrap();
    });
    ran.exited(0).printed("HELLO\n");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");
    drop(kept);
}

#[test]
fn the_challenge_may_come_in_pieces() {
    let ran = on_stage(&["--message", "hello"], b"", |peer| {
        peer.0.set_tcp_nodelay(true).unwrap();
        for byte in 0..32 {
            peer.send(&[byte]);
        }
        let challenge: Vec<u8> = (0..32).collect();
        assert_eq!(peer.read(32), crate::peer::answer(KEY, &challenge));
        assert_eq!(peer.read(5), b"hello");
        peer.send(b"HELLO");
        assert!(peer.rest().is_empty());
    });
    ran.exited(0).printed("HELLO\n");
}

#[test]
fn nothing_listening_is_a_connection_refused() {
    let scratch = Scratch::new();
    // Bound and not listening: nobody else can be given this port meanwhile.
    let taken = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    taken.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = taken.local_addr().unwrap().as_socket().unwrap().to_string();
    for at in [&port, "unix:nobody"] {
        for scheme in [&[][..], NONE, MUTUAL] {
            let mut connect = countersign(&scratch);
            connect.args(["connect", at, "--message", "x"]).args(scheme);
            let ran = run(connect.env("COUNTERSIGN_KEY", KEY), b"").exited(4);
            ran.printed("");
            ran.said(at);
            ran.said("is the server running");
        }
    }
}

#[test]
fn a_wrong_key_is_refused_and_the_message_says_what_to_look_at() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, KEY, &["--listen", "127.0.0.1:0", "--listen", "unix:s"]);
    for at in &server.at {
        for connect in [&["--message", "hello"][..], &["--digest", "sha512", "--message", "hello"]]
        {
            let mut command = countersign(&scratch);
            command.args(["connect", &at.to_string()]).args(connect).args(by_hand(connect));
            let key = if connect.len() == 2 { "another key that is long enough" } else { KEY };
            let ran = run(command.env("COUNTERSIGN_KEY", key), b"").exited(3);
            ran.printed("");
            ran.said("another key");
            ran.said("--digest");
        }
    }
}

#[test]
fn a_reset_right_after_our_answer_is_a_refusal_too() {
    let ran = on_stage(&["--message", "hello"], b"", |peer| {
        peer.send(&[7; 32]);
        peer.read(32);
        peer.reset();
    });
    ran.exited(3).said("another key");
}

#[test]
fn a_challenge_that_stops_short_is_waited_for_until_the_handshake_times_out() {
    let began = Instant::now();
    let ran = on_stage(&["--message", "x", "--handshake-timeout", "1"], b"", |peer| {
        peer.send(&[7; 31]);
        assert!(peer.rest().is_empty());
    });
    ran.exited(4).said("handshake took too long");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_server_that_closes_during_the_handshake_is_a_connection_lost() {
    for len in [0, 31] {
        let ran = on_stage(&["--message", "hello"], b"", move |peer| {
            peer.send(&vec![7; len]);
            peer.finish();
            assert!(peer.rest().is_empty());
        });
        ran.exited(4).said("before the handshake was over");
    }
}

#[test]
fn a_server_that_resets_during_the_handshake_is_a_connection_lost() {
    for len in [0, 31] {
        let ran = on_stage(&["--message", "hello"], b"", move |peer| {
            peer.send(&vec![7; len]);
            peer.reset();
        });
        // It may be so quick that not even connecting succeeds.
        ran.exited(4).said("Connection reset");
    }
}

#[test]
fn a_server_that_leaves_between_messages_is_a_connection_lost() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, KEY, &["--listen", "127.0.0.1:0"]);
    let mut connect = countersign(&scratch);
    connect.args(["connect", &server.at[0].to_string(), "--scheme", "challenge"]);
    let mut running = Running::start(connect.env("COUNTERSIGN_KEY", KEY));
    running.type_in(b"hello\n");
    running.out.wait("a reply", |out, _| out == "HELLO\n");
    drop(server);
    // Its input is still open: it need not wait for a line to notice.
    running.err.whole();
    let ran = running.end().exited(4);
    ran.printed("HELLO\n");
}

#[test]
fn a_server_that_closes_after_the_last_answer_has_done_its_part() {
    // Often enough for either thread to be the first to notice.
    for _ in 0..10 {
        on_stage(&["--message", "hello"], b"", |peer| {
            peer.send(&[7; 32]);
            peer.read(32 + 5);
            peer.send(b"HELLO");
            peer.finish();
            peer.rest();
        })
        .exited(0)
        .printed("HELLO\n");
        on_stage(&[NONE, &["--message", "hello"]].concat(), b"", |peer| {
            assert_eq!(peer.read_frame(), b"hello");
            peer.send(&frame(b"HELLO"));
            peer.finish();
            peer.rest();
        })
        .exited(0)
        .printed("HELLO\n");
    }
}

#[test]
fn what_the_server_says_before_any_message_is_printed() {
    let ran = on_stage(&[], b"", |peer| {
        peer.send(&[7; 32]);
        peer.read(32);
        peer.send(b"welcome\n");
        peer.finish();
        peer.rest();
    });
    // It may be gone before there is a message: that is for it to decide.
    assert_eq!(ran.out, "welcome\n");
}

#[test]
fn a_client_of_ours_and_a_plain_one_see_the_same_frames() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, KEY, &["--scheme", "none", "--listen", "127.0.0.1:0"]);
    let peer = Peer::enter(&server.at[0], Way::Frames);
    for message in [&b""[..], b"x", &vec![b'y'; LONG]] {
        assert!(peer.ask(Way::Frames, message) == message.to_ascii_uppercase());
    }
    peer.finish();
    assert!(peer.rest().is_empty());
}

#[test]
fn what_was_sent_has_left_when_the_program_ends_whatever_drives_it() {
    // About as much as the system holds for a peer that does not read: the rest is ours to keep.
    let lens = (200 << 10..=240 << 10).step_by(8 << 10);
    let adapters = ["std", "mio", "smol"].into_iter();
    let cases = adapters.flat_map(|adapter| lens.clone().map(move |len| (adapter, len)));
    at_once(cases, |(adapter, len)| {
        let scratch = Scratch::new();
        let listener = UnixListener::bind(scratch.path().join("raw")).unwrap();
        let actor = spawn(move || {
            let peer = Peer(listener.accept().unwrap().0.into()).patient();
            peer.send(&[7; 32]);
            peer.read(32);
            peer.send(b"hello");
            // Longer than it lingers.
            sleep(Duration::from_secs(1));
            assert_eq!(peer.rest().len(), len, "{adapter}");
        });
        let mut connect = countersign(&scratch);
        connect.args(["connect", "unix:raw", "--linger", "0.05", "--adapter", adapter]);
        connect.args(["--scheme", "challenge"]).env("COUNTERSIGN_KEY", KEY);
        run(&mut connect, &vec![b'x'; len]).exited(0);
        actor.join().unwrap();
    });
}
