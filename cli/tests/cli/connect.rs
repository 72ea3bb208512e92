//! `connect`: messages, replies and exit codes.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::channel;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use crate::KEY;
use crate::common::{Server, ServerAddr, TempDir, countersign, default_scheme};
use crate::peer::{Peer, PeerScheme, frame};
use crate::process::{Output, Process, in_parallel, run};

const NONE: &[&str] = &["--scheme", "none"];
const MUTUAL: &[&str] = &["--scheme", "mutual"];
/// The length of a message that exceeds the buffers of both ends.
const LONG: usize = 1 << 20;

/// A server that runs `script` on one connection.
fn scripted_server(script: impl FnOnce(Peer) + Send + 'static) -> (ServerAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = ServerAddr::Tcp(listener.local_addr().unwrap());
    let server_thread =
        spawn(move || script(Peer(listener.accept().unwrap().0.into()).with_timeouts()));
    (at, server_thread)
}

/// Runs `connect` against a server that runs `script`.
fn connect_to_scripted_server(
    args: &[&str],
    input: &[u8],
    script: impl FnOnce(Peer) + Send + 'static,
) -> Output {
    let dir = TempDir::new();
    let (at, server_thread) = scripted_server(script);
    let mut connect = countersign(&dir);
    connect.args(["connect", &at.to_string()]).args(args).args(default_scheme(args));
    connect.env("COUNTERSIGN_KEY", KEY);
    let output = run(&mut connect, input);
    server_thread.join().unwrap();
    output
}

/// Runs `connect` against `serve` with these options, on TCP and on a Unix socket.
fn served(serve: &[&str], connect: &[&str], input: &[u8], check: impl Fn(Output)) {
    let dir = TempDir::new();
    let listen = ["--listen", "127.0.0.1:0", "--listen", "unix:s"];
    let server = Server::start(&dir, KEY, &[&listen, serve].concat());
    for at in &server.at {
        let mut command = countersign(&dir);
        command.args(["connect", &at.to_string()]).args(connect).args(default_scheme(connect));
        command.env("COUNTERSIGN_KEY", KEY);
        check(run(&mut command, input));
    }
}

#[test]
fn each_reply_is_printed_on_its_own_line() {
    for scheme in [&[][..], NONE, MUTUAL] {
        let connect = [scheme, &["--message", "one", "--message", "two and three"]].concat();
        served(scheme, &connect, b"", |output| {
            output.expect_code(0).expect_stdout("ONE\nTWO AND THREE\n");
        });
    }
}

#[test]
fn piped_lines_are_messages_until_quit() {
    for scheme in [&[][..], NONE, MUTUAL] {
        served(scheme, scheme, b"one\ntwo\nquit\nthree\n", |output| {
            output.expect_code(0).expect_stdout("ONE\nTWO\n");
        });
    }
}

#[test]
fn last_piped_line_needs_no_newline() {
    for scheme in [&[][..], NONE, MUTUAL] {
        served(scheme, scheme, b"one\nquite", |output| {
            output.expect_code(0).expect_stdout("ONE\nQUITE\n");
        });
    }
}

#[test]
fn empty_input_prints_nothing_and_succeeds() {
    for scheme in [&[][..], NONE, MUTUAL] {
        served(scheme, scheme, b"", |output| output.expect_code(0).expect_stdout(""));
    }
}

#[test]
fn empty_framed_message_gets_an_empty_reply() {
    served(NONE, NONE, b"\none\n\n", |output| output.expect_code(0).expect_stdout("\nONE\n\n"));
}

#[test]
fn messages_longer_than_buffers_are_echoed_unchanged() {
    for scheme in [&[][..], NONE, MUTUAL] {
        let line = "abcdefg ".repeat(LONG / 8);
        let input = format!("{line}\nlast\n");
        served(scheme, scheme, input.as_bytes(), |output| {
            let output = output.expect_code(0);
            assert!(output.err.is_empty(), "{}", output.err);
            assert!(output.out == format!("{}\nLAST\n", line.to_uppercase()), "not what was sent");
        });
    }
}

#[test]
fn messages_can_be_pipelined() {
    let input: String = (0..10_000).map(|n| format!("message {n}\n")).collect();
    served(NONE, NONE, input.as_bytes(), |output| {
        output.expect_code(0).expect_stdout(&input.to_uppercase());
    });
}

#[test]
fn frames_have_the_documented_bytes() {
    let output = connect_to_scripted_server(
        &[NONE, &["--message", "one", "--message", ""]].concat(),
        b"",
        |peer| {
            assert_eq!(peer.read(7), b"\0\0\0\x03one");
            assert_eq!(peer.read(4), b"\0\0\0\0");
            peer.send(b"\0\0\0\x05a\nb\0c\0\0\0\0");
            assert!(peer.read_to_end().is_empty());
        },
    );
    output.expect_code(0).expect_stdout("a\nb\0c\n\n");
}

#[test]
fn long_frame_in_chunks_is_one_reply() {
    let output = connect_to_scripted_server(&[NONE, &["--message", "one"]].concat(), b"", |peer| {
        assert_eq!(peer.read_frame(), b"one");
        for piece in frame(&vec![b'x'; LONG]).chunks(LONG / 7) {
            peer.send(piece);
        }
        assert!(peer.read_to_end().is_empty());
    });
    output.expect_code(0).expect_stdout(&format!("{}\n", "x".repeat(LONG)));
}

#[test]
fn frame_longer_than_max_frame_is_a_protocol_error() {
    for len in [101, u32::MAX] {
        let output = connect_to_scripted_server(
            &[NONE, &["--message", "one", "--max-frame", "100"]].concat(),
            b"",
            move |peer| {
                assert_eq!(peer.read_frame(), b"one");
                peer.send(&len.to_be_bytes());
                peer.read_to_end();
            },
        )
        .expect_code(5);
        output.expect_stderr(&len.to_string());
    }
}

#[test]
fn frame_of_exactly_max_frame_is_accepted() {
    let output = connect_to_scripted_server(
        &[NONE, &["--message", "one", "--max-frame", "100"]].concat(),
        b"",
        |peer| {
            assert_eq!(peer.read_frame(), b"one");
            peer.send(&frame(&[b'x'; 100]));
            assert!(peer.read_to_end().is_empty());
        },
    );
    output.expect_code(0).expect_stdout(&format!("{}\n", "x".repeat(100)));
}

#[test]
fn truncated_reply_is_an_error() {
    let output = connect_to_scripted_server(&[NONE, &["--message", "one"]].concat(), b"", |peer| {
        assert_eq!(peer.read_frame(), b"one");
        peer.send(b"\0\0\0\x05hel");
        peer.finish();
        peer.read_to_end();
    });
    output.expect_code(4).expect_stderr("within a message");
}

#[test]
fn raw_replies_are_printed_as_they_arrive() {
    let dir = TempDir::new();
    let (printed, wait_printed) = channel();
    let (at, server_thread) = scripted_server(move |peer| {
        peer.send(&[7; 32]);
        peer.read(32);
        assert_eq!(peer.read(5), b"hello");
        peer.send(b"first ");
        wait_printed.recv().unwrap();
        peer.send(b"second");
        assert!(peer.read_to_end().is_empty());
    });
    let mut connect = countersign(&dir);
    connect.args(["connect", &at.to_string(), "--scheme", "challenge"]);
    connect.args(["--message", "hello", "--linger", "60"]);
    let running = Process::start(connect.env("COUNTERSIGN_KEY", KEY));
    running.out.wait("the first piece", |out, _| out.starts_with("first "));
    printed.send(()).unwrap();
    // A pause between the chunks may put them on two lines.
    let output = running.wait().expect_code(0);
    assert_eq!(output.out.replace('\n', ""), "first second");
    assert!(output.out.ends_with('\n'));
    server_thread.join().unwrap();
}

#[test]
fn connect_leaves_open_server_after_linger() {
    let (keep, kept) = channel();
    let began = Instant::now();
    let output =
        connect_to_scripted_server(&["--message", "hello", "--linger", "0.3"], b"", move |peer| {
            peer.send(&[7; 32]);
            peer.read(32 + 5);
            peer.send(b"HELLO");
            assert!(peer.read_to_end().is_empty());
            keep.send(peer).unwrap();
        });
    output.expect_code(0).expect_stdout("HELLO\n");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");
    drop(kept);
}

#[test]
fn challenge_in_single_bytes_is_accepted() {
    let output = connect_to_scripted_server(&["--message", "hello"], b"", |peer| {
        peer.0.set_tcp_nodelay(true).unwrap();
        for byte in 0..32 {
            peer.send(&[byte]);
        }
        let challenge: Vec<u8> = (0..32).collect();
        assert_eq!(peer.read(32), crate::peer::proof(KEY, &challenge));
        assert_eq!(peer.read(5), b"hello");
        peer.send(b"HELLO");
        assert!(peer.read_to_end().is_empty());
    });
    output.expect_code(0).expect_stdout("HELLO\n");
}

#[test]
fn missing_server_is_a_connection_error() {
    let dir = TempDir::new();
    // Bound but not listening, so that no other process gets this port.
    let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    bound.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = bound.local_addr().unwrap().as_socket().unwrap().to_string();
    for at in [&port, "unix:absent"] {
        for scheme in [&[][..], NONE, MUTUAL] {
            let mut connect = countersign(&dir);
            connect.args(["connect", at, "--message", "x"]).args(scheme);
            let output = run(connect.env("COUNTERSIGN_KEY", KEY), b"").expect_code(4);
            output.expect_stdout("");
            output.expect_stderr(at);
            output.expect_stderr("is the server running");
        }
    }
}

#[test]
fn wrong_key_is_refused_with_a_hint() {
    let dir = TempDir::new();
    let server = Server::start(&dir, KEY, &["--listen", "127.0.0.1:0", "--listen", "unix:s"]);
    for at in &server.at {
        for connect in [&["--message", "hello"][..], &["--digest", "sha512", "--message", "hello"]]
        {
            let mut command = countersign(&dir);
            command.args(["connect", &at.to_string()]).args(connect).args(default_scheme(connect));
            let key = if connect.len() == 2 { "another key that is long enough" } else { KEY };
            let output = run(command.env("COUNTERSIGN_KEY", key), b"").expect_code(3);
            output.expect_stdout("");
            output.expect_stderr("same key");
            output.expect_stderr("--digest");
        }
    }
}

#[test]
fn reset_after_our_proof_is_a_refusal() {
    let output = connect_to_scripted_server(&["--message", "hello"], b"", |peer| {
        peer.send(&[7; 32]);
        peer.read(32);
        peer.reset();
    });
    output.expect_code(3).expect_stderr("same key");
}

#[test]
fn incomplete_challenge_times_out() {
    // Longer than the default, which would apply if the option were ignored.
    const TIMEOUT: Duration = Duration::from_secs(6);
    let began = Instant::now();
    let output =
        connect_to_scripted_server(&["--message", "x", "--handshake-timeout", "6"], b"", |peer| {
            peer.send(&[7; 31]);
            assert!(peer.read_to_end().is_empty());
        });
    output.expect_code(4).expect_stderr("handshake took too long");
    let took = began.elapsed();
    assert!(took >= TIMEOUT, "{took:?}");
}

#[test]
fn close_during_handshake_is_a_connection_error() {
    for len in [0, 31] {
        let output = connect_to_scripted_server(&["--message", "hello"], b"", move |peer| {
            peer.send(&vec![7; len]);
            peer.finish();
            assert!(peer.read_to_end().is_empty());
        });
        output.expect_code(4).expect_stderr("during the handshake");
    }
}

#[test]
fn reset_during_handshake_is_a_connection_error() {
    for len in [0, 31] {
        let output = connect_to_scripted_server(&["--message", "hello"], b"", move |peer| {
            peer.send(&vec![7; len]);
            peer.reset();
        });
        // The reset may arrive while `connect` still connects.
        output.expect_code(4).expect_stderr("Connection reset");
    }
}

#[test]
fn server_death_between_messages_is_a_connection_error() {
    let dir = TempDir::new();
    let server = Server::start(&dir, KEY, &["--listen", "127.0.0.1:0"]);
    let mut connect = countersign(&dir);
    connect.args(["connect", &server.at[0].to_string(), "--scheme", "challenge"]);
    let mut running = Process::start(connect.env("COUNTERSIGN_KEY", KEY));
    running.write_stdin(b"hello\n");
    running.out.wait("a reply", |out, _| out == "HELLO\n");
    drop(server);
    // Standard input stays open: `connect` detects the end without another line.
    running.err.wait_end();
    let output = running.wait().expect_code(4);
    output.expect_stdout("HELLO\n");
}

#[test]
fn server_may_close_after_the_last_reply() {
    // Repeated, so that each of the two threads is the first to notice at least once.
    for _ in 0..10 {
        connect_to_scripted_server(&["--message", "hello"], b"", |peer| {
            peer.send(&[7; 32]);
            peer.read(32 + 5);
            peer.send(b"HELLO");
            peer.finish();
            peer.read_to_end();
        })
        .expect_code(0)
        .expect_stdout("HELLO\n");
        connect_to_scripted_server(&[NONE, &["--message", "hello"]].concat(), b"", |peer| {
            assert_eq!(peer.read_frame(), b"hello");
            peer.send(&frame(b"HELLO"));
            peer.finish();
            peer.read_to_end();
        })
        .expect_code(0)
        .expect_stdout("HELLO\n");
    }
}

#[test]
fn unsolicited_message_of_the_server_is_printed() {
    let output = connect_to_scripted_server(&[], b"", |peer| {
        peer.send(&[7; 32]);
        peer.read(32);
        peer.send(b"welcome\n");
        peer.finish();
        peer.read_to_end();
    });
    // The exit code depends on whether the close arrives before the end of input.
    assert_eq!(output.out, "welcome\n");
}

#[test]
fn plain_socket_client_gets_the_documented_frames() {
    let dir = TempDir::new();
    let server = Server::start(&dir, KEY, &["--scheme", "none", "--listen", "127.0.0.1:0"]);
    let peer = Peer::authenticated(&server.at[0], PeerScheme::Frames);
    for message in [&b""[..], b"x", &vec![b'y'; LONG]] {
        assert!(peer.request(PeerScheme::Frames, message) == message.to_ascii_uppercase());
    }
    peer.finish();
    assert!(peer.read_to_end().is_empty());
}

#[test]
fn connect_flushes_before_exit_on_every_adapter() {
    // About what the kernel buffers for a peer that does not read; the process must keep the rest.
    let lens = (200 << 10..=240 << 10).step_by(8 << 10);
    let adapters = ["std", "mio", "smol"].into_iter();
    let cases = adapters.flat_map(|adapter| lens.clone().map(move |len| (adapter, len)));
    in_parallel(cases, |(adapter, len)| {
        let dir = TempDir::new();
        let listener = UnixListener::bind(dir.path().join("raw")).unwrap();
        let server_thread = spawn(move || {
            let peer = Peer(listener.accept().unwrap().0.into()).with_timeouts();
            peer.send(&[7; 32]);
            peer.read(32);
            peer.send(b"hello");
            // Longer than the linger time.
            sleep(Duration::from_secs(1));
            assert_eq!(peer.read_to_end().len(), len, "{adapter}");
        });
        let mut connect = countersign(&dir);
        connect.args(["connect", "unix:raw", "--linger", "0.05", "--adapter", adapter]);
        connect.args(["--scheme", "challenge"]).env("COUNTERSIGN_KEY", KEY);
        run(&mut connect, &vec![b'x'; len]).expect_code(0);
        server_thread.join().unwrap();
    });
}
