//! CPython's multiprocessing.connection of both generations, against ours.
//!
//! docs/TESTING.md maps CPython's own tests to these.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::KEY;
use crate::common::{Server, ServerAddr, TempDir, countersign};
use crate::cpython::{Generation, Python, for_each_python};
use crate::process::{Output, file, in_parallel, run};
use crate::tools::script_path;

const OTHER: &str = "another key that is long enough too";
/// Lengths around 16 KiB, up to which CPython sends header and message in one write, and long ones.
const SIZES: [usize; 7] = [0, 1, 16_383, 16_384, 16_385, 65_536, 1_000_000];
const MD5: &[&str] = &["--digest", "md5"];
const COMPATIBLE: &[&str] = &["--compatible"];

/// The options that are compatible with this generation.
fn policies(generation: Generation) -> [&'static [&'static str]; 2] {
    match generation {
        Generation::Old => [MD5, COMPATIBLE],
        Generation::New => [&[], COMPATIBLE],
    }
}

/// The program `program` in tests/multiprocessing.
fn program(python: &Python, program: &str, key: &str) -> Command {
    let path = script_path(&format!("multiprocessing/{program}"));
    let mut command = python.command();
    command.arg(path).env("PEER_KEY", key);
    command
}

/// Runs a Python client with this key against the server at `at`.
fn client(python: &Python, at: &ServerAddr, key: &str, act: &[&str]) -> Output {
    run(program(python, "client.py", key).arg(at.to_string()).args(act), b"")
}

/// Fails unless the client reports the refusal of its key, and prints nothing else.
#[track_caller]
fn expect_rejection(output: Output) {
    let output = output.expect_code(3);
    output.expect_stdout("");
    output.expect_stderr("AuthenticationError digest sent was rejected");
}

fn serve(dir: &TempDir, args: &[&str]) -> Server {
    let ours = ["--listen", "127.0.0.1:0", "--listen", "unix:s", "--scheme", "multiprocessing"];
    Server::start(dir, KEY, &[&ours, args].concat())
}

/// Runs `check` for each Python with each compatible server, at each address of the server.
fn served(args: &[&str], check: impl Fn(&Python, &Server, &ServerAddr) + Sync) {
    for_each_python(|python| {
        in_parallel(policies(python.generation()), |policy| {
            let dir = TempDir::new();
            let server = serve(&dir, &[policy, args].concat());
            server.at.iter().for_each(|at| check(python, &server, at));
        });
    });
}

/// Runs clients of each Python with the action `act` against an echo server.
fn run_clients(act: &[&str]) {
    let dir = TempDir::new();
    let server = serve(&dir, &["--compatible", "--service", "echo"]);
    for_each_python(|python| {
        for at in &server.at {
            client(python, at, KEY, act).expect_code(0);
        }
    });
}

#[test]
fn python_client_is_served() {
    served(&[], |python, _, at| {
        let output = client(python, at, KEY, &["send_texts", "hello", "", "Größe 1"]);
        output.expect_code(0).expect_stdout("HELLO\n\nGRößE 1\n");
    });
}

#[test]
fn python_client_with_wrong_key_is_refused() {
    served(&[], |python, server, at| {
        for key in [OTHER, ""] {
            expect_rejection(client(python, at, key, &["send_texts", "hello"]));
        }
        client(python, at, KEY, &["send_texts", "hello"]).expect_code(0).expect_stdout("HELLO\n");
        server.wait_log("scheme=multiprocessing reason=wrong-key");
    });
}

#[test]
fn empty_key_is_a_usage_error() {
    let dir = TempDir::new();
    let key = file(&dir, "key", b"\n", 0o600);
    for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["connect", "unix:absent"]] {
        let command = || {
            let mut command = countersign(&dir);
            command.args(args).args(["--scheme", "multiprocessing"]);
            command
        };
        for command in [command().env("COUNTERSIGN_KEY", ""), command().arg("--key-file").arg(&key)]
        {
            run(command, b"").expect_code(2).expect_stderr("empty");
        }
    }
}

#[test]
fn messages_of_every_length_are_echoed_unchanged() {
    let sizes = SIZES.map(|size| size.to_string());
    let sizes: Vec<_> = sizes.iter().map(String::as_str).collect();
    for service in ["echo", "upper"] {
        served(&["--service", service], |python, _, at| {
            client(python, at, KEY, &[&["sizes", service], &sizes[..]].concat()).expect_code(0);
        });
    }
}

#[test]
fn message_of_16_mib_is_echoed_unchanged() {
    run_clients(&["sizes", "echo", &(16 << 20).to_string()]);
}

#[test]
fn message_of_64_mib_is_sent_before_the_reply_is_read() {
    let (dir, length) = (TempDir::new(), (64 << 20).to_string());
    let server = serve(&dir, &["--compatible", "--service", "echo", "--max-message", &length]);
    for_each_python(|python| {
        for at in &server.at {
            client(python, at, KEY, &["sizes", "echo", &length]).expect_code(0);
        }
    });
}

#[test]
fn long_length_header_is_accepted_for_short_messages() {
    served(&["--service", "echo"], |python, _, at| {
        client(python, at, KEY, &["long_headers"]).expect_code(0).expect_stdout("hello\n\nlast\n");
    });
}

#[test]
fn message_longer_than_max_frame_ends_the_connection() {
    served(&["--max-frame", "1000"], |python, server, at| {
        client(python, at, KEY, &["sizes", "upper", "1000"]).expect_code(0);
        client(python, at, KEY, &["too_long", "1001"]).expect_code(0);
        server.wait_log("scheme=multiprocessing reason=frame-too-long");
    });
}

#[test]
fn messages_can_be_pipelined() {
    run_clients(&["pipelined", "5000"]);
}

#[test]
fn concurrent_python_clients_are_served() {
    run_clients(&["concurrent_clients", "50"]);
}

#[test]
fn pickled_objects_are_echoed_unchanged() {
    run_clients(&["objects"]);
}

#[test]
fn slices_of_buffers_are_messages() {
    run_clients(&["slices"]);
}

#[test]
fn replies_are_received_into_buffers() {
    run_clients(&["receive_into"]);
}

#[test]
fn poll_reports_each_message_including_empty_ones() {
    run_clients(&["poll"]);
}

#[test]
fn wait_reports_several_connections() {
    run_clients(&["wait_for_several"]);
}

#[test]
fn each_digest_works_with_new_python() {
    in_parallel(["md5", "sha256", "sha384", "sha3-256", "sha3-384"], |digest| {
        for policy in [&[][..], COMPATIBLE] {
            let dir = TempDir::new();
            let server =
                serve(&dir, &[&["--service", "echo", "--digest", digest], policy].concat());
            for python in Generation::New.pythons() {
                let act = ["digest", &digest.replace('-', "_")];
                client(python, &server.at[0], KEY, &act).expect_code(0);
            }
        }
    });
}

#[test]
fn compatible_server_accepts_both_python_generations() {
    for digest in ["md5", "sha256", "sha384", "sha3-256", "sha3-384"] {
        let dir = TempDir::new();
        let server = serve(&dir, &["--compatible", "--digest", digest]);
        for_each_python(|python| {
            let output = client(python, &server.at[0], KEY, &["send_texts", "hello"]);
            output.expect_code(0).expect_stdout("HELLO\n");
        });
    }
}

#[test]
fn strict_server_refuses_the_other_python_generation() {
    for_each_python(|python| {
        let strict = if python.generation() == Generation::Old { &[][..] } else { MD5 };
        let dir = TempDir::new();
        let server = serve(&dir, strict);
        for at in &server.at {
            client(python, at, KEY, &["send_texts", "hello"]).expect_code(3).expect_stdout("");
        }
        server.wait_log("scheme=multiprocessing reason=nothing-in-common");
    });
}

#[test]
fn python_client_without_key_is_refused() {
    served(&[], |python, server, at| {
        client(python, at, KEY, &["keyless"]).expect_code(0);
        server.wait_log("scheme=multiprocessing reason=malformed");
    });
}

#[test]
fn reflected_challenge_is_not_answered() {
    served(&[], |python, server, at| {
        client(python, at, KEY, &["reflect"]).expect_code(0);
        server.wait_log("scheme=multiprocessing reason=reflected");
    });
}

#[test]
fn python_clients_that_hang_up_do_not_disturb_others() {
    served(&["--service", "echo"], |python, server, at| {
        client(python, at, KEY, &["leave"]).expect_code(0);
        server.wait_log("scheme=multiprocessing reason=truncated-handshake");
        server.wait_log("scheme=multiprocessing reason=truncated-message");
    });
}

#[test]
fn message_over_2_gib_is_streamed() {
    // Older versions cannot send such a message.
    let of =
        |generation: Generation| generation.pythons().find(|python| python.version >= (3, 8, 0));
    let Some(python) = Generation::BOTH.into_iter().rev().find_map(of) else { return };
    let dir = TempDir::new();
    let server = serve(
        &dir,
        &["--compatible", "--service", "echo", "--stream", "--max-frame", "4294967296"],
    );
    let before = server.memory();
    let began = Instant::now();
    in_parallel(&server.at, |at| {
        client(python, at, KEY, &["huge"]).expect_code(0);
    });
    let grown = server.peak_memory().saturating_sub(before);
    println!("2 GiB and back, twice: {:?}, and {grown} bytes more of memory", began.elapsed());
    assert!(grown < 4 << 20, "{grown} bytes more for one message");
}

/// A Python listener on TCP, or on a Unix socket in `dir`.
fn listener(python: &Python, dir: &TempDir, unix: bool, key: &str, act: &str) -> Server {
    let mut command = program(python, "listener.py", key);
    command.current_dir(dir.path()).arg(act);
    if unix {
        command.arg("unix:s");
    }
    Server::spawn(command, 1)
}

/// Runs `connect` with these options against the listener at `at`.
fn connect(dir: &TempDir, at: &ServerAddr, args: &[&str], input: &[u8]) -> Output {
    let mut command = countersign(dir);
    command.args(["connect", &at.to_string(), "--scheme", "multiprocessing"]).args(args);
    run(command.env("COUNTERSIGN_KEY", KEY), input)
}

/// Runs `check` on the result of `connect` against a listener of each Python with this key and the action
/// `act`, on TCP and on a Unix socket, with all compatible options.
fn connected(key: &str, act: &str, args: &[&str], input: &[u8], check: impl Fn(Output) + Sync) {
    for_each_python(|python| {
        in_parallel([false, true], |unix| {
            let dir = TempDir::new();
            let listener = listener(python, &dir, unix, key, act);
            in_parallel(policies(python.generation()), |policy| {
                check(connect(&dir, &listener.at[0], &[policy, args].concat(), input));
            });
        });
    });
}

const HELLO: &[&str] = &["--message", "hello"];

#[test]
fn connect_works_with_python_listener() {
    let input = "hello\n\nGröße 1\n";
    connected(KEY, "upper", &[], input.as_bytes(), |output| {
        output.expect_code(0).expect_stdout("HELLO\n\nGRößE 1\n");
    });
}

#[test]
fn python_listener_receives_messages_of_every_length() {
    let lines: String = SIZES.map(|size| "x".repeat(size) + "\n").concat();
    connected(KEY, "upper", &[], lines.as_bytes(), |output| {
        assert!(output.expect_code(0).out == lines.to_uppercase(), "not what was sent");
    });
}

#[test]
fn python_listener_receives_many_messages() {
    let lines: String = (0..5000).map(|n| format!("message {n}\n")).collect();
    connected(KEY, "upper", &[], lines.as_bytes(), |output| {
        output.expect_code(0).expect_stdout(&lines.to_uppercase());
    });
}

#[test]
fn python_listener_with_another_key_refuses_us() {
    connected(OTHER, "upper", HELLO, b"", |output| {
        let output = output.expect_code(3);
        output.expect_stdout("");
        output.expect_stderr("refused to authenticate us");
    });
    for_each_python(|python| {
        let dir = TempDir::new();
        let listener = listener(python, &dir, false, KEY, "upper");
        let at = &listener.at[0];
        let mut wrong = countersign(&dir);
        wrong.args(["connect", &at.to_string(), "--scheme", "multiprocessing", "--compatible"]);
        run(wrong.args(HELLO).env("COUNTERSIGN_KEY", OTHER), b"").expect_code(3);
        connect(&dir, at, &["--compatible", "--message", "hello"], b"")
            .expect_code(0)
            .expect_stdout("HELLO\n");
        listener.wait_log("refused: AuthenticationError digest received was wrong");
    });
}

#[test]
fn python_listener_with_empty_key_gets_no_message() {
    let patience = [HELLO, &["--handshake-timeout", "1"]].concat();
    connected("", "upper", &patience, b"", |output| {
        // Before Python 3.13, an empty key means no authentication: the listener waits for a message.
        assert!(matches!(output.code, Some(3 | 4)), "{output:?}");
        output.expect_stdout("");
    });
}

#[test]
fn strict_client_refuses_the_other_python_generation() {
    for_each_python(|python| {
        let strict = if python.generation() == Generation::Old { &[][..] } else { MD5 };
        for unix in [false, true] {
            let dir = TempDir::new();
            let listener = listener(python, &dir, unix, KEY, "upper");
            let output =
                connect(&dir, &listener.at[0], &[strict, HELLO].concat(), b"").expect_code(3);
            output.expect_stdout("");
            output.expect_stderr("--compatible");
        }
    });
}

#[test]
fn impostor_listener_is_refused() {
    connected(KEY, "impostor", HELLO, b"", |output| {
        let output = output.expect_code(3);
        output.expect_stdout("");
        output.expect_stderr("proof is wrong");
    });
}

#[test]
fn listener_may_send_first_and_close() {
    connected(KEY, "greet", &[], b"", |output| output.expect_stdout("welcome\n"));
}

#[test]
fn slow_listener_is_awaited() {
    connected(KEY, "late", HELLO, b"", |output| output.expect_code(0).expect_stdout("HELLO\n"));
}

#[test]
fn silent_listener_times_out() {
    let began = Instant::now();
    let patience = [HELLO, &["--handshake-timeout", "1"]].concat();
    connected(KEY, "silent", &patience, b"", |output| {
        output.expect_code(4).expect_stderr("handshake took too long");
        assert!(began.elapsed() >= Duration::from_secs(1));
    });
}

#[test]
fn listener_of_another_protocol_is_a_protocol_error() {
    for act in ["no_challenge", "no_message", "no_verdict"] {
        connected(KEY, act, HELLO, b"", |output| output.expect_code(5).expect_stdout(""));
    }
}

#[test]
fn listener_that_hangs_up_is_a_connection_error() {
    let acts = ["at_once", "after_its_challenge", "before_its_answer", "before_the_reply"];
    in_parallel(acts, |act| {
        connected(KEY, &format!("leave_{act}"), HELLO, b"", |output| {
            output.expect_code(4).expect_stdout("");
        });
    });
}

#[test]
fn python_and_serve_cannot_share_an_address() {
    for_each_python(|python| {
        let dir = TempDir::new();
        let theirs = [false, true].map(|unix| listener(python, &dir, unix, KEY, "echo"));
        for listener in &theirs {
            let at = listener.at[0].to_string();
            let mut serve = countersign(&dir);
            serve.args(["serve", "--scheme", "multiprocessing", "--listen", &at]);
            run(serve.env("COUNTERSIGN_KEY", KEY), b"")
                .expect_code(1)
                .expect_stderr("cannot listen");
        }
        drop(theirs);
        let dir = TempDir::new();
        let ours = serve(&dir, &[]);
        for at in &ours.at {
            let mut listener = program(python, "listener.py", KEY);
            run(listener.args(["echo", &at.to_string()]), b"")
                .expect_code(1)
                .expect_stderr("in use");
        }
    });
}
